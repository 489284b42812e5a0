# SPDX-License-Identifier: Apache-2.0
"""What is not ours and passes."""

from __future__ import annotations

from fullnat.core.reason import Reason
from tests.packets import ping, tcp, udp, unreachable
from tests.vectors.case import Case, Given, Net, Step
from tests.vectors.rows.steps import asked


def rows(net: Net) -> list[Case]:
    """The rows of one family."""
    elsewhere = f"{net.end(net.client, 4000)} > {net.end(net.vip, 22)}"
    return [
        Case(
            "what is for no service passes",
            Given(net),
            [
                Step(tcp(elsewhere, "S"), Reason.NOT_SERVICE),
                Step(udp(net.to_vip(vport=80)), Reason.NOT_SERVICE),
                Step(tcp(net.to_vip(vport=53), "S"), Reason.NOT_SERVICE),
            ],
        ),
        Case(
            "what a server sends to a local address outside any flow passes to the host",
            Given(net),
            [
                Step(tcp(net.from_server(), "SA"), Reason.NO_OUTBOUND_FLOW),
                Step(udp(net.from_server(5353)), Reason.NO_OUTBOUND_FLOW),
            ],
        ),
        Case(
            "another server cannot speak into a flow",
            Given(net),
            [asked(net), Step(udp(net.from_server(5353, server=1)), Reason.NO_OUTBOUND_FLOW)],
        ),
        Case(
            "other protocols pass",
            Given(net),
            [
                Step(ping(net.client, net.lip), Reason.NOT_TRANSLATED),
                Step(ping(net.client, net.vip, reply=True), Reason.NOT_TRANSLATED),
            ],
        ),
        Case(
            "an ICMP error about somebody else's packet passes",
            Given(net),
            [
                Step(
                    unreachable(net.servers[0], net.lip, udp(net.to_server(9999))),
                    Reason.ICMP_UNRELATED,
                )
            ],
        ),
    ]
