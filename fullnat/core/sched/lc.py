# SPDX-License-Identifier: Apache-2.0
"""lc, least connection: the server that carries least, whatever its weight."""

from __future__ import annotations

from fullnat.core.sched.load import overhead
from fullnat.core.sched.ranked import RankedScheduler
from fullnat.core.service import RealServer


class LeastConnection(RankedScheduler):
    """Least active * 256 + inactive."""

    name = "lc"

    def rank(self, server: RealServer) -> int:
        """Return what *server* carries."""
        return overhead(server)
