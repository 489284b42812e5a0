# SPDX-License-Identifier: Apache-2.0
"""What happens at the limits: of flows, ports and servers, of time, of a scheduler, of good packets.

 client                    director                     real server
CIP:cport  ---inbound--->  VIP:vport | LIP:lport  --->  RIP:rport
           <--outbound---            |            <---
"""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest

from balancer import Balancer
from lab import Lab
from namespace import inside, ip_json
from tests.fuzz.mutate import corpus, mutate
from tests.netns.conversations import Browser, Parrots, ask, connect, is_reachable, tell
from tests.netns.traffic import reasons, vips, wait_until
from tests.vectors.case import V4, V6

pytestmark = pytest.mark.requires("nfqueue", "ipset", "iptables")

BOTH_FAMILIES = pytest.mark.parametrize("family", [4, 6])
ONE_SERVER = pytest.mark.parametrize("lab", [{"topology": "two-arm", "servers": 1}], indirect=True)
DNS = 53
EXPIRY = 4.0  # seconds: timeouts of 1, looked at once a second, on a busy machine


def one_family(lab: Lab, family: int, ports: str = "", **options: Any) -> str:
    """A configuration of one family, with its own local ports if given."""
    text = lab.config(families=(family,), **options)
    return text.replace("[snat]", f'[snat]\nports = "{ports}"') if ports else text


def counted(balancer: Balancer, reason: str) -> int:
    return reasons(balancer.show("stats")).get(reason, 0)


@pytest.fixture
def parrots(lab: Lab) -> Iterator[Parrots]:
    """A UDP server on every real server that says which one it is."""
    flock = Parrots(lab)
    for role in lab.servers:
        flock.add(role, DNS, socket.SOCK_DGRAM)
    with flock:
        yield flock


def resolver(lab: Lab, family: int, role: str = "client") -> socket.socket:
    """A UDP socket of *role* connected to the VIP."""
    return connect(lab, role, vips(lab, family)[0], DNS, kind=socket.SOCK_DGRAM)


# Flows and ports.


@BOTH_FAMILIES
def test_a_full_table_refuses_the_new_and_keeps_the_old(
    lab: Lab, balancer: Callable[..., Balancer], family: int
) -> None:
    vip = vips(lab, family)[0]
    running = balancer(one_family(lab, family, extra="[limits]\nflows = 2"))
    with Browser(lab, "client", vip) as one, Browser(lab, "client2", vip) as two:
        seen = one.ask(), two.ask()
        assert not is_reachable(lab, "client", vip)
        assert counted(running, "table_full") >= 1
        assert (one.ask(), two.ask()) == seen
        stats = running.show("stats")
        assert stats["flows"] == stats["flows_limit"] == 2


@BOTH_FAMILIES
def test_a_flow_that_ends_makes_room(lab: Lab, balancer: Callable[..., Balancer], family: int) -> None:
    vip = vips(lab, family)[0]
    running = balancer(
        one_family(lab, family, extra="[limits]\nflows = 1", service="[service.timeouts]\ntcp_reset = 1")
    )
    browser = Browser(lab, "client", vip)
    browser.ask()
    assert not is_reachable(lab, "client", vip)
    browser.reset()
    wait_until(lambda: running.show("stats")["flows"] == 0, EXPIRY, "the flow's end")
    assert ask(lab, "client", vip).server


@ONE_SERVER
@BOTH_FAMILIES
def test_spent_ports_are_counted_and_told(lab: Lab, balancer: Callable[..., Balancer], family: int) -> None:
    vip = vips(lab, family)[0]
    running = balancer(one_family(lab, family, "2000-2003", lips=1))
    with ExitStack() as stack:
        open_now = [stack.enter_context(Browser(lab, "client", vip)) for _ in range(4)]
        assert {browser.ask().port for browser in open_now} == {2000, 2001, 2002, 2003}
        assert not is_reachable(lab, "client", vip)
        assert counted(running, "no_local_port") >= 1
        assert counted(running, "flow_opened") == 4
        (use,) = running.show("ports")
        assert (use["in_use"], use["resting"], use["capacity"]) == (4, 0, 4)
        assert {browser.ask().port for browser in open_now} == {2000, 2001, 2002, 2003}


