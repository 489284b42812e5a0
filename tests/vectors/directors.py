# SPDX-License-Identifier: Apache-2.0
"""Directors as rows see them: bytes in, an Outcome out, whichever language decides."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import NamedTuple, Protocol

import pytest

from fullnat.control import build as control
from fullnat.core.addr import TCP, UDP, Endpoint, PortRange
from fullnat.core.director import Director
from fullnat.core.flow import Decision
from fullnat.core.lport import PortUse
from fullnat.core.mtu import PathMtu
from fullnat.core.packet import key_endpoints, parse
from fullnat.core.reason import Reason, Verdict
from fullnat.core.sched.base import Request, Scheduler
from fullnat.core.sched.rr import RoundRobin
from fullnat.core.service import RealServer, SchedulerError, VirtualService
from fullnat.core.timeouts import PROFILES
from fullnat.datapath.base import FlowRecord, Route, Setup, TemplateRecord
from fullnat.datapath.native import NativeDatapath
from fullnat.datapath.nfqueue import NfqueueDatapath, flow_record
from tests import features
from tests.vectors.case import Given


class Released(NamedTuple):
    """A packet that was held, and what became of it."""

    token: int
    reason: Reason
    out: bytes | None


class Outcome(NamedTuple):
    """What became of one packet."""

    reason: Reason
    out: bytes | None  # FORWARD
    reply: bytes | None
    token: int | None  # HOLD
    released: tuple[Released, ...]


class PacketDirector(Protocol):
    """A director of either language."""

    all_servers: list[RealServer]  # that its services had when it was made

    @property
    def services(self) -> list[VirtualService]: ...

    def server_changed(self, service: VirtualService, server: RealServer) -> None: ...

    def set_servers(self, service: VirtualService, servers: list[RealServer]) -> None: ...

    def service_changed(self, service: VirtualService) -> None: ...

    def end_flows(self, server: RealServer, now: int) -> list[FlowRecord]: ...

    def tables(self, now: int) -> dict[str, list[tuple[object, ...]]]: ...

    def admit(self, openings: int) -> None: ...

    def decide(self, packet: bytes, now: int) -> Outcome: ...

    def expire(self, now: int) -> list[Released]: ...

    def counters(self) -> list[int]: ...


class PythonDirector:
    """The core, and an engine's part of keeping held packets and applying rewrites."""

    def __init__(self, director: Director) -> None:
        self.director = director
        self.all_servers = _servers_of(self.services)
        self._held: dict[int, bytes] = {}

    def admit(self, openings: int) -> None:
        self.director.admit(openings)

    def decide(self, packet: bytes, now: int) -> Outcome:
        decision = self.director.decide(parse(packet), now)
        assert decision.verdict is decision.reason.verdict
        if decision.token is not None:
            self._held[decision.token] = packet
        released = tuple(self._release(*release) for release in decision.released)
        return Outcome(
            decision.reason, _forwarded(decision, packet), decision.reply, decision.token, released
        )

    def expire(self, now: int) -> list[Released]:
        return [self._release(*release) for release in self.director.expire(now)]

    def _release(self, token: int, size: int, decision: Decision) -> Released:
        packet = self._held.pop(token)
        assert size == len(parse(packet).data)
        return Released(token, decision.reason, _forwarded(decision, packet))

    @property
    def services(self) -> list[VirtualService]:
        return list(self.director.services.values())

    def server_changed(self, service: VirtualService, server: RealServer) -> None:
        """Nothing to do: the objects are the table."""

    def set_servers(self, service: VirtualService, servers: list[RealServer]) -> None:
        service.set_servers(servers)

    def service_changed(self, service: VirtualService) -> None:
        """Nothing to do: the objects are the table."""

    def end_flows(
        self, server: RealServer, now: int, order: Sequence[tuple[Endpoint, Endpoint]] = ()
    ) -> list[FlowRecord]:
        """End the flows in *order* of client and local end, by which their ports are used again."""
        flows = [flow for flow in self.director.flows if flow.server is server]
        if order:
            flows.sort(key=lambda flow: order.index((flow.client, flow.local)))
        ended = self.director.end_flows(flows, now)
        self.director.fragments.forget_server(server)
        return list(map(flow_record, ended))

    def counters(self) -> list[int]:
        return list(self.director.counters)

    def tables(self, now: int) -> dict[str, list[tuple[object, ...]]]:
        datapath = NfqueueDatapath(self.director, NoSender(), queue=0, mark=0, clock=lambda: now)
        return _tables(self.all_servers, datapath.flows(), datapath.ports(now), datapath.templates())


def end_all_flows(director: PacketDirector, now: int) -> None:
    """End every flow of the servers there are."""
    for server in director.all_servers:
        director.end_flows(server, now)


class NoSender:
    """For an engine that is only read."""

    errors = 0

    def send(self, packet: bytes) -> bool:
        raise AssertionError


def _forwarded(decision: Decision, packet: bytes) -> bytes | None:
    if decision.verdict is not Verdict.FORWARD:
        return None
    assert decision.rewrite is not None
    return decision.rewrite.apply(parse(packet))


