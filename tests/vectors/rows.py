# SPDX-License-Identifier: Apache-2.0
"""The rows: every reason, both protocols, both families, both directions."""

from __future__ import annotations

from dataclasses import replace

from fullnat.core.reason import Reason
from tests.packets import fragments, ping, tcp, udp, unreachable, with_identification
from tests.vectors.case import NETS, V4, V6, Case, Given, Net, Step

R = Reason
MSS = (("MSS", 1460), ("SAckOK", b""), ("Timestamp", (1, 0)), ("NOP", None), ("WScale", 7))


def _opened(net: Net, cport: int = 4000, at: float = 0) -> Step:
    return Step(tcp(net.to_vip(cport), "S"), R.FLOW_OPENED, out=tcp(net.to_server(), "S"), at=at)


def _established(net: Net) -> list[Step]:
    return [
        _opened(net),
        Step(
            tcp(net.from_server(), "SA", seq=9, ack=1001),
            R.FLOW_OUTBOUND,
            out=tcp(net.to_client(), "SA", seq=9, ack=1001),
        ),
        Step(
            tcp(net.to_vip(), "A", seq=1001, ack=10),
            R.FLOW_INBOUND,
            out=tcp(net.to_server(), "A", seq=1001, ack=10),
        ),
    ]


def _asked(net: Net) -> Step:
    return Step(
        udp(net.to_vip(vport=53), b"question"),
        R.FLOW_OPENED,
        out=udp(net.to_server(5353), b"question"),
    )


def _forwarding(net: Net) -> list[Case]:
    odd = b"seventeen bytes.."
    return [
        Case("a TCP connection runs both ways through one local port", Given(net), _established(net)),
        Case(
            "TCP payload crosses unchanged in both directions",
            Given(net),
            [
                *_established(net),
                Step(
                    tcp(net.to_vip(), "PA", seq=1001, ack=10, payload=odd),
                    R.FLOW_INBOUND,
                    out=tcp(net.to_server(), "PA", seq=1001, ack=10, payload=odd),
                ),
                Step(
                    tcp(net.from_server(), "PA", seq=10, ack=1018, payload=odd * 80),
                    R.FLOW_OUTBOUND,
                    out=tcp(net.to_client(), "PA", seq=10, ack=1018, payload=odd * 80),
                ),
            ],
        ),
        Case(
            "UDP is asked and answered",
            Given(net),
            [
                _asked(net),
                Step(
                    udp(net.from_server(5353), b"an answer"),
                    R.FLOW_OUTBOUND,
                    out=udp(net.to_client(vport=53), b"an answer"),
                ),
                Step(
                    udp(net.to_vip(vport=53), b"again"),
                    R.FLOW_INBOUND,
                    out=udp(net.to_server(5353), b"again"),
                ),
            ],
        ),
        Case(
            "a wrong checksum is not repaired",
            Given(net),
            [
                Step(
                    _spoiled(udp(net.to_vip(vport=53), b"spoiled")),
                    R.FLOW_OPENED,
                    out=_spoiled(udp(net.to_server(5353), b"spoiled")),
                )
            ],
        ),
        Case(
            "a SYN again, before the answer, belongs to the same flow",
            Given(net),
            [_opened(net), replace(_opened(net), reason=R.FLOW_INBOUND, at=1)],
        ),
        Case(
            "MSS is clamped to the narrower path in SYN and SYN-ACK, and nothing else in them changes",
            Given(net, path_mtu=1280),
            [
                Step(
                    tcp(net.to_vip(), "S", options=MSS),
                    R.FLOW_OPENED,
                    out=tcp(net.to_server(), "S", options=(("MSS", _mss(net, 1280)), *MSS[1:])),
                ),
                Step(
                    tcp(net.from_server(), "SA", options=(("NOP", None), *MSS)),
                    R.FLOW_OUTBOUND,
                    out=tcp(net.to_client(), "SA", options=(("NOP", None), ("MSS", _mss(net, 1280)), *MSS[1:])),
                ),
            ],
        ),
        Case(
            "an MSS that fits is left alone",
            Given(net),
            [
                Step(
                    tcp(net.to_vip(), "S", options=(("MSS", 536),)),
                    R.FLOW_OPENED,
                    out=tcp(net.to_server(), "S", options=(("MSS", 536),)),
                )
            ],
        ),
        Case(
            "new flows go round the servers",
            Given(net),
            [
                Step(
                    tcp(net.to_vip(4000 + n), "S"),
                    R.FLOW_OPENED,
                    out=tcp(net.to_server(server=n), "S"),
                )
                for n in range(3)
            ],
        ),
        Case(
            "a new SYN on a closing flow reopens it on the same local port when the server is the same",
            Given(net, servers=1),
            [
                *_established(net),
                Step(
                    tcp(net.to_vip(), "FA"), R.FLOW_INBOUND, out=tcp(net.to_server(), "FA")
                ),
                Step(
                    tcp(net.from_server(), "FA"), R.FLOW_OUTBOUND, out=tcp(net.to_client(), "FA")
                ),
                Step(
                    tcp(net.to_vip(), "S", seq=77),
                    R.FLOW_REOPENED,
                    out=tcp(net.to_server(), "S", seq=77),
                    at=1,
                ),
            ],
        ),
        Case(
            "a new SYN after a reset reopens, on another server if that is its turn",
            Given(net, servers=2),
            [
                _opened(net),
                Step(tcp(net.from_server(), "RA"), R.FLOW_OUTBOUND, out=tcp(net.to_client(), "RA")),
                Step(
                    tcp(net.to_vip(), "S", seq=77),
                    R.FLOW_REOPENED,
                    out=tcp(net.to_server(server=1), "S", seq=77),
                    at=1,
                ),
            ],
        ),
        Case(
            "datagrams of one client are scheduled one by one, and all answers find it",
            Given(net, one_packet=True, servers=2),
            [
                Step(
                    udp(net.to_vip(vport=53), b"%d" % n),
                    R.FLOW_OPENED if n < 2 else R.FLOW_INBOUND,
                    out=udp(net.to_server(5353, server=n % 2), b"%d" % n),
                )
                for n in range(4)
            ]
            + [
                Step(
                    udp(net.from_server(5353, server=n), b"answer"),
                    R.FLOW_OUTBOUND,
                    out=udp(net.to_client(vport=53), b"answer"),
                )
                for n in range(2)
            ],
        ),
    ]  # fmt: skip


