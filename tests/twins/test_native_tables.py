# SPDX-License-Identifier: Apache-2.0
"""The native tables against their Python twins: the same decisions in the same order, from the same seed.

Each test ends with nothing held and nothing allocated; the last one runs all others under sanitizers.
"""

from __future__ import annotations

import ctypes
import os
import random
import struct
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from ctypes import byref
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from itertools import count
from pathlib import Path

import pytest

from fullnat.core.addr import TCP, UDP, Endpoint, IPAddress, PortRange
from fullnat.core.ended import EndedFlows
from fullnat.core.flow import Flow, FlowTable
from fullnat.core.lport import LocalPortPool
from fullnat.core.mtu import DEFAULT_MTU, PathMtu
from fullnat.core.packet import build_key, reverse_key
from fullnat.core.persist import PersistenceTable
from fullnat.core.rewrite import Rewrite
from fullnat.core.sched.base import Scheduler
from fullnat.core.service import Admin, Health, Persistence, RealServer, VirtualService
from fullnat.core.tcp import REOPENABLE, TcpState, UdpState, is_opening_syn, next_state
from fullnat.core.timeouts import PROFILES, SECOND
from tests import features
from tests.twins.native_tables import (
    INBOUND,
    OUTBOUND,
    SANITIZERS,
    WHICH_FLOW,
    CEnded,
    CFlow,
    CFlowTable,
    CPathMtu,
    CPersistence,
    CPool,
    Pointer,
    SharedMemory,
    Snapshot,
    Tables,
    build,
    hash_key,
    load,
    reference_of,
)

LIBRARY = "FULLNAT_TABLES"  # names a library to test in the place of one built now
CALENDAR_SLOTS = 1 << 20  # of flow.c
CHUNK_FLOWS = 4096
NETS = {4: "198.18.%d.0", 6: "2001:db8:%x::"}


def address(family: int, net: int, number: int) -> IPAddress:
    """Return an address of a net of its own for clients, virtual, real and local ones."""
    return ip_address(NETS[family] % net) + number


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    if path := os.environ.get(LIBRARY):
        return load(Path(path))
    features.demand("gcc")
    built = tmp_path_factory.mktemp("tables") / "tables.so"
    build(built)
    return load(built)


@pytest.fixture
def tables(library: ctypes.CDLL) -> Iterator[Tables]:
    tables = Tables(library)
    yield tables
    tables.free()


def make_service(
    protocol: int,
    family: int,
    *,
    one_packet: bool = False,
    persistence: Persistence | None = None,
    number: int = 0,
    servers: int = 2,
) -> VirtualService:
    return VirtualService(
        "s",
        protocol,
        Endpoint(address(family, 2, number), 80),
        Scheduler(),
        PROFILES["lvs"],
        [RealServer(Endpoint(address(family, 3, 10 * number + at), 80)) for at in range(servers)],
        persistence,
        one_packet,
    )


