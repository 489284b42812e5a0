# SPDX-License-Identifier: Apache-2.0
"""What steering does to packets, and what RawSender sends: between three namespaces, both families.

    client 198.18.0.100 ---- 198.18.0.1 director 198.19.0.1 ---- 198.19.0.11 server
    2001:db8:1::100          2001:db8:1::1  2001:db8:2::1        2001:db8:2::11

Nobody listens on the queue unless a test does, so a packet that is steered ends in a rule's counter.
"""

from __future__ import annotations

import os
import re
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
from netfilterqueue import NetfilterQueue, Packet
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6ND_NS,
    ICMPv6PacketTooBig,
    IPv6,
    IPv6ExtHdrFragment,
)
from scapy.packet import Packet as Built
from scapy.packet import Raw

from fullnat.core.addr import UDP as UDP_PROTOCOL
from fullnat.core.addr import parse_endpoint
from fullnat.host.host import Host
from fullnat.host.rawsock import RawSender
from namespace import delete, inside, ip, ip_batch
from tests.netns.host.tools import PLAN, run, run_line
from wait import wait_until

ROLES = ("client", "director", "server")
VIP, ABSENT_VIP, LIP, RIP = "198.18.0.10", "203.0.113.10", "198.19.0.2", "198.19.0.11"
VIP6, LIP6, RIP6 = "2001:db8:1::10", "2001:db8:2::2", "2001:db8:2::11"
CIP, CIP6 = "198.18.0.100", "2001:db8:1::100"
TIMEOUT = 5.0


class Sides(NamedTuple):
    """The names of the three namespaces."""

    client: str
    director: str
    server: str


@pytest.fixture
def sides() -> Iterator[Sides]:
    names = Sides(*(f"fh5-{os.getpid()}-{role}" for role in ROLES))
    try:
        for name in names:
            ip("netns", "add", name)
        _connect(names)
        yield names
    finally:
        for name in names:
            delete(name)


def _connect(sides: Sides) -> None:
    for far, device in ((sides.client, "eth0"), (sides.server, "eth1")):
        ip(*f"link add {device} type veth peer name eth0 netns {far}".split(), namespace=sides.director)
    addresses = {
        sides.client: [f"{CIP}/24 dev eth0", f"{CIP6}/64 dev eth0 nodad"],
        sides.server: [f"{RIP}/24 dev eth0", f"{RIP6}/64 dev eth0 nodad", f"{ABSENT_VIP}/32 dev lo"],
        sides.director: [
            "198.18.0.1/24 dev eth0",
            "2001:db8:1::1/64 dev eth0 nodad",
            "198.19.0.1/24 dev eth1",
            "2001:db8:2::1/64 dev eth1 nodad",
        ],
    }
    for side, lines in addresses.items():
        devices = ("lo", "eth0", "eth1") if side == sides.director else ("lo", "eth0")
        ip_batch([f"link set {name} up" for name in devices] + [f"addr add {line}" for line in lines], side)
    ip_batch(["route add default via 198.18.0.1", "route add default via 2001:db8:1::1"], sides.client)
    ip_batch(["route add default via 198.19.0.1", "route add default via 2001:db8:2::1"], sides.server)
    ip_batch([f"route add {ABSENT_VIP} via {RIP}"], sides.director)


@pytest.fixture
def steered(sides: Sides, tmp_path: Path) -> Iterator[Sides]:
    with inside(sides.director):
        host = Host(PLAN, tmp_path / "state")
        host.claim()
        host.set_up()
    yield sides
    with inside(sides.director):
        host.restore()


ENDS = ("to a service", "reply of a server", "fragment to a VIP", "fragment of a server", "error", "ping")


def count_ends(sides: Sides, version: int) -> Counter[str]:
    """How many packets each rule at the end of a way has seen."""
    program = "iptables-save" if version == 4 else "ip6tables-save"
    found: Counter[str] = Counter()
    for line in run(sides.director, program, "-c", "-t", "raw").splitlines():
        match = re.match(r'\[(\d+):\d+\] -A FULLNAT.*--comment "fullnat main: (.*?)"', line)
        if match and match[2] in ENDS:
            found[match[2]] += int(match[1])
    return found


def tcp(source: str, sport: int, destination: str, dport: int) -> Built:
    layer = IPv6 if ":" in source else IP
    return layer(src=source, dst=destination) / TCP(sport=sport, dport=dport, flags="A")


def udp(source: str, sport: int, destination: str, dport: int) -> Built:
    layer = IPv6 if ":" in source else IP
    return layer(src=source, dst=destination) / UDP(sport=sport, dport=dport) / Raw(b"x" * 16)


