# SPDX-License-Identifier: Apache-2.0
"""What only IPv4 has: options, optional checksums, identifications."""

from __future__ import annotations

from scapy.layers.inet import IP, UDP, IPOption_LSRR, IPOption_RR
from scapy.packet import Raw

from fullnat.core.reason import Reason
from tests.packets import tcp, udp, unreachable
from tests.vectors.case import V4, Case, Given, Net, Step
from tests.vectors.rows.steps import asked, patched


def rows() -> list[Case]:
    """The rows."""
    net = V4

    def with_option(source: str, destination: str, option: object, sport: int, dport: int) -> bytes:
        head = IP(src=source, dst=destination, options=[option], id=7)
        return bytes(head / UDP(sport=sport, dport=dport) / Raw(b"opt"))

    long = b"l" * 1000
    no_sum = udp(net.to_vip(vport=53), check=0)
    return [
        Case(
            "UDP without a checksum stays without",
            Given(net),
            [Step(no_sum, Reason.FLOW_OPENED, out=udp(net.to_server(5353), check=0))],
        ),
        Case(
            "a UDP checksum that comes out as zero is written as 0xffff",
            Given(net),
            [
                Step(
                    udp(net.to_vip(vport=53), _zero_sum(net)),
                    Reason.FLOW_OPENED,
                    out=udp(net.to_server(5353), _zero_sum(net)),
                )
            ],
        ),
        Case(
            "IP options stay, source routes do not",
            Given(net),
            [
                Step(
                    with_option(net.client, net.vip, IPOption_RR(), 4000, 53),
                    Reason.FLOW_OPENED,
                    out=with_option(net.lip, net.servers[0], IPOption_RR(), 5000, 5353),
                ),
                Step(
                    with_option(net.client, net.vip, IPOption_LSRR(routers=["198.51.100.1"]), 4000, 53),
                    Reason.SOURCE_ROUTED,
                ),
            ],
        ),
        Case(
            "a long datagram that may be fragmented gets an identification of ours",
            Given(net),
            [
                Step(
                    udp(net.to_vip(vport=53), long, df=False, ident=1),
                    Reason.FLOW_OPENED,
                    out=udp(net.to_server(5353), long, df=False, ident=1),
                    any_ident=True,
                ),
                Step(
                    udp(net.from_server(5353), long, df=False, ident=2),
                    Reason.FLOW_OUTBOUND,
                    out=udp(net.to_client(vport=53), long, df=False, ident=2),
                    any_ident=True,
                ),
            ],
        ),
        Case(
            "source quench is dropped",
            Given(net),
            [
                asked(net),
                Step(
                    unreachable(net.servers[0], net.lip, udp(net.to_server(5353)), code="quench"),
                    Reason.ICMP_INVALID,
                ),
            ],
        ),
        Case(
            "an impossible IPv4 header is dropped",
            Given(net),
            [
                Step(patched(tcp(net.to_vip(), "S"), 0, 0x44), Reason.BAD_HEADER),
                Step(patched(tcp(net.to_vip(), "S"), 3, 10), Reason.BAD_HEADER),
            ],
        ),
    ]


def _zero_sum(net: Net) -> bytes:
    """Return a payload whose translated datagram has a checksum that computes to zero."""
    from fullnat.core.checksum import checksum

    datagram = udp(net.to_server(5353), b"\0\0", check=0)
    pseudo = datagram[12:20] + b"\0\x11" + datagram[24:26]
    return checksum(pseudo, datagram[20:]).to_bytes(2, "big")
