# SPDX-License-Identifier: Apache-2.0
"""Pressure: whether the engine keeps up with its queue, and how many new flows it may open if not.

Theory.  What the kernel queues beyond its limit it drops, whosever it is.  A packet that would open
a flow costs several times one of a known flow and brings more after it, so when the queue fills,
the packets of new flows are what is shed, long before the queue is full: established flows are
served before new ones (RFC 6888, REQ-11 in spirit: never harm a mapping to make another).

Rules.
  1. More than half of the queue waiting is overload; it lasts until less than a quarter waits.
  2. In overload each batch may still open TRICKLE flows, so that nobody is locked out for good.

Refused.  The time since the queue was last empty: a busy engine with many clients in turn is never
          idle, and still loses nothing.
"""

from __future__ import annotations

UNLIMITED = 0xFFFF_FFFF
TRICKLE = 4  # of a batch of 64


class Pressure:
    """One queue that holds at most *capacity* packets."""

    __slots__ = ("_capacity", "is_high")

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self.is_high = False

    def note(self, waiting: int) -> None:
        """Take note that *waiting* packets are in the queue."""
        if waiting > self._capacity // 2:
            self.is_high = True
        elif waiting < self._capacity // 4:
            self.is_high = False

    @property
    def openings(self) -> int:
        """How many flows the next batch may open."""
        return TRICKLE if self.is_high else UNLIMITED
