# SPDX-License-Identifier: Apache-2.0
"""Packets through the Python and the C core: what they find, make and answer is the same, bit for bit."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest

from fullnat.core import icmp
from fullnat.core.addr import ICMP, ICMPV6, TCP, UDP
from fullnat.core.checksum import checksum
from fullnat.core.packet import PacketView, parse, reverse_key
from fullnat.core.reason import Reason, Verdict
from fullnat.core.rewrite import Applicable, ClampMss, Identify, Rewrite
from fullnat.core.timeouts import SECOND
from tests.fuzz.mutate import corpus, mutate
from tests.packets import fragments, ping, tcp, udp
from tests.twins.core import Core, parsed_of
from tests.vectors.case import NETS, V4, V6, Case, Net
from tests.vectors.directors import build_director
from tests.vectors.rows import all_cases

MUTATED = 200_000
_PREDICATES = ("is_error", "is_unwanted", "is_echo_request")


def assert_same(core: Core, packet: bytes, rng: random.Random) -> str:
    """Run *packet* through both cores with a random new key; return what was compared."""
    view = parse(packet)
    assert core.parse(packet) == parsed_of(view)
    if view.malformed is not None:
        return view.malformed.name
    if view.key:
        for rewrite in _rewrites(view, rng):
            assert core.apply(rewrite, packet) == rewrite.apply(view)
        _assert_refusals(core, packet, view)
        return "first fragment" if view.fragment else f"protocol {view.protocol}"
    if view.fragment is not None:
        later = Identify(_random_rewrite(view, rng), rng.getrandbits(32), first=False)
        assert core.apply(later, packet) == later.apply(view)
        return "later fragment"
    return _assert_same_icmp(core, packet, view, rng)


def _random_rewrite(view: PacketView, rng: random.Random) -> Rewrite:
    size = 12 if view.family == 4 else 36
    return Rewrite(view.key or rng.randbytes(size), rng.randbytes(size))


def _rewrites(view: PacketView, rng: random.Random) -> list[Applicable]:
    plain = _random_rewrite(view, rng)
    found: list[Applicable] = [plain]
    if view.protocol == TCP:
        found.append(ClampMss(plain, rng.choice((536, 1220, 1459, 1460, 65495))))
    if view.family == 4 or view.fragment:
        found.append(Identify(plain, rng.getrandbits(32)))
    return found


def _assert_refusals(core: Core, packet: bytes, view: PacketView) -> None:
    for kind in (icmp.HOST_UNREACHABLE[view.family], icmp.PORT_UNREACHABLE[view.family]):
        assert core.build("unreachable", packet, *kind) == icmp.build_unreachable(view, kind)
    if view.protocol == TCP:
        assert core.build("reset", packet) == icmp.build_reset(view)


def _assert_same_icmp(core: Core, packet: bytes, view: PacketView, rng: random.Random) -> str:
    for predicate in _PREDICATES:
        assert core.holds(predicate, packet) == getattr(icmp, predicate)(view), predicate
    if icmp.is_echo_request(view):
        assert core.build("echo_reply", packet) == icmp.build_echo_reply(view)
        return "ping"
    if not icmp.is_error(view):
        return "other"
    quoted = icmp.parse_error(view)
    assert core.parse_error(packet) == quoted
    if isinstance(quoted, Reason):
        return f"error, {quoted.name}"
    relay = icmp.RelayError(quoted, rng.randbytes(len(quoted.key)))
    assert core.apply(relay, packet) == relay.apply(view)
    return "error"


@pytest.mark.parametrize("case", all_cases(), ids=lambda case: f"v{case.given.net.family} {case.name}")
def test_row(core: Core, case: Case) -> None:
    director = build_director(case.given)
    held: dict[int, bytes] = {}
    rng = random.Random(1)
    for step in case.steps:
        assert_same(core, step.packet, rng)
        now = int(step.at * SECOND)
        director.expire(now)
        decision = director.decide(parse(step.packet), now)
        if decision.token is not None:
            held[decision.token] = step.packet
        decided = [(decision, step.packet)]
        decided += [(release.decision, held.pop(release.token)) for release in decision.released]
        for each, packet in decided:
            if each.verdict is Verdict.FORWARD:
                assert each.rewrite is not None
                assert core.apply(each.rewrite, packet).hex() == each.rewrite.apply(parse(packet)).hex()
        if step.reply is not None:
            assert step.reply == _reply(core, step.packet, step.reason)


def _reply(core: Core, packet: bytes, reason: Reason) -> bytes:
    """Return what C says where a row says how *packet* is answered."""
    view = parse(packet)
    if reason is Reason.ECHO_ANSWERED:
        return core.build("echo_reply", packet)
    if reason in (Reason.TABLE_FULL, Reason.NO_LOCAL_PORT):
        return core.build("unreachable", packet, *icmp.HOST_UNREACHABLE[view.family])
    if view.protocol == TCP:
        return core.build("reset", packet)
    return core.build("unreachable", packet, *icmp.PORT_UNREACHABLE[view.family])


def _settle_checksum(packet: bytes) -> bytes:
    """Return *packet* with a right ICMP checksum, if it is an ICMP error: so that it is looked at further."""
    view = parse(packet)
    if view.malformed or view.fragment or not icmp.is_error(view) or len(view.data) < view.l4 + 8:
        return packet
    message = view.data[view.l4 : view.l4 + 2] + b"\0\0" + view.data[view.l4 + 4 :]
    pseudo = view.saddr + view.daddr + len(message).to_bytes(4, "big") + bytes((0, 0, 0, 58))
    check = checksum(b"" if view.family == 4 else pseudo, message)
    return view.data[: view.l4] + message[:2] + check.to_bytes(2, "big") + message[4:]


def test_mutated_packets(core: Core) -> None:
    rng = random.Random(1)
    seeds = [packet for net in NETS for packet in corpus(net)]
    compared: Counter[str] = Counter()
    for number in range(MUTATED):
        packet = mutate(rng.choice(seeds), rng.choice(seeds), rng)
        compared[assert_same(core, _settle_checksum(packet) if number & 1 else packet, rng)] += 1
    malformed = {"TRUNCATED", "BAD_HEADER", "BAD_TRANSPORT", "SOURCE_ROUTED", "FRAGMENT_TINY"}
    errors = {"error", "error, ICMP_INVALID", "error, ICMP_UNRELATED"}
    kinds = {"protocol 6", "protocol 17", "first fragment", "later fragment", "ping", "other"}
    assert compared.keys() == malformed | errors | kinds
    assert min(compared.values()) >= 100, compared


def _quotes(net: Net) -> list[bytes]:
    """Return packets that an error may quote: whole, fragments, with options, with a header too short."""
    question = udp(net.to_vip(vport=53), b"question" * 40)
    quotes = [tcp(net.to_server(), "A"), question, *fragments(question, 160, 3), corpus(net)[-1]]
    if net.family == 6:
        return quotes
    return [_settle_header(bytes((first,)) + quote[1:]) for quote in quotes for first in (quote[0], 0x44)]


def _settle_header(packet: bytes) -> bytes:
    """Return *packet* with a right IPv4 header checksum."""
    size = (packet[0] & 15) * 4
    check = checksum(packet[:10] + b"\0\0" + packet[12:size])
    return packet[:10] + check.to_bytes(2, "big") + packet[12:]


def _error(net: Net, quote: bytes, extra: bytes) -> bytes:
    """Return an ICMP error that quotes *quote*, with *extra* between the IP header and the message."""
    head, body = ping(net.client, net.vip)[: 20 if net.family == 4 else 40], bytes((3, *bytes(7))) + quote
    length = len(extra) + len(body)
    if net.family == 4:
        first = bytes((0x45 + len(extra) // 4, 0)) + (20 + length).to_bytes(2, "big")
        return _settle_checksum(first + head[4:] + extra + body)
    following = bytes((60 if extra else 58,))
    return _settle_checksum(head[:4] + length.to_bytes(2, "big") + following + head[7:] + extra + body)


@pytest.mark.parametrize("net", NETS, ids=["v4", "v6"])
@pytest.mark.parametrize("extra", [False, True], ids=["plain", "options"])
def test_quoted_packets_cut_anywhere(core: Core, net: Net, extra: bool) -> None:
    rng = random.Random(1)
    options = b"\1" * 8 if net.family == 4 else bytes((58, *bytes(7)))
    seen = set()
    for quote in _quotes(net):
        for length in range(min(len(quote), 80) + 1):
            seen.add(assert_same(core, _error(net, quote[:length], options if extra else b""), rng))
    expected = {"error", "error, ICMP_UNRELATED"} | ({"error, ICMP_INVALID"} if net.family == 4 else set())
    assert seen == expected


def test_fragment_header_behind_another(core: Core) -> None:
    rng = random.Random(1)
    for fragment in fragments(udp(V6.to_vip(vport=53), b"question" * 40), 160, 3):
        length = len(fragment) - 40 + 8
        head = fragment[:4] + length.to_bytes(2, "big") + b"\x3c" + fragment[7:40]
        packet = head + bytes((44, *bytes(7))) + fragment[40:]
        assert assert_same(core, packet, rng).endswith("fragment")


def test_every_length(core: Core) -> None:
    rng = random.Random(1)
    for net in NETS:
        for packet in corpus(net):
            for length in range(len(packet)):
                assert_same(core, packet[:length], rng)


@pytest.mark.parametrize("net", NETS, ids=["v4", "v6"])
@pytest.mark.parametrize("protocol", [TCP, UDP], ids=["tcp", "udp"])
def test_every_transport_checksum(core: Core, net: Net, protocol: int) -> None:
    packet = tcp(net.to_vip(), "A") if protocol == TCP else udp(net.to_vip(vport=53))
    view = parse(packet)
    rewrite = Rewrite(view.key, parse(tcp(net.to_server(), "A")).key)
    at = view.l4 + (16 if protocol == TCP else 6)
    for check in range(65536):
        wire = packet[:at] + check.to_bytes(2, "big") + packet[at + 2 :]
        assert core.apply(rewrite, wire) == rewrite.apply(parse(wire))


def test_sizes_around_the_smallest_datagram_that_is_divided(core: Core) -> None:
    seen = set()
    for size in range(570, 580):
        packet = udp(V4.to_vip(vport=53), b"x" * (size - 28), df=False)
        assert core.parse(packet) == parsed_of(parse(packet))
        seen.add(core.parse(packet).divisible)
    assert seen == {False, True}


def test_every_chain_of_ip_options(core: Core) -> None:
    datagram = udp(V4.to_vip(vport=53))
    head, tail = b"\x46" + datagram[1:3] + bytes((datagram[3] + 4,)) + datagram[4:20], datagram[20:]
    for options in itertools.product((0, 1, 2, 3, 7, 130, 131, 137), repeat=4):
        packet = head + bytes(options) + tail
        assert core.parse(packet) == parsed_of(parse(packet)), options


def test_every_length_of_extension_chain(core: Core) -> None:
    datagram = udp(V6.to_vip(vport=53))
    for count in range(12):
        chain = b"".join(bytes((60 if left else 17, 0, 0, 0, 0, 0, 0, 0)) for left in reversed(range(count)))
        length = len(datagram) - 40 + len(chain)
        head = datagram[:4] + length.to_bytes(2, "big") + bytes((60 if count else 17,)) + datagram[7:40]
        packet = head + chain + datagram[40:]
        assert core.parse(packet) == parsed_of(parse(packet)), count


@pytest.mark.parametrize("net", NETS, ids=["v4", "v6"])
def test_broken_tcp_options(core: Core, net: Net) -> None:
    rng = random.Random(1)
    packet = bytearray(tcp(net.to_vip(), "S", payload=b"\xff" * 8, options=[("NOP", None)] * 8))
    at = parse(bytes(packet)).l4 + 20
    for _ in range(20_000):
        packet[at : at + 8] = bytes(rng.choices((0, 1, 2, 3, 4, 5, 8), k=8))
        view = parse(bytes(packet))
        clamp = ClampMss(_random_rewrite(view, rng), 300)
        assert core.apply(clamp, bytes(packet)) == clamp.apply(view), packet[at:]


@pytest.mark.parametrize("net", NETS, ids=["v4", "v6"])
@pytest.mark.parametrize("protocol", [ICMP, ICMPV6], ids=["icmp", "icmpv6"])
def test_every_icmp_type(core: Core, net: Net, protocol: int) -> None:
    packet = bytearray(ping(net.client, net.vip))
    packet[9 if net.family == 4 else 6] = protocol
    at = parse(bytes(packet)).l4
    for kind in range(256):
        packet[at] = kind
        wire = bytes(packet)
        for predicate in _PREDICATES:
            assert core.holds(predicate, wire) == getattr(icmp, predicate)(parse(wire)), (predicate, kind)


@pytest.mark.parametrize("net", NETS, ids=["v4", "v6"])
@pytest.mark.parametrize("padding", range(5))
def test_mss_at_any_offset(core: Core, net: Net, padding: int) -> None:
    options = (*[("NOP", None)] * padding, ("MSS", 1460))
    packet = tcp(net.to_vip(), "S", options=options)
    view = parse(packet)
    for limit, mss in ((1000, 1000), (1459, 1459), (1460, 1460), (1461, 1460)):
        clamp = ClampMss(Rewrite(view.key, reverse_key(view.key)), limit)
        out = core.apply(clamp, packet)
        assert out == clamp.apply(view)
        assert mss.to_bytes(2, "big") in out[view.l4 + 20 :]


@pytest.mark.parametrize("net", NETS, ids=["v4", "v6"])
def test_reverse_key(core: Core, net: Net) -> None:
    key = parse(tcp(net.to_vip(), "S")).key
    assert core.reverse_key(key) == reverse_key(key)
