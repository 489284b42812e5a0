# SPDX-License-Identifier: Apache-2.0
"""wlc, weighted least connection: the server that carries least for its weight.  IPVS's default."""

from __future__ import annotations

from fullnat.core.sched.load import overhead, relative
from fullnat.core.sched.ranked import RankedScheduler
from fullnat.core.service import RealServer


class WeightedLeastConnection(RankedScheduler):
    """Least (active * 256 + inactive) / weight."""

    name = "wlc"

    def rank(self, server: RealServer) -> int:
        """Return what *server* carries for its weight."""
        return relative(overhead(server), server.weight)
