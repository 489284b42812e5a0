# SPDX-License-Identifier: Apache-2.0
"""Engines that tests feed with packets by hand, without a kernel, and services for them to serve."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, NamedTuple, Protocol

from fullnat.control.build import build_director
from fullnat.core.addr import TCP, Endpoint, PortRange
from fullnat.core.packet import key_endpoints, parse
from fullnat.core.sched import Request, Scheduler
from fullnat.core.sched.rr import RoundRobin
from fullnat.core.service import RealServer, VirtualService
from fullnat.core.timeouts import PROFILES, SECOND
from fullnat.datapath.base import Datapath, Setup
from fullnat.datapath.native import NativeDatapath
from fullnat.datapath.nfqueue import NfqueueDatapath
from tests.packets import tcp
from tests.vectors.case import Net

MARK = 1 << 26
PORTS = PortRange(5000, 5009)


@dataclass
class HandmadePacket:
    """What NetfilterQueue hands over: a payload, a mark, and the verdict it was given."""

    payload: bytes
    mark: int = 0
    hook: int = 0  # PREROUTING
    verdict: str = ""

    def get_payload(self) -> bytes:
        return self.payload

    def set_payload(self, payload: bytes) -> None:
        self.payload = payload

    def get_mark(self) -> int:
        return self.mark

    def set_mark(self, mark: int) -> None:
        self.mark = mark

    def accept(self) -> None:
        assert not self.verdict
        self.verdict = "accept"

    def drop(self) -> None:
        assert not self.verdict
        self.verdict = "drop"

    def repeat(self) -> None:
        assert not self.verdict
        self.verdict = "repeat"


@dataclass
class Outbox:
    """Takes what the engine says itself."""

    sent: list[bytes] = field(default_factory=list)
    errors: int = 0

    def send(self, packet: bytes) -> bool:
        self.sent.append(packet)
        return True


class Feed(Protocol):
    """An engine that a test gives packets by hand."""

    now: int
    engine: Datapath

    def send(self, payload: bytes) -> bytes | None: ...

    def expire(self, now: int) -> None: ...


class PythonFeed:
    def __init__(self, setup: Setup, services: list[VirtualService], queue: int = 1) -> None:
        self.now = 0
        self.engine = NfqueueDatapath(
            build_director(setup, services, 0), Outbox(), queue=queue, mark=MARK, clock=lambda: self.now
        )

    def send(self, payload: bytes) -> bytes | None:
        packet = HandmadePacket(payload)
        self.engine._on_packet(packet)  # type: ignore[arg-type]
        return packet.payload if packet.mark else None

    def expire(self, now: int) -> None:
        self.now = now
        asyncio.run(self.engine.expire(now))


class Upcall(NamedTuple):
    """As C has it."""

    token: int
    service: int
    cip: bytes
    cport: int
    payload: bytes
    key: bytes


class NativeFeed:
    def __init__(self, setup: Setup, services: list[VirtualService], queue: int = 1) -> None:
        self.now = 0
        self.engine = NativeDatapath(
            setup,
            services,
            queues=[queue],
            segmented=queue + 1,
            mark=MARK,
            sockets=(-1, -1),
            hash_key=bytes(16),
            clock=lambda: self.now,
        )

    def send(self, payload: bytes) -> bytes | None:
        director = self.engine._director
        decision = director.decide(payload, self.now)
        if decision.reason is None:
            view = parse(payload)
            client, _ = key_endpoints(view.key)
            upcall = Upcall(0, decision.service, client.address.packed, client.port, view.payload, view.key)
            self.engine.refresh()
            decision = director.answer(payload, *self.engine._ask(upcall), self.now)  # type: ignore[arg-type]
        return decision.out

    def expire(self, now: int) -> None:
        self.now = now
        self.engine._director.expire(now, 1 << 30)
        self.engine._forget_servers()  # as its expire() does


FEEDS: dict[str, type[PythonFeed] | type[NativeFeed]] = {"python": PythonFeed, "native": NativeFeed}


def make_feed(
    engine: str,
    net: Net,
    *services: VirtualService,
    ports: PortRange = PORTS,
    queue: int = 1,
    flow_limit: int = 100,
) -> Feed:
    """Make an engine that serves *services*, by default a web service on three servers by turns."""
    setup = Setup(flow_limit, 10, 10, (ip_address(net.lip),), ports, SECOND, seed=1)
    return FEEDS[engine](setup, list(services) or [web(net)], queue)


def web(net: Net, scheduler: Scheduler | None = None, port: int = 80, **options: Any) -> VirtualService:
    servers = [RealServer(Endpoint(ip_address(rip), 8080)) for rip in net.servers]
    listen = Endpoint(ip_address(net.vip), port)
    return VirtualService(
        f"web{port}", TCP, listen, scheduler or RoundRobin(), PROFILES["lvs"], servers, **options
    )


def reached(net: Net, sent: bytes | None) -> int | None:
    """Which server *sent* goes to; None when nothing was sent on."""
    return None if sent is None else net.servers.index(str(ip_address(parse(sent).daddr)))


def syn(net: Net, cport: int = 4000, vport: int = 80) -> bytes:
    return tcp(net.to_vip(cport, vport), "S")


def establish(net: Net, feed: Feed, cport: int = 4000) -> str:
    """Open a connection; return the path that the server answers on."""
    sent = feed.send(syn(net, cport))
    assert sent is not None
    lip, rip = key_endpoints(parse(sent).key)
    answers = f"{rip} > {lip}"
    assert feed.send(tcp(answers, "SA")) == tcp(net.to_client(cport), "SA")
    assert feed.send(tcp(net.to_vip(cport), "A")) == tcp(f"{lip} > {rip}", "A")
    return answers


def assert_lives(net: Net, feed: Feed, answers: str, cport: int = 4000) -> None:
    """Both directions of the connection that establish() opened are still translated as before."""
    rip, lip = answers.split(" > ")
    assert feed.send(tcp(answers, "A")) == tcp(net.to_client(cport), "A")
    assert feed.send(tcp(net.to_vip(cport), "A")) == tcp(f"{lip} > {rip}", "A")


class Watching(Scheduler):
    """The server with the fewest flows, as a user may write it; notes what it hears."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[str, int, int, int]] = []
        self.requests: list[Request] = []

    def flows_changed(self, server: RealServer) -> None:
        self.heard.append(("flows", server.position, server.active, server.inactive))

    def server_changed(self, server: RealServer) -> None:
        self.heard.append(("server", server.position, server.active, server.inactive))

    def schedule(self, request: Request) -> RealServer | None:
        self.requests.append(request)
        free = [server for server in self.servers if server.is_available]
        return min(free, key=lambda server: server.flows, default=None)
