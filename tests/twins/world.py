# SPDX-License-Identifier: Apache-2.0
"""A small world of random traffic: clients, servers, fragments, errors, and bytes gone wrong.

What servers and routers send depends on what was forwarded to them, so most packets concern flows.
The world is crowded on purpose: few ports, few flows, few fragments, so that every limit is met.
"""

from __future__ import annotations

import random
import struct
from ipaddress import ip_address

from fullnat.core.addr import ICMP, ICMPV6, TCP, UDP
from fullnat.core.checksum import checksum
from fullnat.core.packet import PacketView, parse
from tests.vectors.case import NETS, Net

FLAGS = (0x02, 0x02, 0x12, 0x10, 0x10, 0x18, 0x11, 0x11, 0x04, 0x14, 0x03, 0x06, 0x00)
CLIENT_PORTS = range(4000, 4012)
VIRTUAL_PORTS = range(80, 83)  # one more than there are services


def _ip(saddr: bytes, daddr: bytes, protocol: int, body: bytes, ident: int = 7, df: bool = True) -> bytes:
    if len(saddr) == 4:
        header = struct.pack(
            "!BBHHHBBH", 0x45, 0, 20 + len(body), ident, 0x4000 if df else 0, 64, protocol, 0
        )
        header += saddr + daddr
        return header[:10] + checksum(header).to_bytes(2, "big") + header[12:] + body
    return struct.pack("!IHBB", 6 << 28, len(body), protocol, 64) + saddr + daddr + body


def _pseudo(saddr: bytes, daddr: bytes, protocol: int, size: int) -> bytes:
    return saddr + daddr + struct.pack("!IHBB", size, 0, 0, protocol)


