# SPDX-License-Identifier: Apache-2.0
"""Validate: document -> tables, and what pydantic refuses told in the operator's words.

pydantic is asked again and again, each time with stand-ins for what it refused the time before,
until it accepts: the tables it returns then hold everything that is sound.
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, get_args

from pydantic import ValidationError

from fullnat.control.config.problems import Report
from fullnat.control.config.schema import Document
from fullnat.control.config.table import Table
from fullnat.control.config.toml_lines import KeyPath
from fullnat.control.config.value_type import Words
from fullnat.control.config.wording import value_text

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


def validate(document: dict[str, Any], report: Report) -> Document:
    """Return the tables of *document*, reporting what pydantic refuses.

    Each round after the first mends gaps the one before it left, one level further in; the
    operator hears of the first only.
    """
    document.setdefault("snat", {})  # so that a file without [snat] is told of snat.addresses
    is_first_round = True
    while True:
        try:
            return Document.model_validate(document)
        except ValidationError as failure:
            for error in failure.errors(include_url=False):
                if is_first_round:
                    report.error(error["loc"], _in_words(error))
                _stand_in(document, error)
        is_first_round = False


def _stand_in(document: dict[str, Any], error: ErrorDetails) -> None:
    """Put something valid in the place of what was refused, or nothing where nothing is needed.

    None is a value already refused; only what has no default ever gets it.
    """
    *parents, last = error["loc"]
    parent: Any = document
    for part in parents:
        parent = parent[part]
    kind = error["type"]
    if kind == "model_type":
        parent[last] = {}
    elif kind == "list_type":
        parent[last] = []
    elif kind == "missing" or isinstance(parent, list):  # an element stays, or the others would move up
        parent[last] = None
    else:
        del parent[last]


def _in_words(error: ErrorDetails) -> str:
    """Return pydantic's finding in the operator's words."""
    loc = error["loc"]
    match error["type"]:
        case "missing":
            return f"missing, accepted: {_accepted(loc)}"
        case "extra_forbidden":
            return _unknown_key(loc)
        case "refused":
            return f"found {value_text(error['input'])}, {error['ctx']['words']}"
        case _:
            return f"found {value_text(error['input'])}, accepted: {_accepted(loc)}"


def _unknown_key(loc: KeyPath) -> str:
    *table_loc, key = loc
    table = _table_at(tuple(table_loc))
    known = sorted(table.model_fields)
    for close in get_close_matches(str(key), known, n=1):
        return f'unknown key; did you mean "{close}"?'
    return f"unknown key, accepted: {', '.join(known)}"


def _accepted(loc: KeyPath) -> str:
    """Return what may be written at *loc*, or in the list it is an element of."""
    *table_loc, key = loc if isinstance(loc[-1], str) else loc[:-1]
    metadata = _table_at(tuple(table_loc)).model_fields[str(key)].metadata
    return next((item.accepted for item in metadata if isinstance(item, Words)), "a table")


def _table_at(loc: KeyPath) -> type[Table]:
    """Return the class of the table at *loc*."""
    table: type[Table] = Document
    for part in loc:
        if isinstance(part, str):
            table = next(_tables_in(table.model_fields[part].annotation))
    return table


def _tables_in(annotation: Any) -> Iterator[type[Table]]:
    """Yield the table classes an annotation is made of: X, list[X], X | None."""
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, Table):
            yield candidate