@ONE_SERVER
@BOTH_FAMILIES
def test_the_client_is_told_of_spent_ports_by_icmp(
    lab: Lab, balancer: Callable[..., Balancer], parrots: Parrots, family: int
) -> None:
    running = balancer(one_family(lab, family, "2000-2000", lips=1, protocol="udp", port=DNS))
    with resolver(lab, family) as first, resolver(lab, family) as second:
        assert tell(first, "hello") == "server1: hello"
        begun = time.monotonic()
        with pytest.raises(OSError, match="No route to host"):
            tell(second, "hello")
        assert time.monotonic() - begun < 1
        assert tell(first, "again") == "server1: again"
    assert counted(running, "no_local_port") == 1


@ONE_SERVER
@BOTH_FAMILIES
def test_the_next_local_address_is_used_when_the_first_is_spent(
    lab: Lab, balancer: Callable[..., Balancer], family: int
) -> None:
    vip = vips(lab, family)[0]
    running = balancer(one_family(lab, family, "2000-2001", lips=2))
    with ExitStack() as stack:
        seen = [stack.enter_context(Browser(lab, "client", vip)).ask() for _ in range(4)]
        assert not is_reachable(lab, "client", vip)
    addresses = [answer.client for answer in seen]
    assert addresses[0] == addresses[1] != addresses[2] == addresses[3]
    assert len({(answer.client, answer.port) for answer in seen}) == 4
    assert counted(running, "no_local_port") >= 1


@BOTH_FAMILIES
def test_one_local_port_serves_every_server(lab: Lab, balancer: Callable[..., Balancer], family: int) -> None:
    vip = vips(lab, family)[0]
    balancer(one_family(lab, family, "2000-2000", lips=1))
    with ExitStack() as stack:
        browsers = [stack.enter_context(Browser(lab, "client", vip)) for _ in lab.servers]
        for _ in range(2):
            seen = [browser.ask() for browser in browsers]
            assert [answer.server for answer in seen] == list(lab.servers)
            assert len({(answer.client, answer.port) for answer in seen}) == 1


# Servers.


@BOTH_FAMILIES
def test_a_server_at_its_threshold_gets_no_more(
    lab: Lab, balancer: Callable[..., Balancer], family: int
) -> None:
    vip = vips(lab, family)[0]
    config = one_family(
        lab, family, scheduler="fo", weights=(3, 2, 1), service="[service.timeouts]\ntcp_reset = 1"
    )
    running = balancer(config.replace("weight = 3", "weight = 3\n  upper = 2"))
    with ExitStack() as stack:
        browsers = [stack.enter_context(Browser(lab, "client", vip)) for _ in range(3)]
        assert [browser.ask().server for browser in browsers] == ["server1", "server1", "server2"]
        rows = running.show("servers")
        assert [row["overloaded"] for row in rows] == [True, False, False]
        assert [row["active"] for row in rows] == [2, 1, 0]
        browsers[0].reset()
        browsers[1].reset()
        wait_until(lambda: not running.show("servers")[0]["overloaded"], EXPIRY, "room on the server")
        assert ask(lab, "client", vip).server == "server1"


@BOTH_FAMILIES
def test_weight_0_quiesces(lab: Lab, balancer: Callable[..., Balancer], family: int) -> None:
    vip = vips(lab, family)[0]
    running = balancer(one_family(lab, family, weights=(1, 0, 1)))
    assert [ask(lab, "client", vip).server for _ in range(4)] == ["server1", "server3"] * 2
    (service,) = running.show("services")
    assert (service["available"], service["servers"]) == (2, 3)


@BOTH_FAMILIES
def test_without_a_server_the_client_is_refused_at_once(
    lab: Lab, balancer: Callable[..., Balancer], family: int
) -> None:
    running = balancer(one_family(lab, family, weights=(0, 0, 0)))
    with pytest.raises(ConnectionRefusedError):
        connect(lab, "client", vips(lab, family)[0])
    assert counted(running, "no_server") == 1


# Persistence.


def servers_of(lab: Lab, vip: str, role: str, count: int = 4) -> set[str]:
    return {ask(lab, role, vip).server for _ in range(count)}


@BOTH_FAMILIES
def test_a_persistent_client_stays_where_it_is(
    lab: Lab, balancer: Callable[..., Balancer], family: int
) -> None:
    vip = vips(lab, family)[0]
    running = balancer(one_family(lab, family, service="persistence = { timeout = 60 }"))
    assert servers_of(lab, vip, "client") == {"server1"}
    assert servers_of(lab, vip, "client2") == {"server2"}
    assert servers_of(lab, vip, "client") == {"server1"}
    clients = lab.clients4 if family == 4 else lab.clients6
    length = 32 if family == 4 else 128
    templates = running.show("persistence")
    assert {row["clients"] for row in templates} == {f"{client}/{length}" for client in clients}
    assert {row["flows"] for row in templates} == {4, 8}


