# SPDX-License-Identifier: Apache-2.0
"""mh, Maglev hashing: a client address always goes to the same server, and few move when one comes or goes.

Theory.  Each server prefers the places of a table of prime size in an order of its own, set by two
hashes of its address and port: offset, offset + skip, offset + 2 skip, ... modulo the size.  Servers take
turns at claiming the best place still free, as many a turn as their weight says, until none is free.
Source: Eisenbud et al., "Maglev: a fast and reliable software network load balancer", NSDI 2016, section 3.4.

The size is the first prime of PRIMES that gives 100 places a server, and at least 4093, the
kernel's default.  Weights are divided by their gcd and scaled down to below 64, as in the kernel.

Flags.  mh-port: the client port is hashed too, so that flows of one client spread.
        mh-fallback: a client whose server is out gets another, instead of none.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

from fullnat.core.sched.base import Request
from fullnat.core.sched.hashing import hash_endpoint
from fullnat.core.sched.table import TableScheduler
from fullnat.core.service import RealServer

# The largest prime below each power of two.
PRIMES = (4093, 8191, 16381, 32749, 65521, 131071, 262139, 524287, 1048573)
PLACES_PER_SERVER = 100
TURN_BITS = 6

_OFFSET_SALT = 1
_SKIP_SALT = 2


def table_size(servers: int) -> int:
    """Return the size of a table for so many *servers*."""
    wanted = PLACES_PER_SERVER * servers
    return next((prime for prime in PRIMES if prime >= wanted), PRIMES[-1])


def turns(weights: Sequence[int]) -> list[int]:
    """Return how many places each server claims in a turn: 0 for weight 0, else 1 to 63."""
    divisor = gcd(*weights) or 1
    shift = max(0, (max(weights, default=0) // divisor).bit_length() - TURN_BITS)
    return [(weight // divisor >> shift) or min(weight, 1) for weight in weights]


class MaglevHashing(TableScheduler):
    """A Maglev table over the servers."""

    name = "mh"
    accepted_flags = frozenset({"mh-port", "mh-fallback"})

    def build(self, servers: Sequence[RealServer], weights: Sequence[int]) -> list[RealServer]:
        """Return the table, every place claimed by a server."""
        size = table_size(len(servers))
        claims = [
            _Claim(server, claimed, size)
            for server, claimed in zip(servers, turns(weights), strict=True)
            if claimed
        ]
        if not claims:
            return []
        table: list[RealServer | None] = [None] * size
        free = size
        while free:
            for claim in claims:
                free -= claim.take_turn(table, free)
        return [server for server in table if server is not None]

    def hash_request(self, request: Request) -> int:
        """Return the hash of the client."""
        return hash_endpoint(request.client.address, request.client.port if self._has_port else 0)


class _Claim:
    """A server on its way through its own order of places."""

    __slots__ = ("count", "place", "server", "skip")

    def __init__(self, server: RealServer, count: int, size: int) -> None:
        self.server = server
        self.count = count
        self.place = hash_endpoint(*server.endpoint, _OFFSET_SALT) % size
        self.skip = hash_endpoint(*server.endpoint, _SKIP_SALT) % (size - 1) + 1

    def take_turn(self, table: list[RealServer | None], free: int) -> int:
        """Claim up to count of the *free* places left and return how many."""
        taken = min(self.count, free)
        size, place = len(table), self.place
        for _ in range(taken):
            while table[place] is not None:
                place += self.skip
                if place >= size:
                    place -= size
            table[place] = self.server
        self.place = place
        return taken
