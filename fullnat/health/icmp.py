# SPDX-License-Identifier: Apache-2.0
"""Check icmp: an echo request is answered.

A ping socket where net.ipv4.ping_group_range allows it, else a raw one, which CAP_NET_RAW opens.  The
kernel gives a raw socket whatever ICMP the server sends; a filter leaves echo replies, and a token in
the payload tells ours from everybody else's.
"""

from __future__ import annotations

import os
import socket
import struct

from fullnat.core.checksum import checksum
from fullnat.health.check import Code, Target
from fullnat.health.probe import CheckError, Finding, Progress
from fullnat.health.wire import Datagrams, open_socket

_PROTOCOLS = {4: socket.IPPROTO_ICMP, 6: socket.IPPROTO_ICMPV6}
_ECHO_REQUEST = {4: 8, 6: 128}
_ECHO_REPLY = {4: 0, 6: 129}
_SOL_RAW, _ICMP_FILTER = 255, 1  # <linux/icmp.h>
_ICMPV6_FILTER = 1  # <linux/icmpv6.h>
_TOKEN_BYTES = 16
_HEADER = struct.Struct("!BBHHH")


async def probe(target: Target, _options: None, progress: Progress) -> Finding:
    """Ping *target*."""
    target = target._replace(port=0)  # raw IPv6 sockets take a port for a protocol
    token = os.urandom(_TOKEN_BYTES)
    with Datagrams(_open(target), target) as datagrams:
        progress.asking(Finding(Code.L4TOUT, "no echo reply"))
        datagrams.send(_request(target.family, token))
        while not _is_reply(await datagrams.receive(), target.family, token):
            pass
    return Finding(Code.L4OK, "echo reply")


def _open(target: Target) -> socket.socket:
    protocol = _PROTOCOLS[target.family]
    try:
        return open_socket(target, socket.SOCK_DGRAM, protocol)
    except CheckError:
        sock = open_socket(target, socket.SOCK_RAW, protocol)
    allowed = _ECHO_REPLY[target.family]
    words = [0xFFFF_FFFF] * 8  # a set bit blocks its type
    words[allowed // 32] &= ~(1 << allowed % 32)
    if target.family == 4:
        sock.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("=I", words[0]))
    else:
        sock.setsockopt(socket.IPPROTO_ICMPV6, _ICMPV6_FILTER, struct.pack("=8I", *words))
    return sock


def _request(family: int, token: bytes) -> bytes:
    kind = _ECHO_REQUEST[family]
    identifier = int.from_bytes(token[:2])  # a ping socket puts its own in its place
    message = _HEADER.pack(kind, 0, 0, identifier, 1) + token
    # The kernel does the sum of IPv6, which has the addresses in it.
    total = checksum(message) if family == 4 else 0
    return _HEADER.pack(kind, 0, total, identifier, 1) + token


def _is_reply(packet: bytes, family: int, token: bytes) -> bool:
    """Whether *packet* answers ours: on a raw IPv4 socket it begins with its IP header."""
    if family == 4 and packet[:1] and packet[0] >> 4 == 4:
        packet = packet[(packet[0] & 0xF) * 4 :]
    return packet[:1] == bytes([_ECHO_REPLY[family]]) and packet[_HEADER.size :] == token
