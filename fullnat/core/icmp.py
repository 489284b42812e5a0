# SPDX-License-Identifier: Apache-2.0
"""ICMP errors: find whom they concern, translate both layers; and the answers that are our own.

An error quotes the packet it is about.  If that packet is one we translated, the true sender sits
behind us, so the error goes to it with the quoted packet as it was before (RFC 5508, REQ-4, REQ-5):

      real server --- ICMP[LIP:lport -> RIP:rport] to LIP --> director
      director    --- ICMP[CIP:cport -> VIP:vport] to CIP --> client

The outer source becomes the address that the receiver talks to, VIP or LIP.  Errors neither end
nor refresh a flow (RFC 5508, REQ-6).  The checksums inside the quotation are updated, not verified,
except the one of the quoted IPv4 header (RFC 5508, REQ-3).
"""

from __future__ import annotations

from typing import NamedTuple

from fullnat.core.addr import ICMP, ICMPV6, TCP, UDP
from fullnat.core.checksum import checksum, difference, ones_sum, update
from fullnat.core.packet import ACK, FIN, RST, SYN, PacketView, key_addresses, reverse_key
from fullnat.core.reason import Reason

# RFC 792: destination unreachable, time exceeded, parameter problem.  Source quench (4) is
# deprecated (RFC 6633); a redirect (5) is for this host, which routes the packets itself.
_ERRORS_V4 = frozenset({3, 11, 12})
_UNWANTED_V4 = frozenset({4})
# RFC 4443: destination unreachable, packet too big, time exceeded, parameter problem.
_ERRORS_V6 = frozenset({1, 2, 3, 4})

_ECHO_REQUEST = {4: 8, 6: 128}
_ECHO_REPLY = {4: 0, 6: 129}

# (type, code) of our own errors.  Host unreachable is a soft error: clients try again (RFC 6888, REQ-11).
PORT_UNREACHABLE = {4: (3, 3), 6: (1, 4)}
HOST_UNREACHABLE = {4: (3, 1), 6: (1, 3)}

_MAX_ERROR = {4: 576, 6: 1280}  # RFC 1812, section 4.3.2.3; RFC 4443, section 2.4
_HOP_LIMIT = 64


class QuotedPacket(NamedTuple):
    """The packet inside an ICMP error."""

    key: bytes  # as quoted
    protocol: int
    ip: int  # where the quoted IP header is
    l4: int  # where the quoted transport header is


def is_error(view: PacketView) -> bool:
    """Whether *view* is an ICMP error message of the kinds that are relayed."""
    if len(view.data) <= view.l4:
        return False
    kind = view.data[view.l4]
    if view.protocol == ICMP and view.family == 4:
        return kind in _ERRORS_V4
    return view.protocol == ICMPV6 and view.family == 6 and kind in _ERRORS_V6


def is_unwanted(view: PacketView) -> bool:
    """Whether *view* is an ICMP message about a packet that nobody should act on."""
    return view.protocol == ICMP and len(view.data) > view.l4 and view.data[view.l4] in _UNWANTED_V4


def is_echo_request(view: PacketView) -> bool:
    """Whether *view* is a ping."""
    wanted = ICMP if view.family == 4 else ICMPV6
    return (
        view.protocol == wanted
        and len(view.data) >= view.l4 + 8
        and view.data[view.l4] == _ECHO_REQUEST[view.family]
    )


def _is_intact(view: PacketView) -> bool:
    """Whether the ICMP checksum is right."""
    message = view.data[view.l4 :]
    pseudo = b"" if view.family == 4 else pseudo_header(view.data[8:40], len(message), ICMPV6)
    return checksum(pseudo, message) == 0


def pseudo_header(addresses: bytes, length: int, protocol: int) -> bytes:
    """Return the pseudo header of RFC 9293 section 3.1 and RFC 8200 section 8.1."""
    if len(addresses) == 8:
        return addresses + bytes((0, protocol)) + length.to_bytes(2, "big")
    return addresses + length.to_bytes(4, "big") + bytes((0, 0, 0, protocol))


def parse_error(view: PacketView) -> QuotedPacket | Reason:
    """Return the packet quoted in the ICMP error *view*, or why there is none to be used."""
    data, at = view.data, view.l4 + 8
    if len(data) < at + (28 if view.family == 4 else 48):
        return Reason.ICMP_UNRELATED
    if not _is_intact(view):
        return Reason.ICMP_INVALID
    if view.family == 4:
        l4 = at + (data[at] & 0x0F) * 4
        if data[at] >> 4 != 4 or l4 < at + 20 or len(data) < l4 + 8:
            return Reason.ICMP_INVALID
        if ones_sum(data[at:l4]) != 0xFFFF:
            return Reason.ICMP_INVALID
        if (data[at + 6] & 0x1F) or data[at + 7]:
            return Reason.ICMP_UNRELATED  # a later fragment has no ports
        protocol, addresses = data[at + 9], data[at + 12 : at + 20]
    else:
        if data[at] >> 4 != 6:
            return Reason.ICMP_INVALID
        protocol, l4, addresses = data[at + 6], at + 40, data[at + 8 : at + 40]
        if protocol == 44 and len(data) >= l4 + 16 and not (data[l4 + 2] or data[l4 + 3] & 0xF8):
            protocol, l4 = data[l4], l4 + 8  # the first fragment of a datagram
    if protocol not in (TCP, UDP):
        return Reason.ICMP_UNRELATED
    return QuotedPacket(addresses + data[l4 : l4 + 4], protocol, at, l4)


