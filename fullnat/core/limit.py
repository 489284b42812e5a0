# SPDX-License-Identifier: Apache-2.0
"""A token bucket: so many a second on average, so many at once."""

from __future__ import annotations

from fullnat.core.timeouts import SECOND


class TokenBucket:
    """Admit *rate* events a second and bursts of *burst*."""

    __slots__ = ("_capacity", "_filled", "_level", "_rate")

    def __init__(self, rate: int, burst: int) -> None:
        self._rate = rate
        self._capacity = burst * SECOND  # in tokens times nanoseconds, to stay in integers
        self._level = self._capacity
        self._filled = 0

    def admit(self, now: int) -> bool:
        """Whether one more event may happen at *now*; takes a token if so."""
        self._level = min(self._capacity, self._level + (now - self._filled) * self._rate)
        self._filled = now
        if self._level < SECOND:
            return False
        self._level -= SECOND
        return True
