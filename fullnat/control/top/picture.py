# SPDX-License-Identifier: Apache-2.0
"""What is shown, made of what an instance answered: pure, the time is an argument.

A service's rates are the sums of its servers': its own counters go back when a server leaves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from fullnat.control.top.meter import Meter
from fullnat.control.top.states import State, state_of_server, state_of_service

Row = Mapping[str, Any]

EVENTS_KEPT = 100
_COUNTED = ("connections", "packets_in", "packets_out", "bytes_in", "bytes_out")
_LOST = ("drop", "reply")  # verdicts: the packet went no further
_QUEUES = {
    "queue_dropped": "a queue was full, and the kernel dropped it",
    "user_dropped": "our socket was full, and the kernel dropped it",
}


@dataclass(frozen=True, slots=True)
class Answers:
    """What the instance said to each question, in one look."""

    status: Row
    services: Sequence[Row]
    servers: Sequence[Row]
    ports: Sequence[Row]
    stats: Row
    events: Sequence[Row] = ()  # since the last look


class Place(NamedTuple):
    """What tells a server from all others."""

    service: str
    pool: str
    address: str


class Rate(NamedTuple):
    """Of a second."""

    connections: float = 0.0
    packets: float = 0.0  # both ways
    bits_in: float = 0.0
    bits_out: float = 0.0


@dataclass(frozen=True, slots=True)
class ServerLine:
    """A server as it is now."""

    place: Place
    row: Row
    state: State
    rate: Rate


@dataclass(frozen=True, slots=True)
class ServiceLine:
    """A service as it is now."""

    row: Row
    state: State
    rate: Rate


@dataclass(frozen=True, slots=True)
class PortLine:
    """The ports of one local address towards one server."""

    row: Row
    share: float  # in use or at rest, of all


@dataclass(frozen=True, slots=True)
class LossLine:
    """Packets that went no further, for one reason."""

    reason: str
    count: int
    rate: float
    meaning: str


@dataclass(frozen=True, slots=True)
class Picture:
    """Everything there is to show."""

    status: Row
    flows_limit: int
    services: Sequence[ServiceLine]
    servers: Sequence[ServerLine]  # as configured
    ports: Sequence[PortLine]  # the fullest first
    losses: Sequence[LossLine]  # the most frequent first
    events: Sequence[Row]  # the latest last
    total: Rate


class Painter:
    """Makes pictures of successive answers."""

    def __init__(self) -> None:
        self._traffic: Meter[Place] = Meter()
        self._losses: Meter[str] = Meter()
        self._events: deque[Row] = deque(maxlen=EVENTS_KEPT)
        self._pid = 0

    @property
    def last_event(self) -> int:
        """The number of the last event that is known."""
        return int(self._events[-1]["sequence"]) if self._events else 0

    def paint(self, answers: Answers, now: float) -> Picture:
        """Return the picture of *now*, in seconds of any clock."""
        if answers.status["pid"] != self._pid:  # another run, which numbers its events anew
            self._pid = answers.status["pid"]
            self._events.clear()
        self._events.extend(answers.events)
        counts = {_place(row): tuple(int(row[name]) for name in _COUNTED) for row in answers.servers}
        rates = {place: _rate(each) for place, each in self._traffic.look(counts, now).items()}
        servers = [
            ServerLine(place, row, state_of_server(row), rates[place])
            for row, place in ((row, _place(row)) for row in answers.servers)
        ]
        return Picture(
            answers.status,
            int(answers.stats["flows_limit"]),
            _service_lines(answers.services, servers),
            servers,
            _port_lines(answers.ports),
            self._loss_lines(answers.stats, now),
            tuple(self._events),
            _sum(line.rate for line in servers),
        )

    def _loss_lines(self, stats: Row, now: float) -> list[LossLine]:
        found = {
            name: (reason["count"], reason["meaning"])
            for name, reason in stats["reasons"].items()
            if reason["verdict"] in _LOST
        }
        found |= {name: (stats.get(name, 0), meaning) for name, meaning in _QUEUES.items()}
        rates = self._losses.look({name: (count,) for name, (count, _) in found.items()}, now)
        lines = [
            LossLine(name, count, rates[name][0], meaning)
            for name, (count, meaning) in found.items()
            if count
        ]
        return sorted(lines, key=lambda line: (-line.rate, -line.count))


def _place(row: Row) -> Place:
    return Place(row["service"], row["pool"], row["address"])


def _rate(rates: tuple[float, ...]) -> Rate:
    connections, packets_in, packets_out, bytes_in, bytes_out = rates
    return Rate(connections, packets_in + packets_out, bytes_in * 8, bytes_out * 8)


def _sum(rates: Iterable[Rate]) -> Rate:
    return Rate(*map(sum, zip(Rate(), *rates, strict=True)))


def _service_lines(rows: Iterable[Row], servers: Iterable[ServerLine]) -> list[ServiceLine]:
    members: dict[str, list[ServerLine]] = {}
    for line in servers:
        members.setdefault(line.place.service, []).append(line)
    return [
        ServiceLine(
            row,
            state_of_service(row, (line.state for line in members.get(row["name"], ()))),
            _sum(line.rate for line in members.get(row["name"], ())),
        )
        for row in rows
    ]


def _port_lines(rows: Iterable[Row]) -> list[PortLine]:
    lines = [
        PortLine(row, (row["in_use"] + row["resting"]) / row["capacity"]) for row in rows if row["capacity"]
    ]
    return sorted(lines, key=lambda line: -line.share)