def _mss(net: Net, mtu: int) -> int:
    return mtu - (40 if net.family == 4 else 60)


def _spoiled(datagram: bytes) -> bytes:
    """Return *datagram* with its last byte changed and its checksums as they were."""
    return datagram[:-1] + bytes((datagram[-1] ^ 0x01,))


def _not_ours(net: Net) -> list[Case]:
    elsewhere = f"{net.end(net.client, 4000)} > {net.end(net.vip, 22)}"
    return [
        Case(
            "what is for no service passes",
            Given(net),
            [
                Step(tcp(elsewhere, "S"), R.NOT_SERVICE),
                Step(udp(net.to_vip(vport=80)), R.NOT_SERVICE),
                Step(tcp(net.to_vip(vport=53), "S"), R.NOT_SERVICE),
            ],
        ),
        Case(
            "what a server sends to a local address outside any flow passes to the host",
            Given(net),
            [
                Step(tcp(net.from_server(), "SA"), R.NO_OUTBOUND_FLOW),
                Step(udp(net.from_server(5353)), R.NO_OUTBOUND_FLOW),
            ],
        ),
        Case(
            "another server cannot speak into a flow",
            Given(net),
            [_asked(net), Step(udp(net.from_server(5353, server=1)), R.NO_OUTBOUND_FLOW)],
        ),
        Case(
            "other protocols pass",
            Given(net),
            [
                Step(ping(net.client, net.vip), R.NOT_TRANSLATED),
                Step(ping(net.client, net.vip, reply=True), R.NOT_TRANSLATED),
            ],
        ),
        Case(
            "an ICMP error about somebody else's packet passes",
            Given(net),
            [
                Step(
                    unreachable(net.servers[0], net.lip, udp(net.to_server(9999))),
                    R.ICMP_UNRELATED,
                )
            ],
        ),
    ]


