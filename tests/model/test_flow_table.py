# SPDX-License-Identifier: Apache-2.0
"""The flow table against a list of flows that is searched from end to end."""

from __future__ import annotations

from ipaddress import ip_address

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fullnat.core.addr import TCP, UDP, Endpoint
from fullnat.core.flow import Flow, FlowTable
from fullnat.core.packet import build_key
from fullnat.core.sched.base import Scheduler
from fullnat.core.service import RealServer, VirtualService
from fullnat.core.timeouts import PROFILES, SECOND

VIPS = {4: "203.0.113.10", 6: "2001:db8:1::10"}
REALS = {4: "198.19.0.11", 6: "2001:db8:2::11"}
LIPS = {4: "198.19.0.1", 6: "2001:db8:2::1"}
CLIENTS = {4: "203.0.113.100", 6: "2001:db8:1::100"}
LIMIT = 12

# Whole seconds and a little, so that slots of the calendar are crossed and met exactly.
STEPS = st.builds(lambda seconds, extra: seconds * SECOND + extra, st.integers(0, 15), st.integers(0, 3))
TIMEOUTS = st.builds(lambda seconds, extra: seconds * SECOND + extra, st.integers(1, 40), st.integers(0, 3))

SERVICES = {
    (protocol, family): VirtualService(
        "s",
        protocol,
        Endpoint(ip_address(VIPS[family]), 80),
        Scheduler(),
        PROFILES["lvs"],
        [RealServer(Endpoint(ip_address(REALS[family]), 80))],
    )
    for protocol in (TCP, UDP)
    for family in (4, 6)
}


def make_flow(protocol: int, family: int, number: int, now: int) -> Flow:
    service = SERVICES[protocol, family]
    server = service.servers[0]
    local = Endpoint(ip_address(LIPS[family]), 2000 + number)
    client = Endpoint(ip_address(CLIENTS[family]), 1000 + number)
    return Flow(
        service, server, local, build_key(client, service.listen), build_key(server.endpoint, local), now
    )


class FlowTableMachine(RuleBasedStateMachine):
    """Flows are added, touched, retimed, removed and expire, at the second they should."""

    @initialize(now=st.integers(0, 10**12))
    def start(self, now: int) -> None:
        self.now = now
        self.table = FlowTable(LIMIT, now)
        self.alive: list[Flow] = []
        self.number = 0

    @precondition(lambda self: not self.table.is_full)
    @rule(
        protocol=st.sampled_from([TCP, UDP]),
        family=st.sampled_from([4, 6]),
        timeout=TIMEOUTS,
    )
    def add(self, protocol: int, family: int, timeout: int) -> None:
        flow = make_flow(protocol, family, self.number, self.now)
        flow.timeout = timeout
        self.number += 1
        self.table.add(flow)
        self.alive.append(flow)

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def touch(self, data: st.DataObject) -> None:
        flow = data.draw(st.sampled_from(self.alive))
        flow.last_seen = self.now

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), timeout=TIMEOUTS)
    def set_timeout(self, data: st.DataObject, timeout: int) -> None:
        flow = data.draw(st.sampled_from(self.alive))
        flow.last_seen = self.now
        self.table.set_timeout(flow, timeout)

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        flow = data.draw(st.sampled_from(self.alive))
        self.table.remove(flow)
        self.alive.remove(flow)

    @rule(elapsed=STEPS)
    def expire(self, elapsed: int) -> None:
        self.now += elapsed
        ended = self.table.expire(self.now)
        assert len(ended) == len(set(ended))
        for flow in ended:
            assert flow in self.alive
            assert flow.last_seen + flow.timeout <= self.now, "ended before its time"
            self.alive.remove(flow)
        for flow in self.alive:
            assert flow.last_seen + flow.timeout > self.now - SECOND, "still there a second too late"

    @invariant()
    def finds_exactly_what_is_there(self) -> None:
        if not hasattr(self, "table"):
            return
        assert len(self.table) == len(self.alive)
        assert set(self.table) == set(self.alive)
        assert self.table.is_full == (len(self.alive) >= LIMIT)
        for flow in self.alive:
            assert self.table.find(flow.protocol, flow.inbound.key) is flow.inbound
            assert self.table.find(flow.protocol, flow.outbound.key) is flow.outbound
            assert self.table.find(TCP + UDP - flow.protocol, flow.inbound.key) is not flow.inbound


TestFlowTable = FlowTableMachine.TestCase
TestFlowTable.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


def test_expiry_stops_at_its_budget_and_goes_on_later() -> None:
    table = FlowTable(1000)
    for number in range(100):
        flow = make_flow(UDP, 4, number, 0)
        flow.timeout = SECOND
        table.add(flow)
    assert len(table.expire(5 * SECOND, budget=30)) == 30
    assert len(table.expire(5 * SECOND, budget=30)) == 30
    assert len(table.expire(5 * SECOND)) == 40
    assert len(table) == 0


def test_a_busy_flow_is_moved_once_a_timeout_and_not_once_a_packet() -> None:
    table = FlowTable(10)
    flow = make_flow(UDP, 4, 1, 0)
    flow.timeout = 100 * SECOND
    table.add(flow)
    entries = 0
    for second in range(1000):
        flow.last_seen = second * SECOND
        assert table.expire(second * SECOND) == []
        entries = max(entries, sum(len(due) for due in table._calendar.values()))
    assert entries == 1


def test_a_shorter_timeout_counts_at_once() -> None:
    table = FlowTable(10)
    flow = make_flow(TCP, 4, 1, 0)
    flow.timeout = 900 * SECOND
    table.add(flow)
    table.set_timeout(flow, 10 * SECOND)
    assert table.expire(9 * SECOND) == []
    assert table.expire(10 * SECOND) == [flow]
    assert table.expire(1000 * SECOND) == []
