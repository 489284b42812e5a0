# SPDX-License-Identifier: Apache-2.0
"""Path MTUs by longest prefix: what the routing table says can be sent towards an address.

Only the clamping of MSS reads it.  Packets that are too big all the same are noticed by the kernel
when it forwards them, and its ICMP error is relayed like any other (icmp.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network

DEFAULT_MTU = 1500


class PathMtu:
    """The MTU of the route to an address."""

    def __init__(self, routes: Iterable[tuple[IPv4Network | IPv6Network, int]] = ()) -> None:
        """Take *routes*: destination prefix and MTU; for one prefix the first given counts."""
        self._lengths: dict[int, list[int]] = {4: [], 6: []}
        self._routes: dict[tuple[int, int, int], int] = {}
        for network, mtu in routes:
            bits = network.max_prefixlen - network.prefixlen
            self._routes.setdefault((network.version, bits, int(network.network_address) >> bits), mtu)
            if bits not in self._lengths[network.version]:
                self._lengths[network.version].append(bits)
        for lengths in self._lengths.values():
            lengths.sort()

    def find(self, address: bytes) -> int:
        """Return the MTU towards *address* (network order), DEFAULT_MTU if no route is known."""
        family = 4 if len(address) == 4 else 6
        number = int.from_bytes(address, "big")
        for bits in self._lengths[family]:
            mtu = self._routes.get((family, bits, number >> bits))
            if mtu is not None:
                return mtu
        return DEFAULT_MTU


def mss_of(mtu: int, family: int) -> int:
    """Return the largest TCP segment that a path of *mtu* carries whole (RFC 9293, section 3.7.1)."""
    return mtu - (40 if family == 4 else 60)
