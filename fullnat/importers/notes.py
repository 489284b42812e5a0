# SPDX-License-Identifier: Apache-2.0
"""What an importer has to say besides the file it writes: one line for each thing, with its place.

A note is of one of three kinds: something was left out, was taken but means something else here, or
is still to be written by hand.  The same thing said in several places is one note with all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import groupby
from typing import NamedTuple

_MOST_LINES = 8  # of one note that are told one by one


class Place(NamedTuple):
    """A line of one of the files that are imported."""

    path: str
    line: int  # from 1; 0: no line, the file as a whole

    def __str__(self) -> str:
        return f"{self.path}:{self.line}" if self.line else self.path


class ImporterError(Exception):
    """The text is not what it is said to be; one line tells where and what would be right."""

    def __init__(self, place: Place, message: str) -> None:
        super().__init__(f"{printable(str(place))}: {printable(message)}")
        self.place = place


class Kind(Enum):
    """What became of it; the value is how the note begins."""

    LEFT = "not taken"
    CHANGED = "changed"
    MISSING = "to complete"


@dataclass(slots=True)
class Note:
    """One thing to tell, and every place that asked for it."""

    kind: Kind
    what: str
    why: str
    places: list[Place]

    def __str__(self) -> str:
        return f"{self._where(None)}: {self.text}"

    @property
    def text(self) -> str:
        """The note without its places."""
        return printable(f"{self.kind.value}: {self.what}: {self.why}")

    def comment(self, path: str) -> str:
        """Return the note for a file made of *path*, which need not be named in it."""
        where = self._where(path)
        return printable(f"{self.kind.value}: {where}{': ' if where else ''}{self.what}: {self.why}")

    def order(self, path: str) -> tuple[bool, bool, str, int]:
        """Return what notes are sorted by: those on *path* itself first, those without a line last."""
        first = self.places[0]
        return (first.line == 0, first.path != path, first.path, first.line)

    def _where(self, known: str | None) -> str:
        found = []
        for path, places in groupby(self.places, key=lambda place: place.path):
            lines = list(dict.fromkeys(place.line for place in places if place.line))
            shown = ", ".join(map(str, lines[:_MOST_LINES]))
            if len(lines) > _MOST_LINES:
                shown += f" and {len(lines) - _MOST_LINES} more"
            if path == known:
                found.append(f"line{'s' if len(lines) > 1 else ''} {shown}" if lines else "")
            else:
                found.append(f"{path}:{shown}" if lines else path)
        return printable("; ".join(filter(None, found)))


class Notes:
    """The notes on one service, or on the file as a whole, in the order they were made."""

    def __init__(self) -> None:
        self._notes: dict[tuple[Kind, str, str], Note] = {}

    def __iter__(self) -> Iterator[Note]:
        return iter(self._notes.values())

    def sorted(self, path: str) -> list[Note]:
        """Return the notes by place, those on *path* itself first."""
        return sorted(self, key=lambda note: note.order(path))

    def add(self, kind: Kind, place: Place, what: str, why: str) -> None:
        """Tell of *what*; a note there is already gets *place* as well."""
        note = self._notes.setdefault((kind, what, why), Note(kind, what, why, []))
        if place not in note.places:
            note.places.append(place)

    def left(self, place: Place, what: str, why: str) -> None:
        """Tell that *what* was left out."""
        self.add(Kind.LEFT, place, what, why)

    def changed(self, place: Place, what: str, why: str) -> None:
        """Tell that *what* was taken, and means something else than it did."""
        self.add(Kind.CHANGED, place, what, why)

    def missing(self, place: Place, what: str, why: str) -> None:
        """Tell that *what* is still to be written."""
        self.add(Kind.MISSING, place, what, why)


def printable(text: str) -> str:
    """Return *text* on one line: whatever does not print is escaped."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def quoted(text: str) -> str:
    """Return *text* in quotes, cut short where it is long."""
    return f'"{printable(text if len(text) <= 60 else text[:59] + "…")}"'
