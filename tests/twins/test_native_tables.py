# SPDX-License-Identifier: Apache-2.0
"""The native tables against their Python twins: the same decisions in the same order, from the same seed.

Each test ends with nothing held and nothing allocated; the last one runs all others under sanitizers.
"""

from __future__ import annotations

import ctypes
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path

import pytest

from fullnat.core.addr import TCP, UDP, Endpoint, IPAddress, PortRange
from fullnat.core.flow import Flow, FlowTable
from fullnat.core.lport import LocalPortPool
from fullnat.core.mtu import DEFAULT_MTU, PathMtu
from fullnat.core.packet import build_key
from fullnat.core.persist import PersistenceTable
from fullnat.core.rewrite import Rewrite
from fullnat.core.sched.base import Scheduler
from fullnat.core.service import Admin, Health, Persistence, RealServer, VirtualService
from fullnat.core.timeouts import PROFILES, SECOND
from tests import features
from tests.twins.native_tables import (
    INBOUND,
    OUTBOUND,
    SANITIZERS,
    CFlow,
    CFlowTable,
    CPathMtu,
    CPersistence,
    CPool,
    Pointer,
    Tables,
    build,
    hash_key,
    load,
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

    def __init__(self, tables: Tables, seed: int, limit: int, now: int = 0) -> None:
        self.random = random.Random(seed)
        self.now = now
        self.twin = FlowTable(limit, now)
        self.table = CFlowTable(tables, limit, hash_key(seed, ~seed & (1 << 64) - 1), now)
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
        added = self.table.add(there, key, outbound, lip, flow.timeout, self.now)
        assert added
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
        assert not tables.library.fn_flow_table_create((1 << 28) + 1, key.words, 0)
        for allocations in range(5):
            with tables.memory_out_after(allocations):
                assert not tables.library.fn_flow_table_create(100, key.words, 0)
            assert tables.live == live
        flows = Flows(tables, 1, 100)
        _, _, server = flows.servers[0]
        with tables.memory_out_after(0):
            assert flows.table.add(server, bytes(12), bytes((1,) * 12), 0, SECOND, 0) is None
        assert len(flows.table) == 0
        assert flows.table.add(server, bytes(12), bytes((1,) * 12), 0, SECOND, 0)
        flows.close()


REST = 60 * SECOND
LIPS = [address(4, 4, 1), address(6, 4, 1), address(4, 4, 2), address(4, 4, 3), address(6, 4, 2)]
REALS = [Endpoint(address(family, 3, number), 80) for family in (4, 6) for number in range(3)]


def allocate_all(pool: CPool, real: Endpoint, now: int = 0) -> list[Endpoint]:
    client = address(4, 1, 1)
    return list(iter(lambda: pool.allocate(TCP, client, real, now), None))


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
        self.held: list[tuple[VirtualService, RealServer, IPAddress]] = []

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
        self.held.append((service, server, client))
        self.full += len(self.table) == self.capacity

    def release(self) -> None:
        for _ in range(min(self.random.randrange(3), len(self.held))):
            service, server, client = self.held.pop(self.random.randrange(len(self.held)))
            self.twin.release(service, client, server, self.now)
            self.table.release(self.there[server], client, self.now)

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
            for step in (templates.table.hold, templates.table.release):
                step(templates.there[server], client, templates.now)
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
    assert "passed" in done.stdout
    assert "tables.so" not in done.stderr, done.stderr
    assert "__wrap_" not in done.stderr, done.stderr
