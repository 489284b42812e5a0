# SPDX-License-Identifier: Apache-2.0
"""Counts of servers against a tally by hand, while everything about them is changed at random.

Servers leave and come back, services are removed and served again, schedulers change, flows end by
time and on request, and counts are read now and then: never may one be lost or counted twice.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from ipaddress import ip_address

import pytest

from fullnat.core.addr import UDP, Endpoint, PortRange
from fullnat.core.packet import key_endpoints, parse
from fullnat.core.sched import BUILTIN
from fullnat.core.service import Persistence, RealServer, VirtualService
from fullnat.core.timeouts import PROFILES, SECOND
from tests.feeds import Feed, Watching, make_feed
from tests.packets import tcp, udp
from tests.vectors.case import V4, V6

STEPS = 400
SERVERS = 4
IDLE = PROFILES["lvs"].udp  # also when TCP opens at the latest
ENGINES = ["python", pytest.param("native", marks=pytest.mark.requires("native"))]


@dataclass
class Tally:
    """What a server has, counted by hand."""

    connections: int = 0
    packets_in: int = 0
    packets_out: int = 0
    active: set[tuple[int, int]] = field(default_factory=set)
    inactive: set[tuple[int, int]] = field(default_factory=set)

    def of(self) -> tuple[int, ...]:
        return self.connections, self.packets_in, self.packets_out, len(self.active), len(self.inactive)


class Town:
    """Two services, many clients, and an operator who cannot leave well alone."""

    def __init__(self, engine: str, seed: int) -> None:
        self.draw = random.Random(seed)
        self.net = self.draw.choice((V4, V6))
        first = ip_address(self.net.servers[0])
        self.services = [
            VirtualService(
                f"s{port}",
                protocol,
                Endpoint(ip_address(self.net.vip), port),
                BUILTIN["rr"](),
                PROFILES["lvs"],
                [RealServer(Endpoint(first + at, 8000 + port)) for at in range(SERVERS)],
            )
            for port, protocol in ((80, 6), (53, UDP))
        ]
        self.all = {service: list(service.servers) for service in self.services}
        self.tallies = {server: Tally() for service in self.services for server in service.servers}
        self.feed: Feed = make_feed(
            engine, self.net, *self.services, ports=PortRange(2000, 9000), flow_limit=5000
        )
        self.flows: dict[tuple[int, int], tuple[RealServer, str]] = {}  # server, and the path of answers
        self.next_port = 1000

    def send(self, packet: bytes) -> bytes | None:
        return self.feed.send(packet)

    def open(self) -> None:
        service = self.draw.choice(self.services)
        port, self.next_port = self.next_port, self.next_port + 1
        path = self.net.to_vip(port, service.listen.port)
        sent = self.send(udp(path) if service.protocol == UDP else tcp(path, "S"))
        if sent is None:
            return
        lip, rip = key_endpoints(parse(sent).key)
        server = next(one for one in self.all[service] if one.endpoint == rip)
        flow = service.protocol, port
        self.flows[flow] = server, f"{rip} > {lip}"
        tally = self.tallies[server]
        tally.connections += 1
        tally.packets_in += 1
        tally.inactive.add(flow)

    def go_on(self) -> None:
        if not self.flows:
            return
        flow = self.draw.choice(list(self.flows))
        server, answers = self.flows[flow]
        tally = self.tallies[server]
        path = self.net.to_vip(flow[1], 53 if flow[0] == UDP else 80)
        if flow[0] == UDP:
            assert self.send(udp(answers)) is not None
        else:
            assert self.send(tcp(answers, "SA")) is not None
            assert self.send(tcp(path, "A")) is not None
            tally.packets_in += 1
            tally.inactive.discard(flow)
            tally.active.add(flow)
        tally.packets_out += 1

    def forget(self, flow: tuple[int, int]) -> None:
        tally = self.tallies[self.flows.pop(flow)[0]]
        tally.active.discard(flow)
        tally.inactive.discard(flow)

    def end_flows(self) -> None:
        server = self.draw.choice(list(self.tallies))
        mine = {flow for flow, (their, _) in self.flows.items() if their is server}
        assert self.ended(server) == Counter(mine)
        for flow in mine:
            answers = self.flows[flow][1]
            assert self.send(udp(answers) if flow[0] == UDP else tcp(answers, "A")) is None
            self.forget(flow)

    def ended(self, server: RealServer) -> Counter[tuple[int, int]]:
        async def collect() -> Counter[tuple[int, int]]:
            found: Counter[tuple[int, int]] = Counter()
            async for flows in self.feed.engine.end_flows(server):
                found.update((flow.service.protocol, flow.client.port) for flow in flows)
            return found

        return asyncio.run(collect())

    def set_servers(self) -> None:
        service = self.draw.choice(self.services)
        chosen = self.draw.sample(self.all[service], self.draw.randrange(SERVERS + 1))
        self.feed.engine.set_servers(service, chosen)

    def serve_again(self) -> None:
        service = self.draw.choice(self.services)
        servers = list(service.servers)
        self.feed.engine.remove_service(service)
        service.set_servers(servers)
        self.feed.engine.add_service(service)

    def change_service(self) -> None:
        service = self.draw.choice(self.services)
        if self.draw.random() < 0.5:
            users = self.draw.random() < 0.4
            service.set_scheduler(Watching() if users else BUILTIN[self.draw.choice(sorted(BUILTIN))]())
        mask = self.draw.choice((None, 24, 32))
        service.persistence = None if mask is None else Persistence(60 * SECOND, mask)
        self.feed.engine.service_changed(service)

    def expire_all(self) -> None:
        self.feed.expire(self.feed.now + 1000 * SECOND)
        for flow in list(self.flows):
            self.forget(flow)

    def compare(self) -> None:
        self.feed.engine.refresh()
        for server, tally in self.tallies.items():
            counted = (
                server.connections,
                server.packets_in,
                server.packets_out,
                server.active,
                server.inactive,
            )
            assert counted == tally.of(), server
        assert self.feed.engine.statistics().flows == len(self.flows)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("engine", ENGINES)
def test_no_count_is_lost(engine: str, seed: int) -> None:
    town = Town(engine, seed)
    turns = [
        (town.open, 10),
        (town.go_on, 8),
        (town.set_servers, 4),
        (town.change_service, 2),
        (town.serve_again, 1),
        (town.end_flows, 1),
        (town.expire_all, 1),
        (town.compare, 3),
    ]
    steps, weights = zip(*turns, strict=True)
    for step in town.draw.choices(steps, weights, k=STEPS):
        step()
    town.expire_all()
    town.compare()
