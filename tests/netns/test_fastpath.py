# SPDX-License-Identifier: Apache-2.0
"""The program on the devices: what it carries, what it leaves alone, and what befalls the devices.

 client                    director                     real server
CIP:cport  ---inbound--->  VIP:vport | LIP:lport  --->  RIP:rport
           <--outbound---            |            <---
"""

from __future__ import annotations

import mmap
import os
import random
import socket
import struct
from collections.abc import Callable
from contextlib import ExitStack, suppress
from itertools import product
from typing import Any

import pytest

from balancer import Balancer
from fullnat.host.fastpath import pin_directory, places
from fullnat.host.libbpf import Libbpf
from lab import Lab
from namespace import cookie, ip, ip_batch, read_sysctls, write_sysctls
from tests.netns.conversations import Parrots, connect, tell
from tests.netns.streams import ECHO, TRANSPORTS, UdpFlows, echo_config, open_all, start_echo
from tests.netns.traffic import reasons, servers, vips, wait_until

pytestmark = pytest.mark.requires("nfqueue", "ipset", "iptables", "ebpf")

LONG = os.environ.get("FULLNAT_LONG") == "1"
FLOWS = 200_000 if LONG else 20_000
IDLE = 60 if LONG else 6  # seconds until they expire: longer than it takes to open them
BULK = 4 << 20
PAIR = {"topology": "two-arm", "servers": 1, "clients": 1}  # plain veth pairs, without a switch

IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_DONT, PMTUDISC_DO = 10, 23, 0, 2  # linux/in.h, linux/in6.h
TCP_INFO_SEGMENTS = 136  # offset of tcpi_segs_out, and tcpi_segs_in behind it: linux/tcp.h

Row = dict[str, Any]


@pytest.fixture
def datapath() -> str:
    """The engine that has a fast path."""
    return "ebpf"


def queued(lab: Lab) -> int:
    """How many packets the director's queues have had."""
    table = lab.run("director", ["cat", "/proc/net/netfilter/nfnetlink_queue"]).stdout
    return sum(int(line.split()[7]) for line in table.splitlines())


def carried(balancer: Balancer) -> int:
    """How many packets the engine or its program carried in known flows."""
    counts = reasons(balancer.show("stats"))
    return counts.get("flow_inbound", 0) + counts.get("flow_outbound", 0)


def flow_of(balancer: Balancer, talk: socket.socket) -> Row:
    """What is shown of the flow of a client's socket."""
    address, port = talk.getsockname()[:2]
    client = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    protocol = "tcp" if talk.type == socket.SOCK_STREAM else "udp"
    (row,) = (row for row in balancer.show("flows") if (row["protocol"], row["client"]) == (protocol, client))
    assert isinstance(row, dict)
    return row


def exchange(talk: socket.socket, data: bytes) -> None:
    """Send *data* to an echo, and have it back."""
    talk.settimeout(30)
    talk.sendall(data)
    got = b""
    while len(got) < len(data) and (more := talk.recv(1 << 16)):
        got += more
    assert got == data


# Counters.


class Tally:
    """A rule of the kernel of *role* that counts packets to or from ECHO."""

    def __init__(self, lab: Lab, role: str, family: int, chain: str, *match: str) -> None:
        """Begin to count."""
        self._lab, self._role, self._chain = lab, role, chain
        self._program = "iptables" if family == 4 else "ip6tables"
        lab.run(role, [self._program, "-A", chain, *match])

    def counts(self) -> tuple[int, int]:
        """Packets and bytes until now."""
        listing = self._lab.run(self._role, [self._program, "-nvxL", self._chain]).stdout.splitlines()
        packets, size, *_ = listing[2].split()
        return int(packets), int(size)