def _segment(saddr: bytes, daddr: bytes, ports: bytes, flags: int, payload: bytes) -> bytes:
    options = b"\x02\x04\x05\xb4" if flags & 2 else b""
    offset = (5 + len(options) // 4) << 4
    raw = ports + struct.pack("!IIBBHHH", 1, 1, offset, flags, 512, 0, 0) + options + payload
    check = checksum(_pseudo(saddr, daddr, TCP, len(raw)), raw)
    return raw[:16] + check.to_bytes(2, "big") + raw[18:]


def _datagram(saddr: bytes, daddr: bytes, ports: bytes, payload: bytes) -> bytes:
    raw = ports + struct.pack("!HH", 8 + len(payload), 0) + payload
    check = checksum(_pseudo(saddr, daddr, UDP, len(raw)), raw) or 0xFFFF
    return raw[:6] + check.to_bytes(2, "big") + raw[8:]


class World:
    """Makes packets; told what came of them, so that there are answers."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._forwarded: list[bytes] = []
        self._pending: list[bytes] = []  # fragments yet to be sent

    def forwarded(self, packet: bytes) -> None:
        """Hear that *packet* left the director."""
        self._forwarded.append(packet)
        del self._forwarded[:-64]

    def next(self) -> bytes:
        """Return the next packet."""
        draw = self._random.random()
        if self._pending and draw < 0.5:
            return self._pending.pop(self._random.randrange(len(self._pending)))
        if draw < 0.55:
            packet = self._asks()
        elif draw < 0.80:
            packet = self._answers() or self._asks()
        elif draw < 0.88:
            packet = self._complains() or self._asks()
        elif draw < 0.90:
            packet = self._pings()
        else:
            return self._spoil(self._asks() if draw < 0.95 else self._answers() or self._asks())
        return self._maybe_divide(packet)

    def _net(self) -> Net:
        return self._random.choice(NETS)

    def _payload(self) -> bytes:
        return self._random.randbytes(self._random.choice((0, 1, 9, 64, 600)))

    def _asks(self) -> bytes:
        net, choose = self._net(), self._random.choice
        client = ip_address(choose((net.client, net.other_client))).packed
        if self._random.random() < 0.01:
            client = bytes(len(client))  # nobody
        target = ip_address(net.vip if self._random.random() < 0.97 else net.lip).packed
        ports = struct.pack("!HH", choose(CLIENT_PORTS), choose(VIRTUAL_PORTS))
        return self._transport(client, target, choose((TCP, UDP)), ports)

    def _transport(self, saddr: bytes, daddr: bytes, protocol: int, ports: bytes) -> bytes:
        body = (
            _segment(saddr, daddr, ports, self._random.choice(FLAGS), self._payload())
            if protocol == TCP
            else _datagram(saddr, daddr, ports, self._payload())
        )
        return _ip(saddr, daddr, protocol, body, self._random.randrange(65536), self._random.random() < 0.7)

    def _some_forwarded(self) -> PacketView | None:
        views = [view for view in map(parse, self._forwarded) if view.key and view.fragment is None]
        return self._random.choice(views) if views else None

    def _answers(self) -> bytes | None:
        view = self._some_forwarded()
        if view is None:
            return None
        ports = view.key[-2:] + view.key[-4:-2]
        return self._transport(view.daddr, view.saddr, view.protocol, ports)

    def _complains(self) -> bytes | None:
        view = self._some_forwarded()
        if view is None:
            return None
        router = ip_address("198.19.0.254" if view.family == 4 else "2001:db8:2::fe").packed
        quoted = view.data[: self._random.choice((28, 48, 80, 500))]
        if view.family == 4:
            raw = struct.pack("!BBHI", self._random.choice((3, 11, 12, 4)), 1, 0, 0) + quoted
            raw = raw[:2] + checksum(raw).to_bytes(2, "big") + raw[4:]
            return _ip(router, view.saddr, ICMP, raw)
        raw = struct.pack("!BBHI", self._random.choice((1, 2, 3, 4)), 1, 0, 0) + quoted
        check = checksum(_pseudo(router, view.saddr, ICMPV6, len(raw)), raw)
        return _ip(router, view.saddr, ICMPV6, raw[:2] + check.to_bytes(2, "big") + raw[4:])

    def _pings(self) -> bytes:
        net = self._net()
        client, vip = ip_address(net.client).packed, ip_address(net.vip).packed
        kind = 8 if net.family == 4 else 128
        return _ip(
            client, vip, ICMP if net.family == 4 else ICMPV6, struct.pack("!BBHI", kind, 0, 0, 1) + b"ping"
        )

    def _spoil(self, packet: bytes) -> bytes:
        spoiled = bytearray(packet)
        for _ in range(self._random.randrange(1, 4)):
            spoiled[self._random.randrange(len(spoiled))] = self._random.randrange(256)
        if self._random.random() < 0.2:
            del spoiled[self._random.randrange(len(spoiled)) :]
        return bytes(spoiled)

    def _maybe_divide(self, packet: bytes) -> bytes:
        """Return the first to be sent of the fragments of *packet*, or *packet* itself."""
        if len(packet) < 200 or self._random.random() < 0.5:
            return packet
        fragments = _divide(packet, self._random.randrange(1 << 32))
        self._random.shuffle(fragments)
        if self._random.random() < 0.2:
            fragments.pop()
        first, *self._pending[len(self._pending) :] = fragments
        return first


def _divide(packet: bytes, ident: int) -> list[bytes]:
    size = 20 if packet[0] >> 4 == 4 else 40
    body = packet[size:]
    step = 16 if ident % 8 == 0 else 200  # too small for a TCP header, now and then
    pieces = [(at, body[at : at + step]) for at in range(0, len(body), step)][:16]
    return [_fragment(packet[:size], at, piece, at + step < len(body), ident) for at, piece in pieces]


def _fragment(header: bytes, offset: int, piece: bytes, more: bool, ident: int) -> bytes:
    if len(header) == 40:
        extension = struct.pack("!BBHI", header[6], 0, offset | more, ident)
        length = struct.pack("!H", 8 + len(piece))
        return header[:4] + length + b"\x2c" + header[7:] + extension + piece
    fields = struct.pack("!HHH", 20 + len(piece), ident & 0xFFFF, more << 13 | offset // 8)
    header = header[:2] + fields + header[8:10] + b"\0\0" + header[12:]
    return header[:10] + checksum(header).to_bytes(2, "big") + header[12:] + piece