class NativeDirector:
    """The C director.  The schedulers that are not in C are asked as the engine asks them."""

    def __init__(self, datapath: NativeDatapath) -> None:
        self._datapath = datapath
        self._director = datapath._director
        self.all_servers = _servers_of(self.services)

    @property
    def services(self) -> list[VirtualService]:
        return list(self._datapath.services)

    def server_changed(self, service: VirtualService, server: RealServer) -> None:
        self._datapath.server_changed(service, server)

    def set_servers(self, service: VirtualService, servers: list[RealServer]) -> None:
        self._datapath.set_servers(service, servers)

    def service_changed(self, service: VirtualService) -> None:
        self._datapath.service_changed(service)

    def end_flows(self, server: RealServer, now: int) -> list[FlowRecord]:
        self._datapath._clock = lambda: now

        async def collect() -> list[FlowRecord]:
            return [flow async for flows in self._datapath.end_flows(server) for flow in flows]

        return asyncio.run(collect())

    def admit(self, openings: int) -> None:
        self._director.admit(openings)

    def decide(self, packet: bytes, now: int) -> Outcome:
        decision = self._director.decide(packet, now)
        if decision.reason is None:
            assert decision.service is not None
            service = self._datapath._services[decision.service]
            with pytest.raises(SchedulerError):  # no row has one that works: those are in C
                service.schedule(_request(packet, service, now))
            decision = self._director.answer(packet, None, True, now)
        assert decision.reason is not None
        released = tuple(Released(token, Reason(reason), out) for token, reason, out in decision.released)
        return Outcome(Reason(decision.reason), decision.out, decision.reply, decision.token, released)

    def expire(self, now: int) -> list[Released]:
        dropped = self._director.expire(now, 1 << 62)
        return [Released(token, Reason(reason), out) for token, reason, out in dropped]

    def counters(self) -> list[int]:
        return self._director.counters()

    def tables(self, now: int) -> dict[str, list[tuple[object, ...]]]:
        self._datapath.refresh()
        return _tables(
            self.all_servers, self._datapath.flows(), self._datapath.ports(now), self._datapath.templates()
        )


def _request(packet: bytes, service: VirtualService, now: int) -> Request:
    view = parse(packet)
    client, _ = key_endpoints(view.key)
    return Request(client, service.listen, service.protocol, view.payload, now)


def _servers_of(services: Iterable[VirtualService]) -> list[RealServer]:
    return [server for service in services for server in service.servers]


def _tables(
    servers: Iterable[RealServer],
    flows: Iterable[FlowRecord],
    ports: Iterable[PortUse],
    templates: Iterable[TemplateRecord],
) -> dict[str, list[tuple[object, ...]]]:
    """Everything that can be read, and counts of *servers*, in an order that does not depend on the language."""
    return {
        "flows": sorted(tuple(map(str, flow)) for flow in flows),
        "ports": sorted(tuple(map(str, use)) for use in ports),
        "templates": sorted(tuple(map(str, template)) for template in templates),
        "servers": [(str(one), *(getattr(one, name) for name in COUNTS)) for one in servers],
    }


COUNTS = (
    "weight",
    "overloaded",
    "active",
    "inactive",
    "connections",
    "packets_in",
    "packets_out",
    "bytes_in",
    "bytes_out",
)


class Failing(Scheduler):
    """As a user's scheduler may."""

    def schedule(self, request: Request) -> RealServer | None:
        raise ZeroDivisionError("as a user's scheduler may")


def build_services(given: Given) -> list[VirtualService]:
    """The services of a row."""
    net = given.net
    services = []
    for name, protocol, vport, rport in (("web", TCP, 80, 8080), ("dns", UDP, 53, 5353)):
        servers = [
            RealServer(Endpoint(ip_address(rip), rport), given.weight) for rip in net.servers[: given.servers]
        ]
        services.append(
            VirtualService(
                name,
                protocol,
                Endpoint(ip_address(net.vip), vport),
                Failing() if given.scheduler_fails else RoundRobin(),
                PROFILES["lvs"],
                servers,
                one_packet=given.one_packet and protocol == UDP,
            )
        )
    return services


def routes(given: Given) -> list[tuple[IPv4Network | IPv6Network, int]]:
    """The routes of a row."""
    prefix = IPv4Network("198.19.0.0/24") if given.net.family == 4 else IPv6Network("2001:db8:2::/64")
    return [(prefix, given.path_mtu)]


@dataclass(frozen=True)
class Twin:
    """What a director is made of; *services* makes new ones each time, for counts are in them."""

    services: Callable[[], list[VirtualService]]
    routes: Sequence[Route]
    setup: Setup


def twin_of(given: Given) -> Twin:
    """The director of a row."""
    net = given.net
    setup = Setup(
        flow_limit=given.flow_limit,
        persistence_limit=100,
        fragment_limit=10,
        addresses=(ip_address(net.lip),),
        ports=PortRange(5000, 5000),
        rest=given.rest,
        has_fallback=given.has_fallback,
        seed=1,
    )
    return Twin(lambda: build_services(given), routes(given), setup)


def build_python(twin: Twin) -> PythonDirector:
    """The director in Python."""
    director = control.build_director(twin.setup, twin.services(), 0)
    director.path_mtu = PathMtu(twin.routes)
    return PythonDirector(director)


def build_native(twin: Twin) -> NativeDirector:
    """The director in C."""
    features.demand("native")
    datapath = NativeDatapath(
        twin.setup,
        twin.services(),
        queues=[0],
        segmented=1,
        mark=0,
        sockets=(-1, -1),
        hash_key=bytes(16),
        clock=lambda: 0,
    )
    datapath.set_path_mtu(twin.routes)
    return NativeDirector(datapath)


def build_director(given: Given) -> Director:
    """The Python director of a row, bare."""
    return build_python(twin_of(given)).director