class RelayError:
    """Rewrite an ICMP error into what its true receiver must see."""

    __slots__ = ("_new_key", "_quoted")

    def __init__(self, quoted: QuotedPacket, new_key: bytes) -> None:
        """Send it as packets of *new_key* go; the quoted packet went the other way."""
        self._quoted = quoted
        self._new_key = new_key

    def apply(self, view: PacketView) -> bytes:
        """Return the translated error."""
        outer = key_addresses(self._new_key)
        inner = self._rewrite_quoted(view)
        message = (
            view.data[view.l4 : view.l4 + 2] + b"\0\0" + view.data[view.l4 + 4 : self._quoted.ip] + inner
        )
        if view.family == 4:
            message = _with_checksum(message, b"")
            head = view.data[:10] + b"\0\0" + outer + view.data[20 : view.l4]
            return head[:10] + checksum(head).to_bytes(2, "big") + head[12:] + message
        message = _with_checksum(message, pseudo_header(outer, len(message), ICMPV6))
        return view.data[:8] + outer + view.data[40 : view.l4] + message

    def _rewrite_quoted(self, view: PacketView) -> bytes:
        data, quoted = view.data, self._quoted
        key = reverse_key(self._new_key)
        addresses = key_addresses(key)
        quote = bytearray(data[quoted.ip :])
        l4 = quoted.l4 - quoted.ip
        if view.family == 4:
            ip_check = int.from_bytes(quote[10:12], "big")
            ip_check = update(ip_check, difference(bytes(quote[12:20]), addresses))
            quote[10:12] = ip_check.to_bytes(2, "big")
            quote[12:20] = addresses
        else:
            quote[8:40] = addresses
        quote[l4 : l4 + 4] = key[-4:]
        at = l4 + (16 if quoted.protocol == TCP else 6)
        if len(quote) >= at + 2:
            check = int.from_bytes(quote[at : at + 2], "big")
            if check or quoted.protocol == TCP:
                check = update(check, difference(quoted.key, key))
                if not check and quoted.protocol == UDP:
                    check = 0xFFFF
                quote[at : at + 2] = check.to_bytes(2, "big")
        return bytes(quote)


def _with_checksum(message: bytes, pseudo: bytes) -> bytes:
    return message[:2] + checksum(pseudo, message).to_bytes(2, "big") + message[4:]


# What we say ourselves.  But for the first, all take the packet they answer, and answer from its destination.


def build_packet(addresses: bytes, protocol: int, body: bytes) -> bytes:
    """Return *body* in an IP packet whose *addresses* are source and destination as they stand in it."""
    if len(addresses) == 32:
        head = b"\x60\0\0\0" + len(body).to_bytes(2, "big") + bytes((protocol, _HOP_LIMIT))
        return head + addresses + body
    length = (20 + len(body)).to_bytes(2, "big")
    head = b"\x45\0" + length + b"\0\0\x40\0" + bytes((_HOP_LIMIT, protocol, 0, 0)) + addresses
    return head[:10] + checksum(head).to_bytes(2, "big") + head[12:] + body


def _icmp_packet(view: PacketView, message: bytes) -> bytes:
    if view.family == 4:
        return build_packet(view.daddr + view.saddr, ICMP, _with_checksum(message, b""))
    pseudo = pseudo_header(view.daddr + view.saddr, len(message), ICMPV6)
    return build_packet(view.daddr + view.saddr, ICMPV6, _with_checksum(message, pseudo))


def build_echo_reply(view: PacketView) -> bytes:
    """Return the answer to the ping *view*."""
    return _icmp_packet(view, bytes((_ECHO_REPLY[view.family], 0, 0, 0)) + view.data[view.l4 + 4 :])


def build_unreachable(view: PacketView, kind: tuple[int, int]) -> bytes:
    """Return an error of (type, code) *kind* that quotes *view*."""
    room = _MAX_ERROR[view.family] - (28 if view.family == 4 else 48)
    return _icmp_packet(view, bytes((*kind, 0, 0, 0, 0, 0, 0)) + view.data[:room])


def build_reset(view: PacketView) -> bytes:
    """Return the RST that answers the TCP segment *view* (RFC 9293, section 3.5.2)."""
    data, l4 = view.data, view.l4
    if view.flags & ACK:
        sequence, acknowledgment, flags = data[l4 + 8 : l4 + 12], b"\0\0\0\0", RST
    else:
        length = len(view.payload) + bool(view.flags & SYN) + bool(view.flags & FIN)
        number = int.from_bytes(data[l4 + 4 : l4 + 8], "big") + length & 0xFFFFFFFF
        sequence, acknowledgment, flags = b"\0\0\0\0", number.to_bytes(4, "big"), RST | ACK
    ports = data[l4 + 2 : l4 + 4] + data[l4 : l4 + 2]
    segment = ports + sequence + acknowledgment + bytes((0x50, flags)) + b"\0\0" + b"\0\0\0\0"
    addresses = view.daddr + view.saddr
    pseudo = pseudo_header(addresses, len(segment), TCP)
    segment = segment[:16] + checksum(pseudo, segment).to_bytes(2, "big") + segment[18:]
    return build_packet(addresses, TCP, segment)