@BOTH_FAMILIES
def test_persistent_clients_of_one_prefix_stay_together(
    lab: Lab, balancer: Callable[..., Balancer], family: int
) -> None:
    vip = vips(lab, family)[0]
    mask = 24 if family == 4 else 64
    balancer(one_family(lab, family, service=f"persistence = {{ timeout = 60, mask = {mask} }}"))
    assert servers_of(lab, vip, "client", 2) == servers_of(lab, vip, "client2", 2) == {"server1"}


@BOTH_FAMILIES
def test_persistence_ends_with_its_timeout(lab: Lab, balancer: Callable[..., Balancer], family: int) -> None:
    """The timeout counts from the last new connection, which here has ended long before."""
    vip = vips(lab, family)[0]
    service = "persistence = { timeout = 3 }\n[service.timeouts]\ntcp_reset = 0.5"
    running = balancer(one_family(lab, family, service=service))
    for _ in range(2):
        browser = Browser(lab, "client", vip)
        assert browser.ask().server == "server1"
        browser.reset()
    wait_until(lambda: running.show("stats")["flows"] == 0, 2.5, "the flows' end before the timeout")
    assert ask_and_reset(lab, vip) == "server1"
    wait_until(lambda: running.show("stats")["persistence"] == 0, 3 + EXPIRY, "the template's end")
    assert ask_and_reset(lab, vip) == "server2"


def ask_and_reset(lab: Lab, vip: str) -> str:
    browser = Browser(lab, "client", vip)
    answer = browser.ask()
    browser.reset()
    return answer.server


# Schedulers of one's own.

OWN_SCHEDULERS = '''\
"""The first byte of a datagram says which server is to have it."""

from fullnat.core.sched import Scheduler


class ByFirstByte(Scheduler):
    """1 is the first server."""

    name = "by-first-byte"

    def schedule(self, request):
        return self.servers[int(request.payload[:1]) - 1]


class Wrong(Scheduler):
    """Gives a server of another world."""

    def schedule(self, request):
        return "server1"
'''


def own_scheduler(lab: Lab, name: str, family: int, port: int = DNS, **options: Any) -> str:
    (lab.directory / "own.py").write_text(OWN_SCHEDULERS)
    return one_family(lab, family, scheduler=f"own.py:{name}", protocol="udp", port=port, **options)


@BOTH_FAMILIES
def test_a_scheduler_of_ones_own_reads_the_first_datagram(
    lab: Lab, balancer: Callable[..., Balancer], parrots: Parrots, family: int
) -> None:
    running = balancer(own_scheduler(lab, "ByFirstByte", family))
    for wanted in (3, 1, 2, 2):
        with resolver(lab, family) as client:
            assert tell(client, f"{wanted} please") == f"server{wanted}: {wanted} please"
            assert tell(client, "9 is of no weight now") == f"server{wanted}: 9 is of no weight now"
    (service,) = running.show("services")
    assert service["scheduler"] == "by-first-byte"


@BOTH_FAMILIES
@pytest.mark.parametrize(
    ("name", "complaint"), [("ByFirstByte", "ValueError"), ("Wrong", "not in the service")]
)
def test_a_scheduler_that_fails_is_counted_and_others_go_on(
    lab: Lab, balancer: Callable[..., Balancer], parrots: Parrots, family: int, name: str, complaint: str
) -> None:
    web = one_family(lab, family)
    own = own_scheduler(lab, name, family)
    running = balancer(f"{web}\n{own[own.index('[[service]]') :]}")
    with resolver(lab, family) as client:
        client.send(b"no number")
        wait_until(lambda: counted(running, "scheduler_failed") == 1, 2, "the failure being counted")
        assert complaint in running.show("stats")["scheduler_error"]
        assert ask(lab, "client", vips(lab, family)[0]).server == "server1"
        if name == "ByFirstByte":
            assert tell(client, "2 please") == "server2: 2 please"
    assert "Traceback" not in running.log


# Datagrams.


