# SPDX-License-Identifier: Apache-2.0
"""What happens while an instance runs: events, each of a kind with a number that never changes.

An event is one line on standard error, in logfmt, and an object for those who listen on the control
socket.  Log tools may rely on the number and on the keys; the words of a detail are for people.

    event=FN2002 kind=server-down service=web server=198.19.0.11:80 code=L4CON detail="connection refused"
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

Field = str | int | float

KEPT = 1000  # events, for who asks later
_WAITING = 1000  # events that a listener may be behind before it is given up
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:/[]+*,@")


class Kind(Enum):
    """Every kind: its number, and its name."""

    READY = ("FN1001", "ready")
    STOPPING = ("FN1002", "stopping")
    SERVER_UP = ("FN2001", "server-up")
    SERVER_DOWN = ("FN2002", "server-down")
    SERVER_STATE = ("FN2003", "server-state")  # an operator's wish
    SERVER_WEIGHT = ("FN2004", "server-weight")
    DRAINED = ("FN2005", "drained")
    FLOWS_RESET = ("FN2006", "flows-reset")
    POOL_SERVES = ("FN2101", "pool-serves")
    NOBODY_SERVES = ("FN2102", "nobody-serves")
    RELOADED = ("FN3001", "reloaded")
    RELOAD_REFUSED = ("FN3002", "reload-refused")
    CONFIG_CHANGED = ("FN3003", "config-changed")  # by a command
    PORTS_SPENT = ("FN4001", "ports-spent")
    TABLE_FULL = ("FN4002", "table-full")
    HOST_REPAIRED = ("FN5001", "host-repaired")
    HOST_FAILED = ("FN5002", "host-failed")

    @property
    def number(self) -> str:
        """Its stable id."""
        return self.value[0]

    @property
    def slug(self) -> str:
        """Its name."""
        return self.value[1]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened."""

    sequence: int  # 1, 2, 3 ... in this run
    time: float  # seconds since the epoch
    kind: Kind
    fields: dict[str, Field]

    def to_json(self) -> dict[str, Field]:
        """Return it as JSON values, in one flat object."""
        return {
            "sequence": self.sequence,
            "time": round(self.time, 3),
            "event": self.kind.number,
            "kind": self.kind.slug,
            **self.fields,
        }

    def __str__(self) -> str:
        """As one line of logfmt."""
        words: dict[str, Field] = {"event": self.kind.number, "kind": self.kind.slug, **self.fields}
        return " ".join(f"{key}={_quoted(value)}" for key, value in words.items())


class EventLog:
    """The events of a run: written down, kept for a while, and passed on to listeners."""

    def __init__(self, clock: Callable[[], float], write: Callable[[str], None]) -> None:
        """*clock* returns seconds since the epoch; *write* is given each event as a line."""
        self._clock = clock
        self._write = write
        self._kept: deque[Event] = deque(maxlen=KEPT)
        self._sequence = 0
        self._listeners: set[asyncio.Queue[Event | None]] = set()

    def add(self, kind: Kind, **fields: Field) -> None:
        """Note that something happened."""
        self._sequence += 1
        event = Event(self._sequence, self._clock(), kind, fields)
        self._kept.append(event)
        self._write(str(event))
        for queue in list(self._listeners):
            if queue.qsize() >= _WAITING:
                self._listeners.discard(queue)
                queue.put_nowait(None)
            else:
                queue.put_nowait(event)

    def since(self, sequence: int) -> Iterator[Event]:
        """Yield the events after number *sequence* that are still kept."""
        return (event for event in list(self._kept) if event.sequence > sequence)

    @contextmanager
    def listen(self) -> Iterator[asyncio.Queue[Event | None]]:
        """Have every event put into a queue; None in it: the listener was too slow, and hears no more."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self._listeners.add(queue)
        try:
            yield queue
        finally:
            self._listeners.discard(queue)

    def close(self) -> None:
        """Tell all listeners that this is the end."""
        while self._listeners:
            self._listeners.pop().put_nowait(None)


def _quoted(value: Field) -> str:
    text = str(value)
    return text if text and _PLAIN.issuperset(text) else json.dumps(text)
