# SPDX-License-Identifier: Apache-2.0
"""Base of the schedulers that pick the best-ranked server: lc wlc sed nq fo ovf, and lblc, lblcr.

Each is one function, rank(); the index keeps the order while flows come and go, so that a pick is
one read and a change costs one path of a tournament tree (logarithmic).
"""

from __future__ import annotations

from collections.abc import Sequence

from fullnat.core.sched.base import Request, Scheduler
from fullnat.core.sched.tournament import Tournament
from fullnat.core.service import RealServer


class RankedScheduler(Scheduler):
    """Picks the available server of the lowest rank; on a tie, the first in the list."""

    def __init__(self, *, seed: int = 0, flags: frozenset[str] = frozenset()) -> None:
        super().__init__(seed=seed, flags=flags)
        self._ranks = Tournament()

    def rank(self, server: RealServer) -> int | None:
        """Return the rank of an available *server*, lowest picked first; None passes it over."""
        raise NotImplementedError

    def _rank_if_available(self, server: RealServer) -> int | None:
        return self.rank(server) if server.is_available else None

    def attach(self, servers: Sequence[RealServer]) -> None:
        """Rank all of *servers* anew."""
        super().attach(servers)
        self._ranks = Tournament(map(self._rank_if_available, servers))

    def server_changed(self, server: RealServer) -> None:
        """Rank *server* anew."""
        if self.is_attached(server):
            self._ranks.set(server.position, self._rank_if_available(server))

    def flows_changed(self, server: RealServer) -> None:
        """Rank *server* anew."""
        self.server_changed(server)

    def schedule(self, request: Request) -> RealServer | None:
        """Return the best-ranked server."""
        position = self._ranks.least()
        return None if position is None else self.servers[position]
