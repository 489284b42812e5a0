# SPDX-License-Identifier: Apache-2.0
"""What is dropped, and why."""

from __future__ import annotations

from dataclasses import replace

from fullnat.core.reason import Reason
from tests.packets import tcp, udp
from tests.vectors.case import Case, Given, Net, Step
from tests.vectors.rows.steps import asked, established, patched


def rows(net: Net) -> list[Case]:
    """The rows of one family."""
    syn, question = tcp(net.to_vip(), "S"), udp(net.to_vip(vport=53))
    l4 = 20 if net.family == 4 else 40
    return [
        Case(
            "what is cut short is dropped",
            Given(net),
            [
                Step(syn[:-1], Reason.TRUNCATED),
                Step(question[:-1], Reason.TRUNCATED),
                Step(syn[: l4 - 1], Reason.TRUNCATED),
            ],
        ),
        Case(
            "nothing at all",
            Given(net),
            [Step(b"", Reason.TRUNCATED), Step(b"\x55" + syn[1:], Reason.BAD_HEADER)],
        ),
        Case(
            "a TCP header of impossible length is dropped",
            Given(net),
            [
                Step(patched(syn, l4 + 12, 0x40), Reason.BAD_TRANSPORT),
                Step(patched(syn, l4 + 12, 0xF0), Reason.BAD_TRANSPORT),
            ],
        ),
        Case(
            "a UDP length beyond the packet is dropped",
            Given(net),
            [
                Step(patched(question, l4 + 5, 200), Reason.BAD_TRANSPORT),
                Step(patched(question, l4 + 5, 7), Reason.BAD_TRANSPORT),
            ],
        ),
        Case(
            "what pads the packet is cut off",
            Given(net),
            [Step(syn + b"\0" * 6, Reason.FLOW_OPENED, out=tcp(net.to_server(), "S"))],
        ),
        Case("a RST of no flow is dropped", Given(net), [Step(tcp(net.to_vip(), "R"), Reason.STRAY_RESET)]),
        Case(
            "a SYN from an address that cannot be answered is dropped",
            Given(net),
            [Step(tcp(net.to_vip(client=address), "S"), Reason.MARTIAN_SOURCE) for address in _martians(net)],
        ),
        Case(
            "in overload new flows are dropped, neither reset nor refused, and known ones go on",
            Given(net, openings=1),
            [
                *established(net),
                Step(tcp(net.to_vip(4001), "S"), Reason.OVERLOADED),
                Step(udp(net.to_vip(vport=53)), Reason.OVERLOADED),
                Step(tcp(net.to_vip(), "R"), Reason.FLOW_INBOUND, out=tcp(net.to_server(), "R")),
                Step(tcp(net.to_vip(), "S"), Reason.OVERLOADED),
            ],
        ),
        Case(
            "in overload one-packet scheduling goes on with the servers it has",
            Given(net, openings=1, one_packet=True, servers=2),
            [
                asked(net),
                Step(udp(net.to_vip(vport=53), b"again"), Reason.OVERLOADED),
                replace(asked(net), reason=Reason.FLOW_INBOUND),
            ],
        ),
        Case(
            "a scheduler that fails costs the packet, not the daemon",
            Given(net, scheduler_fails=True),
            [
                Step(tcp(net.to_vip(), "S"), Reason.SCHEDULER_FAILED),
                Step(udp(net.to_vip(vport=53)), Reason.SCHEDULER_FAILED),
            ],
        ),
    ]


def _martians(net: Net) -> tuple[str, ...]:
    return (
        ("127.0.0.1", "0.0.0.0", "224.0.0.5", "255.255.255.255")
        if net.family == 4
        else ("::1", "::", "ff02::1")
    )
