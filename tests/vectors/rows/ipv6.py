# SPDX-License-Identifier: Apache-2.0
"""What only IPv6 has: extension headers."""

from __future__ import annotations

from scapy.layers.inet import UDP
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.packet import Raw

from fullnat.core.reason import Reason
from tests.vectors.case import V6, Case, Given, Step


def rows() -> list[Case]:
    """The rows."""
    net = V6

    def with_headers(source: str, destination: str, sport: int, dport: int, *headers: object) -> bytes:
        packet = IPv6(src=source, dst=destination, hlim=64)
        for header in headers:
            packet = packet / header
        return bytes(packet / UDP(sport=sport, dport=dport) / Raw(b"ext"))

    def pair(*headers: object) -> tuple[bytes, bytes]:
        return (
            with_headers(net.client, net.vip, 4000, 53, *headers),
            with_headers(net.lip, net.servers[0], 5000, 5353, *headers),
        )

    options, out = pair(IPv6ExtHdrHopByHop(), IPv6ExtHdrDestOpt())
    atomic, atomic_out = pair(IPv6ExtHdrFragment(id=9))
    routed, _ = pair(IPv6ExtHdrRouting(addresses=["2001:db8::1"], segleft=1, type=0))
    endless, _ = pair(*[IPv6ExtHdrDestOpt()] * 9)
    return [
        Case("extension headers stay", Given(net), [Step(options, Reason.FLOW_OPENED, out=out)]),
        Case(
            "an atomic fragment is a whole packet",
            Given(net),
            [Step(atomic, Reason.FLOW_OPENED, out=atomic_out)],
        ),
        Case(
            "a routing header with segments left is dropped", Given(net), [Step(routed, Reason.SOURCE_ROUTED)]
        ),
        Case("too many extension headers are dropped", Given(net), [Step(endless, Reason.BAD_HEADER)]),
    ]
