# SPDX-License-Identifier: Apache-2.0
"""One running instance, as those see it who ask it and change it: the control socket, the pages, signals."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fullnat.control import snapshot
from fullnat.control.changes import Changes
from fullnat.control.config import Config, ConfigError
from fullnat.control.events import EventLog, Kind
from fullnat.control.farewells import Farewells
from fullnat.control.leave import Leave
from fullnat.control.rates import Rates
from fullnat.control.reload import RefusedError, Reloader
from fullnat.control.roster import Roster
from fullnat.control.served import Served
from fullnat.control.watch import Place, Watch
from fullnat.core.service import RealServer
from fullnat.datapath.base import Datapath
from fullnat.host.errors import HostError


class ReloadCount:
    """What became of reloads."""

    def __init__(self) -> None:
        self.successes = 0
        self.failures = 0
        self.last: float | None = None  # seconds since the epoch, of the last that succeeded
        self.error = ""  # of the last, if it failed

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "successes": self.successes,
            "failures": self.failures,
            "last": self.last,
            "error": self.error,
        }


class Instance:
    """Engine, roster, checks and events of a run, with what changes them."""

    def __init__(
        self,
        engine: Datapath,
        roster: Roster,
        watch: Watch,
        events: EventLog,
        reloader: Reloader,
        farewells: Farewells,
        *,
        clock: Callable[[], int],
        wall_clock: Callable[[], float],
        read_config: Callable[[], Awaitable[Config]],
        about: Callable[[], dict[str, Any]],
        stop: Callable[[Leave], None],
    ) -> None:
        """*read_config* reads the file again; *about* returns what only the daemon knows."""
        self.engine = engine
        self.roster = roster
        self.watch = watch
        self.events = events
        self.reloader = reloader
        self.farewells = farewells
        self.reloads = ReloadCount()
        self.rates = Rates()
        self.now = clock
        self.stop = stop
        self._wall_clock = wall_clock
        self._read_config = read_config
        self._about = about

    # What is asked.

    def status(self) -> dict[str, Any]:
        """Return what runs, since when, and what it serves."""
        return {
            **self._about(),
            "services": [served.key for served in self.roster.services if served.is_engines],
            "flows": self.engine.statistics().flows,
            "reload": self.reloads.to_json(),
        }

    def server_rows(self) -> list[snapshot.Row]:
        """Return every server of every service."""
        checks = self.watch.rows()
        return [
            self._server_row(served, pool, server, checks)
            for served in self.roster.services
            for pool, server in served.in_pools()
        ]

    def server_row(self, served: Served, server: RealServer) -> snapshot.Row:
        """Return one server."""
        pool = next(pool for pool, one in served.in_pools() if one is server)
        return self._server_row(served, pool, server, self.watch.rows())

    def _server_row(
        self, served: Served, pool: str, server: RealServer, checks: Mapping[Place, snapshot.Row]
    ) -> snapshot.Row:
        check, wish = checks.get((served.key, server.endpoint)), self.roster.wish_for(server)
        return snapshot.server(served, pool, server, wish, check, self.now())

    # What is changed.

    async def reload(self, *, is_trial: bool = False) -> Changes:
        """Go over to what the file says now; RefusedError in one line, and nothing is changed."""
        try:
            changes = await self.reloader.reload(await self._read_config(), is_trial=is_trial)
        except ConfigError as error:
            refusal = RefusedError(str(error))
            self._note_failure(str(error).splitlines()[0], is_trial)
            raise refusal from None
        except (RefusedError, HostError) as error:
            self._note_failure(str(error), is_trial)
            raise
        if not is_trial:
            self.reloads.successes += 1
            self.reloads.last, self.reloads.error = self._wall_clock(), ""
            self.events.add(Kind.RELOADED, changes=len(changes.lines))
        return changes

    async def command(self, change: Callable[[Config], Config]) -> None:
        """Have *change* make another configuration of the one there is."""
        for line in (await self.reloader.command(change)).lines:
            self.events.add(Kind.CONFIG_CHANGED, change=line)

    def _note_failure(self, reason: str, is_trial: bool) -> None:
        if not is_trial:
            self.reloads.failures += 1
            self.reloads.error = reason
            self.events.add(Kind.RELOAD_REFUSED, reason=reason)
