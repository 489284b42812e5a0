# SPDX-License-Identifier: Apache-2.0
"""What fullnat answers itself: resets, refusals, pings."""

from __future__ import annotations

from dataclasses import replace

from fullnat.core.reason import Reason
from tests.packets import ping, tcp, udp
from tests.vectors.case import Case, Given, Net, Step
from tests.vectors.rows.steps import answer_about, asked, opened, reset


def rows(net: Net) -> list[Case]:
    """The rows of one family."""
    mid_stream = tcp(net.to_vip(), "PA", seq=500, ack=600, payload=b"12345")
    return [
        Case(
            "a ping of a virtual address that no interface has is answered",
            Given(net),
            [
                Step(
                    ping(net.client, net.vip),
                    Reason.ECHO_ANSWERED,
                    reply=ping(net.vip, net.client, reply=True),
                ),
                Step(ping(net.client, net.lip), Reason.NOT_TRANSLATED),
            ],
        ),
        Case(
            "a segment of no flow is reset: with its acknowledgment as sequence, or acknowledging it",
            Given(net),
            [
                Step(mid_stream, Reason.NO_FLOW, reply=reset(net.to_client(), "R", seq=600)),
                Step(
                    tcp(net.to_vip(), "F", seq=500, payload=b"12345"),
                    Reason.NO_FLOW,
                    reply=reset(net.to_client(), "RA", seq=0, ack=506),
                ),
                Step(
                    tcp(net.to_vip(), "SA", seq=500, ack=600),
                    Reason.NO_FLOW,
                    reply=reset(net.to_client(), "R", seq=600),
                ),
            ],
        ),
        Case(
            "in front of a fallback it is left to the kernel, which may have its connection",
            Given(net, has_fallback=True),
            [
                Step(mid_stream, Reason.KERNEL_FLOW),
                Step(tcp(net.to_vip(), "F", seq=500), Reason.KERNEL_FLOW),
                Step(tcp(net.to_vip(), "SA", seq=500, ack=600), Reason.KERNEL_FLOW),
                Step(tcp(net.to_vip(), "R", seq=500), Reason.KERNEL_FLOW),
            ],
        ),
        Case(
            "without a server TCP is reset and UDP told that the port is unreachable",
            Given(net, weight=0),
            [
                Step(
                    tcp(net.to_vip(), "S", seq=500),
                    Reason.NO_SERVER,
                    reply=reset(net.to_client(), "RA", seq=0, ack=501),
                ),
                Step(
                    udp(net.to_vip(vport=53)),
                    Reason.NO_SERVER,
                    reply=answer_about(net, udp(net.to_vip(vport=53)), "port"),
                ),
            ],
        ),
        Case(
            "without a local port the client is told, softly",
            Given(net, servers=1),
            [
                opened(net),
                Step(
                    tcp(net.to_vip(4001), "S"),
                    Reason.NO_LOCAL_PORT,
                    reply=answer_about(net, tcp(net.to_vip(4001), "S"), "host"),
                ),
                asked(net),
                Step(
                    udp(net.to_vip(4001, 53)),
                    Reason.NO_LOCAL_PORT,
                    reply=answer_about(net, udp(net.to_vip(4001, 53)), "host"),
                ),
            ],
        ),
        Case(
            "a released port rests, then serves again",
            Given(net, servers=1),
            [
                opened(net),
                Step(tcp(net.from_server(), "RA"), Reason.FLOW_OUTBOUND, out=tcp(net.to_client(), "RA")),
                Step(
                    tcp(net.to_vip(4001), "S"),
                    Reason.NO_LOCAL_PORT,
                    reply=answer_about(net, tcp(net.to_vip(4001), "S"), "host"),
                    at=30,
                ),
                Step(tcp(net.to_vip(4001), "S"), Reason.FLOW_OPENED, out=tcp(net.to_server(), "S"), at=120),
            ],
        ),
        Case(
            "a full table refuses new flows and keeps the old",
            Given(net, flow_limit=1),
            [
                opened(net),
                Step(
                    tcp(net.to_vip(4001), "S"),
                    Reason.TABLE_FULL,
                    reply=answer_about(net, tcp(net.to_vip(4001), "S"), "host"),
                ),
                replace(opened(net), reason=Reason.FLOW_INBOUND),
            ],
        ),
    ]
