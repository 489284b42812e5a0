# SPDX-License-Identifier: Apache-2.0
"""What control reads of engines and changes, and how one fails: the contract in datapath/base.py.

What becomes of packets is held by the rows of tests/vectors, for every director.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, ClassVar

import pytest

from fullnat.core.addr import TCP, UDP, Endpoint, PortRange, parse_endpoint
from fullnat.core.packet import key_endpoints, parse
from fullnat.core.reason import Reason
from fullnat.core.sched import BUILTIN, Request, Scheduler
from fullnat.core.sched.rr import RoundRobin
from fullnat.core.service import Admin, Health, Persistence, RealServer, VirtualService
from fullnat.core.timeouts import PROFILES, SECOND
from fullnat.datapath import queue_table
from fullnat.datapath.base import DatapathError, FlowRecord, Unsupported
from fullnat.datapath.queue_table import Drops, QueueRow, read_drops, read_rows
from tests.feeds import Feed, Watching, assert_lives, establish, make_feed, reached, syn, web
from tests.packets import fragments, tcp, udp
from tests.vectors.case import NETS, Net

MakeFeed = Callable[..., Feed]


@pytest.fixture(params=NETS, ids=lambda net: f"v{net.family}")
def net(request: pytest.FixtureRequest) -> Net:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(
    name="make_feed", params=["python", pytest.param("native", marks=pytest.mark.requires("native"))]
)
def _make_feed(request: pytest.FixtureRequest) -> MakeFeed:
    return partial(make_feed, request.param)


# Read.


def test_the_tables_are_read_as_records(net: Net, make_feed: MakeFeed) -> None:
    service = web(net, persistence=Persistence(60 * SECOND, 24 if net.family == 4 else 64))
    feed = make_feed(net, service)
    feed.now = SECOND
    answers = establish(net, feed)
    feed.now = 3 * SECOND
    feed.send(tcp(net.to_vip(), "A", payload=b"hello"))
    engine, server, header = feed.engine, service.servers[0], 40 if net.family == 4 else 60
    (flow,) = engine.flows()
    assert flow[:5] == (
        service,
        server,
        parse_endpoint(net.end(net.client, 4000)),
        parse_endpoint(answers.split(" > ")[1]),
        "ESTABLISHED",
    )
    assert flow[5:8] == (SECOND, 3 * SECOND, PROFILES["lvs"].tcp_established)
    assert flow[8:] == (3, 1, 3 * header + 5, header)
    (use,) = engine.ports(feed.now)
    assert use == (TCP, ip_address(net.lip), server.endpoint, 1, 0, 10)
    (template,) = engine.templates()
    prefix = ip_network(f"{net.client}/{24 if net.family == 4 else 64}", strict=False)
    assert template == (service, prefix, server, 1, 61 * SECOND)


def test_counts_are_brought_up_to_date(net: Net, make_feed: MakeFeed) -> None:
    feed = make_feed(net)
    establish(net, feed, 4000)
    feed.send(syn(net, 4001))
    feed.engine.refresh()
    (service,) = feed.engine.services
    assert [(server.active, server.inactive) for server in service.servers] == [(1, 0), (0, 1), (0, 0)]
    assert [server.connections for server in service.servers] == [1, 1, 0]
    header = 40 if net.family == 4 else 60
    first = service.servers[0]
    assert (first.packets_in, first.packets_out) == (2, 1)
    assert (first.bytes_in, first.bytes_out) == (2 * header, header)


def test_statistics_tell_every_reason_and_how_full_the_tables_are(net: Net, make_feed: MakeFeed) -> None:
    feed = make_feed(net)
    feed.send(syn(net))
    feed.send(syn(net, vport=81))
    feed.send(fragments(udp(net.to_vip(vport=53), b"x" * 1500), 1000, 9)[1])
    counted = feed.engine.statistics()
    wanted = {Reason.FLOW_OPENED: 1, Reason.NOT_SERVICE: 1, Reason.FRAGMENT_HELD: 1}
    assert {reason: count for reason, count in zip(Reason, counted.reasons, strict=True) if count} == wanted
    assert (counted.flows, counted.flows_limit, counted.fragments, counted.fragments_held) == (1, 100, 1, 1)
    assert (counted.persistence, counted.scheduler_error, counted.replies_suppressed) == (0, "", 0)


def test_as_many_flows_are_shown_as_are_asked_for(net: Net, make_feed: MakeFeed) -> None:
    feed = make_feed(net)
    for cport in range(4000, 4005):
        feed.send(syn(net, cport))
    ports = [flow.client.port for flow in feed.engine.flows()]
    assert sorted(ports) == [4000, 4001, 4002, 4003, 4004]
    assert len(list(feed.engine.flows(3))) == 3
    assert list(feed.engine.flows(0)) == []


def test_a_service_that_is_added_is_served_at_once(net: Net, make_feed: MakeFeed) -> None:
    feed = make_feed(net)
    answers = establish(net, feed)
    assert feed.send(syn(net, vport=81)) is None
    added = web(net, port=81)
    feed.engine.add_service(added)
    assert reached(net, feed.send(syn(net, vport=81))) == 0
    assert feed.engine.services[1] is added
    assert_lives(net, feed, answers)


def test_a_listen_is_served_once(net: Net, make_feed: MakeFeed) -> None:
    feed = make_feed(net)
    with pytest.raises(ValueError, match=r"tcp://.* is served already"):
        feed.engine.add_service(web(net))
    with pytest.raises(ValueError, match=r"tcp://.* is not served"):
        feed.engine.remove_service(web(net))
    assert len(feed.engine.services) == 1


def test_flows_outlive_the_service_that_is_removed(net: Net, make_feed: MakeFeed) -> None:
    service = web(net)
    feed = make_feed(net, service)
    first = service.servers[0]
    answers = establish(net, feed)
    feed.engine.remove_service(service)
    assert_lives(net, feed, answers)
    assert feed.send(syn(net, 4001)) is None
    assert feed.engine.statistics().reasons[Reason.NOT_SERVICE] == 1
    feed.engine.refresh()
    (flow,) = feed.engine.flows()
    assert (flow.service, flow.server) == (service, first)
    assert list(feed.engine.services) == []
    again = web(net)
    feed.engine.add_service(again)
    assert_lives(net, feed, answers)
    assert reached(net, feed.send(syn(net, 4002))) == 0
    feed.engine.refresh()
    assert [(one.active, one.inactive) for one in (first, again.servers[0])] == [(1, 0), (0, 1)]


def test_flows_outlive_the_server_that_is_removed(net: Net, make_feed: MakeFeed) -> None:
    service = web(net)
    feed = make_feed(net, service)
    first, second, third = service.servers
    answers = establish(net, feed, 4000), establish(net, feed, 4001)
    feed.engine.set_servers(service, [third, second])
    assert_lives(net, feed, answers[0], 4000)
    assert_lives(net, feed, answers[1], 4001)
    assert [reached(net, feed.send(syn(net, cport))) for cport in range(4002, 4006)] == [2, 1, 2, 1]
    feed.engine.refresh()
    assert [(one.active, one.connections) for one in (first, second, third)] == [(1, 1), (1, 3), (0, 2)]
    assert {flow.server for flow in feed.engine.flows()} == {first, second, third}


def test_a_server_that_comes_back_has_its_flows(net: Net, make_feed: MakeFeed) -> None:
    service = web(net)
    feed = make_feed(net, service)
    servers = list(service.servers)
    answers = establish(net, feed)
    feed.engine.set_servers(service, servers[1:])
    feed.engine.set_servers(service, servers)
    assert_lives(net, feed, answers)
    feed.engine.refresh()
    assert [server.active for server in servers] == [1, 0, 0]


def test_counts_go_on_while_a_server_leaves_its_list_and_comes_back(net: Net, make_feed: MakeFeed) -> None:
    service = web(net)
    feed = make_feed(net, service)
    first, second, third = service.servers
    header = 40 if net.family == 4 else 60
    answers = establish(net, feed)
    feed.engine.set_servers(service, [second, third])  # nobody has read a count yet
    assert_lives(net, feed, answers)
    feed.expire(1000 * SECOND)
    for times in (1, 2):
        feed.engine.set_servers(service, [first])
        feed.engine.set_servers(service, [first, second])
        assert reached(net, feed.send(syn(net, 4000 + times))) == 0
        feed.engine.set_servers(service, [second])
        feed.expire((times + 1) * 1000 * SECOND)
        feed.engine.refresh()
        feed.engine.refresh()
        assert (first.connections, first.active, first.inactive) == (1 + times, 0, 0)
        assert (first.packets_in, first.packets_out) == (3 + times, 2)
        assert (first.bytes_in, first.bytes_out) == ((3 + times) * header, 2 * header)


def test_a_service_that_comes_back_with_its_servers_goes_on_counting(net: Net, make_feed: MakeFeed) -> None:
    service = web(net)
    feed = make_feed(net, service)
    servers = list(service.servers)
    answers = establish(net, feed)
    feed.engine.remove_service(service)
    service.set_servers(servers)
    feed.engine.add_service(service)
    assert_lives(net, feed, answers)
    assert reached(net, feed.send(syn(net, 4001))) == 0
    feed.engine.refresh()
    assert [(one.active, one.inactive, one.connections) for one in servers[:2]] == [(1, 1, 2), (0, 0, 0)]
    assert [flow.server for flow in feed.engine.flows()] == [servers[0]] * 2
    feed.expire(1000 * SECOND)
    feed.engine.refresh()
    assert [(one.active, one.inactive, one.connections) for one in servers[:2]] == [(0, 0, 2), (0, 0, 0)]
    assert (servers[0].packets_in, servers[0].packets_out) == (4, 2)


def test_what_is_set_of_a_server_out_of_its_list_is_told_to_no_scheduler(
    net: Net, make_feed: MakeFeed
) -> None:
    watching = Watching()
    service = web(net, watching)
    feed = make_feed(net, service)
    first = service.servers[0]
    feed.engine.set_servers(service, service.servers[1:])
    service.set_weight(first, 7)
    service.set_admin(first, Admin.DISABLED)
    service.set_thresholds(first, 1, 1)
    feed.engine.server_changed(service, first)
    assert watching.heard == []
    service.set_admin(first, Admin.ENABLED)
    feed.engine.set_servers(service, [first])
    assert [reached(net, feed.send(syn(net, cport))) for cport in (4000, 4001)] == [0, None]


# A service that is changed.


def test_another_scheduler_knows_the_flows_there_are(net: Net, make_feed: MakeFeed) -> None:
    service = web(net)
    feed = make_feed(net, service)
    answers = [establish(net, feed, cport) for cport in (4000, 4001)]
    service.set_scheduler(BUILTIN["lc"]())
    feed.engine.service_changed(service)
    assert [reached(net, feed.send(syn(net, cport))) for cport in (4002, 4003)] == [2, 2]
    for cport, path in enumerate(answers, 4000):
        assert_lives(net, feed, path, cport)
    service.timeouts = PROFILES["edge"]
    feed.engine.service_changed(service)  # the scheduler goes on: it is the same
    assert reached(net, feed.send(syn(net, 4004))) == 2
    feed.engine.refresh()
    assert [(one.active, one.inactive, one.connections) for one in service.servers] == [
        (1, 0, 1),
        (1, 0, 1),
        (0, 3, 3),
    ]


def test_a_scheduler_goes_on_where_it_was_when_something_else_changes(net: Net, make_feed: MakeFeed) -> None:
    service = web(net)
    feed = make_feed(net, service)
    assert reached(net, feed.send(syn(net, 4000))) == 0
    service.name = "renamed"
    feed.engine.service_changed(service)
    assert [reached(net, feed.send(syn(net, cport))) for cport in (4001, 4002, 4003)] == [1, 2, 0]


def test_from_a_built_in_scheduler_to_a_users_and_back(net: Net, make_feed: MakeFeed) -> None:
    service = web(net)
    feed = make_feed(net, service)
    answers = establish(net, feed)
    watching = Watching()
    service.set_scheduler(watching)
    feed.engine.service_changed(service)
    assert [reached(net, feed.send(syn(net, cport))) for cport in (4001, 4002, 4003)] == [1, 2, 0]
    assert len(watching.requests) == 3
    service.set_scheduler(BUILTIN["rr"]())
    feed.engine.service_changed(service)
    assert [reached(net, feed.send(syn(net, cport))) for cport in (4004, 4005)] == [0, 1]
    assert len(watching.requests) == 3
    assert_lives(net, feed, answers)
    feed.engine.refresh()
    assert [(one.active, one.inactive) for one in service.servers] == [(1, 2), (0, 2), (0, 1)]


def test_new_timeouts_are_for_the_next_state_of_a_flow(net: Net, make_feed: MakeFeed) -> None:
    service = web(net)
    feed = make_feed(net, service)
    answers = establish(net, feed)
    service.timeouts = PROFILES["edge"]
    feed.engine.service_changed(service)
    assert_lives(net, feed, answers)
    feed.send(syn(net, 4001))
    feed.send(tcp(net.to_vip(4000), "FA"))
    timeouts = {flow.client.port: (flow.state, flow.timeout) for flow in feed.engine.flows()}
    assert timeouts == {
        4000: ("CLIENT_FIN", PROFILES["edge"].tcp_established),
        4001: ("SYN_SENT", PROFILES["edge"].tcp_opening),
    }


def test_templates_lead_only_by_the_prefix_length_the_service_has(net: Net, make_feed: MakeFeed) -> None:
    whole, part = (32, 24) if net.family == 4 else (128, 64)
    service = web(net, persistence=Persistence(60 * SECOND, whole))
    feed = make_feed(net, service)
    assert [reached(net, feed.send(syn(net, cport))) for cport in (4000, 4001)] == [0, 0]
    service.persistence = Persistence(60 * SECOND, part)
    feed.engine.service_changed(service)
    assert [reached(net, feed.send(syn(net, cport))) for cport in (4002, 4003)] == [1, 1]
    held = {template.clients.prefixlen: template.flows for template in feed.engine.templates()}
    assert held == {whole: 2, part: 2}
    service.persistence = None
    feed.engine.service_changed(service)
    assert [reached(net, feed.send(syn(net, cport))) for cport in (4004, 4005)] == [2, 0]
    service.persistence = Persistence(60 * SECOND, whole)
    feed.engine.service_changed(service)
    assert reached(net, feed.send(syn(net, 4006))) == 0
    feed.expire(61 * SECOND)  # the SYNs were all there was of these flows
    assert list(feed.engine.flows()) == []
    feed.expire(200 * SECOND)  # each let go of the template it held
    assert list(feed.engine.templates()) == []


def test_datagrams_are_scheduled_anew_once_the_service_says_so(net: Net, make_feed: MakeFeed) -> None:
    service = dns(net)
    feed = make_feed(net, service)
    assert [ask(net, feed, 4000), ask(net, feed, 4000)] == [0, 0]
    service.one_packet = True
    feed.engine.service_changed(service)
    assert ask(net, feed, 4000) == 0  # it has its flow
    assert [ask(net, feed, 4001) for _ in range(4)] == [1, 2, 0, 1]
    service.one_packet = False
    feed.engine.service_changed(service)
    assert [ask(net, feed, 4001) for _ in range(2)] == [2, 2]
    feed.engine.refresh()
    assert [one.flows for one in service.servers] == [2, 1, 2]
    feed.expire(1000 * SECOND)
    feed.engine.refresh()
    assert [one.flows for one in service.servers] == [0, 0, 0]


# Flows that are ended.


def end(feed: Feed, server: RealServer) -> list[FlowRecord]:
    async def collect() -> list[FlowRecord]:
        return [flow async for flows in feed.engine.end_flows(server) for flow in flows]

    return asyncio.run(collect())


def test_flows_of_one_server_are_ended(net: Net, make_feed: MakeFeed) -> None:
    service = web(net)
    feed = make_feed(net, service)
    first, second, _ = service.servers
    answers = [establish(net, feed, cport) for cport in (4000, 4001)]
    feed.now = SECOND
    (flow,) = end(feed, first)
    assert (flow.service, flow.server, flow.client.port, flow.state) == (service, first, 4000, "ESTABLISHED")
    assert (flow.packets_in, flow.packets_out) == (2, 1)
    feed.engine.refresh()
    assert [(one.active, one.inactive, one.connections) for one in (first, second)] == [(0, 0, 1), (1, 0, 1)]
    assert [(use.real, use.in_use, use.resting) for use in feed.engine.ports(feed.now)] == [
        (first.endpoint, 0, 1),
        (second.endpoint, 1, 0),
    ]
    assert_lives(net, feed, answers[1], 4001)
    for packet in (tcp(net.to_vip(), "A"), tcp(answers[0], "PA")) * 2:
        assert feed.send(packet) is None
    assert feed.engine.statistics().reasons[Reason.FLOW_ENDED] == 4
    assert reached(net, feed.send(syn(net))) == 2  # the same client may connect again at once
    assert end(feed, first) == []


def test_flows_are_ended_of_a_server_that_left_its_list_and_of_a_service_that_is_gone(
    net: Net, make_feed: MakeFeed
) -> None:
    service = web(net)
    feed = make_feed(net, service)
    first, second, third = service.servers
    for cport in range(4000, 4004):
        feed.send(syn(net, cport))
    feed.engine.set_servers(service, [second, third])
    assert sorted(flow.client.port for flow in end(feed, first)) == [4000, 4003]
    feed.engine.remove_service(service)
    assert [flow.client.port for flow in end(feed, second)] == [4001]
    feed.engine.refresh()
    assert [(one.flows, one.connections) for one in (first, second, third)] == [(0, 2), (0, 1), (1, 1)]
    assert [flow.server for flow in feed.engine.flows()] == [third]


def test_an_ended_flow_lets_go_of_its_template(net: Net, make_feed: MakeFeed) -> None:
    service = web(net, persistence=Persistence(60 * SECOND, 32 if net.family == 4 else 128))
    feed = make_feed(net, service)
    establish(net, feed)
    end(feed, service.servers[0])
    assert [template.flows for template in feed.engine.templates()] == [0]
    feed.expire(61 * SECOND)
    assert list(feed.engine.templates()) == []


def test_datagrams_and_their_fragments_meet_no_ended_flow(net: Net, make_feed: MakeFeed) -> None:
    service = dns(net, one_packet=True)
    feed = make_feed(net, service)
    first, second, third = fragments(udp(net.to_vip(vport=53), b"x" * 2500), 1000, 9)
    assert feed.send(first) is not None
    assert feed.send(second) is not None
    (flow,) = end(feed, service.servers[0])
    assert (flow.state, flow.packets_in) == ("UNREPLIED", 2)
    assert feed.send(third) is None
    assert feed.engine.statistics().reasons[Reason.FRAGMENT_DROPPED] == 1
    rip, lip = flow.server.endpoint, flow.local
    assert feed.send(udp(f"{rip} > {lip}")) is None
    assert feed.engine.statistics().reasons[Reason.NO_OUTBOUND_FLOW] == 1
    assert ask(net, feed, 4000) == 1


def test_many_flows_are_ended_a_handful_at_a_time(net: Net, make_feed: MakeFeed) -> None:
    service = dns(net)
    feed = make_feed(net, service, ports=PortRange(1024, 9000), flow_limit=10_000)
    feed.engine.set_servers(service, service.servers[:1])
    for cport in range(6000):
        assert ask(net, feed, 1024 + cport) == 0

    async def sizes() -> list[int]:
        return [len(flows) async for flows in feed.engine.end_flows(service.servers[0])]

    handfuls = asyncio.run(sizes())
    assert sum(handfuls) == 6000
    assert max(handfuls) <= 256
    assert feed.engine.statistics().flows == 0


def test_what_is_set_of_a_server_counts_for_new_flows_only(net: Net, make_feed: MakeFeed) -> None:
    service = web(net)
    feed = make_feed(net, service)
    first, second, third = service.servers
    answers = establish(net, feed)
    service.set_weight(first, 0)
    service.set_admin(second, Admin.QUIESCED)
    for server in (first, second):
        feed.engine.server_changed(service, server)
    assert [reached(net, feed.send(syn(net, cport))) for cport in (4001, 4002)] == [2, 2]
    service.set_health(third, Health.DOWN)
    service.set_weight(first, 1)
    for server in (first, third):
        feed.engine.server_changed(service, server)
    assert [reached(net, feed.send(syn(net, cport))) for cport in (4003, 4004)] == [0, 0]
    service.set_thresholds(first, 3, 1)
    feed.engine.server_changed(service, first)
    assert feed.send(syn(net, 4005)) is None
    assert feed.engine.statistics().reasons[Reason.NO_SERVER] == 1
    feed.engine.refresh()
    assert first.overloaded
    assert_lives(net, feed, answers)


@pytest.mark.parametrize(
    ("change", "server"),
    [
        (lambda service, server: service.set_weight(server, 0), 0),
        (lambda service, server: service.set_admin(server, Admin.DISABLED), 1),
        (lambda service, server: service.set_health(server, Health.DOWN), 1),
    ],
    ids=["quiesced", "disabled", "down"],
)
def test_persistence_leaves_a_server_that_is_gone_and_not_one_that_is_quiesced(
    net: Net, make_feed: MakeFeed, change: Callable[[VirtualService, RealServer], None], server: int
) -> None:
    service = web(net, persistence=Persistence(60 * SECOND, 32 if net.family == 4 else 128))
    feed = make_feed(net, service)
    assert [reached(net, feed.send(syn(net, cport))) for cport in (4000, 4001)] == [0, 0]
    change(service, service.servers[0])
    feed.engine.server_changed(service, service.servers[0])
    assert reached(net, feed.send(syn(net, 4002))) == server


def test_a_port_that_a_service_listens_on_is_no_local_port(net: Net, make_feed: MakeFeed) -> None:
    feed = make_feed(net, ports=PortRange(5000, 5000))
    listener = VirtualService(
        "on a LIP", TCP, Endpoint(ip_address(net.lip), 5000), RoundRobin(), PROFILES["lvs"], []
    )
    feed.engine.add_service(listener)
    assert feed.send(syn(net)) is None
    assert feed.engine.statistics().reasons[Reason.NO_LOCAL_PORT] == 1
    feed.engine.remove_service(listener)
    assert [reached(net, feed.send(syn(net, cport))) for cport in range(4001, 4004)] == [1, 2, 0]


def test_segments_are_clamped_to_the_routes(net: Net, make_feed: MakeFeed) -> None:
    feed, header = make_feed(net), 40 if net.family == 4 else 60
    network = ip_network("198.19.0.0/24" if net.family == 4 else "2001:db8:2::/64")
    for cport, mtu in ((4000, 1400), (4001, 1300)):
        feed.engine.set_path_mtu([(network, mtu)])
        sent = feed.send(tcp(net.to_vip(cport), "S", options=(("MSS", 1460),)))
        server = net.servers[cport - 4000]
        lip, rip = key_endpoints(parse(sent or b"").key)
        assert str(rip.address) == server
        assert sent == tcp(f"{lip} > {rip}", "S", options=(("MSS", mtu - header),))


# Users' schedulers.


def test_a_users_scheduler_is_asked_and_hears_of_flows(net: Net, make_feed: MakeFeed) -> None:
    watching = Watching()
    service = web(net, watching)
    feed = make_feed(net, service)
    feed.now = 7
    establish(net, feed)
    assert [reached(net, feed.send(syn(net, cport))) for cport in (4001, 4002)] == [1, 2]
    assert watching.requests[0] == Request(
        parse_endpoint(net.end(net.client, 4000)), service.listen, TCP, b"", 7
    )
    assert ("flows", 0, 1, 0) in watching.heard
    service.set_thresholds(service.servers[0], 1, 1)
    feed.engine.server_changed(service, service.servers[0])
    feed.send(syn(net, 4003))
    assert ("server", 0, 1, 0) in watching.heard


def test_a_persistent_client_is_not_asked_about_twice(net: Net, make_feed: MakeFeed) -> None:
    watching = Watching()
    service = web(net, watching, persistence=Persistence(60 * SECOND, 32 if net.family == 4 else 128))
    feed = make_feed(net, service)
    assert [reached(net, feed.send(syn(net, cport))) for cport in (4000, 4001)] == [0, 0]
    assert len(watching.requests) == 1


def dns(net: Net, **options: Any) -> VirtualService:
    servers = [RealServer(Endpoint(ip_address(rip), 5353)) for rip in net.servers]
    listen = Endpoint(ip_address(net.vip), 53)
    return VirtualService("dns", UDP, listen, RoundRobin(), PROFILES["lvs"], servers, **options)


def ask(net: Net, feed: Feed, cport: int) -> int | None:
    return reached(net, feed.send(udp(net.to_vip(cport, 53))))


class Mistaken(Scheduler):
    """Returns, or raises, what it is told."""

    name = "mistaken"
    result: ClassVar[object] = None

    def schedule(self, request: Request) -> RealServer | None:
        if isinstance(self.result, Exception):
            raise self.result
        return self.result  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("result", "reason", "complaint"),
    [
        (None, Reason.NO_SERVER, ""),
        (ZeroDivisionError("by zero"), Reason.SCHEDULER_FAILED, "web80: ZeroDivisionError: by zero"),
        (
            "server1",
            Reason.SCHEDULER_FAILED,
            "web80: schedule() returned 'server1', which is not in the service",
        ),
        (
            RealServer(parse_endpoint("198.19.0.11:8080")),
            Reason.SCHEDULER_FAILED,
            "web80: schedule() returned RealServer(198.19.0.11:8080, weight=1), which is not in the service",
        ),
    ],
    ids=["none", "raises", "no server", "a stranger"],
)
def test_what_a_users_scheduler_does_wrong_is_told_and_counted(
    net: Net,
    make_feed: MakeFeed,
    monkeypatch: pytest.MonkeyPatch,
    result: object,
    reason: Reason,
    complaint: str,
) -> None:
    monkeypatch.setattr(Mistaken, "result", result)
    feed = make_feed(net, web(net, Mistaken()))
    assert feed.send(syn(net)) is None
    counted = feed.engine.statistics()
    assert (counted.reasons[reason], counted.scheduler_error) == (1, complaint)


def test_a_subclass_of_a_built_in_scheduler_is_a_users(net: Net, make_feed: MakeFeed) -> None:
    class Last(RoundRobin):
        def schedule(self, request: Request) -> RealServer | None:
            return self.servers[-1]

    feed = make_feed(net, web(net, Last()))
    assert reached(net, feed.send(syn(net))) == 2


# The kernel's queues.

# number, netlink port, waiting, copy mode, copy range, queue dropped, user dropped, id sequence, 1
TABLE = """\
 1080   4711     7 2 65531   237     5        9  1
 1081   4711     2 2 65531     3     1       10  1
    7    815     0 1     0     0     0        1  1
