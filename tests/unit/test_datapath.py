# SPDX-License-Identifier: Apache-2.0
"""What control reads of engines and changes, and how one fails: the contract in datapath/base.py.

What becomes of packets is held by the rows of tests/vectors, for every director.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import ClassVar

import pytest

from fullnat.core.addr import TCP, Endpoint, PortRange, parse_endpoint
from fullnat.core.packet import key_endpoints, parse
from fullnat.core.reason import Reason
from fullnat.core.sched import Request, Scheduler
from fullnat.core.sched.rr import RoundRobin
from fullnat.core.service import Admin, Health, Persistence, RealServer, VirtualService
from fullnat.core.timeouts import PROFILES, SECOND
from fullnat.datapath import queue_table
from fullnat.datapath.base import DatapathError, Unsupported
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
    assert read_rows([7]) == [QueueRow(7, 815, 0, 0, 0)]
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
