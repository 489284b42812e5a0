# SPDX-License-Identifier: Apache-2.0
"""What a type of value is: words for the operator, a reader for the file, JSON Schema for editors.

The three say the same thing to three readers, and so stand side by side.  pydantic has the reader
for its only validator and converts nothing by itself: 1 is not true, and "1" is not 1.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic_core import PydanticCustomError, core_schema

from fullnat.control.config.wording import listed

if TYPE_CHECKING:
    from pydantic.json_schema import JsonSchemaValue


class RefusalError(ValueError):
    """A value refused in words of its own instead of "accepted: ..."."""


@dataclass(frozen=True, slots=True, eq=False)
class Words:
    """Metadata of a field: what the operator may write there."""

    accepted: str


@dataclass(frozen=True, slots=True, eq=False)
class ValueType(Words):
    """The type of one TOML value: its words, its reader, its JSON Schema.

    None passes unread: TOML cannot write it, and it stands for a value already refused.
    """

    read: Callable[[Any], Any]  # ValueError refuses
    schema: dict[str, Any]

    def __get_pydantic_core_schema__(self, _source: Any, _handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self._validate)

    def __get_pydantic_json_schema__(self, _core: Any, _handler: Any) -> JsonSchemaValue:
        return dict(self.schema)

    def _validate(self, value: Any) -> Any:
        if value is None:
            return None
        try:
            return self.read(value)
        except RefusalError as refusal:
            words = str(refusal)
        except ValueError:
            words = f"accepted: {self.accepted}"
        raise PydanticCustomError("refused", "{words}", {"words": words})


def one_of(values: tuple[Any, ...]) -> ValueType:
    """Accept each of *values*."""

    def read(value: Any) -> Any:
        if not any(type(value) is type(known) and value == known for known in values):
            raise ValueError
        return value

    return ValueType(listed(values), read, {"enum": list(values)})


def integer(low: int, high: int) -> ValueType:
    """Accept an integer from *low* to *high*, both included."""

    def read(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError
        return value

    return ValueType(f"{low}-{high}", read, {"type": "integer", "minimum": low, "maximum": high})


def string(accepted: str, pattern: str, read: Callable[[str], Any] = str) -> ValueType:
    """Accept a string that matches the whole of *pattern* and that *read* does not refuse."""

    def read_string(value: Any) -> Any:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise ValueError
        return read(value)

    return ValueType(accepted, read_string, {"type": "string", "pattern": f"^(?:{pattern})$"})
