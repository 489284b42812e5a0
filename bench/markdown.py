# SPDX-License-Identifier: Apache-2.0
"""What the report's tables are made of: lines, and values and ratios as they stand in cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench.metrics import Metric
from bench.stats import Spread


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, words: int = 1) -> list[str]:
    """Return the lines of a table whose first *words* columns are words and the others numbers."""
    rule = ["---"] * words + ["---:"] * (len(head) - words)
    return [line(head), line(rule), *map(line, rows)]


def line(cells: Iterable[str]) -> str:
    """Return a row."""
    return "| " + " | ".join(cells) + " |"


def ratio_text(found: Spread) -> str:
    """Return the median of ratios, and their extremes."""
    return f"{found.median:.3f} ({found.low:.3f} to {found.high:.3f})"


def value_text(metric: Metric, found: Spread) -> str:
    """Return the median of values, and their extremes, without the unit."""
    return f"{metric.text(found.median)} ({metric.text(found.low)} to {metric.text(found.high)})"
