# SPDX-License-Identifier: Apache-2.0
"""Which servers of a service take part, and with how much weight: pools, quorum, sorry server, slow start.

    pools in order     main, backup 1, backup 2, ...      the first with quorum serves
    sorry server       serves when none has
    neither            the first pool that has anyone left

Theory.  What the operator wants of a server and what a check found of it are two axes (service.py).
Both decide whether it is in rotation, that is, in the list its scheduler picks from:

    admin       health          in rotation
    disabled    any             no
    quiesced    any but down    with weight 0: it keeps what it has, and its persistent clients
    any other   down            no; with *inhibit* with weight 0, as keepalived's inhibit_on_failure
    enabled     up, unknown     with its weight

A server out of rotation keeps its flows; only new ones go elsewhere, from tables made without it.

A pool has quorum while the weights of its enabled servers that are not down add up to *quorum*.  With
hysteresis it is lost below quorum - hysteresis, and found again from quorum + hysteresis on, so that
one server on the edge does not move all clients to and fro.

Slow start.  For *slow_start* after it came back from being down a server gets a growing share of its
weight.  Weights are whole numbers and mostly 1, so in a service with slow start all are multiplied: a
server's full share is FULL_SHARE times its weight, or what keeps the heaviest within what a weight can be.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fullnat.core.service import Admin, Health, RealServer

FULL_SHARE = 100
MAX_WEIGHT = 65535


def is_usable(server: RealServer) -> bool:
    """Whether *server* may be given new flows by what is wanted and known of it."""
    return server.admin is Admin.ENABLED and server.health is not Health.DOWN


class Pool:
    """Servers that serve together, or not at all."""

    def __init__(
        self, name: str, servers: Sequence[RealServer], quorum: int = 1, hysteresis: int = 0
    ) -> None:
        self.name = name
        self.servers = list(servers)
        self.quorum = quorum  # of weight
        self.hysteresis = hysteresis
        self.has_quorum: bool | None = None  # None: nobody has looked yet

    @property
    def usable_weight(self) -> int:
        """What the configured weights of its usable servers add up to."""
        return sum(server.configured_weight for server in self.servers if is_usable(server))

    def look(self) -> None:
        """See whether it has its quorum now."""
        weight = self.usable_weight
        if self.has_quorum is None:
            self.has_quorum = weight >= self.quorum
        elif self.has_quorum:
            self.has_quorum = weight >= max(1, self.quorum - self.hysteresis)
        else:
            self.has_quorum = weight >= self.quorum + self.hysteresis


class Rotation:
    """The pools of one service, the one that serves, and who of it is in rotation."""

    def __init__(
        self,
        pools: Sequence[Pool],
        sorry: RealServer | None = None,
        inhibit: bool = False,
        slow_start: int = 0,
    ) -> None:
        """*slow_start* is in nanoseconds; 0: none."""
        self.pools = list(pools)
        self.sorry = sorry
        self.inhibit = inhibit
        self.slow_start = slow_start
        self.serving = ""  # the name of the pool that does, "sorry", or empty: nobody
        self._returned: dict[RealServer, int] = {}  # when; those that have not their full share yet

    def succeed(self, old: Rotation) -> Rotation:
        """Go on where *old* was, which the same service had: pools keep their quorum, servers their share."""
        quorums = {pool.name: pool.has_quorum for pool in old.pools}
        for pool in self.pools:
            pool.has_quorum = quorums.get(pool.name)
        servers = self.servers
        self.serving = old.serving
        if self.slow_start:
            self._returned = {server: when for server, when in old._returned.items() if server in servers}
        return self

    @property
    def servers(self) -> list[RealServer]:
        """All of them, the sorry server last."""
        sorry = [] if self.sorry is None else [self.sorry]
        return [server for pool in self.pools for server in pool.servers] + sorry

    @property
    def is_ramping(self) -> bool:
        """Whether shares grow with time: look again soon."""
        return bool(self._returned)

    def returned(self, server: RealServer, now: int) -> None:
        """Note that *server* was down and is no longer."""
        if self.slow_start and server is not self.sorry:
            self._returned[server] = now

    def left(self, server: RealServer) -> None:
        """Note that *server* is down, or gone."""
        self._returned.pop(server, None)

    def look(self) -> list[RealServer]:
        """Return who is in rotation now, in configured order."""
        for pool in self.pools:
            pool.look()
        chosen = self._choose()
        if chosen is None:
            self.serving = "" if self.sorry is None else "sorry"
            return [] if self.sorry is None else [self.sorry]
        self.serving = chosen.name if chosen.usable_weight else ""
        return [server for server in chosen.servers if self._takes_part(server)]

    def shares(self, now: int) -> Iterable[tuple[RealServer, int]]:
        """Return what the weight of each server is to be multiplied by."""
        full = self._full_share()
        for server in self.servers:
            yield server, self._share(server, now, full)

    def _choose(self) -> Pool | None:
        """Return the pool that serves, None when the sorry server does, or nobody can."""
        chosen = next((pool for pool in self.pools if pool.has_quorum), None)
        if chosen is None and self.sorry is None:
            chosen = next((pool for pool in self.pools if pool.usable_weight), self.pools[0])
        return chosen

    def _takes_part(self, server: RealServer) -> bool:
        is_there = server.health is not Health.DOWN or self.inhibit
        return is_there and server.admin is not Admin.DISABLED

    def _full_share(self) -> int:
        if not self.slow_start:
            return 1
        heaviest = max((server.configured_weight for server in self.servers), default=1)
        return max(1, min(FULL_SHARE, MAX_WEIGHT // max(1, heaviest)))

    def _share(self, server: RealServer, now: int, full: int) -> int:
        since = self._returned.get(server)
        if since is None:
            return full
        elapsed = now - since
        if elapsed >= self.slow_start:
            del self._returned[server]
            return full
        return max(1, full * elapsed // self.slow_start)
