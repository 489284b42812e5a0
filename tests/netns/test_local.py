# SPDX-License-Identifier: Apache-2.0
"""The host's own life goes on: its connections, its firewall, its routing, and servers nobody touched.

 client                    director                     real server
CIP:cport  ---inbound--->  VIP:vport | LIP:lport  --->  RIP:rport
           <--outbound---            |            <---
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from balancer import Balancer
from hoststate import HostState
from lab import Lab
from tests.netns.conversations import Browser, Parrots, ask, connect, is_reachable, tell
from tests.netns.traffic import lips, reasons, servers, url_host, vips, wait_until

pytestmark = pytest.mark.requires("nfqueue", "ipset", "iptables", "curl")

SSH = 22
BOTH_FAMILIES = pytest.mark.parametrize("family", [4, 6])
DNS = 53
FRAGMENTED = "x" * 8000


def director_address(lab: Lab, family: int) -> str:
    """The director's own address on the clients' side."""
    return next(host for host in lab.topology.hosts if host.role == "director").addresses(family)[0]


# The host's own connections.


@pytest.mark.parametrize("lab", ["two-arm", "one-arm"], indirect=True)
def test_ssh_to_the_local_address_goes_on(lab: Lab, balancer: Callable[..., Balancer]) -> None:
    ends = [("client", director_address(lab, family)) for family in lab.families]
    ends += [("server1", lab.lips4[0]), ("server1", lab.lips6[0])]
    parrots = Parrots(lab)
    parrots.add("director", SSH)
    with parrots, ExitStack() as stack:
        old = [stack.enter_context(connect(lab, role, address, SSH)) for role, address in ends]

        def still_work(when: str) -> None:
            for connection in old:
                assert tell(connection, when) == f"director: {when}"
            for role, address in ends:
                with connect(lab, role, address, SSH) as fresh:
                    assert tell(fresh, when) == f"director: {when}"

        still_work("before")
        running = balancer()
        still_work("during")
        ask(lab, "client", lab.vips4[0])
        still_work("with flows to the same server")
        assert running.stop() == 0
        still_work("after")


@BOTH_FAMILIES
def test_the_director_talks_to_a_server_itself(
    lab: Lab, balancer: Callable[..., Balancer], family: int
) -> None:
    server, vip = servers(lab, family)[0], vips(lab, family)[0]
    with Browser(lab, "director", server) as own:
        before = own.ask()
        assert before.client in lips(lab, family)
        running = balancer(lab.config(lips=1))
        assert own.ask() == before
        with Browser(lab, "client", vip) as balanced:
            flow = balanced.ask()
            assert flow.server == "server1"
            assert flow.client == before.client  # the same two addresses, told apart by the port
            assert own.ask() == before
            assert ask(lab, "director", server).server == "server1"
            assert balanced.ask() == flow
        assert running.stop() == 0
        assert own.ask() == before


@BOTH_FAMILIES
@pytest.mark.parametrize("lab", ["two-arm", "one-arm", "dual-stack"], indirect=True)
def test_a_client_on_the_balancer_itself_uses_the_vip(
    lab: Lab, balancer: Callable[..., Balancer], family: int
) -> None:
    running = balancer()
    seen = [ask(lab, "director", vips(lab, family)[0]) for _ in range(3)]
    assert [answer.server for answer in seen] == ["server1", "server2", "server3"]
    assert {answer.client for answer in seen} <= lips(lab, family)
    assert len(running.show("flows")) == 3


@BOTH_FAMILIES
def test_a_client_on_the_balancer_sends_datagrams_to_the_vip(
    lab: Lab, balancer: Callable[..., Balancer], family: int
) -> None:
    parrots = Parrots(lab)
    for role in lab.servers:
        parrots.add(role, DNS, socket.SOCK_DGRAM)
    balancer(lab.config(protocol="udp", port=DNS))
    with parrots, connect(lab, "director", vips(lab, family)[0], DNS, kind=socket.SOCK_DGRAM) as resolver:
        assert tell(resolver, "hello") == "server1: hello"
        assert tell(resolver, FRAGMENTED) == f"server1: {FRAGMENTED}"


# The host's firewall.

FORWARD_DROP = """\
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
COMMIT
"""
# As on many servers: what was asked for comes in, and neighbour discovery; nothing else.
STATEFUL = """\
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT DROP [0:0]
-A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
-A INPUT -m conntrack --ctstate INVALID -j DROP
-A INPUT -i lo -j ACCEPT
-A INPUT -p ipv6-icmp -j ACCEPT
-A OUTPUT -m conntrack --ctstate NEW,ESTABLISHED,RELATED -j ACCEPT
-A OUTPUT -p ipv6-icmp -j ACCEPT
COMMIT
"""


@pytest.fixture
def firewall(request: pytest.FixtureRequest, lab: Lab) -> str:
    """The firewall that the indirect parameter is, on the director; named before `balancer` by a test."""
    rules: str = request.param
    for program in ("iptables-restore", "ip6tables-restore"):
        lab.run("director", [program], input=rules)
    return rules


@pytest.mark.parametrize("lab", ["two-arm", "one-arm", "dual-stack"], indirect=True)
@pytest.mark.parametrize(
    "firewall", [FORWARD_DROP, STATEFUL], ids=["FORWARD DROP", "stateful"], indirect=True
)
def test_a_firewall_lets_balanced_and_own_connections_pass_and_no_others(
    lab: Lab, firewall: str, balancer: Callable[..., Balancer]
) -> None:
    parrots = Parrots(lab)
    parrots.add("director", SSH)
    for role in lab.servers:
        parrots.add(role, DNS, socket.SOCK_DGRAM)
    names = lab.config(protocol="udp", port=DNS)
    running = balancer(f"{lab.config()}\n{names[names.index('[[service]]') :]}")
    with parrots, ExitStack() as stack:
        for family in lab.families:
            vip, server = vips(lab, family)[0], servers(lab, family)[0]
            own = stack.enter_context(Browser(lab, "director", server))
            assert own.ask().server == "server1"
            for role in ("client", "director"):
                assert ask(lab, role, vip).client in lips(lab, family)
                with connect(lab, role, vip, DNS, kind=socket.SOCK_DGRAM) as resolver:
                    assert tell(resolver, "hello").endswith(": hello")
                    assert tell(resolver, FRAGMENTED).endswith(f": {FRAGMENTED}")
            assert own.ask().server == "server1"
            lets_in = firewall == FORWARD_DROP
            assert is_reachable(lab, "client", director_address(lab, family), SSH) == lets_in
    counted = reasons(running.show("stats"))
    assert counted["flow_opened"] == 4 * len(lab.families)
    assert not counted.keys() & {"no_flow", "fragment_timeout", "truncated"}


@pytest.mark.parametrize("firewall", [STATEFUL], ids=["stateful"], indirect=True)
@pytest.mark.usefixtures("firewall")
@pytest.mark.requires("conntrack")
def test_balanced_connections_are_not_tracked(lab: Lab, balancer: Callable[..., Balancer]) -> None:
    balancer()
    for family in lab.families:
        ask(lab, "client", vips(lab, family)[0])
        listing = lab.run("director", ["conntrack", "-L", "-f", f"ipv{family}"]).stdout
        assert "dport=80" not in listing
    with Browser(lab, "director", lab.servers4[0]):
        assert "dport=80" in lab.run("director", ["conntrack", "-L"]).stdout  # its own are


# Whose address is whose.


@BOTH_FAMILIES
@pytest.mark.parametrize("lab", ["one-arm"], indirect=True)
def test_a_server_is_a_client_of_its_own_vip(
    lab: Lab, balancer: Callable[..., Balancer], family: int
) -> None:
    balancer()
    seen = [(role, ask(lab, role, vips(lab, family)[0])) for role in lab.servers for _ in lab.servers]
    pairs = {(role, answer.server) for role, answer in seen}
    assert pairs == {(role, server) for role in lab.servers for server in lab.servers}
    assert {answer.client for _, answer in seen} <= lips(lab, family)


@BOTH_FAMILIES
@pytest.mark.parametrize("lab", [{"topology": "two-arm", "servers": 1}], indirect=True)
def test_the_only_server_reaches_itself_through_a_vip_of_its_own_network(
    lab: Lab, balancer: Callable[..., Balancer], family: int
) -> None:
    inside = {4: "198.19.0.100", 6: "2001:db8:2::100"}
    config = lab.config()
    for number in (4, 6):
        config = config.replace(vips(lab, number)[0], inside[number])
    balancer(config)
    answer = ask(lab, "server1", inside[family])
    assert answer.server == "server1"
    assert answer.client in lips(lab, family)


@BOTH_FAMILIES
def test_every_vip_answers_from_itself(lab: Lab, balancer: Callable[..., Balancer], family: int) -> None:
    """One client port towards two VIPs at once: the client's kernel takes each answer for what it is."""
    running = balancer(lab.config(vips=2))
    source = ("", 40000)
    one, two = vips(lab, family)
    with (
        Browser(lab, "client", one, source=source) as first,
        Browser(lab, "client", two, source=source) as second,
    ):
        seen = first.ask(), second.ask()
        assert (first.ask(), second.ask()) == seen
        assert {connection.socket.getpeername()[0] for connection in (first, second)} == {one, two}
        flows = running.show("flows")
        assert {flow["virtual"].rpartition(":")[0].strip("[]") for flow in flows} == {one, two}
        assert len({flow["client"] for flow in flows}) == 1


