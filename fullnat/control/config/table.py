# SPDX-License-Identifier: Apache-2.0
"""What every table of the schema is made of."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class Table(BaseModel):
    """A TOML table: every key known, nothing converted but by a ValueType."""

    model_config = ConfigDict(extra="forbid", strict=True, validate_default=True)


def written(value: Any) -> Any:
    """Return a default as a file would have it: it is read like one, and shown in the JSON Schema."""
    return value
