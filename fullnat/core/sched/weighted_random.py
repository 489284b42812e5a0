# SPDX-License-Identifier: Apache-2.0
"""random, weighted random: each new flow to a server drawn with a chance in proportion to weight.

What `iptables -m statistic --mode random` is used for.  The draws follow from the seed.
"""

from __future__ import annotations

from collections.abc import Sequence

from fullnat.core.prng import SplitMix64
from fullnat.core.sched.base import Request, Scheduler
from fullnat.core.sched.cumulative import CumulativeWeights
from fullnat.core.sched.load import share
from fullnat.core.service import RealServer


class WeightedRandom(Scheduler):
    """A weighted draw among the available servers."""

    name = "random"

    def __init__(self, *, seed: int = 0, flags: frozenset[str] = frozenset()) -> None:
        super().__init__(seed=seed, flags=flags)
        self._random = SplitMix64(seed)
        self._weights = CumulativeWeights()

    def attach(self, servers: Sequence[RealServer]) -> None:
        """Draw from *servers*."""
        super().attach(servers)
        self._weights = CumulativeWeights(map(share, servers))

    def server_changed(self, server: RealServer) -> None:
        """Give *server* its new share."""
        if self.is_attached(server):
            self._weights.set(server.position, share(server))

    def _draw(self) -> RealServer:
        return self.servers[self._weights.find(self._random.below(self._weights.total))]

    def schedule(self, request: Request) -> RealServer | None:
        """Return a server drawn by weight."""
        return self._draw() if self._weights.total else None
