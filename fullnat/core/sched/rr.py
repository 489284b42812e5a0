# SPDX-License-Identifier: Apache-2.0
"""rr, round robin: the servers in turn, in list order, weights above 0 being all alike."""

from __future__ import annotations

from collections.abc import Sequence

from fullnat.core.sched.base import Request, Scheduler
from fullnat.core.sched.tournament import Tournament
from fullnat.core.service import RealServer

_BEFORE_FIRST = -1


class RoundRobin(Scheduler):
    """The next available server behind the last one picked."""

    name = "rr"

    def __init__(self, *, seed: int = 0, flags: frozenset[str] = frozenset()) -> None:
        super().__init__(seed=seed, flags=flags)
        self._available = Tournament()  # key 0 = may be picked
        self._last = _BEFORE_FIRST

    def attach(self, servers: Sequence[RealServer]) -> None:
        """Go on behind the last pick, or behind the nearest one before it that is still listed."""
        places = {server: position for position, server in enumerate(servers)}
        before = reversed(self.servers[: self._last + 1])
        self._last = next((places[server] for server in before if server in places), _BEFORE_FIRST)
        super().attach(servers)
        self._available = Tournament(map(_key, servers))

    def server_changed(self, server: RealServer) -> None:
        """Take *server* into the round or out of it."""
        if self.is_attached(server):
            self._available.set(server.position, _key(server))

    def schedule(self, request: Request) -> RealServer | None:
        """Return the next server in turn."""
        position = self._available.next_at_most(self._last, 0)
        if position is None:
            position = self._available.next_at_most(_BEFORE_FIRST, 0)
        if position is None:
            return None
        self._last = position
        return self.servers[position]


def _key(server: RealServer) -> int | None:
    return 0 if server.is_available else None
