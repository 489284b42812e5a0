# SPDX-License-Identifier: Apache-2.0
"""wrr, weighted round robin: rounds in which each server is picked as often as its weight says.

Theory.  The kernel's order.  With step = gcd of the weights and a level that falls from the highest
weight to the lowest in steps, each level is one walk through the list that picks every server
whose weight is at least the level; below the last level the walk starts again at the top.
Weights 4, 3, 2 give A, AB, ABC, ABC.  The levels are shifted down by step - 1 (top = highest -
(step - 1)), so that the last one is 1.

The kernel walks server by server and level by level.  Here "the next one whose weight reaches the
level" is a question to a tournament tree, and levels that no available server reaches are skipped
by one division, so a pick is logarithmic even if the heaviest server by far is overloaded.

A change of a weight or of the list restarts the walk, as in ip_vs_wrr_dest_changed(); a server
that becomes overloaded, or recovers, does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

from fullnat.core.sched.base import Request, Scheduler
from fullnat.core.sched.tournament import Tournament
from fullnat.core.service import RealServer

_BEFORE_FIRST = -1


class WeightedRoundRobin(Scheduler):
    """The next server, in list order, whose weight reaches the level of the walk."""

    name = "wrr"

    def __init__(self, *, seed: int = 0, flags: frozenset[str] = frozenset()) -> None:
        super().__init__(seed=seed, flags=flags)
        self._weights: list[int] = []  # of all servers, those overloaded included
        self._heaviest = Tournament()  # minus the weight, of the available ones
        self._last = _BEFORE_FIRST
        self._step = 1
        self._top = 0
        self._level = 0

    def attach(self, servers: Sequence[RealServer]) -> None:
        """Restart with *servers*."""
        super().attach(servers)
        self._weights = [server.weight for server in servers]
        self._heaviest = Tournament(map(_key, servers))
        self._restart()

    def server_changed(self, server: RealServer) -> None:
        """Take note of the availability of *server*; restart if its weight changed."""
        if not self.is_attached(server):
            return
        self._heaviest.set(server.position, _key(server))
        if self._weights[server.position] != server.weight:
            self._weights[server.position] = server.weight
            self._restart()

    def _restart(self) -> None:
        self._last = _BEFORE_FIRST
        self._step = gcd(*self._weights) or 1
        self._top = max(self._weights, default=0) - (self._step - 1)
        if self._level > self._top or not self._level:
            self._level = self._top
        elif self._step > 1:
            self._level = self._level // self._step * self._step + 1

    def schedule(self, request: Request) -> RealServer | None:
        """Return the next server of the walk."""
        key = self._heaviest.least_key()
        if key is None:
            self._end_walk()
            return None
        position = self._heaviest.next_at_most(self._last, -self._level)
        if position is None:
            self._level = self._next_level(heaviest=-key)
            position = self._heaviest.next_at_most(_BEFORE_FIRST, -self._level)
        if position is None:
            return None
        self._last = position
        return self.servers[position]

    def _next_level(self, heaviest: int) -> int:
        """Return the level after this one, those above the *heaviest* available server skipped."""
        level = self._level - self._step if self._level > self._step else self._top
        if level > heaviest:
            level -= -(-(level - heaviest) // self._step) * self._step
        return level

    def _end_walk(self) -> None:
        """Leave the walk where the kernel's ends when it finds every server overloaded."""
        if self._last == _BEFORE_FIRST or self._level > self._step:
            self._last, self._level = _BEFORE_FIRST, self._top
        else:
            self._level = 1


def _key(server: RealServer) -> int | None:
    return -server.weight if server.is_available else None