def _answered(net: Net) -> list[Case]:
    mid_stream = tcp(net.to_vip(), "PA", seq=500, ack=600, payload=b"12345")
    return [
        Case(
            "a ping of a virtual address that no interface has is answered",
            Given(net, answers_ping=True),
            [Step(ping(net.client, net.vip), R.ECHO_ANSWERED, reply=ping(net.vip, net.client, reply=True))],
        ),
        Case(
            "a segment of no flow is reset: with its acknowledgment as sequence, or acknowledging it",
            Given(net),
            [
                Step(mid_stream, R.NO_FLOW, reply=_reset(net, "R", seq=600)),
                Step(
                    tcp(net.to_vip(), "F", seq=500, payload=b"12345"),
                    R.NO_FLOW,
                    reply=_reset(net, "RA", seq=0, ack=506),
                ),
                Step(
                    tcp(net.to_vip(), "SA", seq=500, ack=600),
                    R.NO_FLOW,
                    reply=_reset(net, "R", seq=600),
                ),
            ],
        ),
        Case(
            "without a server TCP is reset and UDP told that the port is unreachable",
            Given(net, weight=0),
            [
                Step(
                    tcp(net.to_vip(), "S", seq=500),
                    R.NO_SERVER,
                    reply=_reset(net, "RA", seq=0, ack=501),
                ),
                Step(
                    udp(net.to_vip(vport=53)),
                    R.NO_SERVER,
                    reply=_answer_about(net, udp(net.to_vip(vport=53)), "port"),
                ),
            ],
        ),
        Case(
            "without a local port the client is told, softly",
            Given(net, servers=1),
            [
                _opened(net),
                Step(
                    tcp(net.to_vip(4001), "S"),
                    R.NO_LOCAL_PORT,
                    reply=_answer_about(net, tcp(net.to_vip(4001), "S"), "host"),
                ),
                _asked(net),
                Step(
                    udp(net.to_vip(4001, 53)),
                    R.NO_LOCAL_PORT,
                    reply=_answer_about(net, udp(net.to_vip(4001, 53)), "host"),
                ),
            ],
        ),
        Case(
            "a released port rests, then serves again",
            Given(net, servers=1),
            [
                _opened(net),
                Step(tcp(net.from_server(), "RA"), R.FLOW_OUTBOUND, out=tcp(net.to_client(), "RA")),
                Step(
                    tcp(net.to_vip(4001), "S"),
                    R.NO_LOCAL_PORT,
                    reply=_answer_about(net, tcp(net.to_vip(4001), "S"), "host"),
                    at=30,
                ),
                Step(tcp(net.to_vip(4001), "S"), R.FLOW_OPENED, out=tcp(net.to_server(), "S"), at=120),
            ],
        ),
        Case(
            "a full table refuses new flows and keeps the old",
            Given(net, flow_limit=1),
            [
                _opened(net),
                Step(
                    tcp(net.to_vip(4001), "S"),
                    R.TABLE_FULL,
                    reply=_answer_about(net, tcp(net.to_vip(4001), "S"), "host"),
                ),
                replace(_opened(net), reason=R.FLOW_INBOUND),
            ],
        ),
    ]


def _reset(net: Net, flags: str, seq: int, ack: int = 0) -> bytes:
    segment = tcp(net.to_client(), flags, seq=seq, ack=ack, ident=0)
    return _with_window_zero(segment)


def _with_window_zero(segment: bytes) -> bytes:
    from scapy.layers.inet import IP, TCP
    from scapy.layers.inet6 import IPv6

    packet = (IP if segment[0] >> 4 == 4 else IPv6)(segment)
    packet[TCP].window = 0
    del packet[TCP].chksum
    return bytes(packet)


def _answer_about(net: Net, packet: bytes, code: str) -> bytes:
    quoted = packet[: 576 - 28 if net.family == 4 else 1280 - 48]
    return unreachable(net.vip, net.client, quoted, code=code)


