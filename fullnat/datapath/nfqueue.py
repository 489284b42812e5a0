# SPDX-License-Identifier: Apache-2.0
"""Engine `python`: NetfilterQueue under the daemon's loop, the director for each packet.

    kernel queue --recv--> NetfilterQueue --parse, decide--> verdict with the rewritten packet
                                                 `--answers of our own--> raw socket

Rules.
  1. A wake-up takes at most BATCH packets, so that timers and the control socket are served under
     any load.
  2. Packets come whole.  NetfilterQueue reads into 4096 bytes and asks the kernel for no more, but
     a datagram that the host reassembled may be larger: we read for it (run_socket takes any
     object with recv()), and set the queue's copy range ourselves.
  3. The kernel segments GSO packets before it queues them (the GSO flag is left off), so each
     packet has its full checksums and they can be updated by difference.
  4. Forwarded packets carry the mark, by which FORWARD rules tell them from what others send.
  5. A relayed ICMP error goes through the raw table once more, where the mark has it untracked: it
     was not before, for the errors that concern the host itself must stay tracked.  Not in OUTPUT:
     there only an accepted packet is routed again, and that is what the relay needs.

Refused.  Fail-open and queue bypass: an untranslated packet would reach the local stack, which
          resets the connection.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
from collections.abc import Callable
from typing import Protocol, cast

from netfilterqueue import NetfilterQueue, Packet

from fullnat.core.director import Director
from fullnat.core.flow import Decision, Release
from fullnat.core.packet import PacketView, parse
from fullnat.core.reason import Reason, Verdict
from fullnat.datapath.base import DatapathError, EngineStatistics, Unsupported

BATCH = 64
QUEUE_LENGTH = 8192  # packets the kernel keeps for us
_SOCKET_BUFFER = 32 << 20  # bytes; each queued packet is charged with about 1 KiB more than its size
_LARGEST_MESSAGE = 0xFFFF + 512  # an IP packet and the attributes around it

# linux/netfilter/nfnetlink_queue.h, linux/netlink.h
_QUEUE_CONFIG = 3 << 8 | 2  # NFNL_SUBSYS_QUEUE, NFQNL_MSG_CONFIG
_CONFIG_PARAMS = 2  # NFQA_CFG_PARAMS
_COPY_PACKET = 2  # NFQNL_COPY_PACKET
_LARGEST_COPY = 0xFFFF - 4  # NFQNL_MAX_COPY_RANGE
_NLM_F_REQUEST = 1
_NETLINK_NO_ENOBUFS = 5
_SOL_NETLINK = 270

_PREROUTING = 0  # NF_INET_PRE_ROUTING, linux/netfilter.h

_COUNTERS = "/proc/thread-self/net/netfilter/nfnetlink_queue"


class Sender(Protocol):
    """Sends whole IP packets of our own making."""

    errors: int

    def send(self, packet: bytes) -> bool:
        """Send *packet*; failures are counted, not raised."""
        ...


class _BatchReader:
    """What run_socket() reads from: ends a batch as if the socket were empty."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=os.dup(descriptor))
        self._socket.setblocking(False)
        self._recv = self._socket.recv
        self.left = 0

    def recv(self, _size: int) -> bytes:
        if self.left == 0:
            raise BlockingIOError(errno.EAGAIN, "batch done")
        self.left -= 1
        return self._recv(_LARGEST_MESSAGE)

    def send(self, message: bytes) -> None:
        self._socket.sendto(message, (0, 0))

    def setsockopt(self, level: int, option: int, value: int) -> None:
        self._socket.setsockopt(level, option, value)

    def close(self) -> None:
        self._socket.close()


