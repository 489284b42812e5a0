# SPDX-License-Identifier: Apache-2.0
"""ICMP errors, relayed to the end they concern."""

from __future__ import annotations

from fullnat.core.reason import Reason
from tests.packets import tcp, udp, unreachable
from tests.vectors.case import Case, Given, Net, Step
from tests.vectors.rows.steps import asked, established, opened


def rows(net: Net) -> list[Case]:
    """The rows of one family."""
    cases = []
    for code in ("port", "host", "too-big", "ttl"):
        mtu = 1280 if code == "too-big" else 0
        cases.append(
            Case(
                f"an error ({code}) from a server about a UDP flow reaches the client",
                Given(net),
                [
                    asked(net),
                    Step(
                        unreachable(
                            net.servers[0], net.lip, udp(net.to_server(5353), b"question"), code=code, mtu=mtu
                        ),
                        Reason.ICMP_RELAYED,
                        out=unreachable(
                            net.vip, net.client, udp(net.to_vip(vport=53), b"question"), code=code, mtu=mtu
                        ),
                    ),
                ],
            )
        )
        cases.append(
            Case(
                f"an error ({code}) from the client's side about a TCP flow reaches the server",
                Given(net),
                [
                    *established(net),
                    Step(
                        unreachable(
                            net.client,
                            net.vip,
                            tcp(net.to_client(), "A", seq=10, payload=b"x" * 99),
                            code=code,
                            mtu=mtu,
                        ),
                        Reason.ICMP_RELAYED,
                        out=unreachable(
                            net.lip,
                            net.servers[0],
                            tcp(net.from_server(), "A", seq=10, payload=b"x" * 99),
                            code=code,
                            mtu=mtu,
                        ),
                    ),
                ],
            )
        )
    cases.append(
        Case(
            "the source of an error does not matter, and a short quotation is enough",
            Given(net),
            [
                opened(net),
                Step(
                    unreachable(net.router, net.lip, tcp(net.to_server(), "S")[: _quote(net)], code="host"),
                    Reason.ICMP_RELAYED,
                    out=unreachable(net.vip, net.client, tcp(net.to_vip(), "S")[: _quote(net)], code="host"),
                ),
            ],
        )
    )
    cases.append(
        Case(
            "an error neither refreshes nor ends a flow",
            Given(net),
            [
                asked(net),
                Step(
                    unreachable(net.servers[0], net.lip, udp(net.to_server(5353), b"question")),
                    Reason.ICMP_RELAYED,
                    out=unreachable(net.vip, net.client, udp(net.to_vip(vport=53), b"question")),
                    at=299,
                ),
                Step(
                    udp(net.from_server(5353)),
                    Reason.FLOW_OUTBOUND,
                    out=udp(net.to_client(vport=53)),
                    at=299.5,
                ),
                Step(
                    unreachable(net.servers[0], net.lip, udp(net.to_server(5353), b"question")),
                    Reason.ICMP_RELAYED,
                    out=unreachable(net.vip, net.client, udp(net.to_vip(vport=53), b"question")),
                    at=599,
                ),
                Step(udp(net.from_server(5353)), Reason.NO_OUTBOUND_FLOW, at=602),
            ],
        )
    )
    broken = bytearray(unreachable(net.servers[0], net.lip, udp(net.to_server(5353), b"question")))
    broken[-1] ^= 1
    cases.append(
        Case(
            "an error with a wrong checksum is dropped",
            Given(net),
            [asked(net), Step(bytes(broken), Reason.ICMP_INVALID)],
        )
    )
    cases += _about_quotations(net)
    return cases


def _about_quotations(net: Net) -> list[Case]:
    without_sum = udp(net.to_server(5353), b"question", check=0)
    cases = [
        Case(
            "a quoted UDP header without a checksum stays without",
            Given(net),
            [
                asked(net),
                Step(
                    unreachable(net.servers[0], net.lip, without_sum),
                    Reason.ICMP_RELAYED,
                    out=unreachable(net.vip, net.client, udp(net.to_vip(vport=53), b"question", check=0)),
                ),
            ],
        )
    ]
    if net.family == 4:
        spoiled = bytearray(udp(net.to_server(5353), b"question"))
        spoiled[8] -= 1  # a TTL that the checksum of the quoted header does not know of
        cases.append(
            Case(
                "a quoted IPv4 header with a wrong checksum makes the error invalid",
                Given(net),
                [asked(net), Step(unreachable(net.servers[0], net.lip, bytes(spoiled)), Reason.ICMP_INVALID)],
            )
        )
    return cases


def _quote(net: Net) -> int:
    return 28 if net.family == 4 else 48
