# SPDX-License-Identifier: Apache-2.0
"""What a run found: every trial, and one value a round, metric and peer; all of it as rows of raw.csv.

What a reader must know besides (who could not run, who cannot have a figure, remarks) is kept in env.json,
so that both files together are the run: report and plots are made from them, and can be made again.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from bench.errors import BenchError

OUTCOME = "outcome"  # the step of a row that is no trial: what came of a peer's turn at a figure


@dataclass(frozen=True, slots=True)
class Row:
    """One trial.  Fields that a figure does not have are None and stay empty."""

    round: int
    metric: str
    peer: str
    step: str  # prime, fill, search, confirm, offer, run, outcome; a scheduler and its number of servers
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
        self.rows.append(Row(turn, metric, peer, OUTCOME, value=value))

    def remark(self, text: str) -> None:
        """Keep a sentence for the report's notes, once."""
        if text not in self.remarks:
            self.remarks.append(text)

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

    def notes(self) -> dict[str, Any]:
        """Return what is not in the rows, as JSON has it."""
        return {
            "generator_bound": sorted(map(list, self.generator_bound)),
            "not_applicable": [[*key, reason] for key, reason in sorted(self.not_applicable.items())],
            "not_run": self.not_run,
            "remarks": self.remarks,
        }

    @classmethod
    def of_rows(cls, rows: Sequence[Row], notes: Mapping[str, Any]) -> Self:
        """Return the results that were written as these rows and notes."""
        results = cls(
            generator_bound={(metric, peer) for metric, peer in notes["generator_bound"]},
            not_applicable={(metric, peer): reason for metric, peer, reason in notes["not_applicable"]},
            not_run=dict(notes["not_run"]),
            remarks=list(notes["remarks"]),
        )
        for row in rows:
            if row.step == OUTCOME and row.value is not None:
                results.add_value(row.metric, row.peer, row.round, row.value)
            else:
                results.rows.append(row)
        return results


def write_csv(path: Path, rows: Iterable[Row]) -> None:
    """Write one line a row."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(f.name for f in fields(Row))
        writer.writerows([_cell(value) for value in astuple(row)] for row in rows)


def _cell(value: object) -> object:
    return round(value, 6) if isinstance(value, float) else value


def read_csv(path: Path) -> list[Row]:
    """Return the rows that write_csv() wrote; BenchError when the file is another's."""
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames != [f.name for f in fields(Row)]:
            raise BenchError(f"{path}: the columns are not those of this bench")
        rows = [Row(**{name: _read(name, text) for name, text in line.items()}) for line in reader]
    if not any(row.step == OUTCOME for row in rows):
        raise BenchError(f"{path}: no row says `{OUTCOME}`: an older bench wrote it")
    return rows


_WORDS = frozenset({"metric", "peer", "step"})
_COUNTS = frozenset({"round", "sent", "prompt", "received", "refused", "stalls", "errors"})


def _read(name: str, text: str) -> Any:
    if name in _WORDS:
        return text
    if not text:
        return None
    return int(text) if name in _COUNTS else float(text)
