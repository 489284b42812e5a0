# SPDX-License-Identifier: Apache-2.0
"""One word for how a server or a service is: those of the status page, by the same rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

Row = Mapping[str, Any]


class State(Enum):
    """The word, its style, and how much it asks for attention."""

    UP = ("UP", "green", 0)
    UNCHECKED = ("NO CHECK", "green", 0)
    STANDBY = ("STANDBY", "dim", 1)
    WEIGHTLESS = ("WEIGHT 0", "yellow", 2)  # up, and takes no new connections
    DISABLED = ("DISABLED", "dim", 2)
    UNKNOWN = ("UNKNOWN", "yellow", 2)
    PARTLY = ("PARTLY", "yellow", 3)
    DRAIN = ("DRAIN", "yellow", 3)
    FULL = ("FULL", "yellow", 4)
    BACKUP = ("BACKUP", "yellow", 4)
    SORRY = ("SORRY", "red", 5)
    DOWN = ("DOWN", "red", 5)

    @property
    def word(self) -> str:
        """What is shown."""
        return self.value[0]

    @property
    def style(self) -> str:
        """As rich calls it."""
        return self.value[1]

    @property
    def rank(self) -> int:
        """0: all is well."""
        return self.value[2]


def state_of_server(row: Row) -> State:
    """Return how the server of *row* is."""
    if row["admin"] == "disabled":
        return State.DISABLED
    if row["health"] == "down":
        return State.DOWN
    if row["admin"] == "drain":
        return State.DRAIN
    if row["overloaded"]:
        return State.FULL
    if not row["in_rotation"]:
        return State.STANDBY
    if row["effective_weight"] == 0:
        return State.WEIGHTLESS
    if row["health"] == "unknown":
        return State.UNCHECKED if row["check"] is None else State.UNKNOWN
    return State.UP


def state_of_service(row: Row, servers: Iterable[State]) -> State:
    """Return how the service of *row* is, whose servers are so."""
    if not row["serving"]:
        return State.DOWN
    if row["serving"] == "sorry":
        return State.SORRY
    if row["pools"] and row["serving"] != row["pools"][0]["name"]:
        return State.BACKUP
    return State.PARTLY if any(state.rank >= State.PARTLY.rank for state in servers) else State.UP
