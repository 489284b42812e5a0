# SPDX-License-Identifier: Apache-2.0
"""Medians, spreads, and ratios taken inside a round.

A shared host drifts by more than the differences of interest, and all peers of one round drift
together.  So a ratio is formed within a round, and only ratios are averaged over rounds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Spread:
    """A median with the extremes it was taken from."""

    median: float
    low: float
    high: float
    count: int


def spread(values: Iterable[float]) -> Spread | None:
    """Return the spread of *values*, None when there are none."""
    ordered = sorted(values)
    if not ordered:
        return None
    return Spread(median(ordered), ordered[0], ordered[-1], len(ordered))


def ratios(values: Mapping[int, float], baseline: Mapping[int, float]) -> list[float]:
    """Return value / baseline of each round that has both; rounds whose baseline is 0 have no ratio."""
    return [values[key] / baseline[key] for key in sorted(values) if baseline.get(key)]


def rotated(items: Sequence[T], turn: int) -> list[T]:
    """Return *items* starting at another one each turn, so that nobody is always first."""
    start = turn % len(items)
    return [*items[start:], *items[:start]]
