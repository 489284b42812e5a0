# SPDX-License-Identifier: Apache-2.0
"""How keys and values are printed: in the operator's words, and never on more than one line.

A key reads as in service[1].listen, a value as TOML writes it, cut short where it is long.  Both
come from a file that may hold anything, so whatever does not print is escaped.
"""

from __future__ import annotations

import re
from typing import Any

from fullnat.control.config.toml_lines import KeyPath


def printable(text: str) -> str:
    """Return *text* on one line: whatever does not print is escaped."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _quoted(text: str) -> str:
    shown = text if len(text) <= 60 else text[:59] + "…"
    return '"' + printable(shown.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def value_text(value: Any) -> str:
    """Return *value* as TOML writes it, in one short line."""
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list" if value else "[]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if abs(value) < 10**20 else "a huge number"  # str() has a limit of its own
    if isinstance(value, float):
        return str(value)
    return str(value.isoformat())  # TOML has dates and times besides


def listed(values: tuple[Any, ...]) -> str:
    """Return the values as in "a", "b" or "c"."""
    *rest, last = map(value_text, values)
    return f"{', '.join(rest)} or {last}" if rest else last


def key_text(loc: KeyPath) -> str:
    """Return *loc* as in service[1].listen; people count from 1."""
    text = ""
    for part in loc:
        if isinstance(part, int):
            text += f"[{part + 1}]"
        else:
            key = part if re.fullmatch(r"[A-Za-z0-9_-]+", part) and len(part) <= 60 else _quoted(part)
            text += f".{key}" if text else key
    return text
