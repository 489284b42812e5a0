# SPDX-License-Identifier: Apache-2.0
"""The watch: health checks of all servers of the roster, and what they find told to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from fullnat.control.config.model import ServerConfig
from fullnat.control.roster import Roster
from fullnat.control.served import Served
from fullnat.core.addr import Endpoint, IPAddress
from fullnat.core.service import Admin, Health, RealServer
from fullnat.core.timeouts import SECOND
from fullnat.health.check import Result
from fullnat.health.monitor import HealthMonitor, HealthRow

Place = tuple[str, Endpoint]  # key of the service, address of the server
Row = dict[str, Any]


class Watch:
    """Checks the servers that have a check, from the local addresses."""

    def __init__(
        self, roster: Roster, lips: Sequence[IPAddress], clock: Callable[[], int], seed: int
    ) -> None:
        """Check from *lips*; nothing is checked before follow()."""
        self._roster = roster
        self._lips = lips
        self._clock = clock
        self._servers: dict[Place, tuple[Served, RealServer]] = {}
        self._monitor: HealthMonitor[Place] = HealthMonitor(self._on_result, self._on_change, seed=seed)

    def follow(self, services: Iterable[Served]) -> None:
        """Check the servers of *services* and no others; what is known of those that stay is kept."""
        wanted = {
            (served.key, server.endpoint): (served, server, config)
            for served in services
            for server, config in served.checked()
        }
        for place in self._servers.keys() - wanted.keys():
            self._monitor.remove(place)
            served, server = self._servers.pop(place)
            stays = self._roster.find(served.key) is served and served.find(place[1]) is server
            if stays:  # and nobody looks after it any more
                self._roster.set_health(served, server, Health.UNKNOWN, self._clock(), detail="not checked")
        for place, (served, server, config) in wanted.items():
            is_known = place in self._servers
            self._servers[place] = served, server
            self._check(place, config, is_known=is_known)
            self._roster.set_health(
                served, server, self._monitor.health(place), self._clock(), detail="not checked yet"
            )
            self.look(served, server)

    def _check(self, place: Place, config: ServerConfig, *, is_known: bool) -> None:
        check = config.health
        assert check is not None  # checked() yields no others
        begin = self._monitor.replace if is_known else self._monitor.add
        begin(place, check, check.target(place[1], self._lips))

    def look(self, served: Served, server: RealServer) -> None:
        """Stop checking *server* while it is disabled, and go on when it is not."""
        place = served.key, server.endpoint
        if place in self._servers:
            change = self._monitor.suspend if server.admin is Admin.DISABLED else self._monitor.resume
            change(place)

    def rows(self) -> dict[Place, Row]:
        """Return what is known of each server that is checked."""
        now = self._clock()
        return {row.key: _row(row, now) for row in self._monitor.rows()}

    async def close(self) -> None:
        """End all checks."""
        await self._monitor.close()

    def _on_result(self, place: Place, result: Result) -> None:
        if result.weight is not None:
            served, server = self._servers[place]
            self._roster.set_weight(served, server, result.weight, self._clock(), by="check")

    def _on_change(self, place: Place, health: Health, result: Result) -> None:
        served, server = self._servers[place]
        self._roster.set_health(served, server, health, self._clock(), result.code.value, result.detail)


def _row(row: HealthRow[Place], now: int) -> Row:
    return {
        "type": row.type,
        "code": row.result.code.value,
        "detail": row.result.detail,
        "duration": round(row.result.duration_ns / SECOND, 6),
        "since": round((now - row.since) / SECOND, 3),
        "checks": row.checks,
        "failures": row.failures,
        "transitions": row.transitions,
        "checking": row.is_checking,
        "suspended": row.is_suspended,
    }
