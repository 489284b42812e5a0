# SPDX-License-Identifier: Apache-2.0
"""Counters become rates: what they grew by since the last look, by the time between."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

Counts = tuple[int, ...]
Rates = tuple[float, ...]


class Meter(Generic[Key]):
    """Remembers the counts of the last look."""

    def __init__(self) -> None:
        self._when: float | None = None
        self._last: Mapping[Key, Counts] = {}

    def look(self, counts: Mapping[Key, Counts], now: float) -> dict[Key, Rates]:
        """Return the rate of every count in *counts*, 0 of what was not there at the last look.

        A count that is less than it was belongs to another run of the instance: it begins at 0.
        """
        elapsed = 0.0 if self._when is None else now - self._when
        last, self._when, self._last = self._last, now, dict(counts)
        return {key: _rates(last.get(key, after), after, elapsed) for key, after in counts.items()}


def _rates(before: Counts, after: Counts, elapsed: float) -> Rates:
    if elapsed <= 0:
        return (0.0,) * len(after)
    return tuple((new - old if new >= old else new) / elapsed for old, new in zip(before, after, strict=True))
