# SPDX-License-Identifier: Apache-2.0
"""What becomes of packets whose flow was ended on request."""

from __future__ import annotations

from dataclasses import replace

from fullnat.core.reason import Reason
from tests.packets import fragments, tcp, udp
from tests.vectors.case import Case, Given, Net, Step
from tests.vectors.rows.steps import answer_about, asked, established, opened, reset


def rows(net: Net) -> list[Case]:
    """The rows of one family."""
    said = tcp(net.to_vip(), "A", seq=500, ack=600)
    answered = tcp(net.from_server(), "PA", seq=700, ack=800, payload=b"12345")
    told = [
        Step(said, Reason.FLOW_ENDED, reply=reset(net.to_client(), seq=600), ends_flows=True),
        Step(answered, Reason.FLOW_ENDED, reply=reset(net.to_server(), seq=800)),
    ]
    datagram = fragments(udp(net.to_vip(vport=53), b"x" * 1500), 1000, 9)
    return [
        Case(
            "both ends of a connection that was ended are reset, from the addresses they know",
            Given(net),
            [*established(net), *told],
        ),
        Case(
            "also in front of a fallback, which does not have it",
            Given(net, has_fallback=True),
            [
                *established(net),
                *told,
                Step(
                    tcp(net.to_vip(), "F", seq=500),
                    Reason.FLOW_ENDED,
                    reply=reset(net.to_client(), "RA", ack=501),
                ),
            ],
        ),
        Case(
            "ten seconds later it is unknown",
            Given(net),
            [
                *established(net),
                *told,
                Step(said, Reason.FLOW_ENDED, reply=reset(net.to_client(), seq=600), at=9.99),
                Step(said, Reason.NO_FLOW, reply=reset(net.to_client(), seq=600), at=10),
                Step(answered, Reason.NO_OUTBOUND_FLOW, at=10),
            ],
        ),
        Case(
            "a RST about it needs no answer",
            Given(net),
            [
                *established(net),
                Step(tcp(net.to_vip(), "R"), Reason.STRAY_RESET, ends_flows=True),
                Step(tcp(net.from_server(), "R"), Reason.NO_OUTBOUND_FLOW),
            ],
        ),
        Case(
            "its client may connect again at once; its port rests",
            Given(net, servers=2),
            [
                *established(net),
                Step(
                    tcp(net.to_vip(), "S"),
                    Reason.FLOW_OPENED,
                    out=tcp(net.to_server(server=1), "S"),
                    ends_flows=True,
                ),
                replace(opened(net, 4001), reason=Reason.NO_LOCAL_PORT, out=None, reply=_refused(net)),
            ],
        ),
        Case(
            "a datagram opens another flow, and the server's goes to the host",
            Given(net),
            [
                asked(net),
                Step(
                    udp(net.to_vip(vport=53), b"question"),
                    Reason.FLOW_OPENED,
                    out=udp(net.to_server(5353, server=1), b"question"),
                    ends_flows=True,
                ),
                Step(udp(net.from_server(5353)), Reason.NO_OUTBOUND_FLOW),
            ],
        ),
        Case(
            "the rest of its datagrams is dropped",
            Given(net),
            [
                Step(datagram[0], Reason.FLOW_OPENED, out=_first(net), any_ident=True),
                Step(datagram[1], Reason.FRAGMENT_DROPPED, ends_flows=True),
            ],
        ),
    ]


def _refused(net: Net) -> bytes:
    return answer_about(net, tcp(net.to_vip(4001), "S"), "host")


def _first(net: Net) -> bytes:
    return fragments(udp(net.to_server(5353), b"x" * 1500), 1000, 9)[0]