def _icmp(net: Net) -> list[Case]:
    cases = []
    for code in ("port", "host", "too-big", "ttl"):
        mtu = 1280 if code == "too-big" else 0
        cases.append(
            Case(
                f"an error ({code}) from a server about a UDP flow reaches the client",
                Given(net),
                [
                    _asked(net),
                    Step(
                        unreachable(net.servers[0], net.lip, udp(net.to_server(5353), b"question"), code=code, mtu=mtu),
                        R.ICMP_RELAYED,
                        out=unreachable(net.vip, net.client, udp(net.to_vip(vport=53), b"question"), code=code, mtu=mtu),
                    ),
                ],
            )
        )
        cases.append(
            Case(
                f"an error ({code}) from the client's side about a TCP flow reaches the server",
                Given(net),
                [
                    *_established(net),
                    Step(
                        unreachable(
                            net.client, net.vip, tcp(net.to_client(), "A", seq=10, payload=b"x" * 99), code=code, mtu=mtu
                        ),
                        R.ICMP_RELAYED,
                        out=unreachable(
                            net.lip, net.servers[0], tcp(net.from_server(), "A", seq=10, payload=b"x" * 99), code=code, mtu=mtu
                        ),
                    ),
                ],
            )
        )
    cases.append(
        Case(
            "the source of an error does not matter, and a short quotation is enough",
            Given(net),
            [
                _opened(net),
                Step(
                    unreachable(net.router, net.lip, tcp(net.to_server(), "S")[: _quote(net)], code="host"),
                    R.ICMP_RELAYED,
                    out=unreachable(net.vip, net.client, tcp(net.to_vip(), "S")[: _quote(net)], code="host"),
                ),
            ],
        )
    )
    cases.append(
        Case(
            "an error neither refreshes nor ends a flow",
            Given(net),
            [
                _asked(net),
                Step(
                    unreachable(net.servers[0], net.lip, udp(net.to_server(5353), b"question")),
                    R.ICMP_RELAYED,
                    out=unreachable(net.vip, net.client, udp(net.to_vip(vport=53), b"question")),
                    at=299,
                ),
                Step(udp(net.from_server(5353)), R.FLOW_OUTBOUND, out=udp(net.to_client(vport=53)), at=299.5),
                Step(
                    unreachable(net.servers[0], net.lip, udp(net.to_server(5353), b"question")),
                    R.ICMP_RELAYED,
                    out=unreachable(net.vip, net.client, udp(net.to_vip(vport=53), b"question")),
                    at=599,
                ),
                Step(udp(net.from_server(5353)), R.NO_OUTBOUND_FLOW, at=602),
            ],
        )
    )
    broken = bytearray(unreachable(net.servers[0], net.lip, udp(net.to_server(5353), b"question")))
    broken[-1] ^= 1
    cases.append(
        Case(
            "an error with a wrong checksum is dropped",
            Given(net),
            [_asked(net), Step(bytes(broken), R.ICMP_INVALID)],
        )
    )
    return cases


def _quote(net: Net) -> int:
    return 28 if net.family == 4 else 48


def _malformed(net: Net) -> list[Case]:
    syn, question = tcp(net.to_vip(), "S"), udp(net.to_vip(vport=53))
    l4 = 20 if net.family == 4 else 40
    return [
        Case(
            "what is cut short is dropped",
            Given(net),
            [Step(syn[:-1], R.TRUNCATED), Step(question[:-1], R.TRUNCATED), Step(syn[: l4 - 1], R.TRUNCATED)],
        ),
        Case("nothing at all", Given(net), [Step(b"", R.TRUNCATED), Step(b"\x55" + syn[1:], R.BAD_HEADER)]),
        Case(
            "a TCP header of impossible length is dropped",
            Given(net),
            [
                Step(_patched(syn, l4 + 12, 0x40), R.BAD_TRANSPORT),
                Step(_patched(syn, l4 + 12, 0xF0), R.BAD_TRANSPORT),
            ],
        ),
        Case(
            "a UDP length beyond the packet is dropped",
            Given(net),
            [
                Step(_patched(question, l4 + 5, 200), R.BAD_TRANSPORT),
                Step(_patched(question, l4 + 5, 7), R.BAD_TRANSPORT),
            ],
        ),
        Case(
            "what pads the packet is cut off",
            Given(net),
            [Step(syn + b"\0" * 6, R.FLOW_OPENED, out=tcp(net.to_server(), "S"))],
        ),
        Case("a RST of no flow is dropped", Given(net), [Step(tcp(net.to_vip(), "R"), R.STRAY_RESET)]),
        Case(
            "a SYN from an address that cannot be answered is dropped",
            Given(net),
            [Step(tcp(net.to_vip(client=address), "S"), R.MARTIAN_SOURCE) for address in _martians(net)],
        ),
        Case(
            "a scheduler that fails costs the packet, not the daemon",
            Given(net, scheduler_fails=True),
            [
                Step(tcp(net.to_vip(), "S"), R.SCHEDULER_FAILED),
                Step(udp(net.to_vip(vport=53)), R.SCHEDULER_FAILED),
            ],
        ),
    ]


