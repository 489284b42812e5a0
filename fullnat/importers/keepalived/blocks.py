# SPDX-License-Identifier: Apache-2.0
"""Lines of keepalived.conf as a tree: one setting a line, with the settings in its braces below it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from fullnat.importers.keepalived.lines import Line
from fullnat.importers.notes import ImporterError
from fullnat.importers.settings import Setting

_MOST_NESTED = 32

_PIECE = re.compile(
    r"""
      (?P<space>  \s+ )
    | (?P<brace>  [{}] )
    | (?P<double> " (?: [^"\\] | \\[\s\S] )* " )
    | (?P<single> ' (?: [^'\\] | \\[\s\S] )* ' )
    | (?P<bare>   \$\{[^}]*\} | \\[\s\S] | [^\s"'{}\\$]+ | \$ )
    """,
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{1,2})|([0-7]{1,3})|c([\x40-\x7e])|([\s\S]))")
_CONTROLS = dict(zip("abEfnrtv", "\a\b\x1b\f\n\r\t\v", strict=True))


def read_blocks(lines: Iterable[Line]) -> list[Setting]:
    """Return the settings of the top level, in order."""
    top: list[Setting] = []
    open_blocks = [top]
    openers: list[Setting] = []
    for line in lines:
        setting: Setting | None = None
        for token in _tokens(line):
            if token == "{":
                opener = setting or next(reversed(open_blocks[-1]), None)
                if opener is None or len(openers) >= _MOST_NESTED:
                    raise ImporterError(
                        line.place, "a { without a keyword" if opener is None else "too many {"
                    )
                openers.append(opener)
                open_blocks.append(opener.block)
                setting = None
            elif token == "}":
                if not openers:
                    raise ImporterError(line.place, "a } without a {")
                openers.pop()
                open_blocks.pop()
                setting = None
            elif setting is None:
                setting = Setting(line.place, [token[1:]])
                open_blocks[-1].append(setting)
            else:
                setting.words.append(token[1:])
    if openers:
        raise ImporterError(openers[-1].place, f"{openers[-1].keyword}: its {{ is not closed")
    return top


def _tokens(line: Line) -> Iterator[str]:
    """Yield "{", "}", and words with a "w" in front of each, lest a quoted brace be taken for one."""
    word: list[str] = []
    position = 0
    while position < len(line.text):
        match = _PIECE.match(line.text, position)
        if match is None:
            raise ImporterError(line.place, "a quote is not closed")
        position = match.end()
        kind, text = str(match.lastgroup), match[0]
        if kind in {"space", "brace"}:
            if word:
                yield "w" + "".join(word)
            word = []
            if kind == "brace":
                yield text
        else:
            word.append(_unescaped(text[1:-1] if kind in {"double", "single"} else text))
    if word:
        yield "w" + "".join(word)


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(_character, text)


def _character(match: re.Match[str]) -> str:
    digits, octal, control, other = match.groups()
    if digits:
        return chr(int(digits, 16))
    if octal:
        return chr(int(octal, 8))
    if control:
        return chr(ord(control) & 0x1F)
    return _CONTROLS.get(other, other)
