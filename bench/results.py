# SPDX-License-Identifier: Apache-2.0
"""What a run found: every trial as a row of raw.csv, and one value a round, metric and peer."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Row:
    """One trial.  Fields that a figure does not have are None and stay empty."""

    round: int
    metric: str
    peer: str
    step: str  # prime, fill, search, confirm, offer, run; a percentile; a scheduler and its number of servers
    asked_pps: float | None = None  # packets, or requests, a second
    sent: int | None = None
    prompt: int | None = None  # of received: those that were there when the sending ended
    received: int | None = None
    refused: int | None = None  # of sent: frames the director's device would not take
    stalls: int | None = None  # times the generator lost its core
    seconds: float | None = None
    value: float | None = None  # packets, connections, requests or bits per second; bytes; nanoseconds
    errors: int | None = None  # failed connections and answers
    steal: float | None = None  # share of CPU time the hypervisor took during the trial
    busy_before: float | None = None  # share of CPU time others used just before the peer's turn


@dataclass(slots=True)
class Results:
    """All rows, and what the report is made of."""

    rows: list[Row] = field(default_factory=list)
    values: dict[str, dict[str, dict[int, float]]] = field(default_factory=dict)  # metric, peer, round
    generator_bound: set[tuple[str, str]] = field(default_factory=set)  # metric, peer
    not_applicable: dict[tuple[str, str], str] = field(default_factory=dict)  # metric, peer: the reason
    not_run: dict[str, str] = field(default_factory=dict)  # peer that cannot run here: the reason
    remarks: list[str] = field(default_factory=list)  # what a reader must know of single trials

    def add_value(self, metric: str, peer: str, turn: int, value: float) -> None:
        """Keep the value of one peer's turn."""
        self.values.setdefault(metric, {}).setdefault(peer, {})[turn] = value

    def of(self, metric: str, peer: str) -> Mapping[int, float]:
        """Return round -> value; empty when that was not measured."""
        return self.values.get(metric, {}).get(peer, {})

    def errors(self) -> Counter[tuple[str, str]]:
        """Return failed connections and answers by metric and peer, none left out that had some."""
        total: Counter[tuple[str, str]] = Counter()
        for row in self.rows:
            if row.errors:
                total[row.metric, row.peer] += row.errors
        return total


def write_csv(path: Path, rows: Iterable[Row]) -> None:
    """Write one line a trial."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(f.name for f in fields(Row))
        writer.writerows([_cell(value) for value in astuple(row)] for row in rows)


def _cell(value: object) -> object:
    return round(value, 6) if isinstance(value, float) else value