def _martians(net: Net) -> tuple[str, ...]:
    return ("127.0.0.1", "0.0.0.0", "224.0.0.5", "255.255.255.255") if net.family == 4 else ("::1", "::", "ff02::1")


def _patched(packet: bytes, at: int, value: int) -> bytes:
    return packet[:at] + bytes((value,)) + packet[at + 1 :]


def _fragmented(net: Net) -> list[Case]:
    question = udp(net.to_vip(vport=53), bytes(range(256)) * 8)
    wanted = udp(net.to_server(5353), bytes(range(256)) * 8)
    sent, expected = fragments(question, 1000, 99), fragments(wanted, 1000, 99)
    answer = udp(net.from_server(5353), b"z" * 3000)
    to_client = udp(net.to_client(vport=53), b"z" * 3000)
    answers, at_client = fragments(answer, 1440, 41), fragments(to_client, 1440, 41)
    first = Step(sent[0], R.FLOW_OPENED, out=expected[0], any_ident=True)
    return [
        Case(
            "fragments in order",
            Given(net),
            [
                first,
                *(
                    Step(piece, R.FRAGMENT_FORWARDED, out=out, any_ident=True)
                    for piece, out in zip(sent[1:], expected[1:], strict=True)
                ),
                *(
                    Step(
                        piece,
                        R.FRAGMENT_FORWARDED if n else R.FLOW_OUTBOUND,
                        out=out,
                        any_ident=True,
                    )
                    for n, (piece, out) in enumerate(zip(answers, at_client, strict=True))
                ),
            ],
        ),
        Case(
            "fragments that overtake the first wait for it",
            Given(net),
            [
                Step(sent[2], R.FRAGMENT_HELD),
                Step(sent[1], R.FRAGMENT_HELD),
                replace(
                    first,
                    released=((R.FRAGMENT_FORWARDED, expected[2]), (R.FRAGMENT_FORWARDED, expected[1])),
                ),
            ],
        ),
        Case(
            "fragments of what is not ours pass, early ones too",
            Given(net),
            [
                Step(piece, R.FRAGMENT_HELD)
                if n == 0
                else Step(piece, R.NOT_SERVICE, released=((R.NOT_SERVICE, None),))
                for n, piece in enumerate(reversed(fragments(udp(net.to_vip(vport=999), b"q" * 1500), 1000, 5)))
            ],
        ),
        Case(
            "the rest of a refused datagram is dropped",
            Given(net, weight=0),
            [
                Step(sent[0], R.NO_SERVER, reply=_answer_about(net, sent[0], "port")),
                Step(sent[1], R.FRAGMENT_DROPPED),
            ],
        ),
        Case(
            "a first fragment without its whole transport header is dropped",
            Given(net),
            [Step(fragments(tcp(net.to_vip(), "S"), 8, 3)[0], R.FRAGMENT_TINY)],
        ),
        Case(
            "a fragment that would overwrite the TCP header is dropped",
            Given(net),
            [Step(fragments(tcp(net.to_vip(), "S"), 8, 3)[1], R.FRAGMENT_TINY)],
        ),
        Case(
            "TCP may come in fragments",
            Given(net),
            [
                *_established(net),
                *(
                    Step(piece, R.FRAGMENT_FORWARDED if n else R.FLOW_INBOUND, out=out, any_ident=True)
                    for n, (piece, out) in enumerate(
                        zip(
                            fragments(tcp(net.to_vip(), "A", payload=b"t" * 900), 400, 3),
                            fragments(tcp(net.to_server(), "A", payload=b"t" * 900), 400, 3),
                            strict=True,
                        )
                    )
                ),
            ],
        ),
    ]