@pytest.mark.parametrize("lab", [{"topology": "two-arm", "servers": 2}], indirect=True)
@pytest.mark.parametrize("family", [4, 6])
def test_datagrams_are_counted_as_the_ends_count_them(
    lab: Lab, balancer: Callable[..., Balancer], parrots: Parrots, family: int
) -> None:
    running = balancer(lab.config(protocol="udp", port=ECHO, families=(family,)))
    sent, received = (
        Tally(lab, "client", family, chain, "-p", "udp", port, str(ECHO))
        for chain, port in (("OUTPUT", "--dport"), ("INPUT", "--sport"))
    )
    at_servers = [
        [
            Tally(lab, role, family, chain, "-p", "udp", port, str(ECHO))
            for chain, port in (("INPUT", "--dport"), ("OUTPUT", "--sport"))
        ]
        for role in lab.servers
    ]
    before, chance = queued(lab), random.Random(7)
    with ExitStack() as stack:
        talks = [
            stack.enter_context(connect(lab, "client", vips(lab, family)[0], ECHO, kind=socket.SOCK_DGRAM))
            for _ in range(3)
        ]
        for number in range(300):
            tell(talks[number % 3], "x" * chance.randrange(1, 1200))
        assert queued(lab) == before + 3  # the first of each
        rows = [flow_of(running, talk) for talk in talks]
    assert [(row["packets_in"], row["packets_out"]) for row in rows] == [(100, 100)] * 3

    def total(shown: list[Row]) -> list[tuple[int, int]]:
        return [
            (sum(r[f"packets_{way}"] for r in shown), sum(r[f"bytes_{way}"] for r in shown))
            for way in ("in", "out")
        ]

    assert total(rows) == [sent.counts(), received.counts()]
    assert total(running.show("services")) == total(rows)
    for row, tallies in zip(running.show("servers"), at_servers, strict=True):
        assert total([row]) == [tally.counts() for tally in tallies]
    counts = reasons(running.show("stats"))
    assert (counts["flow_opened"], counts["flow_inbound"], counts["flow_outbound"]) == (3, 297, 300)


@pytest.mark.parametrize("lab", [{"topology": "two-arm", "servers": 1}], indirect=True)
@pytest.mark.parametrize("family", [4, 6])
def test_segments_are_counted_as_they_are_on_the_wire(
    lab: Lab, balancer: Callable[..., Balancer], family: int
) -> None:
    start_echo(lab)
    running = balancer(lab.config(port=ECHO, families=(family,)))
    with connect(lab, "client", vips(lab, family)[0], ECHO) as talk:
        for _ in range(50):
            exchange(talk, b"a question")
        exchange(talk, random.Random(7).randbytes(BULK))

        def agrees() -> bool:
            info = talk.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
            row = flow_of(running, talk)
            return struct.unpack_from("=II", info, TCP_INFO_SEGMENTS) == (
                row["packets_in"],
                row["packets_out"],
            )

        wait_until(agrees, 5, "the flow's counters being the client's")  # once the last ACK is there
        row = flow_of(running, talk)
        assert row["packets_in"] > BULK // 1500  # segments, not what a device takes at once
    (server,) = running.show("servers")
    assert server["packets_in"] >= row["packets_in"]
    assert server["bytes_in"] > BULK + 40 * row["packets_in"]
    assert queued(lab) < 10


# Sizes.


@pytest.mark.parametrize(
    "lab",
    [
        {**PAIR, "mtu": {"outside": outside, "inside": inside}}
        for outside, inside in ((1280, 9000), (9000, 1280), (1500, 1400), (9000, 9000))
    ],
    ids=["1280 to 9000", "9000 to 1280", "1500 to 1400", "9000 to 9000"],
    indirect=True,
)
@pytest.mark.parametrize("may_divide", [False, True], ids=["DF", "no DF"])
def test_streams_pass_between_any_two_sizes(
    lab: Lab, balancer: Callable[..., Balancer], may_divide: bool
) -> None:
    for role in ("client", "server1"):
        write_sysctls(lab.namespace(role), [("net/ipv4/ip_no_pmtu_disc", int(may_divide))])
    start_echo(lab)
    running = balancer(lab.config(port=ECHO))
    data = random.Random(7).randbytes(BULK)
    for family in lab.families:
        before = queued(lab)
        with connect(lab, "client", vips(lab, family)[0], ECHO) as talk:
            exchange(talk, data)
            row = flow_of(running, talk)
        assert row["bytes_in"] > BULK
        assert row["bytes_out"] > BULK
        # What may have to be divided further on needs an identification, which the engine gives.
        assert (queued(lab) - before < 20) == (family == 6 or not may_divide)


@pytest.mark.parametrize("lab", [{**PAIR, "mtu": {"inside": 1280}}], indirect=True)
def test_a_datagram_too_big_for_its_path_in_a_known_flow(
    lab: Lab, balancer: Callable[..., Balancer], parrots: Parrots
) -> None:
    running = balancer(lab.config(protocol="udp", port=ECHO))
    for family in lab.families:
        level, option = (
            (socket.IPPROTO_IP, IP_MTU_DISCOVER) if family == 4 else (socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER)
        )
        with connect(lab, "client", vips(lab, family)[0], ECHO, kind=socket.SOCK_DGRAM) as talk:
            talk.setsockopt(level, option, PMTUDISC_DO)
            tell(talk, "hello")
            talk.send(b"x" * 1400)
            with pytest.raises(OSError, match="Message too long"):
                talk.recv(2000)
            assert tell(talk, "hello again") == "server1: hello again"
            # The client knows now, and divides; what is in pieces is the engine's.
            talk.setsockopt(level, option, PMTUDISC_DONT)
            assert tell(talk, "x" * 1400) == "server1: " + "x" * 1400
            assert tell(talk, "hello again") == "server1: hello again"
            assert flow_of(running, talk)["local"]
    stats = running.show("stats")
    assert stats["passed_too_big"] == len(lab.families)
    assert reasons(stats)["icmp_relayed"] >= len(lab.families)
    assert reasons(stats)["flow_opened"] == len(lab.families)


