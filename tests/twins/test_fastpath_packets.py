# SPDX-License-Identifier: Apache-2.0
"""The program in the kernel against the core in Python: what it carries, byte for byte; what it leaves."""

from __future__ import annotations

import itertools
import os
import random
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

import pytest
from scapy.layers.inet import IP, IPOption_NOP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt

import namespace
from fullnat.core.addr import TCP, UDP, PortRange
from fullnat.core.checksum import difference
from fullnat.core.flow import Half
from fullnat.core.packet import parse
from fullnat.core.reason import Reason
from fullnat.core.timeouts import SECOND
from fullnat.host.programs import run_program
from tests.fuzz.mutate import corpus, mutate
from tests.packets import fragments, ping, tcp, udp
from tests.twins.fastpath import (
    ETHERNET,
    HEADERS,
    MAC,
    MTU,
    NARROW_MTU,
    NEIGHBOUR,
    REDIRECT,
    UNSPEC,
    Devices,
    FastPathDirector,
    after_a_hop,
    build_host,
    fastpath_director,
    frame_of,
    packet_of,
    why_left,
)
from tests.twins.test_native_director import crowded
from tests.twins.world import World
from tests.vectors.case import NETS, V4, Case, Given, Net
from tests.vectors.directors import Outcome, PythonDirector, Twin, build_python, end_all_flows, twin_of
from tests.vectors.rows import all_cases
from tests.vectors.rows.steps import patched
from wait import wait_until

pytestmark = pytest.mark.requires("root", "netns", "ipv6", "ebpf")

PACKETS = 10_000
MUTATED = 100_000
WAYS = 4096  # csrc/bpf/way.h: for half as many flows


class Lab(NamedTuple):
    """A host of our own, and where maps are pinned."""

    devices: Devices
    bpffs: Path


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """For this module, the main thread is in a namespace of its own."""
    name, bpffs = f"fn-vec-{os.getpid()}", tmp_path_factory.mktemp("bpffs")
    namespace.ip("netns", "add", name)
    run_program(["mount", "-t", "bpf", "bpf", str(bpffs)])
    try:
        with namespace.inside(name):
            yield Lab(build_host(), bpffs)
    finally:
        run_program(["umount", str(bpffs)])
        namespace.delete(name)


class Pair(NamedTuple):
    """The two that must agree."""

    kernel: FastPathDirector
    python: PythonDirector

    def compare(self, packet: bytes, now: int) -> Outcome:
        """Have both decide *packet* and agree; return what Python says."""
        expected_left = why_left(self.python.director, packet)
        expected = self.python.decide(packet, now)
        outcome = self.kernel.decide(packet, now)
        assert self.kernel.left == expected_left, packet.hex()
        assert outcome == self.kernel.as_forwarded(expected), packet.hex()
        return expected

    def decide(self, packet: bytes) -> str | None:
        """Return why the program left *packet* alone, None when it carried it, and all agreed."""
        self.compare(packet, 0)
        return self.kernel.left

    def assert_same_tables(self, now: int = 0) -> None:
        """Counters of reasons, flows and servers, states, timeouts."""
        assert self.kernel.counters() == self.python.counters()
        assert self.kernel.tables(now) == self.python.tables(now)


Build = Callable[[Twin], Pair]


@pytest.fixture
def pair(lab: Lab) -> Iterator[Build]:
    """Makes pairs, each with maps of its own."""
    numbers = itertools.count()
    with ExitStack() as opened:

        def build(twin: Twin) -> Pair:
            pins = lab.bpffs / f"pair{next(numbers)}"
            kernel = opened.enter_context(fastpath_director(twin, pins, lab.devices))
            return Pair(kernel, build_python(twin))

        yield build


def open_flows(pair: Pair, net: Net) -> None:
    """Open a TCP flow, with a handshake, and a UDP flow; both to the first server."""
    assert pair.decide(tcp(net.to_vip(), "S")) == "unknown"
    assert pair.decide(tcp(net.from_server(), "SA")) is None
    assert pair.decide(tcp(net.to_vip(), "A")) is None
    assert pair.decide(udp(net.to_vip(vport=53))) == "unknown"


def one_server(net: Net) -> Twin:
    """A director whose flows all have the same server."""
    return twin_of(Given(net, servers=1))


# Rows.