def _ipv4_only() -> list[Case]:
    net = V4
    from scapy.layers.inet import IP, IPOption_LSRR, IPOption_RR
    from scapy.layers.inet import UDP as ScapyUDP
    from scapy.packet import Raw

    def with_option(source: str, destination: str, option: object, sport: int, dport: int) -> bytes:
        head = IP(src=source, dst=destination, options=[option], id=7)
        return bytes(head / ScapyUDP(sport=sport, dport=dport) / Raw(b"opt"))

    long = b"l" * 1000
    no_sum = udp(net.to_vip(vport=53), check=0)
    return [
        Case(
            "UDP without a checksum stays without",
            Given(net),
            [Step(no_sum, R.FLOW_OPENED, out=udp(net.to_server(5353), check=0))],
        ),
        Case(
            "a UDP checksum that comes out as zero is written as 0xffff",
            Given(net),
            [Step(udp(net.to_vip(vport=53), _zero_sum(net)), R.FLOW_OPENED, out=udp(net.to_server(5353), _zero_sum(net)))],
        ),
        Case(
            "IP options stay, source routes do not",
            Given(net),
            [
                Step(
                    with_option(net.client, net.vip, IPOption_RR(), 4000, 53),
                    R.FLOW_OPENED,
                    out=with_option(net.lip, net.servers[0], IPOption_RR(), 5000, 5353),
                ),
                Step(
                    with_option(net.client, net.vip, IPOption_LSRR(routers=["198.51.100.1"]), 4000, 53),
                    R.SOURCE_ROUTED,
                ),
            ],
        ),
        Case(
            "a long datagram that may be fragmented gets an identification of ours",
            Given(net),
            [
                Step(
                    udp(net.to_vip(vport=53), long, df=False, ident=1),
                    R.FLOW_OPENED,
                    out=udp(net.to_server(5353), long, df=False, ident=1),
                    any_ident=True,
                ),
                Step(
                    udp(net.from_server(5353), long, df=False, ident=2),
                    R.FLOW_OUTBOUND,
                    out=udp(net.to_client(vport=53), long, df=False, ident=2),
                    any_ident=True,
                ),
            ],
        ),
        Case(
            "source quench is dropped",
            Given(net),
            [
                _asked(net),
                Step(unreachable(net.servers[0], net.lip, udp(net.to_server(5353)), code="quench"), R.ICMP_INVALID),
            ],
        ),
        Case(
            "an impossible IPv4 header is dropped",
            Given(net),
            [
                Step(_patched(tcp(net.to_vip(), "S"), 0, 0x44), R.BAD_HEADER),
                Step(_patched(tcp(net.to_vip(), "S"), 3, 10), R.BAD_HEADER),
            ],
        ),
    ]  # fmt: skip


def _zero_sum(net: Net) -> bytes:
    """Return a payload whose translated datagram has a checksum that computes to zero."""
    from fullnat.core.checksum import checksum

    datagram = udp(net.to_server(5353), b"\0\0", check=0)
    pseudo = datagram[12:20] + b"\0\x11" + datagram[24:26]
    return checksum(pseudo, datagram[20:]).to_bytes(2, "big")


def _ipv6_only() -> list[Case]:
    net = V6
    from scapy.layers.inet import UDP as ScapyUDP
    from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting
    from scapy.packet import Raw

    def with_headers(source: str, destination: str, sport: int, dport: int, *headers: object) -> bytes:
        packet = IPv6(src=source, dst=destination, hlim=64)
        for header in headers:
            packet = packet / header
        return bytes(packet / ScapyUDP(sport=sport, dport=dport) / Raw(b"ext"))

    def pair(*headers: object) -> tuple[bytes, bytes]:
        return (
            with_headers(net.client, net.vip, 4000, 53, *headers),
            with_headers(net.lip, net.servers[0], 5000, 5353, *headers),
        )

    options, out = pair(IPv6ExtHdrHopByHop(), IPv6ExtHdrDestOpt())
    atomic, atomic_out = pair(IPv6ExtHdrFragment(id=9))
    routed, _ = pair(IPv6ExtHdrRouting(addresses=["2001:db8::1"], segleft=1, type=0))
    endless, _ = pair(*[IPv6ExtHdrDestOpt()] * 9)
    return [
        Case("extension headers stay", Given(net), [Step(options, R.FLOW_OPENED, out=out)]),
        Case("an atomic fragment is a whole packet", Given(net), [Step(atomic, R.FLOW_OPENED, out=atomic_out)]),
        Case("a routing header with segments left is dropped", Given(net), [Step(routed, R.SOURCE_ROUTED)]),
        Case("too many extension headers are dropped", Given(net), [Step(endless, R.BAD_HEADER)]),
    ]


def all_cases() -> list[Case]:
    """Return every row."""
    cases = []
    for net in NETS:
        for group in (_forwarding, _not_ours, _answered, _icmp, _malformed, _fragmented):
            cases += group(net)
    return [*cases, *_ipv4_only(), *_ipv6_only()]


__all__ = ["all_cases", "with_identification"]
