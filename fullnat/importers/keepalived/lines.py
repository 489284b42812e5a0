# SPDX-License-Identifier: Apache-2.0
"""Lines of keepalived.conf: comments, includes, conditions, parameters and sequences worked out.

    # and !            a comment, outside quotes
    include FILE       the lines of other files, which a hook of the caller's reads
    @id LINE           LINE on the machine of this id, @^id on all others
    $NAME=VALUE        a parameter; over several lines when they end in a backslash
    $NAME ${NAME}      its value, put in when the line is read
    ~SEQ(VAR, 1, 3) LINE     LINE for each number; ~LST(VAR, a, b) LINE for each word

Rules.
  1. A line that came of another has the place of that one: where the operator would change it.
  2. What a file can expand to is bounded, so that a text of any kind is read in no time.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from fullnat.importers.notes import ImporterError, Notes, Place, quoted
from fullnat.importers.settings import numbered

# The paths and texts of the files that match a pattern, named in the file of the second argument.
Include = Callable[[str, str], Sequence[tuple[str, str]]]

_INCLUDES = frozenset(["include", "includer", "includem", "includew", "includeb", "includea"])
_MOST_NESTED = 24
_LONGEST_LINE = 1 << 16
_MOST_TEXT = 1 << 22  # characters, in all lines that are worked out

_COMMENT = re.compile(r"""(?:[^"'#!\\]|\\[\s\S]|"(?:[^"\\]|\\[\s\S])*"|'(?:[^'\\]|\\[\s\S])*')*""")
_DEFINITION = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)=([\s\S]*)")
_PARAMETER = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}|\$([A-Za-z_][A-Za-z0-9_]*)(?=\s|$)")
_OF_THE_HOST = re.compile(r"\$\{_(?:ENV|RANDOM)\b[^}]*\}")
_SEQUENCE = re.compile(r"~SEQ(x?)\(([^()]*)\)([\s\S]*)")
_LIST = re.compile(r"~LST\(([^()]*)\)([\s\S]*)")


class Line(NamedTuple):
    """A line with everything in it worked out."""

    place: Place
    text: str


def read_lines(path: str, text: str, include: Include, config_id: str, notes: Notes) -> list[Line]:
    """Return the lines of *text*, in order."""
    reader = _Reader(include, config_id, notes)
    reader.read_file(path, text, depth=0)
    return reader.lines