class NfqueueDatapath:
    """The reference engine."""

    name = "python"

    def __init__(
        self, director: Director, sender: Sender, *, queue: int, mark: int, clock: Callable[[], int]
    ) -> None:
        """Serve NFQUEUE number *queue*; *clock* returns monotonic nanoseconds."""
        self._director = director
        self._sender = sender
        self._queue = queue
        self._mark = mark
        self._clock = clock
        self._netfilter: NetfilterQueue | None = None
        self._reader: _BatchReader | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._held: dict[int, tuple[Packet, PacketView]] = {}
        self._received = 0
        self._drops = (0, 0)  # what the kernel had counted when the queue was unbound

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Bind the queue; packets are taken whenever *loop* finds it readable."""
        if not os.path.exists(_COUNTERS):
            raise Unsupported(
                "NFQUEUE", "the kernel lacks it: CONFIG_NETFILTER_NETLINK_QUEUE, module nfnetlink_queue"
            )
        owner = _queue_owner(self._queue)
        if owner is not None:
            raise DatapathError(
                f"queue {self._queue} is bound by another program (netlink port {owner}): "
                "set another [engine] queue"
            )
        netfilter = NetfilterQueue()
        try:
            netfilter.bind(self._queue, self._on_packet, max_len=QUEUE_LENGTH, sock_len=_SOCKET_BUFFER // 2)
        except OSError as error:
            raise DatapathError(f"queue {self._queue} cannot be bound: {error}") from error
        reader = _BatchReader(netfilter.get_fd())
        reader.setsockopt(_SOL_NETLINK, _NETLINK_NO_ENOBUFS, 1)
        reader.send(_copy_whole_packets(self._queue))
        self._netfilter, self._reader, self._loop = netfilter, reader, loop
        loop.add_reader(netfilter.get_fd(), self._on_readable)

    def stop(self) -> None:
        """Unbind the queue."""
        if self._netfilter is None or self._reader is None or self._loop is None:
            return
        self._loop.remove_reader(self._netfilter.get_fd())
        self._held.clear()
        self._drops = _queue_drops(self._queue)
        self._netfilter.unbind()
        self._reader.close()
        self._netfilter = None

    def expire(self, now: int) -> None:
        """End idle flows; drop fragments whose first never came."""
        for held in self._director.expire(now, budget=20_000):
            self._release(held)

    def statistics(self) -> EngineStatistics:
        """Return what the kernel and we counted."""
        queue_dropped, user_dropped = self._drops if self._netfilter is None else _queue_drops(self._queue)
        return EngineStatistics(self._received, queue_dropped, user_dropped, self._sender.errors)

    def _on_readable(self) -> None:
        assert self._netfilter is not None
        assert self._reader is not None
        self._reader.left = BATCH
        self._netfilter.run_socket(cast(socket.socket, self._reader))

    def _on_packet(self, packet: Packet) -> None:
        self._received += 1
        view = parse(packet.get_payload())
        decision = self._director.decide(view, self._clock())
        if decision.verdict is Verdict.HOLD:
            assert decision.token is not None
            self._held[decision.token] = packet, view
            return
        self._carry_out(packet, view, decision)
        for held in decision.released:
            self._release(held)

    def _release(self, held: Release) -> None:
        packet, view = self._held.pop(held.token)
        self._carry_out(packet, view, held.decision)

    def _carry_out(self, packet: Packet, view: PacketView, decision: Decision) -> None:
        verdict = decision.verdict
        if verdict is Verdict.FORWARD:
            assert decision.rewrite is not None
            packet.set_payload(decision.rewrite.apply(view))
            packet.set_mark(packet.get_mark() | self._mark)
            if decision.reason is Reason.ICMP_RELAYED and packet.hook == _PREROUTING:
                packet.repeat()
            else:
                packet.accept()
        elif verdict is Verdict.PASS:
            packet.accept()
        else:
            packet.drop()
            if decision.reply is not None:
                self._sender.send(decision.reply)


def _copy_whole_packets(queue: int) -> bytes:
    """Return the message that sets the copy range of *queue* to the largest there is."""
    params = struct.pack("!IB", _LARGEST_COPY, _COPY_PACKET)
    attribute = struct.pack("=HH", 4 + len(params), _CONFIG_PARAMS) + params.ljust(8, b"\0")
    body = struct.pack("!BBH", socket.AF_UNSPEC, 0, queue) + attribute
    return struct.pack("=IHHII", 16 + len(body), _QUEUE_CONFIG, _NLM_F_REQUEST, 0, 0) + body


def _queue_rows() -> list[list[int]]:
    """Return the rows of the kernel's table: queue, owner, waiting, mode, range, two drop counts, ..."""
    try:
        with open(_COUNTERS, encoding="ascii") as table:
            return [[int(field) for field in line.split()] for line in table]
    except FileNotFoundError:
        return []


def _queue_owner(queue: int) -> int | None:
    return next((row[1] for row in _queue_rows() if row[0] == queue), None)


def _queue_drops(queue: int) -> tuple[int, int]:
    return next(((row[5], row[6]) for row in _queue_rows() if row[0] == queue), (0, 0))
