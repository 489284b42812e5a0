# SPDX-License-Identifier: Apache-2.0
"""Local port pool: hand out LIP:lport for new flows.

Theory.  What must be unique is (protocol, LIP:lport, RIP:rport), for that is how an answer is told
from all others.  So every real server has the whole range of every local address to itself, and
one LIP:lport serves many servers at once.

Rules.
  1. A port rests for REST after it is released, unless its flow had already been silent that long:
     a server may hold the old connection in TIME-WAIT, and a late segment of it must find no
     new one (RFC 9293, section 3.6.1; RFC 6888, REQ-8).
  2. Ports never used come first, then the one released longest ago.
  3. A client starts at the same local address every time (RFC 4787, REQ-2: "paired") and goes on
     to the next when that one is spent towards the chosen server.
  4. Ports never used are taken in an order the seed determines, so that outsiders cannot guess the
     next one (RFC 6056, section 3.3).

Allocation and release are O(1): nothing is searched, nothing retried.

Refused.  Probing for a free port: cost grows with occupancy.  Keeping the client's port: two
          clients with the same one would need probing again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from math import gcd
from typing import NamedTuple

from fullnat.core.addr import Endpoint, IPAddress, PortRange
from fullnat.core.prng import SplitMix64

# Knuth's multiplier spreads neighbouring client addresses over the local ones (TAOCP 6.4).
_SPREAD = 2654435761


class PortUse(NamedTuple):
    """How the ports of one local address towards one server stand."""

    protocol: int
    lip: IPAddress
    real: Endpoint
    in_use: int
    resting: int
    capacity: int


class _PortQueue:
    """The ports of one local address towards one server."""

    __slots__ = (
        "_excluded",
        "_fresh",
        "_left_out",
        "_low",
        "_rested",
        "_resting",
        "_size",
        "_start",
        "_stride",
        "in_use",
    )

    def __init__(self, ports: PortRange, excluded: frozenset[int], prng: SplitMix64) -> None:
        self._low = ports.low
        self._size = len(ports)
        self._excluded = excluded
        self._fresh = 0  # how many of the range were taken for the first time
        self._start = prng.below(self._size)
        self._stride = prng.below(self._size) | 1
        while gcd(self._stride, self._size) != 1:
            self._stride += 2
        self._rested: deque[int] = deque()
        self._resting: deque[tuple[int, int]] = deque()  # (ready at, port), in that order
        self._left_out: list[int] = []  # their turn came while they were excluded
        self.in_use = 0

    def take(self, now: int) -> int | None:
        while self._fresh < self._size:
            port = self._low + (self._start + self._fresh * self._stride) % self._size
            self._fresh += 1
            if self._admit(port):
                return port
        while self._resting and self._resting[0][0] <= now:
            self._rested.append(self._resting.popleft()[1])
        while self._rested:
            port = self._rested.popleft()
            if self._admit(port):
                return port
        return None

    def _admit(self, port: int) -> bool:
        """Whether *port*, taken from its place, may be used now; if not, it is left out."""
        if port in self._excluded:
            self._left_out.append(port)
            return False
        self.in_use += 1
        return True

    def exclude(self, excluded: frozenset[int]) -> None:
        self._excluded = excluded
        # What is no longer excluded waits behind those that are rested.
        self._rested.extend(port for port in self._left_out if port not in excluded)
        self._left_out = [port for port in self._left_out if port in excluded]

    def put(self, port: int, now: int, rest: int, idle: int) -> None:
        self.in_use -= 1
        if idle >= rest:
            self._rested.append(port)
        else:
            self._resting.append((now + rest, port))

    def resting(self, now: int) -> int:
        return sum(1 for ready, _ in self._resting if ready > now)


class LocalPortPool:
    """All local ports of an instance."""

    def __init__(
        self,
        addresses: Sequence[IPAddress],
        ports: PortRange,
        rest: int,
        seed: int,
        excluded: Iterable[Endpoint] = (),
    ) -> None:
        """Own *ports* of *addresses*, but for the endpoints in *excluded* (services on a LIP)."""
        self.addresses = tuple(addresses)
        self.ports = ports
        self.rest = rest
        self._prng = SplitMix64(seed)
        self._families = {
            family: tuple(address for address in self.addresses if address.version == family)
            for family in (4, 6)
        }
        self._excluded: dict[IPAddress, frozenset[int]] = {}
        self._queues: dict[tuple[int, IPAddress, Endpoint], _PortQueue] = {}
        self.exclude(excluded)

    def exclude(self, excluded: Iterable[Endpoint]) -> None:
        """Change which endpoints are left out; one in use stays so until it is released."""
        excluded = frozenset(excluded)
        self._excluded = {
            address: frozenset(
                endpoint.port
                for endpoint in excluded
                if endpoint.address == address and endpoint.port in self.ports
            )
            for address in self.addresses
        }
        for (_, lip, _), queue in self._queues.items():
            queue.exclude(self._excluded[lip])

    def allocate(self, protocol: int, client: IPAddress, real: Endpoint, now: int) -> Endpoint | None:
        """Return a free LIP:lport towards *real*, or None when every local address is spent.

        The caller owns it until release().  None maps to Reason.NO_LOCAL_PORT.
        """
        addresses = self._families[real.family]
        if not addresses:
            return None
        first = (int(client) * _SPREAD >> 16) % len(addresses)
        for step in range(len(addresses)):
            lip = addresses[(first + step) % len(addresses)]
            port = self._queue(protocol, lip, real).take(now)
            if port is not None:
                return Endpoint(lip, port)
        return None

    def release(self, protocol: int, local: Endpoint, real: Endpoint, now: int, last_seen: int) -> None:
        """Take *local* back from a flow to *real* whose last packet came at *last_seen*."""
        self._queues[protocol, local.address, real].put(local.port, now, self.rest, now - last_seen)

    def _queue(self, protocol: int, lip: IPAddress, real: Endpoint) -> _PortQueue:
        queue = self._queues.get((protocol, lip, real))
        if queue is None:
            queue = _PortQueue(self.ports, self._excluded[lip], self._prng)
            self._queues[protocol, lip, real] = queue
        return queue

    def usage(self, now: int) -> Iterator[PortUse]:
        """Yield how each local address stands towards each server that ever had a flow."""
        for (protocol, lip, real), queue in self._queues.items():
            capacity = len(self.ports) - len(self._excluded[lip])
            yield PortUse(protocol, lip, real, queue.in_use, queue.resting(now), capacity)