def test_the_last_hop_is_told_of(lab: Lab, balancer: Callable[..., Balancer], parrots: Parrots) -> None:
    running = balancer(lab.config(protocol="udp", port=ECHO))
    for family in lab.families:
        level, option = (
            (socket.IPPROTO_IP, socket.IP_TTL)
            if family == 4
            else (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS)
        )
        with connect(lab, "client", vips(lab, family)[0], ECHO, kind=socket.SOCK_DGRAM) as talk:
            tell(talk, "hello")
            talk.setsockopt(level, option, 1)
            talk.send(b"as far as you can")
            with pytest.raises(OSError, match="No route to host"):  # what sockets make of `time exceeded`
                talk.recv(100)
            talk.setsockopt(level, option, 2)  # one for the director, and one to arrive with
            assert tell(talk, "and there")
            assert flow_of(running, talk)["packets_out"] == 2
    assert running.show("stats")["passed_expired"] == len(lab.families)


# Devices and neighbours.


def resumes(talk: socket.socket) -> bool:
    """Whether a conversation goes on: a datagram may be lost, a segment is sent again."""
    if talk.type == socket.SOCK_STREAM:
        talk.settimeout(20)
        return tell(talk, "still here").endswith("still here")
    talk.settimeout(0.2)
    with suppress(OSError):
        talk.send(b"still here")
        while talk.recv(100):
            return True
    return False


def test_neighbours_that_are_forgotten_are_asked_for(
    lab: Lab, balancer: Callable[..., Balancer], parrots: Parrots
) -> None:
    running = balancer(echo_config(lab))
    with ExitStack() as stack:
        talks = open_all(stack, lab)
        before = queued(lab)
        for number in range(5):
            for device in ("eth0", "eth1"):
                lab.run("director", ["ip", "neigh", "flush", "dev", device])
            for talk in talks:
                assert tell(talk, f"{number}").endswith(f": {number}")
        assert queued(lab) == before
        for talk in talks:
            assert flow_of(running, talk)["packets_out"] >= 7


@pytest.fixture
def _quick_neighbours(lab: Lab) -> None:
    """Have the director miss a neighbour in seconds, not in a minute."""
    settings = [("base_reachable_time_ms", 1000), ("delay_first_probe_time", 1), ("retrans_time_ms", 100)]
    for family in ("ipv4", "ipv6"):
        for device in ("eth0", "eth1"):
            below = f"net/{family}/neigh/{device}"
            write_sysctls(lab.namespace("director"), [(f"{below}/{name}", value) for name, value in settings])


@pytest.mark.usefixtures("_quick_neighbours")
@pytest.mark.parametrize("lab", [{"topology": "two-arm", "servers": 1}], indirect=True)
@pytest.mark.parametrize("role", ["server1", "client"])
def test_a_neighbour_that_changes_its_address_is_found_again(
    lab: Lab, balancer: Callable[..., Balancer], parrots: Parrots, role: str
) -> None:
    balancer(echo_config(lab))
    with ExitStack() as stack:
        talks = open_all(stack, lab)
        before = queued(lab)
        ip("link", "set", "eth0", "address", "02:00:00:00:99:99", namespace=lab.namespace(role))
        for talk in talks:
            wait_until(lambda: resumes(talk), 20, "the neighbour being found")  # noqa: B023
        assert queued(lab) == before


@pytest.fixture
def _kept_addresses(lab: Lab) -> None:
    """Have IPv6 addresses survive their device going down, as IPv4 ones do."""
    write_sysctls(lab.namespace("director"), [("net/ipv6/conf/all/keep_addr_on_down", 1)])