@pytest.mark.parametrize("case", all_cases(), ids=lambda case: f"v{case.given.net.family} {case.name}")
def test_row(case: Case, pair: Build) -> None:
    """Each row, step by step; tests/unit/test_vectors.py compares Python with what the row says."""
    both = pair(twin_of(case.given))
    for director in both:
        director.admit(case.given.openings)
    for step in case.steps:
        now = int(step.at * SECOND)
        assert both.kernel.expire(now) == both.python.expire(now)
        for director in both if step.ends_flows else ():
            end_all_flows(director, now)
        assert both.compare(step.packet, now).reason is step.reason
        both.assert_same_tables(now)


# What is carried.


@pytest.mark.parametrize("net", NETS, ids=lambda net: f"v{net.family}")
def test_a_connection_is_carried_from_its_second_packet_on(net: Net, pair: Build) -> None:
    both = pair(one_server(net))
    open_flows(both, net)
    for packet in (
        tcp(net.to_vip(), "PA", payload=b"GET / HTTP/1.1\r\n\r\n"),
        tcp(net.from_server(), "A", payload=b"x" * 1001, ttl=2),
        tcp(net.from_server(), "A", options=(("NOP", None), ("NOP", None), ("Timestamp", (1, 2)))),
        tcp(net.from_server(), "FA"),
        tcp(net.to_vip(), "FA"),
        tcp(net.from_server(), "A"),
        tcp(net.to_vip(), "R"),
        udp(net.from_server(5353), b"answer"),
        udp(net.to_vip(vport=53), b""),
        udp(net.from_server(5353), b"", ttl=255),
    ):
        assert both.decide(packet) is None
        both.assert_same_tables()


@pytest.mark.parametrize("net", NETS, ids=lambda net: f"v{net.family}")
def test_what_stands_behind_a_short_packet_in_its_frame_stays(net: Net, pair: Build) -> None:
    """Ethernet pads to 60 bytes."""
    both = pair(one_server(net))
    open_flows(both, net)
    assert both.decide(udp(net.to_vip(vport=53), b"") + b"padding") is None
    assert both.decide(tcp(net.from_server(), "A") + b"padding") is None
    both.assert_same_tables()


@pytest.mark.parametrize("net", NETS, ids=lambda net: f"v{net.family}")
@pytest.mark.parametrize("outbound", [False, True], ids=["inbound", "outbound"])
@pytest.mark.parametrize("protocol", [TCP, UDP], ids=["tcp", "udp"])
def test_a_gso_packet_counts_as_its_segments(net: Net, protocol: int, outbound: bool, pair: Build) -> None:
    """Also one that is larger than the MTU, as long as its segments are not."""
    both = pair(one_server(net))
    open_flows(both, net)
    make: Callable[..., bytes] = tcp if protocol == TCP else udp
    vport, rport = (80, 8080) if protocol == TCP else (53, 5353)
    path = net.from_server(rport) if outbound else net.to_vip(vport=vport)
    size, payload = 700, random.Random(1).randbytes(700 * 3 + 77)
    frame = frame_of(make(path, payload=payload))
    program = both.kernel.program
    ran = program.run(frame, program.devices.receiving(frame[ETHERNET:]), 4, size)
    assert ran.answer == REDIRECT
    for at in range(0, len(payload), size):
        both.python.decide(make(path, payload=payload[at : at + size]), 0)
    out = packet_of(ran.frame, frame)
    half = _half(both, frame[ETHERNET:])
    assert out == after_a_hop(half.rewrite.apply(parse(frame[ETHERNET:])))
    assert both.kernel.counters() == both.python.counters()
    kernel, python = both.kernel.tables(0), both.python.tables(0)
    assert kernel["servers"] == python["servers"]
    assert [row[-4:] for row in kernel["flows"]] == [row[-4:] for row in python["flows"]]
    too_large = (NARROW_MTU if not outbound else MTU) - (len(frame) - ETHERNET - len(payload)) + 1
    assert program.run(frame, program.devices.receiving(frame[ETHERNET:]), 2, too_large).answer == UNSPEC


def _half(pair: Pair, packet: bytes) -> Half:
    """The flow and direction of *packet*."""
    view = parse(packet)
    half = pair.python.director.flows.find(view.protocol, view.key)
    assert half is not None
    return half


# Ways.