def icmp(source: str, destination: str, kind: int, code: int = 0) -> Built:
    quoted = IP(src=destination, dst=source) / UDP()
    return IP(src=source, dst=destination) / ICMP(type=kind, code=code) / quoted


def later_fragment(source: str, destination: str) -> Built:
    payload = Raw(b"x" * 16)
    if ":" in source:
        return IPv6(src=source, dst=destination) / IPv6ExtHdrFragment(nh=17, offset=8, m=1, id=7) / payload
    return IP(src=source, dst=destination, proto=17, frag=8, flags="MF", id=7) / payload


def first_fragment(packet: Built) -> Built:
    if IPv6 in packet:
        ports = packet[IPv6].payload
        return IPv6(src=packet.src, dst=packet.dst) / IPv6ExtHdrFragment(nh=17, m=1, id=7) / ports
    packet.flags, packet.id = "MF", 7
    return packet


FROM_CLIENT = [
    (tcp(CIP, 5000, VIP, 80), "to a service"),
    (tcp(CIP, 5000, VIP, 81), None),
    (udp(CIP, 5000, VIP, 80), None),
    (udp(CIP, 5000, ABSENT_VIP, 53), "to a service"),
    (first_fragment(udp(CIP, 5000, ABSENT_VIP, 53)), "to a service"),
    (later_fragment(CIP, ABSENT_VIP), "fragment to a VIP"),
    (later_fragment(CIP, "198.18.0.1"), None),
    (icmp(CIP, ABSENT_VIP, 8), "ping"),
    (icmp(CIP, VIP, 8), None),
    (icmp(CIP, VIP, 3, 4), "error"),
    (icmp(CIP, ABSENT_VIP, 4), "error"),
    (icmp(CIP, VIP, 11), "error"),
    (icmp(CIP, VIP, 12), "error"),
    (icmp(CIP, VIP, 5), None),
    (icmp(CIP, "198.18.0.1", 3), None),
    (tcp(CIP6, 5000, VIP6, 80), "to a service"),
    (tcp(CIP6, 5000, VIP6, 81), None),
    (later_fragment(CIP6, VIP6), "fragment to a VIP"),
    (IPv6(src=CIP6, dst=VIP6) / ICMPv6EchoRequest(), None),
    (IPv6(src=CIP6, dst=VIP6) / ICMPv6PacketTooBig() / IPv6(), "error"),
    (IPv6(src=CIP6, dst=VIP6, hlim=255) / ICMPv6ND_NS(tgt=VIP6), None),
]
FROM_SERVER = [
    (tcp(RIP, 8080, LIP, 2000), "reply of a server"),
    (tcp(RIP, 8080, LIP, 40000), None),  # a port of the host's own connections
    (tcp(RIP, 22, LIP, 2000), None),
    (tcp("198.19.0.12", 8080, LIP, 2000), None),
    (tcp(RIP, 8080, "198.19.0.1", 2000), None),
    (udp(RIP, 53, LIP, 32767), "reply of a server"),
    (udp(RIP, 8080, LIP, 2000), None),
    (first_fragment(udp(RIP, 53, LIP, 2000)), "reply of a server"),
    (later_fragment(RIP, LIP), "fragment of a server"),
    (later_fragment("198.19.0.12", LIP), None),
    (icmp("198.19.0.12", LIP, 3, 1), "error"),
    (icmp(RIP, LIP, 8), None),
    (tcp(RIP, 5000, VIP, 80), "to a service"),  # a server is a client of its own VIP
    (tcp(RIP6, 80, LIP6, 2000), "reply of a server"),
    (tcp(RIP6, 81, LIP6, 2000), None),
    (first_fragment(udp(RIP6, 80, LIP6, 2000)), "fragment of a server"),  # of UDP: the engine passes it
    (later_fragment(RIP6, LIP6), "fragment of a server"),
    (IPv6(src=RIP6, dst=LIP6) / ICMPv6DestUnreach() / IPv6(), "error"),
]


@pytest.mark.parametrize(("role", "table"), [("client", FROM_CLIENT), ("server", FROM_SERVER)])
def test_only_what_is_ours_is_steered(
    steered: Sides, role: str, table: list[tuple[Built, str | None]]
) -> None:
    with inside(getattr(steered, role)):
        sender = RawSender(1)  # opened there, it stays there
    with sender:
        for packet, end in table:
            expected = Counter([end, "to a service"] if end else ["to a service"])
            assert steer(sender, steered, packet, expected) == expected, packet.summary()


