# SPDX-License-Identifier: Apache-2.0
"""What the operator chose, by keys: pure.  A key changes the choice, or is a command to the instance.

browse --/--> filter --enter, escape--> browse
browse --r--> confirm --y--> browse, and the flows of the server are ended; any other key: not
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from fullnat.control.top.picture import Place, ServerLine

MAX_WEIGHT = 65535
_PAGE = 10  # servers
_FAR = 1 << 30


class Mode(Enum):
    """What keys mean."""

    BROWSE = auto()
    FILTER = auto()  # they are written
    CONFIRM = auto()  # they are yes or no


class Order(Enum):
    """How servers are sorted; the value is what it is called."""

    CONFIGURED = "as configured"
    STATE = "worst state"
    CONNECTIONS = "conns/s"
    ACTIVE = "active"
    PACKETS = "packets/s"
    BITS = "bits/s"
    ADDRESS = "address"


_SORT_KEYS: dict[Order, Callable[[ServerLine], Any]] = {
    Order.CONFIGURED: lambda line: 0,
    Order.STATE: lambda line: -line.state.rank,
    Order.CONNECTIONS: lambda line: -line.rate.connections,
    Order.ACTIVE: lambda line: -line.row["active"],
    Order.PACKETS: lambda line: -line.rate.packets,
    Order.BITS: lambda line: -(line.rate.bits_in + line.rate.bits_out),
    Order.ADDRESS: lambda line: line.place.address,
}


@dataclass(frozen=True, slots=True)
class Change:
    """Have a server be otherwise."""

    place: Place
    wanted: dict[str, Any] = field(hash=False)  # body of the request


@dataclass(frozen=True, slots=True)
class Reset:
    """End the flows of a server."""

    place: Place


@dataclass(frozen=True, slots=True)
class Quit:
    """Leave."""


Command = Change | Reset | Quit


@dataclass(slots=True)
class Controls:
    """The choice; arrange() and then settle() come before press()."""

    mode: Mode = Mode.BROWSE
    order: Order = Order.CONFIGURED
    words: str = ""  # that a server's line must contain
    is_paused: bool = False
    selected: Place | None = None
    _index: int = 0  # of it, for when it is gone

    def arrange(self, servers: Iterable[ServerLine]) -> list[ServerLine]:
        """Return those of *servers* that are to be shown, in the order they are."""
        words = self.words.lower().split()
        shown = [line for line in servers if all(word in _text(line) for word in words)]
        return sorted(shown, key=_SORT_KEYS[self.order])

    def settle(self, shown: Sequence[ServerLine]) -> None:
        """Keep to the selected server wherever it is now; if it is gone, to its place."""
        places = [line.place for line in shown]
        if self.selected in places:
            self._index = places.index(self.selected)
        else:
            self._select(shown, self._index)

    def press(self, key: str, shown: Sequence[ServerLine]) -> Command | None:
        """Take *key*, with these servers on the screen; return what the instance is to do."""
        if self.mode is Mode.FILTER:
            self._type(key)
            return None
        if self.mode is Mode.CONFIRM:
            self.mode = Mode.BROWSE
            return Reset(self.selected) if key in ("y", "Y") and self.selected else None
        if key in _STEPS:
            self._select(shown, self._index + _STEPS[key])
            return None
        return self._choose(key) or self._operate(key, shown)

    def _type(self, key: str) -> None:
        if key in ("enter", "escape"):
            self.mode = Mode.BROWSE
            self.words = self.words if key == "enter" else ""
        elif key == "backspace":
            self.words = self.words[:-1]
        elif len(key) == 1:
            self.words += key

    def _choose(self, key: str) -> Command | None:
        match key:
            case "q":
                return Quit()
            case "/":
                self.mode = Mode.FILTER
            case "escape":
                self.words = ""
            case "s":
                orders = list(Order)
                self.order = orders[(orders.index(self.order) + 1) % len(orders)]
            case "p":
                self.is_paused = not self.is_paused
        return None

    def _operate(self, key: str, shown: Sequence[ServerLine]) -> Command | None:
        line = next((line for line in shown if line.place == self.selected), None)
        if line is None:
            return None
        weight = line.row["weight"]
        match key:
            case "d":
                return Change(line.place, {"admin": "drain"})
            case "e":
                return Change(line.place, {"admin": "enabled"})
            case "+" | "=" if weight < MAX_WEIGHT:
                return Change(line.place, {"weight": weight + 1})
            case "-" if weight > 0:
                return Change(line.place, {"weight": weight - 1})
            case "r":
                self.mode = Mode.CONFIRM
        return None

    def _select(self, shown: Sequence[ServerLine], index: int) -> None:
        self._index = max(0, min(index, len(shown) - 1))
        self.selected = shown[self._index].place if shown else None


_STEPS = {
    "up": -1,
    "k": -1,
    "down": 1,
    "j": 1,
    "page up": -_PAGE,
    "page down": _PAGE,
    "home": -_FAR,
    "g": -_FAR,
    "end": _FAR,
    "G": _FAR,
}


def _text(line: ServerLine) -> str:
    return f"{' '.join(line.place)} {line.state.word}".lower()
