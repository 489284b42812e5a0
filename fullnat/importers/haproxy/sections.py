# SPDX-License-Identifier: Apache-2.0
"""haproxy.cfg as sections: each line a setting, two-word keywords like `timeout client` as one keyword."""

from __future__ import annotations

import re

from fullnat.importers.notes import ImporterError, Place, quoted
from fullnat.importers.settings import Setting, numbered

PROXIES = frozenset(["defaults", "listen", "frontend", "backend"])
_OTHERS_TEXT = """
    global peers resolvers userlist mailers mailer program cache ring traces http-errors log-forward
    log-profile fcgi-app crt-store acme
"""
_OTHERS = frozenset(_OTHERS_TEXT.split())
# Of these the second word says what it is about.
_DOUBLE_TEXT = """
    option timeout http-check tcp-check external-check stick stats http-request http-response
    tcp-request tcp-response
"""
_DOUBLE = frozenset(_DOUBLE_TEXT.split())

_PIECE = re.compile(
    r"""
      (?P<space>  \s+ )
    | (?P<comment> \#.* )
    | (?P<double> " (?: [^"\\] | \\. )* " )
    | (?P<single> ' [^']* ' )
    | (?P<escape> \\. )
    | (?P<bare>   [^\s"'\\#]+ | \\$ )
    """,
    re.VERBOSE,
)
_LETTERS = {"n": "\n", "r": "\r", "t": "\t"}


def read_sections(path: str, text: str) -> list[Setting]:
    """Return the sections in order, the lines of each in its block."""
    sections: list[Setting] = []
    for place, line in numbered(path, text):
        words = _words(line, place)
        if not words:
            continue
        if words[0].startswith(".") and words[0] in {".if", ".elif", ".else", ".endif"}:
            raise ImporterError(
                place, f"{words[0]}: which lines count, only haproxy knows; import the file without it"
            )
        if words[0].startswith("."):
            continue  # .notice and the like: something to print
        if words[0] in PROXIES | _OTHERS:
            sections.append(Setting(place, words))
        elif sections:
            sections[-1].block.append(Setting(place, _joined(words)))
        else:
            raise ImporterError(
                place, f"found {quoted(words[0])}, accepted: a section such as defaults or listen"
            )
    return sections


def _joined(words: list[str]) -> list[str]:
    """Return *words* with a keyword of several words as the first of them."""
    size = 2 if words[0] == "no" else 1
    if len(words) > size and words[size - 1] in _DOUBLE:
        size += 1
    return [" ".join(words[:size]), *words[size:]]


def _words(line: str, place: Place) -> list[str]:
    words: list[str] = []
    word: str | None = None
    position = 0
    while position < len(line):
        match = _PIECE.match(line, position)
        if match is None:
            raise ImporterError(place, "a quote is not closed")
        position = match.end()
        kind, text = str(match.lastgroup), match[0]
        if kind in {"space", "comment"}:
            if word is not None:
                words.append(word)
            word = None
            continue
        if kind == "double":
            text = re.sub(r"\\([\"\\$])", r"\1", text[1:-1])
        elif kind == "single":
            text = text[1:-1]
        elif kind == "escape":
            text = _LETTERS.get(text[1], text[1])
        word = (word or "") + text
    return words if word is None else [*words, word]
