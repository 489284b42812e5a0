# SPDX-License-Identifier: Apache-2.0
"""How far a run is: a line a turn, and on a terminal a bar below them, drawn between turns.

Theory.  Turns take from a few seconds to minutes, and which ones these are is known before: a figure's
turns take about as long as those of it that are done.  For a figure that none is done of its usual time
counts, times what this run's turns have taken of theirs (a quick run a part, a slow host a multiple).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class Forecast:
    """The seconds that the turns ahead will take."""

    def __init__(self, figures: Sequence[str], usual: Mapping[str, float]) -> None:
        self._ahead = list(figures)  # a turn each
        self._usual = usual
        self._taken: dict[str, list[float]] = {}

    def note(self, seconds: float) -> None:
        """Take the next turn off: it took so long."""
        self._taken.setdefault(self._ahead.pop(0), []).append(seconds)

    def left(self) -> float:
        """Return the seconds of those ahead."""
        taken = sum(map(sum, self._taken.values()))
        expected = sum(self._usual[figure] * len(turns) for figure, turns in self._taken.items())
        pace = taken / expected if expected else 1.0
        return sum(self._one(figure, pace) for figure in self._ahead)

    def _one(self, figure: str, pace: float) -> float:
        turns = self._taken.get(figure)
        return sum(turns) / len(turns) if turns else self._usual[figure] * pace


class Display:
    """Lines on stderr; a context manager, for the bar must go in the end."""

    def __init__(self, figures: Sequence[str], usual: Mapping[str, float]) -> None:
        self._forecast = Forecast(figures, usual)
        self._console = Console(file=sys.stderr, highlight=False, markup=False, emoji=False)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=self._console,
            transient=True,
            auto_refresh=False,  # the generator's core is not for drawing while it sends
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", total=len(figures), left="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def begin(self, what: str) -> None:
        """Say which turn it is."""
        self._bar.update(self._task, description=what, left=f"{in_words(self._forecast.left())} left")
        self._bar.refresh()

    def end(self, line: str, seconds: float) -> None:
        """Print what came of the turn, and how long it took."""
        self._forecast.note(seconds)
        self._bar.advance(self._task)
        if self._console.is_terminal:
            self._console.print(line, soft_wrap=True)
        else:
            print(line, file=sys.stderr, flush=True)


def in_words(seconds: float) -> str:
    """Return a time as one reads it off a bar."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