def _keep(pair: Pair, packet: bytes) -> bytes:
    """Send *packet* until it goes the way that was kept for it; return the frame as it came in."""
    frame = frame_of(packet)
    program = pair.kernel.program

    def is_kept() -> bool:
        ran = program.run(frame, program.devices.receiving(packet))
        assert ran.answer == REDIRECT
        return ran.frame[:12] != frame[:12]

    wait_until(is_kept, 2, "a kept way")
    return frame


@pytest.mark.parametrize("net", NETS, ids=lambda net: f"v{net.family}")
@pytest.mark.parametrize("outbound", [False, True], ids=["inbound", "outbound"])
def test_a_way_that_was_found_is_kept_for_the_next_packet(net: Net, outbound: bool, pair: Build) -> None:
    """And for that one's flow, direction and device alone, as long as it fits."""
    both = pair(one_server(net))
    open_flows(both, net)
    program, packet = both.kernel.program, tcp(net.from_server() if outbound else net.to_vip(), "A")
    device = program.devices.receiving(packet)

    frame = _keep(both, packet)
    ran = program.run(frame, device)
    assert ran.frame[:12] in (frame[:12], NEIGHBOUR + MAC)

    for other in program.devices:
        if other != device:
            assert program.run(_keep(both, packet), other).frame[:12] == frame[:12]
    large = tcp(net.from_server() if outbound else net.to_vip(), "A", payload=bytes(MTU))
    _keep(both, packet)
    assert program.run(frame_of(large), device).answer == UNSPEC
    _keep(both, packet)
    both.kernel.stamps.set_created(parse(packet), outbound, 1)
    assert program.run(frame, device).frame[:12] == frame[:12]