class _Reader:
    def __init__(self, include: Include, config_id: str, notes: Notes) -> None:
        self.lines: list[Line] = []
        self._include = include
        self._config_id = config_id
        self._notes = notes
        self._parameters = {"_INSTANCE": config_id, "_HASH": "#", "_BANG": "!"}
        self._left = _MOST_TEXT

    def read_file(self, path: str, text: str, depth: int) -> None:
        """Add the lines of one file, and of those it includes."""
        if depth > _MOST_NESTED:
            raise ImporterError(Place(path, 0), "files include one another without end")
        self._parameters["_PWD"] = posixpath.dirname(path) or "."
        for place, line in _joined(path, text):
            keyword, *names = line.split(maxsplit=1)
            if keyword in _INCLUDES:
                self._read_included(place, names, depth)
            else:
                self._expand(place, line, nested=0)

    def _read_included(self, place: Place, names: list[str], depth: int) -> None:
        if not names:
            raise ImporterError(place, "include: the name of a file is missing")
        name = names[0].strip("\"'")
        files = self._include(name, place.path)
        if not files:
            self._notes.left(place, f"include {name}", "no file of this name could be read")
        for path, text in files:
            self.read_file(path, text, depth + 1)
        self._parameters["_PWD"] = posixpath.dirname(place.path) or "."

    def _expand(self, place: Place, line: str, nested: int) -> None:
        """Add what *line* becomes."""
        self._spend(place, len(line) + 1)
        if nested > _MOST_NESTED:
            raise ImporterError(place, "parameters refer to one another without end")
        text = self._condition(place, line.strip())
        if not text:
            return
        if definition := _DEFINITION.fullmatch(text):
            self._parameters[definition[1]] = definition[2]
        elif text.startswith(("~SEQ", "~LST")):
            for values, rest in self._repetitions(place, text):
                self._parameters.update(values)
                self._expand(place, rest, nested + 1)
        elif (replaced := self._substitute(place, text)) != text:
            for part in replaced.split("\n"):
                self._expand(place, part, nested + 1)
        else:
            if found := _OF_THE_HOST.search(text):
                self._notes.missing(place, found[0], "depends on where keepalived runs; write its value")
            self.lines.append(Line(place, text))

    def _spend(self, place: Place, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise ImporterError(place, f"the text expands to more than {_MOST_TEXT} characters")

    def _condition(self, place: Place, text: str) -> str:
        """Return *text* without its condition, or nothing where the condition is not met."""
        while text.startswith("@"):
            condition, _, rest = text.partition(" ")
            wanted = condition[1:].removeprefix("^")
            if (wanted == self._config_id) == condition.startswith("@^"):
                ours = f"the id {quoted(self._config_id)}" if self._config_id else "none"
                self._notes.left(place, f"a line for {condition}", f"the import was asked for {ours}")
                return ""
            text = rest.strip()
        return text

    def _substitute(self, place: Place, text: str) -> str:
        room = _LONGEST_LINE

        def value_of(match: re.Match[str]) -> str:
            nonlocal room
            value = self._parameters.get(match[1] or match[2], match[0])
            room -= len(value)
            if room < 0:
                raise ImporterError(place, f"the line expands to more than {_LONGEST_LINE} characters")
            return value

        return _PARAMETER.sub(value_of, text)

    def _repetitions(self, place: Place, text: str) -> Iterator[tuple[dict[str, str], str]]:
        """Yield for each turn of a ~SEQ or ~LST its parameters, and what to read with them."""
        if match := _SEQUENCE.fullmatch(text):
            name, *numbers = [self._substitute(place, word).strip() for word in match[2].split(",")]
            for number in _sequence(place, numbers):
                yield {name: f"{number:x}" if match[1] else str(number)}, match[3]
        elif match := _LIST.fullmatch(text):
            names, *turns = _list_items(self._substitute(place, match[1]))
            if not turns or any(len(turn) != len(names) for turn in turns):
                raise ImporterError(
                    place, "~LST: accepted: ~LST(VAR, WORD, ...) or ~LST({VAR, VAR}, {WORD, WORD}, ...)"
                )
            for turn in turns:
                yield dict(zip(names, turn, strict=True)), match[2]
        else:
            raise ImporterError(place, f"found {quoted(text)}, accepted: ~SEQ(VAR, FIRST, STEP, LAST) LINE")


def _joined(path: str, text: str) -> Iterator[tuple[Place, str]]:
    """Yield the lines of a file without comments, those that end in a backslash with their next ones.

    The lines of a definition stay apart: they are lines again when its parameter is put in.
    """
    parts: list[str] = []
    start = Place(path, 1)
    for place, raw in numbered(path, text):
        line = _without_comment(raw).strip()
        start = start if parts else place
        is_continued = line.endswith("\\")
        parts.append(line.removesuffix("\\").strip())
        if is_continued:
            continue
        yield from _line_of(start, parts)
        parts = []
    if parts:
        yield from _line_of(start, parts)


def _line_of(place: Place, parts: list[str]) -> Iterator[tuple[Place, str]]:
    is_definition = _DEFINITION.match(re.sub(r"^(?:@\S+\s+)+", "", parts[0]))
    joined = ("\n" if is_definition else " ").join(part for part in parts if part)
    if joined:
        yield place, joined


def _without_comment(line: str) -> str:
    """Return *line* up to its comment; a quote that is not closed is no quote here."""
    match = _COMMENT.match(line)
    end = match.end() if match else 0
    if end < len(line) and line[end] not in "#!":
        return line  # a quote without an end: blocks.py says so, with its line
    return line[:end]


def _sequence(place: Place, words: list[str]) -> range:
    """Return the numbers of a ~SEQ, whose first and step may be left out."""
    try:
        numbers = [int(word[:12], 0) for word in words]
    except ValueError:
        numbers = []
    last = numbers[-1] if numbers else 0
    first = numbers[0] if len(numbers) > 1 else (1 if last > 0 else -1)
    step = numbers[1] if len(numbers) == 3 else (1 if last >= first else -1)
    if not 1 <= len(numbers) <= 3 or not step:
        raise ImporterError(
            place, "~SEQ: accepted: ~SEQ(VAR, FIRST, STEP, LAST), numbers, STEP and FIRST optional"
        )
    return range(first, last + (1 if step > 0 else -1), step)


def _list_items(text: str) -> list[list[str]]:
    """Return the words of a ~LST; those in braces stay together."""
    found = re.findall(r"\{([^{}]*)\}|([^{},\s][^{},]*)", text)
    return [[word.strip() for word in (inside or single).split(",")] for inside, single in found]
