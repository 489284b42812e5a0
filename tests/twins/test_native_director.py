# SPDX-License-Identifier: Apache-2.0
"""The C director against its Python twin: the same packets, the same decisions, byte for byte."""

from __future__ import annotations

import random
from ipaddress import IPv4Network, IPv6Network, ip_address

import pytest

from fullnat.core.addr import TCP, UDP, Endpoint, PortRange
from fullnat.core.pressure import UNLIMITED
from fullnat.core.reason import Reason
from fullnat.core.sched import BUILTIN
from fullnat.core.service import Admin, Health, Persistence, RealServer, VirtualService
from fullnat.core.timeouts import PROFILES, SECOND
from fullnat.datapath.base import Setup
from tests.twins.world import World
from tests.vectors.case import NETS
from tests.vectors.directors import (
    NativeDirector,
    PacketDirector,
    PythonDirector,
    Twin,
    build_native,
    build_python,
)

PACKETS = 5000
SERVERS = 5
ROUTES = [
    (IPv4Network("198.19.0.0/24"), 1400),
    (IPv4Network("198.19.0.12/32"), 1300),
    (IPv4Network("198.19.0.13/32"), 70000),  # more than an MSS can say
    (IPv4Network("203.0.113.0/24"), 70000),
    (IPv6Network("2001:db8:2::/64"), 1280),
]


def services(scheduler: str, seed: int) -> list[VirtualService]:
    """TCP and UDP on port 80, and on port 81 with persistence; one UDP service schedules every datagram."""
    return [
        VirtualService(
            f"{protocol}-{net.family}-{port}",
            protocol,
            Endpoint(ip_address(net.vip), port),
            BUILTIN[scheduler](seed=seed),
            PROFILES["edge"],
            [
                RealServer(Endpoint(ip_address(net.servers[0]) + at, 8000 + port), 1 + at, 3 * (at % 2), None)
                for at in range(SERVERS)
            ],
            Persistence(20 * SECOND, 31 if net.family == 4 else 127) if port == 81 else None,
            one_packet=protocol == UDP and net.family == 4 and port == 80,
        )
        for net in NETS
        for protocol in (TCP, UDP)
        for port in (80, 81)
    ]


def crowded(scheduler: str, seed: int) -> Twin:
    """A director that meets every limit."""
    setup = Setup(
        flow_limit=40,
        persistence_limit=3,
        fragment_limit=4,
        addresses=tuple(map(ip_address, ("198.19.0.1", "198.19.0.2", "2001:db8:2::1", "2001:db8:2::2"))),
        ports=PortRange(5000, 5002),
        rest=2 * SECOND,
        seed=seed,
    )
    return Twin(lambda: services(scheduler, seed), ROUTES, setup)


def _change(twins: tuple[PacketDirector, ...], draw: random.Random) -> None:
    """What an operator, a check or the engine may do, done to both."""
    kind = draw.randrange(5)
    service_at, server_at = draw.randrange(len(NETS) * 4), draw.randrange(SERVERS)
    weight, admin, health = draw.randrange(4), draw.choice(list(Admin)), draw.choice(list(Health))
    openings = draw.choice((0, 1, UNLIMITED, UNLIMITED, UNLIMITED))
    for twin in twins:
        service = twin.services[service_at]
        server = twin.all_servers[service_at * SERVERS + server_at]
        if kind == 0:
            service.set_weight(server, weight)
        elif kind == 1:
            service.set_admin(server, admin)
        elif kind == 2:
            service.set_health(server, health)
        else:
            twin.admit(openings)
        twin.server_changed(service, server)


def _reload(twins: tuple[PacketDirector, ...], draw: random.Random) -> None:
    """What a new configuration may do, done to both."""
    service_at = draw.randrange(len(NETS) * 4)
    order = draw.sample(range(SERVERS), draw.randrange(SERVERS + 1))
    scheduler, seed = BUILTIN[draw.choice(sorted(BUILTIN))], draw.randrange(3)
    profile, shorter, one_packet = draw.choice(list(PROFILES)), draw.randrange(3), draw.random() < 0.5
    kind = draw.randrange(4)
    for twin in twins:
        service = twin.services[service_at]
        if kind == 0:
            service.set_scheduler(scheduler(seed=seed))
        elif kind == 1:
            service.timeouts = PROFILES[profile]
        elif kind == 2:
            whole = 32 if service.listen.family == 4 else 128
            service.persistence = Persistence(20 * SECOND, whole - shorter) if shorter else None
        else:
            service.one_packet = one_packet and service.protocol == UDP
        twin.service_changed(service)
        twin.set_servers(service, [twin.all_servers[service_at * SERVERS + at] for at in order])


def _end_flows(python: PythonDirector, native: NativeDirector, draw: random.Random, now: int) -> None:
    at = draw.randrange(len(python.all_servers))
    theirs = native.end_flows(native.all_servers[at], now)
    order = [(flow.client, flow.local) for flow in theirs]
    ours = python.end_flows(python.all_servers[at], now, order)
    assert [tuple(map(str, flow)) for flow in ours] == [tuple(map(str, flow)) for flow in theirs]


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("scheduler", sorted(BUILTIN))
def test_both_decide_alike(scheduler: str, seed: int) -> None:
    world, draw = World(seed), random.Random(seed)
    twins = build_python(crowded(scheduler, seed)), build_native(crowded(scheduler, seed))
    python, native = twins
    now = 0
    for number in range(PACKETS):
        now += draw.choice((0, 1000, SECOND // 50, SECOND // 10))
        if draw.random() < 0.004:
            now += draw.choice((3, 20, 100, 400)) * SECOND
        if draw.random() < 0.02:
            _change(twins, draw)
        if draw.random() < 0.01:
            _reload(twins, draw)
        if draw.random() < 0.005:
            _end_flows(python, native, draw, now)
        if draw.random() < 0.1:
            assert python.expire(now) == native.expire(now)
        packet = world.next()
        expected = python.decide(packet, now)
        assert native.decide(packet, now) == expected, f"packet {number}: {packet.hex()}"
        if expected.out is not None:
            world.forwarded(expected.out)
    assert native.counters() == python.counters()
    assert native.tables(now) == python.tables(now)


def test_the_world_meets_every_reason() -> None:
    """What this file compares is worth as much as what the world contains."""
    totals = [0] * len(Reason)
    for scheduler in ("rr", "wlc", "sh"):
        world, draw, director, now = World(3), random.Random(3), build_python(crowded(scheduler, 3)), 0
        for _ in range(PACKETS):
            now += draw.choice((0, 1000, SECOND // 50, SECOND // 10))
            if draw.random() < 0.1:
                director.expire(now)
                _change((director,), draw)
            if draw.random() < 0.005:
                director.end_flows(draw.choice(director.all_servers), now)
            outcome = director.decide(world.next(), now)
            if outcome.out is not None:
                world.forwarded(outcome.out)
        totals = [total + more for total, more in zip(totals, director.counters(), strict=True)]
    missing = {reason.name for reason in Reason if not totals[reason]}
    assert missing <= {"KERNEL_FLOW", "SCHEDULER_FAILED", "SOURCE_ROUTED"}