@pytest.mark.parametrize("net", NETS, ids=lambda net: f"v{net.family}")
def test_flows_that_share_a_place_do_not_share_a_way(net: Net, pair: Build) -> None:
    twin = twin_of(Given(net, servers=1, flow_limit=WAYS))
    both = pair(replace(twin, setup=replace(twin.setup, ports=PortRange(5000, 5000 + WAYS))))
    opening = [udp(net.to_vip(cport=2000 + number, vport=53)) for number in range(WAYS // 2 + 1)]
    for packet in opening:
        assert both.kernel.decide(packet, 0).reason is Reason.FLOW_OPENED
    _keep(both, opening[0])
    program, frame = both.kernel.program, frame_of(opening[-1])
    ran = program.run(frame, program.devices.clients)
    assert (ran.answer, ran.frame[:12]) == (REDIRECT, frame[:12])


@pytest.mark.parametrize("net", NETS, ids=lambda net: f"v{net.family}")
def test_a_kept_way_is_soon_found_anew(net: Net, pair: Build) -> None:
    """The neighbour has another address; then it has none."""
    both = pair(one_server(net))
    open_flows(both, net)
    program, packet = both.kernel.program, tcp(net.to_vip(), "A")
    frame = _keep(both, packet)
    server, other = net.servers[0], bytes.fromhex("020000000003")

    def header() -> bytes:
        return program.run(frame, program.devices.clients).frame[:12]

    try:
        namespace.ip("neighbour", "replace", server, "lladdr", other.hex(":"), "dev", "servers")
        wait_until(lambda: header() == other + MAC, 2, "the new address")
        namespace.ip("neighbour", "del", server, "dev", "servers")
        wait_until(lambda: header() == frame[:12], 2, "nothing kept")
    finally:
        namespace.ip("neighbour", "replace", server, "lladdr", NEIGHBOUR.hex(":"), "dev", "servers")


# Checksums.


def _neutral_cport(net: Net, protocol: int) -> int:
    """The client's port for which the rewrite leaves the transport checksum alone."""
    vport, rport = (80, 8080) if protocol == TCP else (53, 5353)
    old = b"".join(ip_address(text).packed for text in (net.client, net.vip)) + struct.pack("!HH", 0, vport)
    new = b"".join(ip_address(text).packed for text in (net.lip, net.servers[0]))
    return difference(old, new + struct.pack("!HH", 5000, rport))


@pytest.mark.parametrize("net", NETS, ids=lambda net: f"v{net.family}")
@pytest.mark.parametrize("protocol", [TCP, UDP], ids=["tcp", "udp"])
@pytest.mark.parametrize("neutral", [False, True], ids=["", "neutral"])
def test_every_checksum_is_updated_alike(net: Net, protocol: int, neutral: bool, pair: Build) -> None:
    """Right and wrong ones, in both headers; 0 in UDP stays, and what becomes 0 is written as 0xffff.

    One differs, by the kernel's choice: where the rewrite adds up to nothing, a TCP checksum of 0xffff
    becomes 0, which means the same, and 0xffff is what no sender computes (the sum is never 0).
    """
    both = pair(one_server(net))
    cport = _neutral_cport(net, protocol) if neutral else 4000
    make: Callable[..., bytes] = tcp if protocol == TCP else udp
    vport, rport = (80, 8080) if protocol == TCP else (53, 5353)
    both.decide(tcp(net.to_vip(cport), "S") if protocol == TCP else udp(net.to_vip(cport, vport)))
    for packet in (make(net.to_vip(cport, vport)), make(net.from_server(rport))):
        half = _half(both, packet)
        assert (difference(half.key, half.rewrite.new_key) == 0) is neutral
        at = HEADERS[net.family] + (16 if protocol == TCP else 6)
        for check in range(0x10000):
            value = check.to_bytes(2, "big")
            given = packet[:at] + value + packet[at + 2 :]
            if net.family == 4:
                given = given[:10] + value + given[12:]
            expected = after_a_hop(half.rewrite.apply(parse(given)))
            if neutral and protocol == TCP and check == 0xFFFF:
                assert expected[at : at + 2] == b"\xff\xff"
                expected = expected[:at] + bytes(2) + expected[at + 2 :]
            assert both.kernel.program.carry(given) == expected, f"checksum {check:#06x}"


# What is left alone.


def _with_options(packet: bytes) -> bytes:
    """The packet with IPv4 options, or an extension header."""
    if packet[0] >> 4 == 4:
        longer = IP(packet)
        longer.options = [IPOption_NOP()] * 4
        del longer.ihl, longer.len, longer.chksum
        return bytes(longer)
    whole = IPv6(packet)
    head = IPv6(src=whole.src, dst=whole.dst, hlim=whole.hlim)
    return bytes(head / IPv6ExtHdrDestOpt(nh=whole.nh) / whole.payload)


def _left(net: Net) -> list[tuple[str, bytes, str]]:
    """What the program must not carry though its flow is open: name, packet, why."""
    ip, family = HEADERS[net.family], net.family
    segment, datagram = tcp(net.to_vip(), "A", payload=b"data"), udp(net.to_vip(vport=53), b"x" * 100)
    answer = tcp(net.from_server(), "A", payload=b"data")
    first, later = fragments(datagram, 80, 7)
    length = 2 if family == 4 else 4  # where the header has it
    rows = [
        ("first fragment", first, "untranslated"),
        ("later fragment", later, "untranslated"),
        ("options", _with_options(segment), "untranslated"),
        ("options of an answer", _with_options(answer), "untranslated"),
        ("ping", ping(net.client, net.vip), "untranslated"),
        ("other protocol", patched(segment, 9 if family == 4 else 6, 132), "untranslated"),
        ("other version", patched(segment, 0, 0x55), "untranslated"),
        ("longer than the frame", segment[:-1], "untranslated"),
        ("longer than the frame by its header", patched(datagram, length, 0x7F), "untranslated"),
        ("no room for TCP", _resized(segment, ip + 19), "untranslated"),
        ("no room for UDP", _resized(datagram, ip + 7), "untranslated"),
        ("no transport header", _resized(segment, ip), "untranslated"),
        ("TCP header too short", patched(segment, ip + 12, 0x40), "untranslated"),
        ("TCP header too long", patched(segment, ip + 12, 0x70), "untranslated"),
        ("UDP length too short", patched(datagram, ip + 5, 7), "untranslated"),
        ("UDP length too long", patched(datagram, ip + 4, 2), "untranslated"),
        ("last hop", tcp(net.to_vip(), "A", ttl=1), "expired"),
        ("last hop of an answer", udp(net.from_server(5353), ttl=1), "expired"),
        ("beyond the last hop", tcp(net.to_vip(), "A", ttl=0), "expired"),
        ("no flow", tcp(net.to_vip(4009), "A"), "unknown"),
        ("no flow outbound", tcp(net.from_server(lport=5009), "A"), "unknown"),
        ("not to a service", udp(net.to_vip(vport=9999)), "unknown"),
        ("of the other protocol", udp(net.to_vip(vport=80)), "unknown"),
        ("large MSS", tcp(net.to_vip(), "S", options=(("MSS", 1461),)), "segment_size"),
        ("large MSS answered", tcp(net.from_server(), "SA", options=(("MSS", 9000),)), "segment_size"),
        ("MSS elsewhere", tcp(net.to_vip(), "S", options=(("NOP", None), ("MSS", 500))), "segment_size"),
        ("too big for the servers' side", udp(net.to_vip(vport=53), b"x" * (NARROW_MTU - ip - 7)), "too_big"),
        ("too big for the clients' side", tcp(net.from_server(), "A", payload=b"x" * MTU), "too_big"),
        ("its client is this host", tcp(net.to_vip(client=net.lip), "S"), "unknown"),
        ("answer to this host", tcp(net.from_server(server=1), "SA"), "unrouted"),
    ]
    if family == 4:
        rows += [
            ("divisible", udp(net.to_vip(vport=53), b"x" * 549, df=False), "divisible"),
            ("divisible answer", udp(net.from_server(5353), b"x" * 549, df=False), "divisible"),
            ("header too short", patched(segment, 0, 0x44), "untranslated"),
            ("length too short", _resized(segment, 19), "untranslated"),
        ]
    return rows


def _resized(packet: bytes, length: int) -> bytes:
    """The packet with another length in its header, in the same frame."""
    if packet[0] >> 4 == 4:
        return packet[:2] + length.to_bytes(2, "big") + packet[4:]
    return packet[:4] + (length - 40).to_bytes(2, "big") + packet[6:]


@pytest.mark.parametrize("net", NETS, ids=lambda net: f"v{net.family}")
def test_what_is_not_plain_is_left_as_it_is(net: Net, pair: Build) -> None:
    both = pair(twin_of(Given(net)))
    open_flows(both, net)
    for name, packet, why in _left(net):
        assert (name, both.decide(packet)) == (name, why)
    both.assert_same_tables()


@pytest.mark.parametrize("net", NETS, ids=lambda net: f"v{net.family}")
def test_what_is_just_plain_is_carried(net: Net, pair: Build) -> None:
    """The limits of the test above, from the other side."""
    both = pair(one_server(net))
    open_flows(both, net)
    ip = HEADERS[net.family]
    mss = 1500 - (40 if net.family == 4 else 60)
    for packet in (
        tcp(net.to_vip(), "A", ttl=2),
        tcp(net.to_vip(), "S", options=(("MSS", mss),)),
        tcp(net.from_server(), "SA", options=(("MSS", mss), ("NOP", None), ("WScale", 7))),
        udp(net.to_vip(vport=53), b"x" * (NARROW_MTU - ip - 8)),
        udp(net.from_server(5353), b"x" * (MTU - ip - 8)),
        udp(net.to_vip(vport=53), b"x" * 548, df=False),
    ):
        assert both.decide(packet) is None
    both.assert_same_tables()


@pytest.mark.parametrize("net", NETS, ids=lambda net: f"v{net.family}")
@pytest.mark.parametrize("ending", [("FA", "FA"), ("R", "A"), ("A", "R")])
def test_a_syn_that_opens_anew_is_the_engines(net: Net, ending: tuple[str, str], pair: Build) -> None:
    both = pair(one_server(net))
    open_flows(both, net)
    from_client, from_server = ending
    assert both.decide(tcp(net.to_vip(), from_client)) is None
    assert both.decide(tcp(net.from_server(), from_server)) is None
    both.assert_same_tables()
    assert both.decide(tcp(net.to_vip(), "S")) == "reopened"
    assert both.decide(tcp(net.from_server(), "SA")) is None
    both.assert_same_tables()


def test_frames_that_are_not_for_this_host_are_left(pair: Build) -> None:
    both = pair(one_server(V4))
    open_flows(both, V4)
    program, packet = both.kernel.program, tcp(V4.to_vip(), "A")
    device = program.devices.clients
    before = both.kernel._director.carried()
    plain = frame_of(packet)
    for frame in (
        b"\xff" * 6 + plain[6:],
        b"\x01\x00\x5e\x00\x00\x01" + plain[6:],
        MAC[:5] + b"\x99" + plain[6:],
        plain[:12] + b"\x81\x00\x00\x05" + plain[12:],  # a tag
        plain[:12] + b"\x88\xcc" + plain[14:],
        plain[:12] + b"\x00\x40" + plain[14:],  # IEEE 802.3: a length
    ):
        assert program.run(frame, device).answer == UNSPEC
    assert both.kernel._director.carried() == before
    assert program.run(plain[:12] + b"\x86\xdd" + plain[14:], device).answer == UNSPEC
    assert program.run(plain, device).answer == REDIRECT


# Random traffic.


Met = Counter[
    str | tuple[int, int, bool]
]  # why packets were left; of those carried: family, protocol, inbound


def assert_met(met: Met, *whys: str) -> None:
    """What is compared is worth as much as what the traffic contains."""
    carried = set(itertools.product((4, 6), (TCP, UDP), (False, True)))
    assert {*carried, *whys} <= {what for what, count in met.items() if count >= 5}


def compare_noted(pair: Pair, packet: bytes, now: int, met: Met) -> Outcome:
    """Compare, and note what the packet was; return what became of it."""
    outcome = pair.compare(packet, now)
    view = parse(packet)
    met[pair.kernel.left or (view.family, view.protocol, outcome.reason is Reason.FLOW_INBOUND)] += 1
    return outcome


def test_random_traffic_is_decided_alike(pair: Build) -> None:
    met: Met = Counter()
    for seed, scheduler in enumerate(("rr", "wlc", "sh")):
        world, draw = World(seed), random.Random(seed)
        both, now = pair(crowded(scheduler, seed)), 0
        for _ in range(PACKETS):
            now += draw.choice((0, 1000, SECOND // 50, SECOND // 10))
            if draw.random() < 0.004:
                now += draw.choice((3, 20, 100, 400)) * SECOND
            if draw.random() < 0.1:
                assert both.kernel.expire(now) == both.python.expire(now)
            packet = world.next()
            if draw.random() < 0.01 and len(packet) > HEADERS[6]:
                packet = patched(packet, 8 if packet[0] >> 4 == 4 else 7, draw.randrange(2))
            outcome = compare_noted(both, packet, now, met)
            if outcome.out is not None:
                world.forwarded(outcome.out)
        both.assert_same_tables(now)
    assert_met(met, "untranslated", "unknown", "reopened", "divisible", "expired")


def test_mutated_packets_are_decided_alike(pair: Build) -> None:
    """Fragments are in the traffic above: here nearly all of them would have the same identification."""
    met: Met = Counter()
    draw = random.Random(1)
    corpora = [
        [udp(net.from_server(5353)), *(packet for packet in corpus(net) if parse(packet).fragment is None)]
        for net in NETS
    ]
    for net, packets in zip(NETS, corpora, strict=True):
        both, now = pair(twin_of(Given(net, servers=1))), 0
        for number in range(PACKETS):
            now += draw.randrange(2_000_000)
            packet = draw.choice(packets)
            if draw.random() < 0.9:
                packet = mutate(packet, draw.choice(corpora[0] + corpora[1]), draw)
            compare_noted(both, packet, now, met)
            if number % 1000 == 0:
                assert both.kernel.expire(now) == both.python.expire(now)
        both.assert_same_tables(now)
    assert_met(met, "untranslated", "unknown", "segment_size", "expired")


@pytest.mark.parametrize("net", NETS, ids=lambda net: f"v{net.family}")
def test_mutated_frames_are_carried_right_or_left(net: Net, pair: Build) -> None:
    """Fast: no engine, the state of flows does not matter; bytes of the Ethernet header go wrong as well."""
    both, draw, answers = pair(one_server(net)), random.Random(2), Counter[int]()
    open_flows(both, net)
    program, packets = both.kernel.program, corpus(net)
    find = both.python.director.flows.find
    for _ in range(MUTATED // len(NETS)):
        packet = mutate(draw.choice(packets), draw.choice(packets), draw)
        frame = frame_of(packet, net.family)
        if draw.random() < 0.05:
            frame = mutate(frame, frame, draw)
        if len(frame) < ETHERNET + HEADERS[net.family]:
            continue  # BPF_PROG_TEST_RUN refuses shorter ones
        ran = program.run(frame, program.devices.clients)
        answers[ran.answer] += 1
        if ran.answer == REDIRECT:
            view = parse(frame[ETHERNET:])
            half = find(view.protocol, view.key)
            assert half is not None, frame.hex()
            assert packet_of(ran.frame, frame) == after_a_hop(half.rewrite.apply(view)), frame.hex()
    assert min(answers.values()) > MUTATED / 100
    assert answers.keys() == {UNSPEC, REDIRECT}
