# SPDX-License-Identifier: Apache-2.0
"""nq, never queue: the first idle server if there is one, else as sed.

Idle means no active flow; inactive ones do not count.  Under sed a slow server idles while a fast
one has room; nq uses it.
"""

from __future__ import annotations

from fullnat.core.sched.load import relative
from fullnat.core.sched.ranked import RankedScheduler
from fullnat.core.service import RealServer


class NeverQueue(RankedScheduler):
    """An idle server first, then least (active + 1) / weight."""

    name = "nq"

    def rank(self, server: RealServer) -> int:
        """Return 0 for an idle *server*, else the delay a new flow would meet, which is above 0."""
        return relative(server.active + 1, server.weight) if server.active else 0
