# SPDX-License-Identifier: Apache-2.0
"""Base of the schedulers that look a hash up in a table of servers: dh, sh and mh.

Rules.
  1. Quiescing or losing a server leaves the table alone: its own clients get none (or, with
     fallback, another server), everybody else's stay.  So the table is built from the latest
     weight other than 0, as in the kernel's mh; the kernel's sh rebuilds, which moves other
     servers' clients too.
  2. The table is built by the first pick after a change of weights or servers, so that a reload
     which changes a thousand weights builds it once.
  3. Fallback hashes on, up to PROBES times: a client keeps its substitute while that one is
     available.  After that (most servers are out) a share of the available weight decides.  The
     kernel instead walks up to the whole table, which at 1000 servers is not a bounded cost.
"""

from __future__ import annotations

from collections.abc import Sequence

from fullnat.core.sched.base import Request, Scheduler
from fullnat.core.sched.cumulative import CumulativeWeights
from fullnat.core.sched.hashing import rehash
from fullnat.core.sched.load import share
from fullnat.core.service import RealServer

PROBES = 16


class TableScheduler(Scheduler):
    """Picks table[hash % size] if that server is available."""

    def __init__(self, *, seed: int = 0, flags: frozenset[str] = frozenset()) -> None:
        super().__init__(seed=seed, flags=flags)
        self._table: list[RealServer] = []
        self._is_stale = False
        self._latest_weights: dict[RealServer, int] = {}
        self._available = CumulativeWeights()
        self._has_port = f"{self.name}-port" in flags
        self._has_fallback = f"{self.name}-fallback" in flags

    def build(self, servers: Sequence[RealServer], weights: Sequence[int]) -> list[RealServer]:
        """Return the table for *servers* of the given *weights*; empty when no server has a place."""
        raise NotImplementedError

    def hash_request(self, request: Request) -> int:
        """Return the hash to look up."""
        raise NotImplementedError

    def attach(self, servers: Sequence[RealServer]) -> None:
        """Have the table built for *servers*."""
        super().attach(servers)
        latest = self._latest_weights
        # The configured weight, so that a server that is down from the start has its place.
        self._latest_weights = {one: one.configured_weight or latest.get(one, 0) for one in servers}
        self._available = CumulativeWeights(map(share, servers))
        self._is_stale = True

    def server_changed(self, server: RealServer) -> None:
        """Take note of the availability of *server*; have the table rebuilt if its weight changed."""
        if not self.is_attached(server):
            return
        self._available.set(server.position, share(server))
        if server.weight not in (0, self._latest_weights[server]):
            self._latest_weights[server] = server.weight
            self._is_stale = True

    def schedule(self, request: Request) -> RealServer | None:
        """Return the server of this hash, or its substitute."""
        if self._is_stale:
            self._table = self.build(self.servers, list(self._latest_weights.values()))
            self._is_stale = False
        if not self._table:
            return None
        value = self.hash_request(request)
        server = self._table[value % len(self._table)]
        if server.is_available:
            return server
        return self._substitute(value) if self._has_fallback else None

    def _substitute(self, value: int) -> RealServer | None:
        if not self._available.total:
            return None
        for attempt in range(1, PROBES + 1):
            server = self._table[rehash(value, attempt) % len(self._table)]
            if server.is_available:
                return server
        return self.servers[self._available.find(rehash(value, 0) % self._available.total)]
