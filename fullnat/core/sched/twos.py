# SPDX-License-Identifier: Apache-2.0
"""twos, power of two choices: of two servers drawn by weight, the less loaded one.

Nearly as even as wlc, without sending every new flow of a busy second to the one server that
looked idle.  Source: Mitzenmacher, "The power of two choices in randomized load balancing", 2001.
The kernel draws from total + 1 numbers, which gives the first server one share too many; this
draws from total.
"""

from __future__ import annotations

from fullnat.core.sched.base import Request
from fullnat.core.sched.load import overhead
from fullnat.core.sched.weighted_random import WeightedRandom
from fullnat.core.service import RealServer


class PowerOfTwoChoices(WeightedRandom):
    """Two weighted draws; the second wins only if it carries less for its weight."""

    name = "twos"

    def schedule(self, request: Request) -> RealServer | None:
        """Return the less loaded of two servers drawn by weight."""
        if not self._weights.total:
            return None
        first, second = self._draw(), self._draw()
        second_is_lighter = overhead(first) * second.weight > overhead(second) * first.weight
        return second if second_is_lighter else first