@BOTH_FAMILIES
@pytest.mark.parametrize("lab", ["dual-stack"], indirect=True)
@pytest.mark.requires("ping")
def test_a_vip_on_no_interface_answers_pings_and_nothing_else_does(
    lab: Lab, balancer: Callable[..., Balancer], family: int
) -> None:
    def pings(role: str, address: str) -> bool:
        return lab.run(role, ["ping", "-n", "-c", "1", "-W", "1", address], check=False).returncode == 0

    served, unserved = vips(lab, family)
    running = balancer()
    for address in (*lab.vips4, *lab.vips6):
        assert address not in lab.run("director", ["ip", "address"]).stdout
    for role in ("client", "director"):
        assert pings(role, served)
    assert not pings("client", unserved)
    more = f'\n[[service]]\nlisten = "tcp://{url_host(unserved)}:80"\n'
    running.configure(lab.config() + more)
    running.command("reload")
    assert pings("client", unserved)
    running.configure(lab.config())
    running.command("reload")
    wait_until(lambda: not pings("client", unserved), 10, "nobody answering for what is gone")
    assert running.stop() == 0
    assert not pings("client", served)


# The director is no router, unless it was one.


@pytest.fixture
def routes_past_the_balancer(lab: Lab) -> None:
    """Client and first server would reach each other, if only the director forwarded."""
    for route in ("198.19.0.0/24 via 203.0.113.1", "2001:db8:2::/64 via 2001:db8:1::1"):
        lab.run("client", ["ip", "route", "add", *route.split()])
    for route in ("203.0.113.0/24 via 198.19.0.1", "2001:db8:1::/64 via 2001:db8:2::1"):
        lab.run("server1", ["ip", "route", "add", *route.split()])


