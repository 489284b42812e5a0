# SPDX-License-Identifier: Apache-2.0
"""The tables of the configuration file, read out of the schema that checks it.

A table of which there is one kind in several places (`[timeouts]` and `[service.timeouts]`) comes once,
with all its headers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, get_args, get_origin

from pydantic.fields import FieldInfo

from fullnat.control.config.health import KEYS, HealthTable
from fullnat.control.config.schema import Document
from fullnat.control.config.table import Table
from fullnat.control.config.value_type import Words
from fullnat.control.config.values import DurationValue
from fullnat.control.config.wording import value_text

DURATION = get_args(DurationValue)[1].accepted  # too long for each row


class Key(NamedTuple):
    """One key of a table."""

    name: str
    accepted: str  # in the words that refuse anything else
    default: str  # as TOML writes it; empty: none
    is_required: bool
    meaning: str


class TableOfKeys(NamedTuple):
    """One kind of table."""

    headers: tuple[str, ...]  # as the file has them, [service.health]; empty: the top level
    meaning: str
    keys: tuple[Key, ...]
    extra: tuple[tuple[str, str], ...]  # more rows, of what belongs together


def read_tables() -> list[TableOfKeys]:
    """Return all tables, in the order of the file."""
    headers: dict[type[Table], list[str]] = {}
    for table, header in _walk(Document, ""):
        headers.setdefault(table, []).append(header)
    return [
        _table(table, tuple(sorted(filter(None, found), key=lambda header: header.count("."))))
        for table, found in headers.items()
    ]


def _walk(table: type[Table], name: str) -> Iterator[tuple[type[Table], str]]:
    """Yield *table*, which the file calls *name*, and every table in it."""
    yield table, name
    for key, field in table.model_fields.items():
        inner = _table_of(field.annotation)
        if inner is not None:
            path = f"{name.strip('[]')}.{key}".lstrip(".")
            yield from _walk(inner, f"[[{path}]]" if _is_list(field) else f"[{path}]")


def _table_of(annotation: Any) -> type[Table] | None:
    """Return the table that *annotation* is made of: X, list[X], X | None."""
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, Table):
            return candidate
    return None


def _is_list(field: FieldInfo) -> bool:
    return get_origin(field.annotation) is list


def _table(table: type[Table], headers: tuple[str, ...]) -> TableOfKeys:
    keys = tuple(_key(name, field) for name, field in table.model_fields.items())
    return TableOfKeys(headers, table.__doc__ or "", keys, _check_types() if table is HealthTable else ())


def _key(name: str, field: FieldInfo) -> Key:
    is_required = field.is_required()
    default = None if is_required else field.default
    is_shown = default not in (None, {}) and _table_of(field.annotation) is None
    return Key(
        name, _accepted(field), _toml(default) if is_shown else "", is_required, field.description or ""
    )


def _accepted(field: FieldInfo) -> str:
    found = [item for item in field.metadata if isinstance(item, Words)]
    for part in get_args(field.annotation):
        found += [item for item in getattr(part, "__metadata__", ()) if isinstance(item, Words)]
    if not found:
        return "a table"
    return "a duration" if found[0].accepted == DURATION else found[0].accepted


def _toml(value: Any) -> str:
    return f"[{', '.join(map(_toml, value))}]" if isinstance(value, list) else value_text(value)


def _check_types() -> tuple[tuple[str, str], ...]:
    """Return for each type of check the keys that not every other has."""
    common = frozenset.intersection(*KEYS.values())
    order = list(HealthTable.model_fields)
    return tuple((name, ", ".join(sorted(keys - common, key=order.index))) for name, keys in KEYS.items())
