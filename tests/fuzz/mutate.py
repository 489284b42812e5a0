# SPDX-License-Identifier: Apache-2.0
"""Malformed packets by the million: no exception, and every packet ends in one reason.

    python -m tests.fuzz.mutate [packets] [seed]

Starts from well-formed packets of every kind, some of flows that are open, flips, cuts, grows and
splices them, and runs each through parse(), decide() and, when it is forwarded, the rewrite.
"""

from __future__ import annotations

import random
import sys
import time

from fullnat.core.packet import parse
from fullnat.core.reason import Verdict
from tests.packets import fragments, ping, tcp, udp, unreachable
from tests.vectors.case import NETS, Given, Net
from tests.vectors.directors import build_director

# Where a flipped byte changes the path taken: version, length, fragment and protocol fields, the
# extension chain of IPv6, and the headers behind.
_HEADERS = 80


def corpus(net: Net) -> list[bytes]:
    """Return packets of every kind the director knows."""
    question = udp(net.to_vip(vport=53), b"question" * 40)
    options = (("MSS", 1460), ("SAckOK", b""), ("Timestamp", (1, 2)), ("NOP", None), ("WScale", 7))
    return [
        tcp(net.to_vip(), "S", options=options),
        tcp(net.from_server(), "SA", options=options),
        tcp(net.to_vip(), "PA", payload=b"GET / HTTP/1.1\r\n\r\n"),
        tcp(net.from_server(), "FA", payload=b"x" * 600),
        tcp(net.to_vip(4001), "R"),
        question,
        udp(net.from_server(5353), b"a" * 700, df=False),
        udp(net.to_vip(vport=9999)),
        *fragments(question, 160, 3),
        *fragments(tcp(net.to_vip(), "PA", payload=b"t" * 300), 160, 4),
        unreachable(net.servers[0], net.lip, udp(net.to_server(5353), b"question")),
        unreachable(net.client, net.vip, tcp(net.to_client(), "A"), code="too-big", mtu=1280),
        ping(net.client, net.vip),
        ping(net.client, net.vip, reply=True),
        _with_extras(net),
    ]


def _with_extras(net: Net) -> bytes:
    """Return a datagram with IP options or extension headers, one bit away from a source route."""
    datagram = udp(net.to_vip(vport=53))
    if net.family == 4:
        record_route = bytes((7, 7, 4, 0, 0, 0, 0, 0))
        return (
            bytes((0x47,))
            + datagram[1:3]
            + bytes((datagram[3] + 8,))
            + datagram[4:20]
            + record_route
            + datagram[20:]
        )
    routing = bytes((17, 0, 4, 0, 0, 0, 0, 0))
    return datagram[:5] + bytes((datagram[5] + 8, 43)) + datagram[7:40] + routing + datagram[40:]


def mutate(packet: bytes, other: bytes, rng: random.Random) -> bytes:
    """Return *packet* with a few things wrong."""
    data = bytearray(packet)
    for _ in range(rng.randint(1, 4)):
        if not data:
            break
        at = rng.randrange(min(len(data), _HEADERS))
        kind = rng.randrange(7)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif kind == 2:
            del data[rng.randrange(len(data)) :]
        elif kind == 3:
            data += rng.randbytes(rng.randrange(1, 40))
        elif kind == 4:
            data[at : at + 2] = rng.randbytes(2)
        elif kind == 5:
            data[at:] = other[at:]
        else:
            del data[at : at + rng.randrange(1, 5)]
    if rng.random() < 0.7:
        _settle_length(data)
    return bytes(data)


def _settle_length(data: bytearray) -> None:
    """Make the IP header give the true length, so that the packet is looked at further."""
    if len(data) >= 20 and data[0] >> 4 == 4:
        data[2:4] = len(data).to_bytes(2, "big")
    elif len(data) >= 40 and data[0] >> 4 == 6:
        data[4:6] = (len(data) - 40).to_bytes(2, "big")


def run(count: int, seed: int) -> dict[str, int]:
    """Decide *count* mutated packets; return how many ended in which reason."""
    rng = random.Random(seed)
    directors = [build_director(Given(net, flow_limit=500)) for net in NETS]
    corpora = [corpus(net) for net in NETS]
    both = corpora[0] + corpora[1]
    held: list[dict[int, bytes]] = [{}, {}]
    now = 0
    for number in range(count):
        side = number & 1
        director = directors[side]
        packet = rng.choice(corpora[side])
        if rng.random() < 0.9:
            packet = mutate(packet, rng.choice(both), rng)
        now += rng.randrange(2_000_000)
        view = parse(packet)
        decision = director.decide(view, now)
        if decision.verdict is Verdict.FORWARD:
            assert decision.rewrite is not None
            out = decision.rewrite.apply(view)
            assert len(out) == len(view.data)
        if decision.token is not None:
            held[side][decision.token] = packet
        for release in decision.released:
            early = parse(held[side].pop(release.token))
            if release.decision.rewrite is not None:
                release.decision.rewrite.apply(early)
        if number % 1000 < 2:
            for dropped in director.expire(now):
                del held[side][dropped.token]
    totals: dict[str, int] = {}
    from fullnat.core.reason import Reason

    for director in directors:
        for reason in Reason:
            totals[reason.name] = totals.get(reason.name, 0) + director.counters[reason]
    # A held packet is decided twice: once to be held, once when it is released or times out.
    decided_twice = totals["FRAGMENT_HELD"] - sum(len(waiting) for waiting in held)
    assert sum(totals.values()) == count + decided_twice
    return totals


def main() -> None:
    """Run from the command line."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    started = time.monotonic()
    totals = run(count, seed)
    for name, number in sorted(totals.items(), key=lambda item: -item[1]):
        print(f"{number:9d}  {name.lower()}")
    took = time.monotonic() - started
    print(f"{count} packets, seed {seed}, {took:.1f} s: no exception, every one in a reason")


if __name__ == "__main__":
    main()
