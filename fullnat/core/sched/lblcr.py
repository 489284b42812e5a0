# SPDX-License-Identifier: Apache-2.0
"""lblcr, locality-based least connection with replication: a set of servers a virtual address.

A flow goes to the least loaded server of its address's set.  When that one is crowded while another
has room, or the set has none to offer, the wlc pick of all servers joins the set.  A set of more
than one that has not changed for a day loses its most loaded server, one a day while flows come.
See locality.py for what the key means.

Ties in a set go to the server that joined last: the kernel puts new ones at the head.

Cost.  Logarithmic in the servers, for a pick as for a change.  A change of flows is told to the set of
every virtual address in use.  The daily removal looks at its whole set.
"""

from __future__ import annotations

from collections.abc import Sequence

from fullnat.core.sched.base import Request
from fullnat.core.sched.load import overhead, relative
from fullnat.core.sched.locality import EXPIRATION, AddressTable, LocalityScheduler
from fullnat.core.sched.tournament import Tournament
from fullnat.core.service import RealServer

_JOIN_BITS = 32


class ReplicatedLocalityLeastConnection(LocalityScheduler):
    """The least loaded server of the virtual address's set, which grows and shrinks."""

    name = "lblcr"

    def __init__(self, *, seed: int = 0, flags: frozenset[str] = frozenset()) -> None:
        super().__init__(seed=seed, flags=flags)
        self._sets: AddressTable[_ServerSet] = AddressTable()

    def attach(self, servers: Sequence[RealServer]) -> None:
        """Keep in each set the servers that are still listed."""
        super().attach(servers)
        for server_set in self._sets:
            server_set.attach(servers)

    def server_changed(self, server: RealServer) -> None:
        """Rank *server* anew, in all and in each set."""
        super().server_changed(server)
        if self.is_attached(server):
            for server_set in self._sets:
                server_set.rank(server)

    def schedule(self, request: Request) -> RealServer | None:
        """Return the server for this virtual address."""
        address, now = request.virtual.address, request.now
        server_set = self._sets.use(address, now)
        if server_set is not None:
            server = server_set.least()
            server_set.shrink(now)
            if server is not None and not self.is_crowded(server):
                return server
        server = super().schedule(request)
        if server is None:
            return None
        if server_set is None:
            server_set = _ServerSet(self.servers)
            self._sets.put(address, server_set, now)
        server_set.add(server, now)
        return server


class _ServerSet:
    """Servers of one virtual address, the least loaded at hand."""

    __slots__ = ("_joined", "_joins", "_ranks", "_servers", "changed_at")

    def __init__(self, servers: Sequence[RealServer]) -> None:
        self._servers = servers
        self._joined: dict[RealServer, int] = {}  # oldest first; the number grows
        self._joins = 0
        self._ranks = Tournament([None] * len(servers))
        self.changed_at = 0

    def attach(self, servers: Sequence[RealServer]) -> None:
        self._servers = servers
        listed = set(servers)
        self._joined = {server: number for server, number in self._joined.items() if server in listed}
        self._ranks = Tournament(map(self._key, servers))

    def rank(self, server: RealServer) -> None:
        if server in self._joined:
            self._ranks.set(server.position, self._key(server))

    def _key(self, server: RealServer) -> int | None:
        number = self._joined.get(server)
        if number is None or not server.is_available:
            return None
        return (_load(server) << _JOIN_BITS) - number  # on equal load the newest is least

    def least(self) -> RealServer | None:
        position = self._ranks.least()
        return None if position is None else self._servers[position]

    def add(self, server: RealServer, now: int) -> None:
        if server in self._joined:
            return
        self._joins += 1
        self._joined[server] = self._joins
        self.changed_at = now
        self.rank(server)

    def shrink(self, now: int) -> None:
        """Let the most loaded server go if the set is large and has long been as it is."""
        if len(self._joined) < 2 or now - self.changed_at <= EXPIRATION:
            return
        loaded = max((server for server in reversed(self._joined) if server.weight), key=_load, default=None)
        if loaded is not None:
            self.changed_at = now
            del self._joined[loaded]
            self._ranks.set(loaded.position, None)


def _load(server: RealServer) -> int:
    return relative(overhead(server), server.weight)
