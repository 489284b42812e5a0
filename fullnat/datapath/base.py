# SPDX-License-Identifier: Apache-2.0
"""What an engine is, and how one fails.

An engine receives packets, asks the director, carries the decision out and nothing else.  The
daemon's loop drives it: an engine registers what it must be woken for in start() and keeps no
thread of its own that Python could notice.

Contract, held by tests/unit/test_datapath.py for every engine:
  1. FORWARD sends decision.rewrite.apply(view) on; PASS lets the packet go untouched; DROP ends it.
  2. REPLY ends the packet and sends decision.reply, if there is one.
  3. HOLD keeps the packet under decision.token until a later decision, or expire(), releases it.
  4. Nothing a packet contains makes an engine raise.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol


class DatapathError(Exception):
    """The host cannot do what an engine needs; one line says what, and the remedy."""


class Unsupported(DatapathError):
    """A capability that the host lacks."""

    def __init__(self, capability: str, needs: str) -> None:
        super().__init__(f"{capability}: {needs}")
        self.capability = capability
        self.needs = needs


@dataclass(slots=True)
class EngineStatistics:
    """What an engine counts beside the director's reasons."""

    received: int = 0  # packets handed to the director
    queue_dropped: int = 0  # by the kernel: the queue was full
    user_dropped: int = 0  # by the kernel: our socket was full
    send_failures: int = 0  # answers of our own that the kernel would not send


class Datapath(Protocol):
    """One engine."""

    name: str

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to take packets; raises DatapathError when the host cannot."""
        ...

    def stop(self) -> None:
        """Take no more packets.  What the kernel still has queued is dropped by it."""
        ...

    def expire(self, now: int) -> None:
        """End idle flows and settle packets held too long; called about once a second."""
        ...

    def statistics(self) -> EngineStatistics:
        """Return the counts so far."""
        ...
