# SPDX-License-Identifier: Apache-2.0
"""What the service manager is told: ready, reloading, stopping, and that packets are being let go.

The protocol is sd_notify(3)'s: a datagram of lines KEY=VALUE to the socket that $NOTIFY_SOCKET names.
Without that variable nobody is there to be told, and nothing is sent.

The watchdog.  A manager that hears nothing for $WATCHDOG_USEC ends the daemon and starts it anew, so
it must hear from whatever would hang unnoticed.  The daemon's tick feeds it, and only

  * after expire(), which takes the lock of the director: a packet thread that hangs with it holds the
    tick up, and nothing is sent;
  * while the kernel's own table of queues shows that packets get their verdicts.  A thread that hangs
    without the lock is found there: packets come to its queue, and none leaves.

A queue to which nobody sends proves nothing, and is left alone.  Nor is a slow one hung: one verdict
between two looks is enough.

Refused.  A thread that does nothing but send WATCHDOG=1: it would live on beside packet threads that hang.
          A heartbeat counter in each packet thread: the kernel has one already, its count of verdicts.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping, MutableMapping
from typing import NamedTuple

_PATIENCE = 1.0  # seconds to wait for a manager that has not read what it was sent before
_MICROSECOND = 1000  # nanoseconds
_ENOUGH = 8  # packets without a verdict, beside those held: one may be lost to a full socket


class Notifier:
    """The service manager's ear."""

    def __init__(self, address: str = "") -> None:
        """*address* is a path, or a name of the abstract namespace after an @; empty: none listens."""
        self._address = "\0" + address[1:] if address.startswith("@") else address

    def ready(self, status: str) -> None:
        """Say that packets are served, after a start or a reload."""
        self._send(f"READY=1\nSTATUS={_line(status)}")

    def reloading(self, now: int) -> None:
        """Say that a reload has begun; ready() says that it is over, whatever came of it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={now // _MICROSECOND}")

    def stopping(self) -> None:
        """Say that the end has begun."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """Have `systemctl status` show *text*."""
        self._send(f"STATUS={_line(text)}")

    def alive(self) -> None:
        """Feed the watchdog."""
        self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
                notify.settimeout(_PATIENCE)
                notify.sendto(message.encode(), self._address)
        except OSError:
            return  # a manager that went away is no reason to serve nobody


def _line(text: str) -> str:
    return " ".join(text.split())


def take_notifier(environment: MutableMapping[str, str] = os.environ) -> Notifier:
    """Return who is to be told; the programs we start are not to speak for us, so they find no address."""
    address = environment.pop("NOTIFY_SOCKET", "")
    return Notifier(address if address.startswith(("/", "@")) else "")


def watchdog_interval(environment: Mapping[str, str] = os.environ, pid: int | None = None) -> float | None:
    """Return within how many seconds the manager wants to hear from us; None: it does not."""
    wanted, whose = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if whose and whose != str(os.getpid() if pid is None else pid):
        return None  # inherited from somebody who was asked
    return int(wanted) / 1_000_000 if wanted.isdigit() and int(wanted) else None


_COUNTED = 2**32  # the kernel's counts go round at this


class QueueLook(NamedTuple):
    """What a queue of the kernel's has had so far."""

    number: int
    offered: int  # packets that came to it, those dropped for want of room included
    settled: int  # packets of it that have got their verdict

    @classmethod
    def of(cls, number: int, waiting: int, queue_dropped: int, user_dropped: int, sequence: int) -> QueueLook:
        """Return what the columns of the kernel's table say (net/netfilter/nfnetlink_queue.c).

        *sequence* numbers packets as they are given to the reader's socket; those dropped because the
        queue was full have none, and those the socket did not take have one and wait for nothing.
        """
        return cls(number, sequence + queue_dropped, (sequence - waiting - user_dropped) % _COUNTED)


class Watchdog:
    """Says whether packets that come to the queues leave them."""

    def __init__(self) -> None:
        self._since: dict[int, QueueLook] = {}  # by number: when its last verdict was seen

    def find_hung(self, looks: Iterable[QueueLook], held: int) -> int | None:
        """Return a queue whose packets wait since the look before, None when there is none.

        *held* is how many packets engines keep on purpose: fragments, until the first of theirs comes.
        """
        hung = None
        for look in looks:
            before = self._since.setdefault(look.number, look)
            if before.settled != look.settled:
                self._since[look.number] = look
            elif (look.offered - before.offered) % _COUNTED >= held + _ENOUGH:
                hung = look.number
        return hung