"""


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The kernel's table of queues."""
    path = tmp_path / "nfnetlink_queue"
    path.write_text(TABLE)
    monkeypatch.setattr(queue_table, "PATH", path)
    return path


def test_the_kernels_table_is_summed_over_the_queues_of_an_engine(table: Path) -> None:
    assert read_rows([7]) == [QueueRow(7, 815, 0, 0, 0, 1)]
    assert read_drops([1080, 1081]) == Drops(240, 6)
    assert read_drops([1082]) == Drops(0, 0)
    table.unlink()
    assert read_drops([1080]) == Drops(0, 0)


def test_a_kernel_without_queues_is_told_by_name(table: Path, make_feed: MakeFeed) -> None:
    table.unlink()
    with pytest.raises(Unsupported, match=r"NFQUEUE: the kernel lacks it.*nfnetlink_queue"):
        make_feed(NETS[0]).engine.start(None)  # type: ignore[arg-type]


@pytest.mark.usefixtures("table")
def test_a_queue_that_is_taken_is_told_with_the_remedy(make_feed: MakeFeed) -> None:
    with pytest.raises(
        DatapathError, match=r"queue 7 is bound by another program .*set another \[engine\] queue"
    ):
        make_feed(NETS[0], queue=7).engine.start(None)  # type: ignore[arg-type]
