# SPDX-License-Identifier: Apache-2.0
"""Read-only views of packets: where the headers are, and the key flows are found by.

The key of a TCP or UDP packet is saddr, daddr, sport and dport as they stand in the packet: 12
bytes for IPv4, 36 for IPv6.  Flow tables compare these bytes and never build addresses, because a
lookup is what happens to every packet.  Lengths differ by family, so the keys of both families
live in one table; protocols have a table each (flow.py).

parse() never raises.  What cannot be translated carries the reason in `malformed`.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from fullnat.core.addr import TCP, UDP, Endpoint
from fullnat.core.reason import Reason

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16

# IPv4 options that send a packet round by way of others (RFC 791, section 3.1).
_LOOSE_SOURCE_ROUTE, _STRICT_SOURCE_ROUTE = 131, 137

# IPv6 extension headers that may stand before the transport header (RFC 8200, section 4.1).
_HOP_BY_HOP, _ROUTING, _FRAGMENT, _DESTINATION = 0, 43, 44, 60
_MAX_EXTENSIONS = 8

# Every host must take a datagram of this size in one piece or reassemble it (RFC 791, section 3.1);
# shorter ones are not fragmented by any link in use, so their identification never matters.
_NEVER_DIVIDED = 576


class Fragment(NamedTuple):
    """What makes a packet a fragment."""

    datagram: bytes  # saddr, daddr, protocol, identification: the same in all its fragments
    offset: int  # bytes
    more: bool
    header: int  # IPv6: where the fragment header is; IPv4: 0


class PacketView:
    """One parsed packet.  `data` is trimmed to the length its IP header gives."""

    __slots__ = ("data", "divisible", "family", "flags", "fragment", "key", "l4", "malformed", "protocol")

    def __init__(
        self,
        data: bytes,
        family: int = 0,
        protocol: int = 0,
        l4: int = 0,
        key: bytes = b"",
        flags: int = 0,
        divisible: bool = False,
        fragment: Fragment | None = None,
        malformed: Reason | None = None,
    ) -> None:
        self.data = data
        self.family = family  # 4 or 6
        self.protocol = protocol  # of the transport header
        self.l4 = l4  # where the transport header is
        self.key = key  # b"" when there are no ports to read
        self.flags = flags  # of TCP
        self.divisible = divisible  # IPv4, DF clear, long enough to be fragmented further on
        self.fragment = fragment
        self.malformed = malformed

    @property
    def saddr(self) -> bytes:
        """The source address of the IP header."""
        return self.data[12:16] if self.family == 4 else self.data[8:24]

    @property
    def daddr(self) -> bytes:
        """The destination address of the IP header."""
        return self.data[16:20] if self.family == 4 else self.data[24:40]

    @property
    def payload(self) -> bytes:
        """What follows the TCP or UDP header."""
        header = 8 if self.protocol == UDP else (self.data[self.l4 + 12] >> 4) * 4
        return self.data[self.l4 + header :]


def parse(data: bytes) -> PacketView:
    """Return the view of the IP packet *data*."""
    # The common case first, in one test: IPv4, no options, no fragment, TCP or UDP.
    if len(data) >= 28 and data[0] == 0x45 and not data[6] & 0x3F and not data[7]:
        return _parse_transport(data, 4, data[9], 20, data[2] << 8 | data[3])
    if not data:
        return PacketView(data, malformed=Reason.TRUNCATED)
    version = data[0] >> 4
    if version == 4:
        return _parse_ipv4(data)
    if version == 6:
        return _parse_ipv6(data)
    return PacketView(data, malformed=Reason.BAD_HEADER)


def _parse_transport(data: bytes, family: int, protocol: int, l4: int, length: int) -> PacketView:
    """Read the ports behind an IP header that ends at *l4* in a packet of *length* bytes."""
    if length != len(data):
        if length > len(data):
            return PacketView(data, family, protocol, l4, malformed=Reason.TRUNCATED)
        if length < l4:
            return PacketView(data, family, protocol, l4, malformed=Reason.BAD_HEADER)
        data = data[:length]
    if protocol == TCP:
        if length < l4 + 20 or not 20 <= (data[l4 + 12] >> 4) * 4 <= length - l4:
            return PacketView(data, family, protocol, l4, malformed=Reason.BAD_TRANSPORT)
        flags = data[l4 + 13]
    elif protocol == UDP:
        if length < l4 + 8 or not 8 <= data[l4 + 4] << 8 | data[l4 + 5] <= length - l4:
            return PacketView(data, family, protocol, l4, malformed=Reason.BAD_TRANSPORT)
        flags = 0
    else:
        return PacketView(data, family, protocol, l4)
    if l4 == 20:
        key = data[12:24]
    elif family == 4:
        key = data[12:20] + data[l4 : l4 + 4]
    else:
        key = data[8:40] + data[l4 : l4 + 4]
    divisible = family == 4 and length > _NEVER_DIVIDED and not data[6] & 0x40
    return PacketView(data, family, protocol, l4, key, flags, divisible)


def _parse_ipv4(data: bytes) -> PacketView:
    if len(data) < 20:
        return PacketView(data, 4, malformed=Reason.TRUNCATED)
    l4 = (data[0] & 0x0F) * 4
    length = data[2] << 8 | data[3]
    if l4 < 20 or length < l4:
        return PacketView(data, 4, malformed=Reason.BAD_HEADER)
    if length > len(data):
        return PacketView(data, 4, malformed=Reason.TRUNCATED)
    if l4 > 20 and _is_source_routed(data[20:l4]):
        return PacketView(data, 4, malformed=Reason.SOURCE_ROUTED)
    protocol = data[9]
    offset = ((data[6] & 0x1F) << 8 | data[7]) * 8
    more = bool(data[6] & 0x20)
    if offset or more:
        fragment = Fragment(data[12:20] + data[9:10] + data[4:6], offset, more, 0)
        return _parse_fragment(data[:length], 4, protocol, l4, fragment)
    return _parse_transport(data, 4, protocol, l4, length)


def _is_source_routed(options: bytes) -> bool:
    at = 0
    while at < len(options):
        kind = options[at]
        if kind in (_LOOSE_SOURCE_ROUTE, _STRICT_SOURCE_ROUTE):
            return True
        if kind == 0:
            return False
        if kind == 1:
            at += 1
        elif at + 1 < len(options) and options[at + 1] >= 2:
            at += options[at + 1]
        else:
            return False
    return False


def _parse_ipv6(data: bytes) -> PacketView:
    if len(data) < 40:
        return PacketView(data, 6, malformed=Reason.TRUNCATED)
    length = 40 + (data[4] << 8 | data[5])
    if length > len(data):
        return PacketView(data, 6, malformed=Reason.TRUNCATED)
    data = data[:length]
    protocol, l4 = data[6], 40
    for _ in range(_MAX_EXTENSIONS):
        if protocol not in (_HOP_BY_HOP, _ROUTING, _FRAGMENT, _DESTINATION):
            return _parse_transport(data, 6, protocol, l4, length)
        if l4 + 8 > length:
            return PacketView(data, 6, malformed=Reason.TRUNCATED)
        following = data[l4]
        if protocol == _FRAGMENT:
            word = data[l4 + 2] << 8 | data[l4 + 3]
            offset, more = word & 0xFFF8, bool(word & 1)
            if offset or more:
                datagram = data[8:40] + data[l4 : l4 + 1] + data[l4 + 4 : l4 + 8]
                return _parse_fragment(data, 6, following, l4 + 8, Fragment(datagram, offset, more, l4))
            # An atomic fragment (RFC 6946) is a whole packet.
            protocol, l4 = following, l4 + 8
            continue
        if protocol == _ROUTING and data[l4 + 3]:
            # Segments left: type 0 is forbidden (RFC 5095), others have a destination yet to come.
            return PacketView(data, 6, malformed=Reason.SOURCE_ROUTED)
        l4 += 8 + data[l4 + 1] * 8
        protocol = following
    return PacketView(data, 6, malformed=Reason.BAD_HEADER)


def _parse_fragment(data: bytes, family: int, protocol: int, l4: int, fragment: Fragment) -> PacketView:
    """View a fragment; only the first has ports, and must have the whole transport header.

    A TCP fragment at offset 8 could overwrite the flags of the first (RFC 1858, section 4.2).
    """
    if fragment.offset:
        overlaps = protocol == TCP and fragment.offset < 20
        malformed = Reason.FRAGMENT_TINY if overlaps else None
        return PacketView(data, family, protocol, l4, fragment=fragment, malformed=malformed)
    if protocol not in (TCP, UDP):
        return PacketView(data, family, protocol, l4, fragment=fragment)
    if len(data) < l4 + (20 if protocol == TCP else 8):
        return PacketView(data, family, protocol, l4, fragment=fragment, malformed=Reason.FRAGMENT_TINY)
    if protocol == TCP and not 20 <= (data[l4 + 12] >> 4) * 4 <= len(data) - l4:
        return PacketView(data, family, protocol, l4, fragment=fragment, malformed=Reason.FRAGMENT_TINY)
    key = (data[12:20] if family == 4 else data[8:40]) + data[l4 : l4 + 4]
    flags = data[l4 + 13] if protocol == TCP else 0
    return PacketView(data, family, protocol, l4, key, flags, fragment=fragment)


# Keys: saddr, daddr, sport, dport.


def build_key(source: Endpoint, destination: Endpoint) -> bytes:
    """Return the key of packets from *source* to *destination*."""
    return source.address.packed + destination.address.packed + source.packed_port + destination.packed_port


def reverse_key(key: bytes) -> bytes:
    """Return the key of the packets that answer those of *key*."""
    size = (len(key) - 4) // 2
    return key[size : 2 * size] + key[:size] + key[-2:] + key[-4:-2]


def key_addresses(key: bytes) -> bytes:
    """Return saddr and daddr of *key*."""
    return key[:-4]


def key_destination(key: bytes) -> bytes:
    """Return daddr and dport of *key*: what a service is found by."""
    size = (len(key) - 4) // 2
    return key[size : 2 * size] + key[-2:]


def key_endpoints(key: bytes) -> tuple[Endpoint, Endpoint]:
    """Return source and destination of *key* for people and policy to read."""
    size = (len(key) - 4) // 2
    kind = IPv4Address if size == 4 else IPv6Address
    source = Endpoint(kind(key[:size]), int.from_bytes(key[-4:-2], "big"))
    return source, Endpoint(kind(key[size : 2 * size]), int.from_bytes(key[-2:], "big"))