def steer(sender: RawSender, sides: Sides, packet: Built, expected: Counter[str]) -> Counter[str]:
    """Send *packet*, then one to a service: when that is counted, so is what went before."""
    version = 6 if IPv6 in packet else 4
    last = tcp(CIP6, 1, VIP6, 80) if version == 6 else tcp(CIP, 1, VIP, 80)
    before = count_ends(sides, version)
    assert sender.send(bytes(packet))
    assert sender.send(bytes(last))
    everything = expected["to a service"]
    wait_until(lambda: (count_ends(sides, version) - before)["to a service"] >= everything, TIMEOUT)
    return count_ends(sides, version) - before


@pytest.mark.parametrize(
    ("packet", "end"),
    [
        (tcp(CIP, 5000, VIP, 80), "to a service"),  # a client on this host
        (tcp(RIP, 8080, LIP, 2000), "reply of a server"),  # a server on this host
        (icmp("198.18.0.1", LIP, 11), "error"),  # the kernel's, about a packet we rewrote
        (icmp("198.18.0.1", LIP, 8), None),
        (tcp(CIP6, 5000, VIP6, 80), "to a service"),
        (IPv6(src="2001:db8:1::1", dst=LIP6) / ICMPv6PacketTooBig() / IPv6(), "error"),
    ],
)
def test_the_same_holds_for_packets_of_the_host_but_not_for_our_own(
    steered: Sides, packet: Built, end: str | None
) -> None:
    version = 6 if IPv6 in packet else 4
    with inside(steered.director):
        unmarked, marked = RawSender(1), RawSender(PLAN.mark)
    with unmarked, marked:
        before = count_ends(steered, version)
        marked.send(bytes(packet))
        assert count_ends(steered, version) == before
        unmarked.send(bytes(packet))
        assert count_ends(steered, version) - before == Counter([end] if end else [])


class Engine:
    """Listens on the queue and treats every packet the same way."""

    def __init__(self, treat: Callable[[Packet], None]) -> None:
        self._queue = NetfilterQueue()
        self._queue.bind(PLAN.queue, treat)

    def serve(self) -> None:
        self._queue.run(block=False)

    def close(self) -> None:
        self._queue.unbind()


@pytest.fixture
def engine(steered: Sides) -> Iterator[Callable[[Callable[[Packet], None]], Engine]]:
    engines = []

    def start(treat: Callable[[Packet], None]) -> Engine:
        with inside(steered.director):
            engines.append(Engine(treat))
        return engines[-1]

    yield start
    for one in engines:
        one.close()


def forward(packet: Packet) -> None:
    packet.set_mark(PLAN.mark)
    packet.accept()


def translate_icmp(packet: Packet) -> None:
    packet.set_mark(PLAN.mark)
    packet.repeat()


def listen(namespace: str, address: str, port: int) -> socket.socket:
    with inside(namespace):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind((address, port))
    return sock


def arrives(sock: socket.socket, engine: Engine, is_gone: Callable[[], bool]) -> bool:
    """Whether a datagram arrives; *is_gone* tells that it was dropped instead."""

    def ended() -> str:
        engine.serve()
        try:
            sock.recv(2048)
        except BlockingIOError:
            return "gone" if is_gone() else ""
        return "arrived"

    return wait_until(ended, TIMEOUT) == "arrived"


def dropped(sides: Sides, comment: str) -> Callable[[], bool]:
    """Return whether the rule with *comment* has dropped a packet."""
    return lambda: bool(re.search(rf"\[[1-9]\d*:.*{comment}", run(sides.director, "iptables-save", "-c")))


def test_a_host_that_forwards_nothing_forwards_what_fullnat_translated(
    steered: Sides, engine: Callable[..., Engine]
) -> None:
    run(steered.director, "iptables", "-P", "FORWARD", "DROP")
    served = engine(forward)
    with listen(steered.server, ABSENT_VIP, 53) as server, listen(steered.client, CIP, 5000) as client:
        client.sendto(b"x", (ABSENT_VIP, 53))
        assert arrives(server, served, dropped(steered, "forward for nobody else"))


def test_a_host_that_did_not_forward_forwards_for_nobody_else(
    steered: Sides, engine: Callable[..., Engine]
) -> None:
    served = engine(lambda packet: packet.accept())
    with listen(steered.server, ABSENT_VIP, 54) as server, listen(steered.client, CIP, 5000) as client:
        client.sendto(b"x", (ABSENT_VIP, 54))  # not a service
        assert not arrives(server, served, dropped(steered, "forward for nobody else"))


