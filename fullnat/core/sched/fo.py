# SPDX-License-Identifier: Apache-2.0
"""fo, weighted failover: everything to the heaviest available server.

The next one down takes over when it fails, is quiesced or is overloaded, and gives back when it returns.
"""

from __future__ import annotations

from fullnat.core.sched.ranked import RankedScheduler
from fullnat.core.service import RealServer


class WeightedFailover(RankedScheduler):
    """Highest weight."""

    name = "fo"

    def rank(self, server: RealServer) -> int:
        """Return the weight, heaviest first."""
        return -server.weight
