# SPDX-License-Identifier: Apache-2.0
"""sed, shortest expected delay: the server that would carry least with the new flow on it.

Counts active flows only.  With none anywhere the heaviest server is taken, where wlc would take the
first; a server of weight 3 gets its third flow before one of weight 1 gets its first.
"""

from __future__ import annotations

from fullnat.core.sched.load import relative
from fullnat.core.sched.ranked import RankedScheduler
from fullnat.core.service import RealServer


class ShortestExpectedDelay(RankedScheduler):
    """Least (active + 1) / weight."""

    name = "sed"

    def rank(self, server: RealServer) -> int:
        """Return the delay a new flow would meet at *server*."""
        return relative(server.active + 1, server.weight)