@BOTH_FAMILIES
def test_one_packet_scheduling_spreads_the_datagrams_of_one_socket(
    lab: Lab, balancer: Callable[..., Balancer], parrots: Parrots, family: int
) -> None:
    running = balancer(one_family(lab, family, protocol="udp", port=DNS, service="one_packet = true"))
    turn = [f"server{number}" for number in (1, 2, 3)]
    with resolver(lab, family) as client:
        answers = [tell(client, f"question {number}") for number in range(12)]
        assert answers == [f"{turn[number % 3]}: question {number}" for number in range(12)]
        for number in range(30):  # and all at once, the answers in any order
            client.send(f"burst {number}".encode())
        burst = {client.recv(100).decode() for _ in range(30)}
        assert burst == {f"{turn[number % 3]}: burst {number}" for number in range(30)}
    assert running.show("stats")["flows"] == 3


@BOTH_FAMILIES
def test_an_idle_udp_flow_ends_and_its_port_rests(
    lab: Lab, balancer: Callable[..., Balancer], parrots: Parrots, family: int
) -> None:
    service = "[service.timeouts]\nudp = 1\nudp_unreplied = 1"
    config = one_family(lab, family, "2000-2000", lips=1, protocol="udp", port=DNS, service=service)
    running = balancer(config.replace("ports =", "rest = 60\nports ="))
    for server in lab.servers:  # one each
        with resolver(lab, family) as client:
            assert tell(client, "hello") == f"{server}: hello"
    wait_until(lambda: running.show("stats")["flows"] == 0, EXPIRY, "the flows' end")
    assert {(row["in_use"], row["resting"]) for row in running.show("ports")} == {(0, 1)}
    with resolver(lab, family) as client, pytest.raises(OSError, match="No route to host"):
        tell(client, "while all ports rest")
    assert counted(running, "no_local_port") == 1


@ONE_SERVER
@BOTH_FAMILIES
def test_a_rested_port_is_used_again(
    lab: Lab, balancer: Callable[..., Balancer], parrots: Parrots, family: int
) -> None:
    service = "[service.timeouts]\nudp = 1\nudp_unreplied = 1"
    config = one_family(lab, family, "2000-2000", lips=1, protocol="udp", port=DNS, service=service)
    running = balancer(config.replace("ports =", "rest = 1\nports ="))
    for number in range(2):
        with resolver(lab, family) as client:
            assert tell(client, f"hello {number}") == f"server1: hello {number}"
        wait_until(lambda: running.show("stats")["flows"] == 0, EXPIRY, "the flow's end")


# Whatever comes.

PACKETS = 4000


def test_a_burst_of_malformed_packets_leaves_it_serving(
    lab: Lab, balancer: Callable[..., Balancer], parrots: Parrots
) -> None:
    web, names = lab.config(), lab.config(protocol="udp", port=DNS)
    running = balancer(f"{web}\n{names[names.index('[[service]]') :]}")
    with ExitStack() as stack:
        browsers = [
            stack.enter_context(Browser(lab, "client2", vips(lab, family)[0])) for family in lab.families
        ]
        seen = [browser.ask() for browser in browsers]
        flood(lab, seed=20260101)
        assert [browser.ask() for browser in browsers] == seen
        for family in lab.families:
            assert servers_of(lab, vips(lab, family)[0], "client2", 3) == set(lab.servers)
            with resolver(lab, family, "client2") as client:
                assert tell(client, "hello").endswith(": hello")
    stats = running.show("stats")
    assert stats["packets_received"] > PACKETS // 4  # the kernel drops the worst itself
    total = sum(row["count"] for row in stats["reasons"].values())
    # A held fragment is counted twice: when it is held, and when it is released or dropped.
    assert stats["packets_received"] <= total <= stats["packets_received"] + counted(running, "fragment_held")
    assert "Traceback" not in running.log


def flood(lab: Lab, seed: int) -> None:
    """Send PACKETS mutated packets as frames to the director, so that no kernel of ours corrects them."""
    rng = random.Random(seed)
    corpora = {0x0800: corpus(V4), 0x86DD: corpus(V6)}
    everything = [packet for packets in corpora.values() for packet in packets]
    (link,) = ip_json("link", "show", "eth0", namespace=lab.namespace("director"))
    director = bytes.fromhex(link["address"].replace(":", ""))
    with inside(lab.namespace("client")):
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
    with wire:
        for _ in range(PACKETS):
            protocol = rng.choice(list(corpora))
            packet = rng.choice(corpora[protocol])
            if rng.random() < 0.9:
                packet = mutate(packet, rng.choice(everything), rng)
            with suppress(OSError):  # larger than the link takes
                wire.sendto(packet, ("eth0", protocol, 0, 0, director))