@pytest.fixture
def forwarding(request: pytest.FixtureRequest, lab: Lab) -> bool:
    """Whether the director forwards before fullnat comes."""
    wanted: bool = request.param
    for name in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
        lab.run("director", ["sysctl", "-q", f"{name}={int(wanted)}"])
    return wanted


@BOTH_FAMILIES
@pytest.mark.parametrize("forwarding", [False, True], ids=["host", "router"], indirect=True)
@pytest.mark.usefixtures("routes_past_the_balancer")
def test_the_director_forwards_for_others_only_if_it_did_before(
    lab: Lab, forwarding: bool, balancer: Callable[..., Balancer], family: int
) -> None:
    server, client = servers(lab, family)[0], (lab.clients4 if family == 4 else lab.clients6)[0]

    def passes() -> set[bool]:
        there = is_reachable(lab, "client", server)
        back = lab.run("server1", ["ping", "-n", "-c", "1", "-W", "1", client], check=False).returncode == 0
        return {there, back}

    assert passes() == {forwarding}
    running = balancer()
    assert passes() == {forwarding}
    assert ask(lab, "client", vips(lab, family)[0]).client in lips(lab, family)
    assert running.stop() == 0
    assert passes() == {forwarding}


@pytest.fixture
def servers_before(lab: Lab) -> Iterator[dict[str, HostState]]:
    """Every server's state; it must be the same at the end."""
    before = {role: HostState.of(lab, role) for role in lab.servers}
    yield before
    for role, state in before.items():
        assert state.changes_to(HostState.of(lab, role)) == []


@pytest.mark.parametrize("lab", ["two-arm", "one-arm", "routed", "dual-stack", "howto"], indirect=True)
def test_nothing_is_changed_on_any_server(
    lab: Lab, servers_before: dict[str, HostState], balancer: Callable[..., Balancer]
) -> None:
    balancer()
    for family in lab.families:
        answers = [ask(lab, "client", vips(lab, family)[0]) for _ in lab.servers]
        assert {answer.server for answer in answers} == set(lab.servers)
    for role, state in servers_before.items():
        assert state.changes_to(HostState.of(lab, role)) == []