class Flows:
    """A flow table and its twin; every step is taken in both."""

    def __init__(
        self, tables: Tables, seed: int, limit: int, now: int = 0, shared: SharedMemory | None = None
    ) -> None:
        self.tables = tables
        self.random = random.Random(seed)
        self.now = now
        self.twin = FlowTable(limit, now)
        self.key = hash_key(seed, ~seed & (1 << 64) - 1)
        self.table = CFlowTable(tables, limit, self.key, now, shared)
        self.servers: list[tuple[VirtualService, RealServer, Pointer]] = []
        for number, (family, protocol, one_packet) in enumerate(
            (family, protocol, one_packet)
            for family in (4, 6)
            for protocol, one_packet in ((TCP, False), (UDP, False), (UDP, True))
        ):
            service = make_service(protocol, family, one_packet=one_packet, number=number)
            there = tables.service(service)
            self.servers += [(service, server, tables.server(there)) for server in service.servers]
        self.of: dict[Flow, Pointer] = {}
        self.removed: list[Pointer] = []
        self.opened = 0

    def any_key(self) -> tuple[tuple[VirtualService, RealServer, Pointer], bytes]:
        """Return one of few inbound keys, so that many are met again, and a server for it."""
        chosen = self.random.choice(self.servers)
        service = chosen[0]
        client = Endpoint(
            address(service.listen.family, 1, self.random.randrange(40)), self.random.randrange(1000, 1020)
        )
        return chosen, build_key(client, service.listen)

    def add(self, timeout: int | None = None) -> None:
        (service, server, there), key = self.any_key()
        assert self.table.is_full == self.twin.is_full
        is_taken = (
            self.twin.find_one_packet(key, server)
            if service.one_packet
            else self.twin.find(service.protocol, key)
        )
        if is_taken or self.twin.is_full:
            return
        lip = self.random.randrange(3)
        port = 1024 + self.opened % 60000
        self.opened += 1
        local = Endpoint(address(service.listen.family, 4, self.opened // 60000 * 3 + lip), port)
        outbound = build_key(server.endpoint, local)
        flow = Flow(service, server, local, key, outbound, self.now)
        flow.timeout = self.any_timeout() if timeout is None else timeout
        self.twin.add(flow)
        added = self.table.add(there, key, outbound, lip, flow.timeout, self.now, mss=port)
        assert added
        assert CFlow.from_address(added).mss == port
        self.of[flow] = added
        self.compare(flow, lip)

    def add_many(self) -> None:
        for _ in range(self.twin.limit // 2):
            self.add()

    def compare(self, flow: Flow, lip: int | None = None) -> None:
        """Fail unless the flow has the same contents on both sides."""
        there = self.of[flow]
        seen = CFlow.from_address(there)
        assert there % 64 == 0
        assert lip is None or seen.lip == lip
        assert (seen.created, seen.last_seen, seen.timeout) == (flow.created, flow.last_seen, flow.timeout)
        assert (seen.protocol, seen.one_packet, seen.state) == (flow.protocol, flow.one_packet, flow.state)
        assert seen.noted == seen.state
        assert seen.counter == self.tables.counters[seen.server]
        for direction, half in ((INBOUND, flow.inbound), (OUTBOUND, flow.outbound)):
            rewrite: Rewrite = half.rewrite
            assert self.table.key(there, direction) == half.key
            assert self.table.rewrite(there, direction) == (
                rewrite.new_key,
                rewrite._ip_delta,
                rewrite._transport_delta,
            )

    def any_timeout(self) -> int:
        return self.random.choice((1, 10, 60, 300, 900, 30000)) * SECOND + self.random.randrange(3)

    def any_flow(self) -> Flow | None:
        return self.random.choice(list(self.of)) if self.of else None

    def touch(self) -> None:
        if flow := self.any_flow():
            flow.last_seen = self.now
            CFlow.from_address(self.of[flow]).last_seen = self.now

    def set_timeout(self) -> None:
        if flow := self.any_flow():
            timeout = self.any_timeout()
            self.twin.set_timeout(flow, timeout)
            self.table.set_timeout(self.of[flow], timeout)

    def remove(self) -> None:
        if flow := self.any_flow():
            self.twin.remove(flow)
            there = self.of.pop(flow)
            self.table.remove(there)
            assert self.table.key(there, INBOUND) == flow.inbound.key
            self.removed.append(there)

    def free(self) -> None:
        """Free what was removed; places are used again, the one freed last first."""
        for there in self.removed:
            self.table.free(there)
        self.removed.clear()

    def find(self) -> None:
        (service, server, there), key = self.any_key()
        self.same_half(service.protocol, key)
        flow = self.twin.find_one_packet(key, server)
        assert self.table.find_one_packet(key, there) == (self.of[flow] if flow else None)
        if known := self.any_flow():
            for half in (known.inbound, known.outbound):
                self.same_half(known.protocol, half.key)
                self.same_half(TCP + UDP - known.protocol, half.key)

    def same_half(self, protocol: int, key: bytes) -> None:
        half = self.twin.find(protocol, key)
        assert self.table.find(protocol, key) == ((self.of[half.flow], half.inbound) if half else None)

    def expire(self, budget: int = 1 << 62) -> None:
        ended = [self.of.pop(flow) for flow in self.twin.expire(self.now, budget)]
        assert self.table.expire(self.now, budget) == ended

    def wait(self) -> None:
        self.now += self.random.choice((0, 1, SECOND // 3, SECOND, 3 * SECOND, 40 * SECOND))
        if self.random.random() < 0.005:
            self.now += 20000 * SECOND

    def walk(self) -> None:
        walked = list(self.table.walk())
        assert len(walked) == len(self.table) == len(self.twin)
        assert set(walked) == set(self.of.values())

    def close(self) -> None:
        self.free()
        self.table.destroy()


class TestFlow:
    """What engine and kernel do to a flow, outside of a table."""

    @pytest.mark.parametrize("state", TcpState)
    def test_a_segment_takes_the_state_on(self, tables: Tables, state: TcpState) -> None:
        for direction, inbound in ((INBOUND, True), (OUTBOUND, False)):
            for flags in range(256):
                flow = CFlow(state=state, protocol=TCP, noted=state)
                has_changed = tables.library.tables_flow_follow_tcp(byref(flow), direction, flags)
                assert flow.state == next_state(state, flags, inbound)
                assert has_changed == (flow.state != state)
                assert flow.noted == state

    @pytest.mark.parametrize("state", UdpState)
    @pytest.mark.parametrize("direction", [INBOUND, OUTBOUND])
    def test_the_first_answer_to_a_datagram_is_noted(
        self, tables: Tables, state: UdpState, direction: int
    ) -> None:
        flow = CFlow(state=state, protocol=UDP, noted=state)
        is_first = state is UdpState.UNREPLIED and direction == OUTBOUND
        assert tables.library.tables_flow_follow_udp(byref(flow), direction) == is_first
        assert flow.state == (UdpState.REPLIED if is_first else state)

    @pytest.mark.parametrize("state", TcpState)
    def test_a_syn_of_the_client_reopens_what_is_as_good_as_gone(
        self, tables: Tables, state: TcpState
    ) -> None:
        flow = CFlow(state=state, protocol=TCP)
        for flags in range(256):
            reopens = is_opening_syn(flags) and state in REOPENABLE
            assert tables.library.tables_flow_is_reopened(byref(flow), INBOUND, flags) == reopens
            assert not tables.library.tables_flow_is_reopened(byref(flow), OUTBOUND, flags)

    def test_packets_are_counted_by_direction(self, tables: Tables) -> None:
        flow = CFlow()
        for direction, packets, size in ((INBOUND, 1, 60), (OUTBOUND, 3, 4500), (OUTBOUND, 1, 1 << 40)):
            tables.library.tables_flow_count(byref(flow), direction, packets, size)
        assert (list(flow.packets), list(flow.bytes)) == ([1, 4], [60, (1 << 40) + 4500])


class TestFlowTable:
    @pytest.mark.parametrize(
        ("seed", "limit"), [(1, 1), (2, 12), (3, 12), (4, 60), (5, 60), (6, 200), (7, 500), (8, 1000)]
    )
    def test_twins_agree(self, tables: Tables, seed: int, limit: int) -> None:
        flows = Flows(tables, seed, limit, now=random.Random(seed).randrange(10**12))
        steps: list[tuple[Callable[[], None], int]] = [
            (flows.add, 40),
            (flows.add_many, 1),
            (flows.find, 30),
            (flows.touch, 15),
            (flows.set_timeout, 8),
            (flows.remove, 4),
            (flows.free, 3),
            (flows.wait, 6),
            (flows.expire, 4),
            (flows.walk, 1),
        ]
        weights = [weight for _, weight in steps]
        full = 0
        for step, _ in flows.random.choices(steps, weights, k=15000):
            step()
            full += flows.twin.is_full
        for flow in flows.of:
            flows.compare(flow)
        assert full > 100
        assert tables.holders() == len(flows.of) + len(flows.removed)
        flows.close()

    @pytest.mark.parametrize("seed", [1, 2, 3])
    def test_expiry_stops_at_its_budget(self, tables: Tables, seed: int) -> None:
        # Nothing is removed or given a shorter timeout: of that the twin's calendar keeps stale
        # entries, and they count.
        flows = Flows(tables, seed, 300)
        for _ in range(4000):
            flows.add(flows.random.choice((1, 5, 20)) * SECOND)
            flows.touch()
            if flows.random.random() < 0.1:
                flows.now += flows.random.randrange(4 * SECOND)
                flows.expire(flows.random.randrange(40))
        assert flows.opened > 1000
        flows.close()

    def test_a_second_is_done_with_when_its_last_flow_ends(self, tables: Tables) -> None:
        flows = Flows(tables, 1, 10)
        while len(flows.of) < 4:
            flows.add(100 * SECOND)
        first, second, third, fourth = flows.of

        def set_timeout(flow: Flow, timeout: int) -> None:
            flows.twin.set_timeout(flow, timeout)
            flows.table.set_timeout(flows.of[flow], timeout)

        set_timeout(first, 5 * SECOND)
        flows.now = 7 * SECOND
        flows.expire(budget=1)
        assert len(flows.of) == 3
        # Due long ago, so they go where the calendar stands, and the last of them is met first.
        for flow, timeout in ((second, 4), (third, 6), (fourth, 2)):
            set_timeout(flow, timeout * SECOND)
        flows.expire()
        assert not flows.of
        flows.close()

    def test_a_timeout_behind_the_calendar_is_kept_all_the_same(self, tables: Tables) -> None:
        flows = Flows(tables, 1, 100)
        for number in range(60):
            flows.add((number * CALENDAR_SLOTS // 20 + 1) * SECOND)
        flows.set_timeout()
        while flows.of:
            flows.now += CALENDAR_SLOTS // 3 * SECOND + 1
            ended = {flows.of.pop(flow) for flow in flows.twin.expire(flows.now)}
            assert set(flows.table.expire(flows.now)) == ended
        flows.close()

    def test_keys_of_one_tag_are_told_apart(self, tables: Tables) -> None:
        flows = Flows(tables, 1, 100)
        _, _, server = flows.servers[0]
        seen: dict[int, bytes] = {}
        pairs = []
        for number in range(250_000):
            key = bytes((198, 18, 1, 1, 198, 18, 2, 0)) + number.to_bytes(4, "big")
            tag = flows.table.hash(TCP, key) & 0xFFFF_FFFF
            if other := seen.get(tag):
                pairs.append((other, key))
            seen[tag] = key
        assert pairs
        for number, (one, other) in enumerate(pairs):
            outbound = bytes((198, 18, 3, 1, 198, 18, 4, 1)) + number.to_bytes(4, "big")
            flow = flows.table.add(server, one, outbound, 0, SECOND, 0)
            assert flows.table.find(TCP, other) is None
            assert flows.table.find(TCP, one) == (flow, True)
        flows.close()

    def test_a_walk_meets_each_flow_that_lives_throughout_it_once(self, tables: Tables) -> None:
        flows = Flows(tables, 1, 3000)
        while len(flows.of) < 800:
            flows.add(900 * SECOND)
        alive = set(flows.of.values())
        met = []
        for flow in flows.table.walk():
            met.append(flow)
            flows.remove()
            flows.free()
            flows.add(900 * SECOND)
            alive &= set(flows.of.values())
        assert len(alive) > 100
        assert [met.count(flow) for flow in alive] == [1] * len(alive)
        flows.close()

    def test_chunks(self, tables: Tables) -> None:
        limit = 2 * CHUNK_FLOWS
        flows = Flows(tables, 1, limit)
        added: list[Pointer] = []
        for _, _, server in (flows.servers[0], flows.servers[-1]):
            half = 4 if server is flows.servers[0][2] else 16
            for number in range(limit // 2 + 10):
                key = bytes((9,) * half + (1,) * half) + number.to_bytes(4, "big")
                outbound = bytes((9,) * half + (2,) * half) + number.to_bytes(4, "big")
                flow = flows.table.add(server, key, outbound, 0, SECOND, 0)
                assert flow
                added.append(flow)
        assert len(set(added)) == len(added)
        assert list(flows.table.walk()) == added
        for flow in added:
            flows.table.remove(flow)
            flows.table.free(flow)
        assert list(flows.table.walk()) == []
        flows.close()

    def test_the_place_freed_last_is_used_first(self, tables: Tables) -> None:
        flows = Flows(tables, 1, 10)
        _, _, server = flows.servers[0]
        keys = [bytes((1,) * 11 + (number,)) for number in range(8)]
        one = flows.table.add(server, keys[0], keys[1], 0, SECOND, 0)
        other = flows.table.add(server, keys[2], keys[3], 0, SECOND, 0)
        assert one
        assert other
        for flow in (one, other):
            flows.table.remove(flow)
            flows.table.free(flow)
        assert flows.table.add(server, keys[4], keys[5], 0, SECOND, 0) == other
        assert flows.table.add(server, keys[6], keys[7], 0, SECOND, 0) == one
        flows.close()

    def test_memory_that_cannot_be_had(self, tables: Tables) -> None:
        key, live = hash_key(1, 2), tables.live
        assert not tables.library.fn_flow_memory_create((1 << 28) + 1)
        for allocations in range(4):
            with tables.memory_out_after(allocations):
                assert not tables.library.fn_flow_memory_create(100)
            assert tables.live == live
            memory = tables.library.fn_flow_memory_create(100)
            with tables.memory_out_after(allocations):
                assert not tables.library.fn_flow_table_create(100, key.words, 0, memory)
            tables.library.tables_memory_give_back(memory)
            assert tables.live == live
        flows = Flows(tables, 1, 100)
        _, _, server = flows.servers[0]
        with tables.memory_out_after(0):
            assert flows.table.add(server, bytes(12), bytes((1,) * 12), 0, SECOND, 0) is None
        assert len(flows.table) == 0
        assert flows.table.add(server, bytes(12), bytes((1,) * 12), 0, SECOND, 0)
        flows.close()


Keys = set[tuple[bytes, bytes]]


def keys_of(flows: Iterable[Flow]) -> Keys:
    return {(flow.inbound.key, flow.outbound.key) for flow in flows}


class Heirs:
    """What a second process makes of the flows of a first: servers of its own, by the address of each."""

    def __init__(self, flows: Flows) -> None:
        self.servers: dict[bytes, Pointer] = {}
        for service, server, _ in flows.servers:
            there = flows.tables.service(service)
            self.servers[server.endpoint.address.packed] = flows.tables.server(there)
        self.refused: set[bytes] = set()  # outbound keys
        self._key = flows.table.key
        self._counters = flows.tables.counters

    def of(self, flows: Flows) -> list[tuple[VirtualService, RealServer, Pointer]]:
        """Return what *flows* is to go on with."""
        return [
            (service, server, self.servers[server.endpoint.address.packed])
            for service, server, _ in flows.servers
        ]

    def server_of(self, flow: Pointer) -> Pointer:
        key = self._key(flow, OUTBOUND)
        return self.servers[key[: len(key) // 2 - 2]]

    def adopt(self, flow: Pointer) -> Pointer | None:
        """Return the server of a flow, unless it is refused."""
        return None if self._key(flow, OUTBOUND) in self.refused else self.server_of(flow)

    def check(self, table: CFlowTable, shared: SharedMemory) -> Keys:
        """Fail unless every flow of *table* is found by both keys and nothing else is; return the keys."""
        flows = list(table.walk())
        assert len(flows) == len(table)
        for flow in flows:
            self._check_found(table, flow)
        references = shared.references()
        assert len(references) == len(set(references)) == 2 * len(flows)
        assert {at & WHICH_FLOW for at in references} == {reference_of(flow) for flow in flows}
        return {(table.key(flow, INBOUND), table.key(flow, OUTBOUND)) for flow in flows}

    def _check_found(self, table: CFlowTable, flow: Pointer) -> None:
        seen = CFlow.from_address(flow)
        assert seen.server == self.server_of(flow)
        assert seen.counter == self._counters[seen.server]
        inbound, outbound = (table.key(flow, direction) for direction in (INBOUND, OUTBOUND))
        for direction, key in ((INBOUND, inbound), (OUTBOUND, outbound)):
            new_key, *deltas = table.rewrite(flow, direction)
            rewrite = Rewrite(key, new_key)
            assert deltas == [rewrite._ip_delta, rewrite._transport_delta]
        assert table.find(seen.protocol, outbound) == (flow, False)
        if seen.one_packet:
            assert table.find_one_packet(inbound, seen.server) == flow
        else:
            assert table.find(seen.protocol, inbound) == (flow, True)


def add_plain(flows: Flows, family: int, number: int) -> Pointer:
    """Add a flow of TCP that the twin does not have, and return it."""
    server, there = next(
        (server, there) for service, server, there in flows.servers if service.listen.family == family
    )
    rip = server.endpoint.address.packed
    inbound, outbound = (
        address + bytes((9,) * len(rip)) + number.to_bytes(4, "big") for address in (bytes(len(rip)), rip)
    )
    flow = flows.table.add(there, inbound, outbound, 0, 60 * SECOND, flows.now)
    assert flow
    return flow


def fill(flows: Flows, count: int) -> None:
    """Add flows until there are *count*, and let the places of some be old ones."""
    for _ in range(2):
        while len(flows.of) < count:
            flows.add()
        for _ in range(count // 3):
            flows.remove()
        flows.free()
        assert flows.table.begin_reclaim()
        flows.table.end_reclaim()
    while len(flows.of) < count:
        flows.add()


def leave(flows: Flows, shared: SharedMemory) -> None:
    """End the table as a process that is killed does: what lies in memory stays as it is."""
    before = shared.snapshot()
    flows.table.destroy()
    assert shared.snapshot() == before
    shared.restore(before)


class TestSharedMemory:
    """Flows in memory that another process reads, and that outlives this one."""

    @pytest.mark.parametrize("seed", [1, 2, 3, 4])
    def test_a_new_table_adopts_the_flows_of_an_old_one(self, tables: Tables, seed: int) -> None:
        shared = SharedMemory(tables, 50)
        flows = Flows(tables, seed, 50, now=7 * SECOND, shared=shared)
        fill(flows, 50)
        for at, (flow, there) in enumerate(flows.of.items()):
            flow.last_seen += at // 3 * SECOND
            CFlow.from_address(there).last_seen = flow.last_seen
            tables.library.tables_flow_count(there, at % 2, at, 100 * at)
        leave(flows, shared)
        flows.now += 10 * SECOND
        heirs = Heirs(flows)
        flows.table = CFlowTable(tables, 50, flows.key, flows.now, shared)
        assert flows.table.adopt(heirs.adopt) == 50
        assert heirs.check(flows.table, shared) == keys_of(flows.of)
        assert tables.holders() == 50
        for at, (flow, there) in enumerate(flows.of.items()):
            flows.compare(flow)
            seen = CFlow.from_address(there)
            assert (seen.packets[at % 2], seen.bytes[at % 2]) == (at, 100 * at)
            assert (seen.packets[1 - at % 2], seen.bytes[1 - at % 2]) == (0, 0)
        while flows.of:
            self.expire(flows)
        flows.close()
        shared.destroy()

    @staticmethod
    def expire(flows: Flows) -> None:
        """Let time pass; flows end when their twins do, though not in the same order.

        At whole seconds: between them it depends on when a calendar last looked at a flow.
        """
        flows.now += flows.random.choice((1, 3, 40, 2000)) * SECOND
        ended = {flows.of.pop(flow) for flow in flows.twin.expire(flows.now)}
        assert set(flows.table.expire(flows.now)) == ended
        assert len(flows.table) == len(flows.of)

    def test_adopted_flows_go_on(self, tables: Tables) -> None:
        shared = SharedMemory(tables, 60)
        flows = Flows(tables, 5, 60, shared=shared)
        fill(flows, 40)
        leave(flows, shared)
        heirs = Heirs(flows)
        flows.table = CFlowTable(tables, 60, flows.key, flows.now, shared)
        flows.table.adopt(heirs.adopt)
        flows.servers = heirs.of(flows)
        steps = (flows.find, flows.touch, flows.set_timeout, flows.remove, flows.free)
        for step in flows.random.choices(steps, k=1000):
            flows.add()
            flows.add()
            step()
            if flows.random.random() < 0.2:
                self.expire(flows)
            if flows.table.begin_reclaim():
                flows.table.end_reclaim()
        assert heirs.check(flows.table, shared)
        flows.close()
        shared.destroy()

    @pytest.mark.parametrize("refused", [1, 20, 50])
    def test_a_flow_without_a_server_is_gone_and_its_place_rests(self, tables: Tables, refused: int) -> None:
        shared = SharedMemory(tables, 200)
        flows = Flows(tables, refused, 200, shared=shared)
        while len(flows.of) < 50:
            flows.add()
        leave(flows, shared)
        heirs = Heirs(flows)
        gone = flows.random.sample(list(flows.of), refused)
        heirs.refused = {flow.outbound.key for flow in gone}
        places = {flows.of.pop(flow) for flow in gone}
        flows.table = CFlowTable(tables, 200, flows.key, flows.now, shared)
        assert flows.table.adopt(heirs.adopt) == 50 - refused
        assert heirs.check(flows.table, shared) == keys_of(flows.of)
        assert tables.holders() == 50 - refused
        for flow in gone:
            assert flows.table.find(flow.protocol, flow.inbound.key) is None
            assert flows.table.find(flow.protocol, flow.outbound.key) is None

        flows.servers = heirs.of(flows)
        numbers = count()

        def open_as_many() -> set[Pointer]:
            return {add_plain(flows, flow.service.listen.family, next(numbers)) for flow in gone}

        assert not open_as_many() & places
        assert flows.table.begin_reclaim()
        flows.table.wait_for_readers()
        flows.table.end_reclaim()
        assert open_as_many() == places
        assert tables.holders() == 50 + refused
        flows.close()
        shared.destroy()

    def test_flows_of_several_chunks_are_adopted(self, tables: Tables) -> None:
        limit = 4 * CHUNK_FLOWS
        shared = SharedMemory(tables, limit)
        flows = Flows(tables, 1, limit, shared=shared)
        added = {
            add_plain(flows, family, number)
            for family, several in ((4, 2 * CHUNK_FLOWS), (6, CHUNK_FLOWS + 1))
            for number in range(several)
        }
        leave(flows, shared)
        heirs = Heirs(flows)
        flows.table = CFlowTable(tables, limit, flows.key, 0, shared)
        assert flows.table.adopt(heirs.server_of) == len(added) == 3 * CHUNK_FLOWS + 1
        assert len(heirs.check(flows.table, shared)) == len(added)
        assert set(flows.table.walk()) == added
        flows.servers = heirs.of(flows)
        for family in (4, 6):  # behind the last place of each
            added.add(add_plain(flows, family, 3 * CHUNK_FLOWS))
        assert len(added) == len(flows.table) == 3 * CHUNK_FLOWS + 3
        flows.close()
        shared.destroy()

    @pytest.mark.parametrize("seed", range(10))
    def test_entries_that_lead_astray_are_taken_out(self, tables: Tables, seed: int) -> None:
        shared = SharedMemory(tables, 16)
        flows = Flows(tables, seed, 16, shared=shared)
        fill(flows, 12)
        flows.table.destroy()
        dice = flows.random
        left = shared.snapshot()
        entries = list(struct.iter_unpack("=II", left.entries))
        known = [entry for entry in entries if entry[1]]
        for _ in range(20):
            tag, reference = dice.choice(known)
            at = dice.choice((tag, dice.getrandbits(32)))  # where it is found, or not
            while entries[at % 64][1]:
                at += 1
            which = dice.choice((reference & WHICH_FLOW, dice.getrandbits(30)))
            entries[at % 64] = dice.choice((tag, dice.getrandbits(32))), dice.randrange(4) << 30 | which
        for at in dice.sample([at for at, entry in enumerate(entries) if entry in known], 4):
            entries[at] = 0, 0
        shared.restore(Snapshot(b"".join(struct.pack("=II", *entry) for entry in entries), left.places))
        heirs = Heirs(flows)
        flows.table = CFlowTable(tables, 16, flows.key, flows.now, shared)
        assert flows.table.adopt(heirs.adopt) == 12
        assert heirs.check(flows.table, shared) == keys_of(flows.of)
        flows.close()
        shared.destroy()

    def test_memory_that_nothing_was_left_in(self, tables: Tables) -> None:
        shared = SharedMemory(tables, 8)
        flows = Flows(tables, 1, 8, shared=shared)
        heirs = Heirs(flows)
        assert flows.table.adopt(heirs.adopt) == 0
        flows.servers = heirs.of(flows)
        flows.add()
        assert heirs.check(flows.table, shared) == keys_of(flows.of)
        flows.close()
        shared.destroy()

    def test_a_place_is_used_again_when_nobody_can_be_reading_it(self, tables: Tables) -> None:
        shared = SharedMemory(tables, 100)
        flows = Flows(tables, 1, 100, shared=shared)
        numbers = count()

        def open_flow() -> Pointer:
            return add_plain(flows, 4, next(numbers))

        def end(flow: Pointer) -> None:
            flows.table.remove(flow)
            flows.table.free(flow)

        one, other, late = (open_flow() for _ in range(3))
        end(one)
        end(other)
        used = {one, other, late}
        used.add(open_flow())
        assert len(used) == 4
        assert flows.table.begin_reclaim()
        assert not flows.table.begin_reclaim()  # somebody is waiting for those
        end(late)  # too late for that
        assert not flows.table.begin_reclaim()
        used.add(open_flow())
        assert len(used) == 5
        assert shared.waits == 0
        flows.table.wait_for_readers()
        assert shared.waits == 1
        flows.table.end_reclaim()
        assert {open_flow(), open_flow()} == {one, other}
        used.add(open_flow())
        assert len(used) == 6
        assert flows.table.begin_reclaim()
        flows.table.end_reclaim()
        assert open_flow() == late
        assert not flows.table.begin_reclaim()
        flows.close()
        shared.destroy()

    def test_private_memory_has_no_readers_to_wait_for(self, tables: Tables) -> None:
        flows = Flows(tables, 1, 10)
        flow = add_plain(flows, 4, 1)
        flows.table.remove(flow)
        flows.table.free(flow)
        assert not flows.table.begin_reclaim()
        flows.table.prepare()
        assert list(flows.table.changed()) == []
        assert add_plain(flows, 4, 2) == flow
        flows.close()

    def test_chunks_are_made_ahead_of_need(self, tables: Tables) -> None:
        shared = SharedMemory(tables, 20 * CHUNK_FLOWS)
        flows = Flows(tables, 1, 20 * CHUNK_FLOWS, shared=shared)
        assert [shared.chunks(is_v6) for is_v6 in (False, True)] == [0, 0]
        flows.table.prepare()
        assert [shared.chunks(is_v6) for is_v6 in (False, True)] == [4, 4]
        added = [add_plain(flows, 4, number) for number in range(2 * CHUNK_FLOWS)]
        flows.table.prepare()
        assert [shared.chunks(is_v6) for is_v6 in (False, True)] == [8, 4]
        assert list(flows.table.walk()) == added
        flows.close()
        shared.destroy()

    @pytest.mark.parametrize("family", [4, 6])
    def test_what_others_changed_is_told_once(self, tables: Tables, family: int) -> None:
        shared = SharedMemory(tables, 400)
        flows = Flows(tables, 1, 400, shared=shared)
        dice, is_v6 = flows.random, family == 6
        added = [add_plain(flows, family, number) for number in range(200)]
        for flow in (dead := set(dice.sample(added, 40))):
            flows.table.remove(flow)
            flows.table.free(flow)
        assert list(flows.table.changed()) == []
        for _ in range(20):
            chosen = dice.sample(range(200), dice.randrange(100))
            for index in (*chosen, 200, 300):  # and where there never was a flow
                shared.set_changed(is_v6, index)
            expected = [added[index] for index in sorted(chosen) if added[index] not in dead]
            assert list(flows.table.changed()) == expected
            assert list(flows.table.changed()) == []
            assert not any(shared.is_changed(is_v6, index) for index in range(200))
        flows.close()
        shared.destroy()

    def test_what_changes_meanwhile_is_told_then_or_the_next_time(self, tables: Tables) -> None:
        shared = SharedMemory(tables, 400)
        flows = Flows(tables, 1, 400, shared=shared)
        added = {
            is_v6: [add_plain(flows, 6 if is_v6 else 4, number) for number in range(150)]
            for is_v6 in (False, True)
        }
        shared.set_changed(False, 100)
        changed = flows.table.changed()
        assert next(changed) == added[False][100]
        for is_v6, index in ((False, 3), (False, 100), (False, 101), (True, 0)):
            shared.set_changed(is_v6, index)
        assert list(changed) == [added[False][100], added[False][101], added[True][0]]
        assert list(flows.table.changed()) == [added[False][3]]
        flows.close()
        shared.destroy()


class Killed:
    """A table whose memory is adopted as it lies at every step of what is done, as if that was the last."""

    def __init__(self, tables: Tables, seed: int, limit: int) -> None:
        self.tables = tables
        self.limit = limit
        self.shared = SharedMemory(tables, limit)
        self.copy = SharedMemory(tables, limit)
        self.flows = Flows(tables, seed, limit, shared=self.shared)
        self.heirs = Heirs(self.flows)
        self.moments = self.again = 0

    def moments_of(self, action: Callable[[], object], shared: SharedMemory) -> list[Snapshot]:
        """Do it, and return all that lay in memory meanwhile."""
        seen: dict[Snapshot, None] = {}
        with self.tables.at_each_step(lambda: seen.setdefault(shared.snapshot())):
            action()
        seen[shared.snapshot()] = None
        return list(seen)

    def do(self, action: Callable[[], object]) -> None:
        """Do it.  What is left at any moment has the flows that are not touched, and maybe the others."""
        before, flows = keys_of(self.flows.of), set(self.flows.of.values())
        moments = [self.shared.snapshot(), *self.moments_of(action, self.shared)]
        after = keys_of(self.flows.of)
        self.check_readers(moments, {reference_of(flow) for flow in flows & set(self.flows.of.values())})
        for moment in moments:
            self.copy.restore(moment)
            self.adopt(before & after, before | after)
        self.moments += len(moments)
        if self.flows.table.begin_reclaim():
            self.flows.table.end_reclaim()

    def check_readers(self, moments: list[Snapshot], untouched: set[int]) -> None:
        """Fail unless others always find the flows that are not touched, and none that is half there."""
        certain = {at for at in moments[0].reachable() if at & WHICH_FLOW in untouched}
        assert len(certain) == 2 * len(untouched)
        for moment in moments:
            reachable = moment.reachable()
            assert certain <= reachable
            for reference in reachable:
                flow, inbound, outbound = moment.flow(reference)
                assert flow.reference & WHICH_FLOW == reference & WHICH_FLOW
                for direction, key, other in ((INBOUND, inbound, outbound), (OUTBOUND, outbound, inbound)):
                    rewrite = Rewrite(key, reverse_key(other))
                    deltas = flow.ip_delta[direction], flow.transport_delta[direction]
                    assert deltas == (rewrite._ip_delta, rewrite._transport_delta)

    def adopt(self, certain: Keys, possible: Keys) -> None:
        """Adopt the copy, and then what is left of it by who is killed while adopting."""
        dice = self.flows.random
        refused = {keys for keys in possible if dice.random() < 0.2} if dice.random() < 0.5 else set()
        self.heirs.refused = {outbound for _, outbound in refused}
        moments = self.moments_of(lambda: self.adopt_copy(certain - refused, possible - refused), self.copy)
        self.heirs.refused = set()
        for moment in dice.sample(moments, min(len(moments), 2)):
            self.copy.restore(moment)
            self.adopt_copy(certain - refused, possible)
            self.again += 1

    def adopt_copy(self, certain: Keys, possible: Keys) -> None:
        table = CFlowTable(self.tables, self.limit, self.flows.key, self.flows.now, self.copy)
        table.adopt(self.heirs.adopt)
        assert certain <= self.heirs.check(table, self.copy) <= possible
        table.destroy()

    def close(self) -> None:
        self.flows.close()
        self.copy.destroy()
        self.shared.destroy()


class TestKilled:
    @pytest.mark.parametrize(("seed", "limit"), [(1, 2), (2, 4), (3, 4), (4, 8), (5, 16)])
    def test_what_is_left_at_any_moment_can_be_mended(self, tables: Tables, seed: int, limit: int) -> None:
        killed = Killed(tables, seed, limit)
        flows = killed.flows
        for _ in range(60):
            action = flows.add if flows.random.random() < 0.6 else flows.remove
            killed.do(action)
            if flows.random.random() < 0.3:
                killed.do(flows.free)
            if flows.random.random() < 0.1:
                flows.now += 100 * SECOND
                killed.do(flows.expire)
        assert killed.moments > 200
        killed.close()


REST = 60 * SECOND
LIPS = [address(4, 4, 1), address(6, 4, 1), address(4, 4, 2), address(4, 4, 3), address(6, 4, 2)]
REALS = [Endpoint(address(family, 3, number), 80) for family in (4, 6) for number in range(3)]


def allocate_all(pool: CPool, real: Endpoint, now: int = 0) -> list[Endpoint]:
    client = address(4, 1, 1)
    return list(iter(lambda: pool.allocate(TCP, client, real, now), None))


class Claims:
    """A pool whose ports were claimed before the first was allocated, and what should be free of it."""

    def __init__(self, tables: Tables, dice: random.Random, ports: PortRange) -> None:
        self.dice = dice
        self.ports = ports
        self.now = self.claimed = self.spent = 0
        self.excluded = self._any_exclusions()
        self.pool = CPool(tables, LIPS, ports, REST, dice.getrandbits(64), self.excluded)
        self.targets = [(protocol, real) for protocol in (TCP, UDP) for real in (REALS[0], REALS[-1])]
        self.taken: dict[tuple[int, Endpoint], set[Endpoint]] = {target: set() for target in self.targets}
        self.resting: dict[tuple[int, Endpoint], dict[Endpoint, int]] = {
            target: {} for target in self.targets
        }

    def _any_exclusions(self) -> set[Endpoint]:
        return {Endpoint(self.dice.choice(LIPS), 1024 + self.dice.randrange(30)) for _ in range(8)}

    def claim(self) -> None:
        """Claim any port of any address of the family, mostly of the pool."""
        target = self.dice.choice(self.targets)
        family = target[1].family
        lips = [*(lip for lip in LIPS if lip.version == family), address(family, 9, 9)]
        local = Endpoint(self.dice.choice(lips), self.dice.randrange(self.ports.low - 2, self.ports.high + 3))
        is_ours = local.address in LIPS and self.ports.low <= local.port <= self.ports.high
        is_free = is_ours and local not in self.excluded and local not in self.taken[target]
        assert self.pool.claim(target[0], local, target[1]) == is_free
        if is_free:
            self.taken[target].add(local)
            self.claimed += 1

    def free(self, target: tuple[int, Endpoint]) -> set[Endpoint]:
        """Return what can be allocated now."""
        every = {
            Endpoint(lip, port)
            for lip in LIPS
            if lip.version == target[1].family
            for port in range(self.ports.low, self.ports.high + 1)
        }
        rested = {local for local, ready in self.resting[target].items() if ready > self.now}
        return every - self.excluded - self.taken[target] - rested

    def allocate(self) -> None:
        target = self.dice.choice(self.targets)
        client = address(target[1].family, 1, self.dice.randrange(9))
        local = self.pool.allocate(target[0], client, target[1], self.now)
        free = self.free(target)
        if local is None:
            assert not free
            self.spent += 1
            return
        assert local in free
        self.taken[target].add(local)
        self.resting[target].pop(local, None)

    def release(self) -> None:
        target = self.dice.choice(self.targets)
        if not self.taken[target]:
            return
        local = self.dice.choice(sorted(self.taken[target]))
        idle = self.dice.choice((0, REST - 1, REST))
        self.pool.release(target[0], local, target[1], self.now, self.now - idle)
        self.taken[target].remove(local)
        if idle < REST:
            self.resting[target][local] = self.now + REST

    def exclude(self) -> None:
        self.excluded = self._any_exclusions()
        assert self.pool.exclude(self.excluded)

    def wait(self) -> None:
        self.now += self.dice.choice((1, SECOND, REST // 3))

    def check_usage(self) -> None:
        seen = set()
        for use in self.pool.usage(self.now):
            target = use.protocol, use.real
            seen |= {(target, use.lip)}
            resting = [
                local
                for local, ready in self.resting[target].items()
                if local.address == use.lip and ready > self.now
            ]
            assert use.in_use == sum(local.address == use.lip for local in self.taken[target])
            assert use.resting == len(resting)
            left_out = {
                local
                for local in self.excluded
                if local.address == use.lip and self.ports.low <= local.port <= self.ports.high
            }
            assert use.capacity == len(self.ports) - len(left_out)
        assert seen >= {(target, local.address) for target in self.targets for local in self.taken[target]}


class TestLocalPortPool:
    @pytest.mark.parametrize(
        ("seed", "ports"),
        [
            (1, PortRange(1024, 1030)),
            (2, PortRange(1024, 1039)),
            (3, PortRange(5000, 5000)),
            (4, PortRange(1, 60)),
            (1 << 64 | 5, PortRange(65500, 65535)),
            (6, PortRange(1024, 32767)),
        ],
    )
    def test_twins_agree(self, tables: Tables, seed: int, ports: PortRange) -> None:
        dice = random.Random(seed)

        def exclusions() -> set[Endpoint]:
            outside = Endpoint(address(4, 9, 9), ports.low), Endpoint(LIPS[0], max(ports.low - 1, 0))
            inside = (Endpoint(dice.choice(LIPS), ports.low + dice.randrange(60)) for _ in range(12))
            return {*outside, *inside}

        excluded = exclusions()
        twin = LocalPortPool(LIPS, ports, REST, seed, excluded)
        pool = CPool(tables, LIPS, ports, REST, seed & (1 << 64) - 1, excluded)
        now = spent = 0
        taken: list[tuple[int, Endpoint, Endpoint]] = []
        for _ in range(15000):
            dealt = dice.random()
            if dealt < 0.5:
                protocol, real = dice.choice((TCP, UDP)), dice.choice(REALS)
                client = address(dice.choice((4, 6)), 1, dice.randrange(1 << 8))
                if client.version == 6:
                    client += dice.getrandbits(90)
                local = twin.allocate(protocol, client, real, now)
                assert pool.allocate(protocol, client, real, now) == local
                if local:
                    taken.append((protocol, local, real))
                spent += local is None
            elif dealt < 0.9 and taken:
                protocol, local, real = taken.pop(dice.randrange(len(taken)))
                last_seen = now - dice.choice((0, 1, REST - 1, REST, 2 * REST))
                twin.release(protocol, local, real, now, last_seen)
                pool.release(protocol, local, real, now, last_seen)
            elif dealt < 0.99:
                now += dice.choice((0, 1, SECOND, REST // 7))
            elif dealt < 0.998:
                assert list(pool.usage(now)) == list(twin.usage(now))
            else:
                excluded = exclusions()
                twin.exclude(excluded)
                assert pool.exclude(excluded)
        if len(ports) < 1000:
            assert spent > 10
        pool.destroy()

    def test_a_whole_range_comes_in_the_same_order(self, tables: Tables) -> None:
        ports = PortRange(1024, 65535)
        twin, pool = LocalPortPool(LIPS, ports, REST, 7), CPool(tables, LIPS, ports, REST, 7)
        taken = [twin.allocate(TCP, LIPS[0], REALS[0], 0) for _ in range(len(ports))]
        assert [pool.allocate(TCP, LIPS[0], REALS[0], 0) for _ in range(len(ports))] == taken
        for at, local in enumerate(taken):
            assert local
            pool.release(TCP, local, REALS[0], at, at)
        assert [pool.allocate(TCP, LIPS[0], REALS[0], 2 * REST) for _ in range(len(ports))] == taken
        pool.destroy()

    def test_servers_of_one_endpoint_share_their_ports(self, tables: Tables) -> None:
        pool = CPool(tables, LIPS, PortRange(1024, 1030), REST, 1)
        reals = [Endpoint(address(4, 3, number % 200), 80 + number) for number in range(200)]
        asked = {(protocol, real): pool.ports(protocol, real) for real in reals for protocol in (TCP, UDP)}
        assert len(set(asked.values())) == len(asked) == 400
        assert all(pool.ports(*key) == ports for key, ports in asked.items())
        pool.destroy()

    def test_it_knows_its_addresses(self, tables: Tables) -> None:
        pool = CPool(tables, LIPS, PortRange(1024, 1030), REST, 1)
        assert all(pool.has(lip) for lip in LIPS)
        assert not pool.has(address(4, 4, 9))
        assert not pool.has(ip_address(LIPS[0].packed + bytes(12)))
        pool.destroy()

    def test_a_family_without_addresses_has_no_ports(self, tables: Tables) -> None:
        pool = CPool(tables, LIPS[:1], PortRange(1024, 1030), REST, 1)
        assert pool.allocate(TCP, address(6, 1, 1), REALS[-1], 0) is None
        pool.destroy()

    def test_what_is_excluded_while_running_is_left_out_and_comes_back(self, tables: Tables) -> None:
        lip, real = LIPS[0], REALS[0]
        pool = CPool(tables, [lip], PortRange(1024, 1033), REST, 1, [Endpoint(lip, 1024)])
        assert {local.port for local in allocate_all(pool, real)} == set(range(1025, 1034))
        pool.release(TCP, Endpoint(lip, 1025), real, 0, -REST)  # rested
        pool.release(TCP, Endpoint(lip, 1026), real, 0, 0)  # resting
        assert pool.exclude([Endpoint(lip, port) for port in (1025, 1026, 1027, 1027)])
        pool.release(TCP, Endpoint(lip, 1027), real, 0, -REST)  # in use until now
        pool.release(TCP, Endpoint(lip, 1028), real, 0, -REST)
        assert {local.port for local in allocate_all(pool, real, REST)} == {1024, 1028}
        (use,) = pool.usage(REST)
        assert (use.in_use, use.resting, use.capacity) == (7, 0, 7)
        assert pool.exclude([])
        assert {local.port for local in allocate_all(pool, real, REST)} == {1025, 1026, 1027}
        (use,) = pool.usage(REST)
        assert (use.in_use, use.resting, use.capacity) == (10, 0, 10)
        pool.destroy()

    def test_random_exclusions(self, tables: Tables) -> None:
        dice = random.Random(1)
        ports, lips, real = PortRange(1024, 1043), [LIPS[0], LIPS[2]], REALS[0]
        every = {Endpoint(lip, port) for lip in lips for port in range(ports.low, ports.high + 1)}
        pool = CPool(tables, lips, ports, REST, 1)
        excluded: set[Endpoint] = set()
        taken: list[Endpoint] = []
        now = 0
        for _ in range(5000):
            dealt = dice.random()
            if dealt < 0.5:
                local = pool.allocate(TCP, address(4, 1, dice.randrange(9)), real, now)
                assert local not in excluded
                assert local not in taken
                taken += [local] if local else []
            elif dealt < 0.85 and taken:
                pool.release(TCP, taken.pop(dice.randrange(len(taken))), real, now, now)
            elif dealt < 0.95:
                now += dice.randrange(REST)
            else:
                excluded = set(dice.sample(sorted(every), dice.randrange(15)))
                assert pool.exclude(excluded)
            now += 1
        free = every - excluded - set(taken)
        assert set(allocate_all(pool, real, now + REST)) == free
        pool.destroy()

    @pytest.mark.parametrize(
        ("size", "attempts"), [(1, 60), (7, 10), (7, 600), (41, 400), (64, 200), (65, 5), (65, 6000)]
    )
    def test_claimed_ports_are_not_handed_out(self, tables: Tables, size: int, attempts: int) -> None:
        dice = random.Random(size * attempts)
        claims = Claims(tables, dice, PortRange(1024, 1023 + size))
        for _ in range(attempts):
            claims.claim()
        assert claims.claimed
        claims.check_usage()
        steps: list[tuple[Callable[[], None], int]] = [
            (claims.allocate, 60),
            (claims.release, 30),
            (claims.exclude, 1),
            (claims.wait, 5),
            (claims.check_usage, 3),
        ]
        for step, _ in dice.choices(steps, [weight for _, weight in steps], k=4000):
            step()
        assert claims.spent > 10
        claims.pool.destroy()

    def test_what_is_not_the_pools_to_give_cannot_be_claimed(self, tables: Tables) -> None:
        lip, real = LIPS[0], REALS[0]
        pool = CPool(tables, [lip], PortRange(1024, 1033), REST, 1, [Endpoint(lip, 1030)])
        for local in (
            Endpoint(LIPS[2], 1024),
            Endpoint(lip, 1023),
            Endpoint(lip, 1034),
            Endpoint(lip, 1),
            Endpoint(lip, 65535),
            Endpoint(lip, 1030),
        ):
            assert not pool.claim(TCP, local, real)
        assert list(pool.usage(0)) == []
        assert pool.claim(TCP, Endpoint(lip, 1024), real)
        assert not pool.claim(TCP, Endpoint(lip, 1024), real)
        assert pool.claim(UDP, Endpoint(lip, 1024), real)  # other ports altogether
        assert pool.claim(TCP, Endpoint(lip, 1024), REALS[1])
        assert pool.claim(TCP, Endpoint(lip, 1033), real)
        assert [(use.protocol, use.real, use.in_use) for use in pool.usage(0)] == [
            (TCP, real, 2),
            (UDP, real, 1),
            (TCP, REALS[1], 1),
        ]
        pool.release(TCP, Endpoint(lip, 1024), real, 0, -REST)
        assert not pool.claim(TCP, Endpoint(lip, 1024), real)  # it is queued to be allocated
        assert {local.port for local in allocate_all(pool, real)} == {*range(1024, 1033)} - {1030}
        assert not pool.claim(TCP, Endpoint(lip, 1029), real)
        pool.destroy()

    def test_a_claim_that_finds_no_memory_takes_nothing(self, tables: Tables) -> None:
        lip, real = LIPS[0], REALS[0]
        pool = CPool(tables, [lip], PortRange(1024, 1033), REST, 1)
        pool.ports(TCP, real)
        for allocations in (0, 1, 1, 0):  # one more each time is there from the time before
            with tables.memory_out_after(allocations):
                assert not pool.claim(TCP, Endpoint(lip, 1024), real)
        assert all(use.in_use == 0 for use in pool.usage(0))
        assert pool.claim(TCP, Endpoint(lip, 1024), real)
        assert len(allocate_all(pool, real)) == 9
        pool.destroy()

    def test_memory_that_cannot_be_had(self, tables: Tables) -> None:
        create, live = tables.library.fn_lport_pool_create, tables.live
        for allocations in range(5):
            with tables.memory_out_after(allocations):
                assert not create(bytes(64), 2, 1, 9, REST, 1, None, 0)
            assert tables.live == live
        lip, real = LIPS[0], REALS[0]
        pool = CPool(tables, LIPS, PortRange(1024, 1053), REST, 1)
        with tables.memory_out_after(0):
            assert pool.ports(TCP, real) is None
        assert pool.ports(TCP, real)
        with tables.memory_out_after(0):
            assert pool.allocate(TCP, address(4, 1, 1), real, 0) is None
        taken = [local for local in allocate_all(pool, real) if local.address == lip]
        assert len(taken) == 30
        with tables.memory_out_after(0):
            for local in taken[:3]:
                pool.release(TCP, local, real, 0, 0)
        for local in taken[3:]:
            pool.release(TCP, local, real, 0, 0)
        assert {use.lip: use.in_use for use in pool.usage(0)}[lip] == 3  # lost
        with tables.memory_out_after(0):
            assert not pool.exclude([Endpoint(lip, 1030)])
            assert pool.allocate(TCP, address(4, 1, 1), real, REST) is None  # rested, and cannot be moved
        assert set(allocate_all(pool, real, REST)) == set(taken[3:])
        pool.destroy()


class Templates:
    """A persistence table and its twin; every step is taken in both."""

    def __init__(self, tables: Tables, seed: int, capacity: int) -> None:
        self.random = random.Random(seed)
        self.tables = tables
        self.now = self.full = 0
        self.capacity = capacity
        self.twin = PersistenceTable(capacity)
        self.table = CPersistence(tables, capacity, hash_key(seed, seed))
        self.services: list[VirtualService] = []
        self.there: dict[VirtualService | RealServer, Pointer] = {}
        settings = [(4, 32), (4, 24), (4, 0), (4, 27), (6, 128), (6, 64), (6, 61), (6, 0), (4, None)]
        for number, (family, mask) in enumerate(settings):
            timeout = (number % 3 + 1) * 20 * SECOND
            persistence = Persistence(timeout, mask) if mask is not None else None
            self.add_service(
                make_service(TCP, family, number=number // 2, persistence=persistence, servers=3)
            )
        self.held: list[tuple[VirtualService, RealServer, IPAddress, int]] = []

    def add_service(self, service: VirtualService) -> None:
        self.services.append(service)
        self.there[service] = self.tables.service(service)
        for server in service.servers:
            self.there[server] = self.tables.server(self.there[service])
        self.all_servers = {service: list(service.servers) for service in self.services}

    def client(self, service: VirtualService) -> IPAddress:
        family = service.listen.family
        spread = self.random.choice((1, 1 << 5, 1 << 8)) if family == 4 else 1 << self.random.choice((0, 64))
        return address(family, 1, 0) + self.random.randrange(4 + self.capacity // 4) * spread

    def any(self) -> tuple[VirtualService, RealServer, IPAddress]:
        service = self.random.choice(self.services)
        return service, self.random.choice(self.all_servers[service]), self.client(service)

    def find(self) -> None:
        service, _, client = self.any()
        server = self.twin.find(service, client, self.now)
        found = self.table.find(self.there[service], client, self.now)
        assert found == (self.there[server] if server else None)

    def hold(self) -> None:
        service, server, client = self.any()
        self.twin.hold(service, client, server, self.now)
        self.table.hold(self.there[server], client, self.now)
        if service.persistence is not None:
            self.held.append((service, server, client, service.persistence.mask))
        self.full += len(self.table) == self.capacity

    def release(self) -> None:
        for _ in range(min(self.random.randrange(3), len(self.held))):
            service, server, client, mask = self.held.pop(self.random.randrange(len(self.held)))
            self.twin.release(service, client, server, self.now, mask)
            self.table.release(self.there[server], client, mask, self.now)

    def change_service(self) -> None:
        service, _, _ = self.any()
        if service.persistence is None:
            return
        mask = self.random.choice((24, 27, 32) if service.listen.family == 4 else (61, 64, 128))
        service.persistence = Persistence(service.persistence.timeout, mask)
        self.tables.library.tables_set_persistence(self.there[service], True, mask)

    def forget_server(self) -> None:
        self.expire()
        service, server, _ = self.any()
        self.twin.forget_server(service, server)
        self.table.forget_server(self.there[server])

    def change_server(self) -> None:
        service, server, _ = self.any()
        service.set_admin(server, self.random.choice((Admin.ENABLED, Admin.QUIESCED, Admin.DISABLED)))
        service.set_health(server, self.random.choice((Health.UP, Health.UP, Health.DOWN)))
        service.set_servers([each for each in self.all_servers[service] if self.random.random() < 0.9])
        for each in self.all_servers[service]:
            may_keep = each.admin is not Admin.DISABLED and each.health is not Health.DOWN
            self.tables.library.tables_set_server(self.there[each], each in service.servers, may_keep)

    def expire(self) -> None:
        assert self.table.expire(self.now) == self.twin.expire(self.now)
        assert len(self.table) == len(self.twin)

    def wait(self) -> None:
        self.now += self.random.choice((1, SECOND, 5 * SECOND, 20 * SECOND))
        if self.random.random() < 0.1:
            self.now += 90 * SECOND

    def compare(self) -> None:
        self.table.expire(self.twin._now)  # as iteration over the twin does, which asks for its length
        here = sorted(
            (self.there[template.server], str(template.client), template.flows, template.deadline)
            for template in self.twin
        )
        there = sorted((seen.server, str(seen.client), seen.flows, seen.deadline) for seen in self.table)
        assert there == here


class TestPersistence:
    @pytest.mark.parametrize(("seed", "capacity"), [(1, 1), (2, 2), (3, 8), (4, 8), (5, 33), (6, 1000)])
    def test_twins_agree(self, tables: Tables, seed: int, capacity: int) -> None:
        templates = Templates(tables, seed, capacity)
        steps: list[tuple[Callable[[], None], int]] = [
            (templates.find, 30),
            (templates.hold, 20),
            (templates.release, 14),
            (templates.forget_server, 1),
            (templates.change_server, 1),
            (templates.change_service, 1),
            (templates.expire, 3),
            (templates.wait, 12),
            (templates.compare, 5),
        ]
        weights = [weight for _, weight in steps]
        for step, _ in templates.random.choices(steps, weights, k=12000):
            step()
        templates.expire()
        assert tables.holders() == len(templates.table)
        assert templates.full > 100 or capacity > 100
        templates.table.destroy()

    def test_templates_go_when_it_is_time_for_each(self, tables: Tables) -> None:
        templates = Templates(tables, 1, 4000)
        service, dice = templates.services[0], templates.random
        server = service.servers[0]
        clients = [address(4, 1, number) for number in range(200)]
        for _ in range(5000):
            client = dice.choice(clients)
            templates.now += dice.randrange(SECOND // 2)
            # One flow ends and, it may be long after, the next begins: out of the heap and back.
            templates.table.hold(templates.there[server], client, templates.now)
            templates.table.release(templates.there[server], client, 32, templates.now)
            templates.twin.hold(service, client, server, templates.now)
            templates.twin.release(service, client, server, templates.now)
            timeout = dice.randrange(1, 60) * SECOND
            service.persistence = Persistence(timeout, 32)
            tables.library.tables_set_timeout(templates.there[service], timeout)
            templates.expire()
        assert len(templates.table) > 20
        templates.table.destroy()

    def test_another_service_at_the_same_address_does_not_get_the_old_servers(self, tables: Tables) -> None:
        templates = Templates(tables, 1, 8)
        old = templates.services[0]
        new = make_service(TCP, 4, number=0, persistence=old.persistence, servers=3)
        templates.add_service(new)
        client, server = address(4, 1, 1), old.servers[1]
        templates.twin.hold(old, client, server, 0)
        templates.table.hold(templates.there[server], client, 0)
        assert templates.table.find(templates.there[old], client, 1) == templates.there[server]
        assert templates.twin.find(new, client, 1) is None
        assert templates.table.find(templates.there[new], client, 1) is None
        templates.table.destroy()

    def test_a_table_without_room_keeps_nothing(self, tables: Tables) -> None:
        templates = Templates(tables, 1, 0)
        service = templates.services[0]
        templates.table.hold(templates.there[service.servers[0]], address(4, 1, 1), 0)
        assert len(templates.table) == 0
        templates.table.destroy()

    def test_memory_that_cannot_be_had(self, tables: Tables) -> None:
        live = tables.live
        for allocations in range(4):
            with tables.memory_out_after(allocations):
                assert not tables.library.fn_persistence_table_create(8, hash_key(1, 2).words)
            assert tables.live == live


class TestEnded:
    @pytest.mark.parametrize(("seed", "limit"), [(1, 1), (2, 2), (3, 7), (4, 24), (5, 1000)])
    def test_twins_agree(self, tables: Tables, seed: int, limit: int) -> None:
        flows = Flows(tables, seed, 60)
        twin, table, known = EndedFlows(limit), CEnded(tables, limit, flows.key), [bytes(12), bytes(36)]
        for _ in range(3000):
            dice = flows.random.random()
            if dice < 0.2:
                flows.add()
            elif dice < 0.3 and (flow := flows.any_flow()):
                twin.add(flow, flows.now)
                table.add(flows.of[flow], flows.now)
                known += (flow.inbound.key, flow.outbound.key)
            elif dice < 0.35:
                flows.now += flows.random.choice((1, SECOND, 11 * SECOND))
                flows.expire()
            elif dice < 0.4:
                twin.expire(flows.now)
                table.expire(flows.now)
            else:
                key = flows.random.choice(known)
                assert table.tell(key, flows.now) == twin.tell(key, flows.now)
            assert len(table) == len(twin)
        table.destroy()
        flows.close()

    def test_memory_that_cannot_be_had(self, tables: Tables) -> None:
        live = tables.live
        for allocations in range(3):
            with tables.memory_out_after(allocations):
                assert not tables.library.fn_ended_table_create(8, hash_key(1, 2).words)
            assert tables.live == live


def any_network(dice: random.Random) -> IPv4Network | IPv6Network:
    if dice.random() < 0.5:
        return ip_network((dice.randrange(8) << 29 | dice.getrandbits(4), dice.randrange(33)), strict=False)
    number = dice.randrange(8) << 125 | dice.getrandbits(8)
    return ip_network((number, dice.randrange(129)), strict=False)


class TestPathMtu:
    @pytest.mark.parametrize("seed", range(30))
    def test_twins_agree(self, tables: Tables, seed: int) -> None:
        dice = random.Random(seed)
        routes = [(any_network(dice), dice.randrange(576, 9000)) for _ in range(dice.choice((1, 5, 80, 400)))]
        twin, path_mtu = PathMtu(routes), CPathMtu(tables, routes)
        known = 0
        for _ in range(500):
            network = any_network(dice)
            if dice.random() < 0.5:
                network = dice.choice(routes)[0]
            packed = (network.network_address + dice.randrange(min(network.num_addresses, 16))).packed
            known += twin.find(packed) != DEFAULT_MTU
            assert path_mtu.find(packed) == twin.find(packed)
        assert known
        path_mtu.destroy()

    def test_without_routes(self, tables: Tables) -> None:
        path_mtu = CPathMtu(tables, [])
        assert path_mtu.find(bytes(4)) == path_mtu.find(bytes(16)) == DEFAULT_MTU
        path_mtu.destroy()

    def test_memory_that_cannot_be_had(self, tables: Tables) -> None:
        live = tables.live
        for allocations in range(4):
            with tables.memory_out_after(allocations):
                assert not tables.library.fn_path_mtu_create(None, 0)
            assert tables.live == live


@pytest.mark.requires("gcc", "asan")
@pytest.mark.skipif(LIBRARY in os.environ, reason="this is that run")
def test_all_of_it_under_sanitizers(tmp_path: Path) -> None:
    library = tmp_path / "tables.so"
    build(library, *SANITIZERS)
    argv = ["gcc", "-print-file-name=libasan.so"]
    runtime = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()
    environment = os.environ | {
        LIBRARY: str(library),
        "LD_PRELOAD": runtime,
        # The interpreter leaks at its exit, so leaks are no failure, but one of ours in the report is.
        "ASAN_OPTIONS": "detect_leaks=1:malloc_context_size=4",
        "LSAN_OPTIONS": "exitcode=0",
    }
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout, done.stderr
    assert "tables.so" not in done.stderr, done.stderr
    assert "__wrap_" not in done.stderr, done.stderr
