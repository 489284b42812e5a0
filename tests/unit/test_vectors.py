# SPDX-License-Identifier: Apache-2.0
"""The packet-in/packet-out rows, run through the Python core."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address

import pytest

from fullnat.core.addr import TCP, UDP, Endpoint, PortRange
from fullnat.core.director import Director
from fullnat.core.flow import Decision, FlowTable
from fullnat.core.fragment import FragmentTable
from fullnat.core.lport import LocalPortPool
from fullnat.core.mtu import PathMtu
from fullnat.core.packet import parse
from fullnat.core.persist import PersistenceTable
from fullnat.core.reason import Reason, Verdict
from fullnat.core.sched.base import Request, Scheduler
from fullnat.core.service import RealServer, VirtualService
from fullnat.core.timeouts import PROFILES, SECOND
from tests.packets import identification, with_identification
from tests.vectors.case import Case, Given, Step
from tests.vectors.rows import all_cases


class RoundRobin(Scheduler):
    """The simplest scheduler that could work, so that rows test the director and not a scheduler."""

    turn = 0

    def schedule(self, request: Request) -> RealServer | None:
        available = [server for server in self.servers if server.is_available]
        self.turn += 1
        return available[(self.turn - 1) % len(available)] if available else None


class Failing(Scheduler):
    def schedule(self, request: Request) -> RealServer | None:
        raise ZeroDivisionError("as a user's scheduler may")


def build_director(given: Given) -> Director:
    net = given.net
    services = []
    for name, protocol, vport, rport in (("web", TCP, 80, 8080), ("dns", UDP, 53, 5353)):
        servers = [
            RealServer(Endpoint(ip_address(rip), rport), given.weight) for rip in net.servers[: given.servers]
        ]
        scheduler = Failing() if given.scheduler_fails else RoundRobin()
        services.append(
            VirtualService(
                name,
                protocol,
                Endpoint(ip_address(net.vip), vport),
                scheduler,
                PROFILES["lvs"],
                servers,
                one_packet=given.one_packet and protocol == UDP,
            )
        )
    prefix = IPv4Network("198.19.0.0/24") if net.family == 4 else IPv6Network("2001:db8:2::/64")
    return Director(
        services,
        FlowTable(given.flow_limit),
        LocalPortPool([ip_address(net.lip)], PortRange(5000, 5000), given.rest, seed=1),
        PersistenceTable(100),
        FragmentTable(10),
        seed=1,
        path_mtu=PathMtu([(prefix, given.path_mtu)]),
        answers_ping=[ip_address(net.vip)] if given.answers_ping else [],
    )


def _assert_output(decision: Decision, packet: bytes, expected: bytes | None, any_ident: bool) -> None:
    if decision.verdict is not Verdict.FORWARD:
        assert expected is None
        return
    assert decision.rewrite is not None
    assert expected is not None, "the row must say what comes out"
    out = decision.rewrite.apply(parse(packet))
    if any_ident:
        expected = with_identification(expected, identification(out))
    assert out.hex() == expected.hex()


def _run(director: Director, step: Step, held: dict[int, bytes]) -> None:
    now = int(step.at * SECOND)
    director.expire(now)
    before = list(director.counters)
    decision = director.decide(parse(step.packet), now)
    assert decision.reason.name == step.reason.name
    assert decision.verdict is step.reason.verdict
    _assert_output(decision, step.packet, step.out, step.any_ident)
    assert decision.reply == step.reply
    if decision.token is not None:
        held[decision.token] = step.packet
    assert len(decision.released) == len(step.released)
    for release, (reason, out) in zip(decision.released, step.released, strict=True):
        packet = held.pop(release.token)
        assert release.size == len(packet)
        assert release.decision.reason is reason
        _assert_output(release.decision, packet, out, step.any_ident)
    expected = list(before)
    for reason in (step.reason, *(reason for reason, _ in step.released)):
        expected[reason] += 1
    assert director.counters == expected


@pytest.mark.parametrize("case", all_cases(), ids=lambda case: f"v{case.given.net.family} {case.name}")
def test_row(case: Case) -> None:
    director = build_director(case.given)
    held: dict[int, bytes] = {}
    for step in case.steps:
        _run(director, step, held)


def test_every_reason_has_a_row() -> None:
    seen = {step.reason for case in all_cases() for step in case.steps}
    beyond_rows = {Reason.FRAGMENT_LIMIT, Reason.FRAGMENT_TIMEOUT}  # tests/unit/test_fragment.py
    assert set(Reason) - seen == beyond_rows


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(
    "reason", [Reason.FLOW_OPENED, Reason.FLOW_INBOUND, Reason.FLOW_OUTBOUND, Reason.ICMP_RELAYED]
)
def test_what_is_forwarded_has_a_row_for_both_protocols(family: int, reason: Reason) -> None:
    protocols = {
        parse(step.packet).protocol
        for case in all_cases()
        for step in case.steps
        if step.reason is reason and case.given.net.family == family
    }
    assert protocols >= ({TCP, UDP} if reason is not Reason.ICMP_RELAYED else {1 if family == 4 else 58})
