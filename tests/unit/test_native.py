# SPDX-License-Identifier: Apache-2.0
"""Engine `native` between C and users' schedulers: numbers, batches, and what is not there."""

from __future__ import annotations

import sys
from ipaddress import ip_address

import pytest

from fullnat.core.addr import UDP, Endpoint
from fullnat.core.packet import key_endpoints, parse
from fullnat.core.sched import BUILTIN
from fullnat.core.service import RealServer, VirtualService
from fullnat.core.timeouts import PROFILES, SECOND
from fullnat.datapath import native as native_module
from fullnat.datapath.base import Unsupported
from fullnat.datapath.native import require_extension
from tests.feeds import NativeFeed, Upcall, Watching, make_feed, syn, web
from tests.packets import udp
from tests.vectors.case import NETS, Net

NEEDS_NATIVE = pytest.mark.requires("native")


@pytest.fixture(params=NETS, ids=lambda net: f"v{net.family}")
def net(request: pytest.FixtureRequest) -> Net:
    return request.param  # type: ignore[no-any-return]


class BatchOf:
    """Stands for the engine in C: a batch of upcalls, and the answers given."""

    def __init__(self, *upcalls: Upcall) -> None:
        self.upcalls = list(upcalls)
        self.answers: list[tuple[int, int | None, bool]] = []

    def take_upcalls(self, limit: int) -> list[Upcall]:
        return self.upcalls[:limit]

    def answer_upcalls(self, answers: list[tuple[int, int | None, bool]]) -> None:
        self.answers += answers


def upcall_of(token: int, payload: bytes, service: int = 1) -> Upcall:
    view = parse(payload)
    client, _ = key_endpoints(view.key)
    return Upcall(token, service, client.address.packed, client.port, view.payload, view.key)


def answers_to(feed: NativeFeed, *upcalls: Upcall) -> list[tuple[int, int | None, bool]]:
    batch = BatchOf(*upcalls)
    feed.engine._engine = batch  # type: ignore[assignment]
    feed.engine._on_upcalls()
    return batch.answers


def number_of(feed: NativeFeed, service: VirtualService, server: RealServer) -> int:
    return feed.engine._server_numbers[feed.engine._numbers[service], server]


def native(net: Net, *services: VirtualService) -> NativeFeed:
    feed = make_feed("native", net, *services)
    assert isinstance(feed, NativeFeed)
    return feed


@NEEDS_NATIVE
def test_the_picks_of_a_batch_see_each_other_and_a_flow_is_one_question(net: Net) -> None:
    watching = Watching()
    service = web(net, watching)
    feed = native(net, service)
    packets = [syn(net, 4000), syn(net, 4001), syn(net, 4000), syn(net, 4002)]
    answers = answers_to(feed, *(upcall_of(7 + at, packet) for at, packet in enumerate(packets)))
    first, second, third = (number_of(feed, service, server) for server in service.servers)
    assert answers == [(7, first, False), (8, second, False), (9, first, False), (10, third, False)]
    assert len(watching.requests) == 3
    feed.engine.refresh()  # no flow was opened: the truth replaces what was picked
    assert [server.flows for server in service.servers] == [0, 0, 0]
    assert watching.heard[-1] == ("flows", 2, 0, 0)


@NEEDS_NATIVE
def test_datagrams_that_are_scheduled_anew_are_a_question_each(net: Net) -> None:
    watching = Watching()
    listen = Endpoint(ip_address(net.vip), 53)
    servers = [RealServer(Endpoint(ip_address(rip), 53)) for rip in net.servers]
    service = VirtualService("dns", UDP, listen, watching, PROFILES["lvs"], servers, one_packet=True)
    answers_to(native(net, service), *(upcall_of(at, udp(net.to_vip(vport=53))) for at in range(3)))
    assert len(watching.requests) == 3


@NEEDS_NATIVE
def test_a_packet_of_a_service_that_was_removed_finds_no_server(net: Net) -> None:
    service = web(net, Watching())
    feed = native(net, service)
    feed.engine.remove_service(service)
    assert answers_to(feed, upcall_of(3, syn(net))) == [(3, None, False)]


@NEEDS_NATIVE
def test_a_users_scheduler_that_cannot_hear_does_not_stop_the_packets(net: Net) -> None:
    class Deaf(Watching):
        def flows_changed(self, server: RealServer) -> None:
            raise ValueError("what?")

    service = web(net, Deaf())
    feed = native(net, service)
    ((_, number, failed),) = answers_to(feed, upcall_of(3, syn(net)))
    assert (number, failed) == (number_of(feed, service, service.servers[0]), False)
    assert feed.engine._scheduler_error == "web80: ValueError: what?"


@NEEDS_NATIVE
def test_a_server_is_forgotten_when_its_last_flow_has_ended(net: Net) -> None:
    service = web(net)
    feed = native(net, service)
    first = service.servers[0]
    feed.send(syn(net))
    feed.engine.set_servers(service, service.servers[1:])
    feed.engine.refresh()
    number = number_of(feed, service, first)
    feed.expire(1000 * SECOND)
    feed.engine.refresh()
    feed.engine.set_servers(service, [first])
    assert number_of(feed, service, first) > number
    feed.engine.refresh()
    assert [known.server for known in feed.engine._servers.values()] == [first]
    assert len(feed.engine._server_numbers) == 1
    assert first.connections == 1


@NEEDS_NATIVE
def test_every_flag_of_a_built_in_scheduler_has_its_bit() -> None:
    for cls in BUILTIN.values():
        for flag in cls.accepted_flags:
            assert native_module._flags_in_c(cls(flags=frozenset({flag}))) in (1, 2)
    assert native_module._flags_in_c(BUILTIN["mh"](flags=frozenset({"mh-port", "mh-fallback"}))) == 3


def test_an_extension_that_was_not_built_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fullnat._native", None)
    with pytest.raises(Unsupported, match=r"^engine native: .*; pip install needs a C compiler \(gcc\)"):
        require_extension()


@NEEDS_NATIVE
def test_an_extension_of_another_version_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fullnat._native.ABI", -1)
    with pytest.raises(Unsupported, match=r"of another version; install fullnat again"):
        require_extension()


@NEEDS_NATIVE
def test_too_little_memory_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("fullnat._native.Director", fail)
    with pytest.raises(Unsupported, match=r"not enough memory for 100 flows: lower \[limits\] flows"):
        native(NETS[0])
