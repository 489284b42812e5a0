# SPDX-License-Identifier: Apache-2.0
"""Packets for tests, written like a line of tcpdump: tcp("203.0.113.100:4000 > 203.0.113.10:80", "S").

scapy computes lengths and checksums, so what tests expect does not come from the code under test.
"""

from __future__ import annotations

from ipaddress import ip_address

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrFragment,
)
from scapy.packet import Packet, Raw

from fullnat.core.addr import Endpoint, parse_endpoint


def _ends(path: str) -> tuple[Endpoint, Endpoint]:
    source, destination = path.split(" > ")
    return parse_endpoint(source), parse_endpoint(destination)


def _ip(source: object, destination: object, ttl: int, ident: int, df: bool) -> Packet:
    if ip_address(str(source)).version == 6:
        return IPv6(src=str(source), dst=str(destination), hlim=ttl)
    return IP(src=str(source), dst=str(destination), ttl=ttl, id=ident, flags="DF" if df else "")


def tcp(
    path: str,
    flags: str = "A",
    *,
    seq: int = 1000,
    ack: int = 0,
    payload: bytes = b"",
    options: tuple[tuple[str, object], ...] = (),
    ttl: int = 64,
    ident: int = 7,
    df: bool = True,
) -> bytes:
    """Return a TCP segment."""
    source, destination = _ends(path)
    segment = TCP(
        sport=source.port, dport=destination.port, flags=flags, seq=seq, ack=ack, options=list(options)
    )
    packet = _ip(source.address, destination.address, ttl, ident, df) / segment
    return bytes(packet / Raw(payload) if payload else packet)


def udp(
    path: str,
    payload: bytes = b"hello",
    *,
    ttl: int = 64,
    ident: int = 7,
    df: bool = True,
    check: int | None = None,
) -> bytes:
    """Return a UDP datagram; *check* overrides its checksum."""
    source, destination = _ends(path)
    header = UDP(sport=source.port, dport=destination.port, chksum=check)
    return bytes(_ip(source.address, destination.address, ttl, ident, df) / header / Raw(payload))


def fragments(datagram: bytes, size: int, ident: int) -> list[bytes]:
    """Return *datagram* in fragments with *size* bytes of payload each (a multiple of 8)."""
    if datagram[0] >> 4 == 4:
        whole = IP(datagram)
        body = bytes(whole.payload)
        pieces = []
        for at in range(0, len(body), size):
            more = at + size < len(body)
            head = IP(
                src=whole.src, dst=whole.dst, ttl=whole.ttl, proto=whole.proto, id=ident,
                flags="MF" if more else "", frag=at // 8,
            )  # fmt: skip
            pieces.append(bytes(head / Raw(body[at : at + size])))
        return pieces
    whole = IPv6(datagram)
    body = bytes(whole.payload)
    pieces = []
    for at in range(0, len(body), size):
        more = int(at + size < len(body))
        head = IPv6(src=whole.src, dst=whole.dst, hlim=whole.hlim, nh=44)
        fragment = IPv6ExtHdrFragment(nh=whole.nh, id=ident, offset=at // 8, m=more)
        pieces.append(bytes(head / fragment / Raw(body[at : at + size])))
    return pieces


def unreachable(source: str, destination: str, quoted: bytes, *, code: str = "port", mtu: int = 0) -> bytes:
    """Return the ICMP error that *source* sends to *destination* about the packet *quoted*."""
    if quoted[0] >> 4 == 4:
        kinds = {"port": (3, 3), "host": (3, 1), "too-big": (3, 4), "ttl": (11, 0), "quench": (4, 0)}
        kind, number = kinds[code]
        head = IP(src=source, dst=destination, ttl=64, id=0, flags="DF")
        return bytes(head / ICMP(type=kind, code=number, nexthopmtu=mtu) / Raw(quoted))
    message = {
        "port": lambda: ICMPv6DestUnreach(code=4),
        "host": lambda: ICMPv6DestUnreach(code=3),
        "too-big": lambda: ICMPv6PacketTooBig(mtu=mtu),
        "ttl": lambda: ICMPv6TimeExceeded(code=0),
    }[code]()
    return bytes(IPv6(src=source, dst=destination, hlim=64) / message / Raw(quoted))


def ping(source: str, destination: str, *, reply: bool = False) -> bytes:
    """Return an echo request or reply with payload."""
    if ip_address(source).version == 4:
        head = IP(src=source, dst=destination, ttl=64, id=0, flags="DF")
        return bytes(head / ICMP(type=0 if reply else 8, id=5, seq=1) / Raw(b"are you there"))
    kind = ICMPv6EchoReply if reply else ICMPv6EchoRequest
    return bytes(IPv6(src=source, dst=destination, hlim=64) / kind(id=5, seq=1, data=b"are you there"))


def with_identification(packet: bytes, ident: int) -> bytes:
    """Return the IPv4 *packet* or IPv6 fragment with another identification."""
    if packet[0] >> 4 == 6:
        return packet[:44] + ident.to_bytes(4, "big") + packet[48:]
    changed = IP(packet)
    changed.id = ident & 0xFFFF
    del changed.chksum
    return bytes(changed)


def identification(packet: bytes) -> int:
    """Return the identification of an IPv4 packet or IPv6 fragment."""
    if packet[0] >> 4 == 6:
        return int.from_bytes(packet[44:48], "big")
    return int.from_bytes(packet[4:6], "big")
