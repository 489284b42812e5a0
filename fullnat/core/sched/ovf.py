# SPDX-License-Identifier: Apache-2.0
"""ovf, weighted overflow: fill the heaviest server, then the next.

A server is full when it has more active flows than weight, so it takes weight + 1 of them; the
kernel compares so.  When all are full, none is picked.  Only active flows count, hence not for UDP.
"""

from __future__ import annotations

from fullnat.core.sched.ranked import RankedScheduler
from fullnat.core.service import RealServer


class WeightedOverflow(RankedScheduler):
    """Highest weight among those with at most weight active flows."""

    name = "ovf"

    def rank(self, server: RealServer) -> int | None:
        """Return the weight, heaviest first, or None when *server* is full."""
        return None if server.active > server.weight else -server.weight
