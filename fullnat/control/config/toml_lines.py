# SPDX-License-Identifier: Apache-2.0
"""Where each key of a TOML text stands: key path -> line number.

tomllib says what a document holds and forgets where it was written.  This is the other half: one
pass over the text that keeps track of the table it is in and of the values it is inside of, and
notes the line on which each key, each array element and each table begins.

Rules.
  1. It judges nothing: tomllib has accepted the text before anybody asks for a line.
  2. It raises on no text, and one that is not TOML merely gets lines nobody wants.
  3. A path that was never written has the line of its nearest ancestor: a key missing from a table
     is reported at the head of that table.

Refused.  A TOML parser that keeps positions (tomlkit): a second reading of the language, which may
          disagree with the first, for the sake of one number.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from typing import NamedTuple

KeyPath = tuple[str | int, ...]  # ("service", 0, "listen"): table keys, and array indices from 0

# Deeper than any key fullnat knows; it keeps a.a.a.a... of any length from costing its square.
_MAX_DEPTH = 16

_TOKEN = re.compile(
    r"""
      (?P<skip>     [ \t\r]+ | \#[^\n]* )
    | (?P<newline>  \n )
    | (?P<string>   \"{3} (?: [^"\\] | \\[\s\S] | "(?!"") )* "{3,5}
                  | '{3}  (?: [^']              | '(?!'') )* '{3,5}
                  | " (?: [^"\\\n] | \\[^\n] )* "
                  | ' [^'\n]* ' )
    | (?P<mark>     [\[\]{}=,.] )
    | (?P<bare>     [^\s"'\#\[\]{}=,.]+ | [\s\S] )
    """,
    re.VERBOSE,
)


class _Token(NamedTuple):
    kind: str  # string, mark, bare, newline; "end" behind the last
    text: str
    line: int

    def is_mark(self, mark: str) -> bool:
        return self.kind == "mark" and self.text == mark


class _Container:
    """An array or inline table the scan is inside of."""

    __slots__ = ("index", "is_array", "path")

    def __init__(self, path: KeyPath, is_array: bool) -> None:
        self.path = path
        self.is_array = is_array
        self.index = 0  # of the array element being read


class TomlLines:
    """The line of every key of one TOML text."""

    def __init__(self, text: str) -> None:
        self._lines: dict[KeyPath, int] = {}
        self._array_lengths: dict[KeyPath, int] = {}  # of arrays of tables, [[...]]
        self._table: KeyPath = ()
        self._tokens = _tokenize(text)
        self._token = next(self._tokens)
        while self._token.kind != "end":
            self._read_statement()

    def find(self, path: KeyPath) -> int:
        """Return the line of *path*, or of the nearest of its ancestors that was written, or 1."""
        for length in range(len(path), 0, -1):
            line = self._lines.get(path[:length])
            if line is not None:
                return line
        return 1

    def _advance(self) -> _Token:
        """Return the token in hand and take the next one in hand; at the end there is always one more."""
        token = self._token
        if token.kind != "end":
            self._token = next(self._tokens)
        return token

    def _read_statement(self) -> None:
        """Read a table header, or a key and its value, or an empty line."""
        if self._token.is_mark("["):
            self._read_header()
        elif self._token.kind in ("bare", "string"):
            self._read_value(self._read_key(self._table))
        self._skip_line()

    def _read_header(self) -> None:
        line = self._advance().line
        is_array = self._token.is_mark("[")
        if is_array:
            self._advance()
        *parents, name = self._read_key_parts() or [""]
        path: KeyPath = ()
        for parent in parents:
            path = _below(path, parent)
            if path in self._array_lengths:  # [a.b] belongs to the last [[a]] above it
                path = _below(path, self._array_lengths[path] - 1)
        path = _below(path, name)
        if is_array:
            self._lines.setdefault(path, line)
            index = self._array_lengths.get(path, 0)
            self._array_lengths[path] = index + 1
            path = _below(path, index)
        self._lines.setdefault(path, line)
        self._table = path

    def _read_key(self, table: KeyPath) -> KeyPath:
        """Read a key, dotted or not; note the line of each table it passes through and its own."""
        line = self._token.line
        path = table
        for part in self._read_key_parts():
            path = _below(path, part)
            self._lines.setdefault(path, line)
        if self._token.is_mark("="):
            self._advance()
        return path

    def _read_key_parts(self) -> list[str]:
        parts = []
        while self._token.kind in ("bare", "string"):
            parts.append(_unquoted(self._advance()))
            if self._token.is_mark("."):
                self._advance()
        return parts

    def _read_value(self, path: KeyPath) -> None:
        """Read a value to its end, nested arrays and inline tables included, without recursion."""
        containers: list[_Container] = []
        while self._token.kind != "end":
            token = self._token
            if token.kind == "newline":
                if not containers:
                    return
                self._advance()
            elif token.is_mark("[") or token.is_mark("{"):
                self._advance()
                containers.append(_Container(path, is_array=token.text == "["))
                path = self._read_item_start(containers[-1], path)
            elif token.is_mark("]") or token.is_mark("}"):
                self._advance()
                if not containers:
                    return
                path = containers.pop().path
            elif token.is_mark(",") and containers:
                self._advance()
                containers[-1].index += 1
                path = self._read_item_start(containers[-1], path)
            else:
                self._advance()

    def _read_item_start(self, container: _Container, path: KeyPath) -> KeyPath:
        """Return the path of the element or key that comes next in *container*, or *path* if none does."""
        while self._token.kind == "newline":
            self._advance()
        if container.is_array and not self._token.is_mark("]"):
            path = _below(container.path, container.index)
            self._lines.setdefault(path, self._token.line)
        elif not container.is_array and self._token.kind in ("bare", "string"):
            path = self._read_key(container.path)
        return path

    def _skip_line(self) -> None:
        while self._token.kind not in ("newline", "end"):
            self._advance()
        self._advance()


def _tokenize(text: str) -> Iterator[_Token]:
    line = 1
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or ""
        if kind != "skip":
            yield _Token(kind, match[0], line)
        line += match[0].count("\n")
    yield _Token("end", "", line)


def _below(path: KeyPath, part: str | int) -> KeyPath:
    return (*path, part) if len(path) < _MAX_DEPTH else path


def _unquoted(token: _Token) -> str:
    """Return the key a token stands for; escapes are tomllib's to read."""
    if token.kind != "string":
        return token.text
    try:
        return str(tomllib.loads(f"key = {token.text}")["key"])
    except ValueError:
        return token.text
