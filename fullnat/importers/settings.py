# SPDX-License-Identifier: Apache-2.0
"""What all formats are made of: settings, and scopes of them that inherit from the scope around.

A scope remembers which settings were asked for; what nobody asked for is what could not be taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from fullnat.importers.notes import ImporterError, Place


def numbered(path: str, text: str) -> Iterator[tuple[Place, str]]:
    """Yield the lines of *text* with their places, as editors count them."""
    for number, line in enumerate(text.split("\n"), start=1):
        yield Place(path, number), line.rstrip("\r")


@dataclass(slots=True)
class Setting:
    """One line of a file: a keyword, what is said behind it, and what stands in its braces."""

    place: Place
    words: list[str]
    block: list[Setting] = field(default_factory=list)

    @property
    def keyword(self) -> str:
        """Its first word."""
        return self.words[0]

    @property
    def arguments(self) -> list[str]:
        """The other words."""
        return self.words[1:]

    @property
    def value(self) -> str:
        """The first word behind the keyword; ImporterError where there is none."""
        if len(self.words) < 2:
            raise ImporterError(self.place, f"{self.keyword}: a value is missing")
        return self.words[1]


class Scope:
    """The settings of one block, and behind them those of the block around it."""

    def __init__(self, settings: Iterable[Setting], parent: Scope | None = None) -> None:
        self._settings = list(settings)
        self._parent = parent
        self._asked: set[str] = set()

    def find(self, *keywords: str) -> Setting | None:
        """Return the last setting of one of *keywords*: of this scope, or else of those around it."""
        found = self.own(*keywords)
        if found or self._parent is None:
            return found
        return self._parent.find(*keywords)

    def own(self, *keywords: str) -> Setting | None:
        """Return the last setting of one of *keywords* in this scope alone."""
        return next(reversed(self.all(*keywords)), None)

    def all(self, *keywords: str) -> list[Setting]:
        """Return every setting of one of *keywords* in this scope."""
        self._asked.update(keywords)
        return [setting for setting in self._settings if setting.keyword in keywords]

    def ignore(self, *keywords: str) -> None:
        """Treat *keywords* as asked for."""
        self._asked.update(keywords)

    def unasked(self) -> Iterator[Setting]:
        """Yield the settings of this scope nobody asked for."""
        return (setting for setting in self._settings if setting.keyword not in self._asked)
