# SPDX-License-Identifier: Apache-2.0
"""Problems: one mistake or warning each, the error that carries them, the report that gathers them.

The stages name a key by its path in the document; the report turns that into the line it stands on
and the name people know it by, and says what the file has there.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fullnat.control.config.toml_lines import KeyPath, TomlLines
from fullnat.control.config.wording import key_text, printable, value_text


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake or warning; str() is the line an operator reads."""

    path: Path
    line: int  # 0: the file as a whole
    key: str  # as in service[1].listen, counted from 1; "" when no key is to blame
    message: str
    is_warning: bool = False

    def __str__(self) -> str:
        where = f"{printable(str(self.path))}:{self.line}" if self.line else printable(str(self.path))
        parts = (where, "warning" if self.is_warning else "", self.key, self.message)
        return ": ".join(part for part in parts if part)


class ConfigError(Exception):
    """A configuration that cannot be used; str() is one line for each problem, in the file's order."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems  # warnings too: the file is mended once


class Report:
    """The problems found so far, and what it takes to word one."""

    def __init__(self, path: Path, lines: TomlLines, document: dict[str, Any]) -> None:
        self.path = path
        self.has_errors = False
        self._lines = lines
        self._document = document
        self._problems: list[Problem] = []
        self._bad: set[KeyPath] = set()  # where an error was found, and all tables around it

    def muted(self) -> Report:
        """Return one that words problems as this one does, and keeps them to itself."""
        other = Report(self.path, self._lines, self._document)
        other._bad = set(self._bad)
        return other

    def error(self, loc: KeyPath, message: str) -> None:
        """Note a mistake at *loc*."""
        self.has_errors = True
        self._bad.update(loc[:length] for length in range(len(loc) + 1))
        self._problems.append(Problem(self.path, self._lines.find(loc), key_text(loc), message))

    def refuse(self, loc: KeyPath, accepted: str) -> None:
        """Note that what the file has at *loc* does not go with the rest of it."""
        found = self._value(loc)
        start = "missing" if found is None else f"found {value_text(found)}"
        self.error(loc, f"{start}, accepted: {accepted}")

    def refuse_repeated(self, loc: KeyPath, first: KeyPath, accepted: str) -> None:
        """Note that *loc* has what the earlier *first* has already."""
        self.refuse(loc, f"{accepted}; {key_text(first)} on line {self._lines.find(first)} has it")

    def warn(self, loc: KeyPath, message: str) -> None:
        """Note what is allowed and hardly meant."""
        problem = Problem(self.path, self._lines.find(loc), key_text(loc), message, is_warning=True)
        self._problems.append(problem)

    def is_bad(self, loc: KeyPath) -> bool:
        """Whether an error was found at *loc* or in it."""
        return loc in self._bad

    def shown(self, loc: KeyPath) -> str:
        """Return the value at *loc* as the file has it."""
        return value_text(self._value(loc))

    def sorted_problems(self) -> list[Problem]:
        """Return all problems in the order of the file's lines."""
        return sorted(self._problems, key=lambda problem: problem.line)

    def _value(self, loc: KeyPath) -> Any:
        value: Any = self._document
        for part in loc:
            try:
                value = value[part]
            except (KeyError, IndexError):
                return None
        return value