def test_a_server_on_a_host_that_lets_nothing_in_is_reached(sides: Sides, tmp_path: Path) -> None:
    run(
        sides.director,
        "iptables",
        "-A",
        "INPUT",
        "-p",
        "udp",
        "-m",
        "comment",
        "--comment",
        "shut",
        "-j",
        "DROP",
    )
    plan = replace(PLAN, services=((UDP_PROTOCOL, parse_endpoint(f"{VIP}:53")),))
    with inside(sides.director):
        host = Host(plan, tmp_path / "state")
        host.claim()
        host.set_up()
        served = Engine(forward)
    with listen(sides.director, VIP, 53) as server, listen(sides.client, CIP, 5000) as client:
        client.sendto(b"x", (VIP, 53))
        assert arrives(server, served, dropped(sides, "shut"))
        served.close()
        with inside(sides.director):
            served = Engine(lambda packet: packet.accept())
        client.sendto(b"x", (VIP, 53))
        assert not arrives(server, served, dropped(sides, "shut"))
    served.close()
    with inside(sides.director):
        host.restore()


@pytest.mark.parametrize(("treat", "passes"), [(translate_icmp, True), (forward, False)])
def test_a_translated_icmp_error_passes_a_firewall_that_drops_invalid_when_the_hook_is_repeated(
    steered: Sides, engine: Callable[..., Engine], treat: Callable[[Packet], None], passes: bool
) -> None:
    invalid = "-m conntrack --ctstate INVALID -m comment --comment invalid -j DROP"
    run_line(steered.director, f"iptables -t mangle -A PREROUTING {invalid}")
    served = engine(treat)
    with inside(steered.server):
        server = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    server.setblocking(False)
    with inside(steered.client):
        sender = RawSender(1)
    error = IP(src=CIP, dst=ABSENT_VIP) / ICMP(type=3, code=4) / tcp(ABSENT_VIP, 53, CIP, 5000)
    with server, sender:
        sender.send(bytes(error))
        assert arrives(server, served, dropped(steered, "invalid")) == passes


def test_our_flows_leave_no_trace_in_connection_tracking(
    steered: Sides, engine: Callable[..., Engine]
) -> None:
    run_line(steered.director, "iptables -A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT")
    run_line(steered.director, "iptables -t nat -A POSTROUTING -j RETURN")
    served = engine(forward)
    with listen(steered.server, ABSENT_VIP, 53) as server, listen(steered.client, CIP, 5000) as client:
        client.sendto(b"x", (ABSENT_VIP, 53))
        assert arrives(server, served, lambda: False)
    with inside(steered.director):
        entries = Path("/proc/sys/net/netfilter/nf_conntrack_count").read_text().strip()
    assert entries == "0"


@pytest.mark.parametrize(
    ("source", "destination", "ethertype"), [(ABSENT_VIP, CIP, 0x0800), ("2001:db8:9::10", CIP6, 0x86DD)]
)
def test_packets_leave_from_an_address_the_host_does_not_have(
    steered: Sides, source: str, destination: str, ethertype: int
) -> None:
    """Past an OUTPUT policy of DROP, because of the mark."""
    for program in ("iptables", "ip6tables"):
        run(steered.director, program, "-A", "OUTPUT", "-p", "tcp", "-j", "DROP")
    with inside(steered.client):
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ethertype))
    wire.setblocking(False)
    with inside(steered.director):
        sender = RawSender(PLAN.mark)
    packet = bytes(tcp(source, 80, destination, 5000))
    with wire, sender:
        assert sender.send(packet)

        def seen() -> bool:
            try:
                return wire.recv(2048) == packet
            except BlockingIOError:
                return False

        wait_until(seen, TIMEOUT)
        assert (sender.sent, sender.errors) == (1, 0)


def test_what_cannot_be_sent_is_counted_and_never_raised(sides: Sides) -> None:
    with inside(sides.director):
        sender = RawSender(PLAN.mark)
    whole = bytes(tcp("198.18.0.1", 80, CIP, 5000))
    with sender:
        failures = [
            b"",
            b"\x45",
            whole[:18],
            b"\x60" + bytes(30),
            b"\x00" * 40,
            bytes(tcp("198.18.0.1", 80, "192.0.2.1", 5000)),  # no route
            bytes(tcp("198.18.0.1", 80, CIP, 5000) / Raw(bytes(1500))),  # larger than the MTU
            bytes(tcp("2001:db8:1::1", 80, "2001:db8:9::1", 5000)),
            bytes(tcp("2001:db8:1::1", 80, CIP6, 5000) / Raw(bytes(1500))),
        ]
        assert [sender.send(packet) for packet in failures] == [False] * len(failures)
        assert (sender.sent, sender.errors) == (0, len(failures))
        assert sender.send(memoryview(bytearray(whole)))
        assert (sender.sent, sender.errors) == (1, len(failures))
