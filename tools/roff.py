# SPDX-License-Identifier: Apache-2.0
"""Manual pages in roff, man(7), put together of plain text."""

from __future__ import annotations

import textwrap

_SPECIAL = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti"}
_WIDTH = 100  # of a line in the source


def escape(text: str) -> str:
    """Return *text* as it stands in the middle of a line."""
    return "".join(_SPECIAL.get(char, char) for char in text)


def argument(text: str) -> str:
    """Return *text* as the argument of a macro."""
    return '"' + escape(text).replace('"', "\\(dq") + '"'


class Page:
    """One manual page, as it is written."""

    def __init__(self, name: str, section: int, source: str, comment: str) -> None:
        """*comment* is for who opens the file.  No date: the same source gives the same page."""
        title = f'.TH {argument(name.upper())} {section} "" {argument(source)}'
        self._lines = [*(f'.\\" {line}' for line in comment.splitlines()), title, ".nh", ".ad l"]

    def section(self, title: str) -> None:
        """Begin a section."""
        self._lines.append(f".SH {argument(title)}")

    def subsection(self, title: str) -> None:
        """Begin a section in a section."""
        self._lines.append(f".SS {argument(title)}")

    def text(self, text: str) -> None:
        """Add paragraphs, which blank lines divide."""
        for paragraph in text.strip().split("\n\n"):
            self._lines.append(".PP")
            self._fill(paragraph)

    def item(self, tag: str, text: str) -> None:
        """Add *tag* in bold, and *text* below it."""
        self._lines += [".TP", f".B {argument(tag)}"]
        self._fill(text)

    def verbatim(self, text: str) -> None:
        """Add *text* as it is."""
        self._lines += [".PP", ".nf", ".RS"]
        self._lines += [_guarded(escape(line)) for line in text.strip("\n").splitlines()]
        self._lines += [".RE", ".fi"]

    def _fill(self, text: str) -> None:
        lines = textwrap.wrap(" ".join(text.split()), _WIDTH, break_long_words=False, break_on_hyphens=False)
        self._lines += [_guarded(escape(line)) for line in lines]

    def __str__(self) -> str:
        return "\n".join(self._lines) + "\n"


def _guarded(line: str) -> str:
    """Return *line* so that it is no request, whatever it begins with."""
    return f"\\&{line}" if line.startswith((".", "\\(aq")) else line
