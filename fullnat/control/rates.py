# SPDX-License-Identifier: Apache-2.0
"""Rates of a second, estimated as IPVS does (net/netfilter/ipvs/ip_vs_est.c): pure.

Every two seconds the rate since the last time goes into an average with a weight of a quarter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fullnat.core.service import RealServer
from fullnat.core.timeouts import SECOND

COUNTED = ("connections", "packets_in", "packets_out", "bytes_in", "bytes_out")
PERIOD = 2 * SECOND  # nanoseconds

Counts = tuple[int, ...]  # in the order of COUNTED


def counts_of(server: RealServer) -> Counts:
    """Return what was counted so far."""
    return (
        server.connections,
        server.packets_in,
        server.packets_out,
        server.bytes_in,
        server.bytes_out,
    )


class Rates:
    """Rates of all servers, and where their counts began for those who set them to zero."""

    def __init__(self) -> None:
        self._looked = 0
        self._last: dict[RealServer, Counts] = {}
        self._averages: dict[RealServer, tuple[float, ...]] = {}
        self._zeros: dict[RealServer, Counts] = {}

    def is_due(self, now: int) -> bool:
        """Whether a period has passed; with a little less it is better to look than to wait for the next."""
        return now - self._looked >= PERIOD - SECOND // 4

    def look(self, servers: Iterable[RealServer], now: int) -> None:
        """Take the counts of *servers*, which are all there are, into the averages."""
        elapsed, self._looked = now - self._looked, now
        last, averages = self._last, self._averages
        self._last, self._averages = {}, {}
        for server in servers:
            counts = self._last[server] = counts_of(server)
            before, average = last.get(server), averages.get(server, (0.0,) * len(COUNTED))
            if before is not None:
                average = tuple(
                    old + ((new - was) * SECOND / elapsed - old) / 4
                    for old, was, new in zip(average, before, counts, strict=True)
                )
            self._averages[server] = average
        self._zeros = {server: zero for server, zero in self._zeros.items() if server in self._last}

    def rates(self) -> Mapping[RealServer, Counts]:
        """Return the rates, as whole numbers."""
        return {server: tuple(map(round, average)) for server, average in self._averages.items()}

    def zero(self, servers: Iterable[RealServer]) -> None:
        """Have totals() begin at 0 for *servers*; what engines count goes on."""
        self._zeros |= {server: counts_of(server) for server in servers}

    def totals(self, servers: Iterable[RealServer]) -> Mapping[RealServer, Counts]:
        """Return what *servers* counted since they were set to zero."""
        nothing = (0,) * len(COUNTED)
        return {
            server: tuple(
                count - zero
                for count, zero in zip(counts_of(server), self._zeros.get(server, nothing), strict=True)
            )
            for server in servers
        }