@pytest.mark.usefixtures("_kept_addresses")
@pytest.mark.parametrize("device", ["eth0", "eth1"])
def test_a_device_that_goes_down_and_comes_up(
    lab: Lab, balancer: Callable[..., Balancer], parrots: Parrots, device: str
) -> None:
    director = lab.namespace("director")
    running = balancer(echo_config(lab))
    with ExitStack() as stack:
        talks = open_all(stack, lab)
        local = [flow_of(running, talk)["local"] for talk in talks]
        ip("link", "set", device, "down", namespace=director)
        for talk in talks:
            with suppress(OSError):
                talk.send(b"lost")
        ip("link", "set", device, "up", namespace=director)
        for talk in talks:
            wait_until(lambda: resumes(talk), 20, "the device carrying again")  # noqa: B023
        before = queued(lab)
        for talk in talks:
            assert resumes(talk)
        assert queued(lab) == before
        assert [flow_of(running, talk)["local"] for talk in talks] == local


INSIDE = {4: "198.19.0.{}/24", 6: "2001:db8:2::{}/64"}


VLAN = pytest.mark.requires("vlan")


@pytest.fixture(
    params=["bridge", pytest.param("vlan", marks=VLAN), pytest.param("vlan on a bridge", marks=VLAN)]
)
def _stacked(lab: Lab, request: pytest.FixtureRequest) -> None:
    """Put the inside network on devices on top of the director's and the server's."""
    kind = request.param
    # Where br_netfilter is on, raw PREROUTING, and so the engine, has bridged packets before the program.
    bridged = [(name, 0) for name in read_sysctls(lab.namespace("director"), ["net/bridge/bridge-nf-call-*"])]
    write_sysctls(lab.namespace("director"), bridged)
    for role, device, host in (("director", "eth1", 1), ("server1", "eth0", 11)):
        upper = "inside"
        lines = [f"address del {text.format(host)} dev {device}" for text in INSIDE.values()]
        if "bridge" in kind and role == "director":
            lines.append(f"link add {upper} type bridge forward_delay 0 stp_state 0")
            lines.append(f"link set {device} master {upper}")
            device = upper  # noqa: PLW2901
            upper = "tagged"
            lines.append(f"link set {device} up")
        if "vlan" in kind:
            lines.append(f"link add link {device} name {upper} type vlan id 5")
            device = upper  # noqa: PLW2901
        lines.append(f"link set {device} up")
        lines += [
            f"address add {text.format(host)} dev {device}" + (" nodad" if family == 6 else "")
            for family, text in INSIDE.items()
        ]
        ip_batch(lines, lab.namespace(role))


@pytest.mark.usefixtures("_stacked")
@pytest.mark.parametrize("lab", [PAIR], indirect=True)
def test_devices_on_devices_are_served_by_the_program(lab: Lab, balancer: Callable[..., Balancer]) -> None:
    start_echo(lab)
    running = balancer(echo_config(lab))
    before = queued(lab)
    data = random.Random(7).randbytes(BULK)
    for family in lab.families:
        with connect(lab, "client", vips(lab, family)[0], ECHO) as stream:
            exchange(stream, data)
        with connect(lab, "client", vips(lab, family)[0], ECHO, kind=socket.SOCK_DGRAM) as talk:
            for number in range(100):
                exchange(talk, b"%d" % number)
            assert flow_of(running, talk)["packets_out"] == 100
    assert queued(lab) - before < 20
    assert carried(running) > 2 * 2 * BULK // 1500


def test_a_device_that_comes_later_is_served_by_the_program(
    lab: Lab, balancer: Callable[..., Balancer], parrots: Parrots
) -> None:
    director = lab.namespace("director")
    running = balancer(echo_config(lab))
    with ExitStack() as stack:
        open_all(stack, lab)
        ip_batch(["link add later type veth peer name peer", "link set later up"], director)
        told = 'kind=host-repaired finding="device later'
        wait_until(lambda: told in running.log, 15, "the device being found")
        ip_batch(["link del later"], director)
        for talk in open_all(stack, lab, "client2"):
            tell(talk, "still here")


# Other hosts' packets.


def test_a_frame_for_another_host_is_left_alone(
    lab: Lab, balancer: Callable[..., Balancer], parrots: Parrots
) -> None:
    running = balancer(echo_config(lab))
    client = lab.namespace("client")
    ip("link", "set", "eth0", "promisc", "on", namespace=lab.namespace("director"))
    with ExitStack() as stack:
        talks = open_all(stack, lab)
        before = [flow_of(running, talk) for talk in talks]
        for family in lab.families:
            stranger = ("lladdr", "02:00:00:00:99:99", "dev", "eth0", "nud", "permanent")
            ip("neigh", "replace", vips(lab, family)[0], *stranger, namespace=client)
        for talk in talks:
            talk.settimeout(0.3)
            with pytest.raises(TimeoutError):
                tell(talk, "not for you")
        after = [flow_of(running, talk) for talk in talks]
        for old, new in zip(before, after, strict=True):
            assert new["packets_in"] - old["packets_in"] in ((0, 1) if new["protocol"] == "tcp" else (0,))
            assert new["bytes_in"] - old["bytes_in"] < 100
        for family in lab.families:
            ip("neigh", "del", vips(lab, family)[0], "dev", "eth0", namespace=client)
        for talk in talks:
            wait_until(lambda: resumes(talk), 20, "the director being found")  # noqa: B023


@pytest.fixture
def _routed(lab: Lab) -> None:
    """Have the director be the router between client and server, who know it."""
    forwarding = [("net/ipv4/ip_forward", 1), ("net/ipv6/conf/all/forwarding", 1)]
    write_sysctls(lab.namespace("director"), forwarding)
    for role, network, router in (
        ("client", "198.19.0.0/24", "203.0.113.1"),
        ("client", "2001:db8:2::/64", "2001:db8:1::1"),
        ("server1", "203.0.113.0/24", "198.19.0.1"),
        ("server1", "2001:db8:1::/64", "2001:db8:2::1"),
    ):
        ip("route", "add", network, "via", router, namespace=lab.namespace(role))


@pytest.mark.usefixtures("_routed")
@pytest.mark.parametrize("lab", [{"topology": "two-arm", "servers": 1}], indirect=True)
def test_what_the_host_forwards_besides_is_untouched(
    lab: Lab, balancer: Callable[..., Balancer], parrots: Parrots
) -> None:
    running = balancer(echo_config(lab))
    with ExitStack() as stack:
        served = open_all(stack, lab)
        before = running.show("stats")
        for family in lab.families:
            for kind in TRANSPORTS:
                # From the same client port to the same server port as the flow has.
                direct = connect(lab, "client", servers(lab, family)[0], ECHO, kind=kind)
                stack.enter_context(direct)
                for number in range(20):
                    assert tell(direct, f"{number}") == f"server1: {number}"
        after = running.show("stats")
        assert after["flows"] == before["flows"] == len(served)
        assert carried(running) == sum(
            before["reasons"][name]["count"] for name in ("flow_inbound", "flow_outbound")
        )
        for talk in served:
            tell(talk, "still here")


# Many.


@pytest.mark.timeout(600)
def test_flows_that_expire_leave_nothing_in_the_maps(lab: Lab, balancer: Callable[..., Balancer]) -> None:
    start_echo(lab)
    timeouts = f"[service.timeouts]\nudp = {IDLE}\nudp_unreplied = {IDLE}"
    running = balancer(lab.config(protocol="udp", port=ECHO, service=timeouts))
    share = 5000  # of one program: it may not have many more files open
    with ExitStack() as stack:
        floods = [
            stack.enter_context(UdpFlows(lab, role, vips(lab, family)[0], first, share))
            for first in range(1024, 1024 + FLOWS // 4, share)
            for role in ("client", "client2")
            for family in lab.families
        ]
        # Four at a time: an echo server's buffer holds not many more.
        for begin, first in product(range(0, share, 500), range(0, len(floods), 4)):
            for flood in floods[first : first + 4]:
                flood.send(begin, begin + 500)
            for flood in floods[first : first + 4]:
                assert flood.answers(10) == 500
        assert running.show("stats")["flows"] == FLOWS
        ports = running.show("ports")
        assert sum(use["in_use"] for use in ports) == FLOWS
        wait_until(lambda: running.show("stats")["flows"] == 0, IDLE + 60, "the end of all flows")
        assert sum(use["in_use"] for use in running.show("ports")) == 0
        assert reasons(running.show("stats"))["flow_opened"] == FLOWS
        assert entries_in_use(lab, running) == 0
        # The places can be used again.
        for flood in floods[:4]:
            flood.send(0, 500)
            assert flood.answers(10) == 500
        assert running.show("stats")["flows"] == 2000
        assert entries_in_use(lab, running) == 4000


def entries_in_use(lab: Lab, balancer: Balancer) -> int:
    """How many entries of the table in the kernel lead to a flow."""
    pins = pin_directory("main", str(cookie(lab.namespace("director"))))
    descriptor = Libbpf().get_pinned(pins / "entries")
    assert descriptor is not None
    size = places(balancer.show("stats")["flows_limit"]) * 8
    try:
        with mmap.mmap(descriptor, size, mmap.MAP_SHARED, mmap.PROT_READ) as entries:
            words = memoryview(entries[:]).cast("Q")
            return size // 8 - words.tolist().count(0)
    finally:
        os.close(descriptor)
