# SPDX-License-Identifier: Apache-2.0
"""What is behind an option: numbers, addresses, marks and masks, as the C library reads them.

Addresses are read by inet_aton and inet_pton, as ipvsadm does: 203.0.113 and 0xcb007101 are addresses to
it, and so they are here.  These functions of `socket` open none.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from socket import AF_INET, AF_INET6, inet_aton, inet_pton

from fullnat.core.addr import TCP, UDP, IPAddress
from fullnat.ipvsadm.commands import SCTP
from fullnat.ipvsadm.names import Resolver

_NUMBER = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]{1,19})", re.ASCII)
_DIGITS = re.compile(r"[0-9]*", re.ASCII)


def parse_number(text: str, low: int, high: int) -> int | None:
    """Return the number *text* is, as strtol has it, or None when it is none from *low* to *high*."""
    found = _NUMBER.fullmatch(text)
    if not found:
        return None
    number = int(found[1])
    return number if low <= number <= high else None


def leading_number(text: str) -> int:
    """Return the number that *text* starts with, as atoi has it: 0 when there is none."""
    found = _NUMBER.match(text)
    return int(found[1]) if found else 0


def parse_ipv4(text: str) -> IPv4Address | None:
    """Return the address *text* is, in any form that inet_aton knows."""
    try:
        return IPv4Address(inet_aton(text))
    except (OSError, ValueError):
        return None


def parse_dotted(text: str) -> IPv4Address | None:
    """Return the address *text* is, in four decimal numbers."""
    try:
        return IPv4Address(inet_pton(AF_INET, text))
    except (OSError, ValueError):
        return None


def parse_ipv6(text: str) -> IPv6Address | None:
    """Return the address *text* is."""
    try:
        return IPv6Address(inet_pton(AF_INET6, text))
    except (OSError, ValueError):
        return None


def parse_host(text: str, resolver: Resolver) -> IPv4Address | None:
    """Return the IPv4 address that *text* is or names."""
    return parse_ipv4(text) or (resolver.host(text) if text else None)


def parse_host_port(text: str, protocol: int, resolver: Resolver) -> tuple[IPAddress, int | None] | None:
    """Return address and port of HOST, HOST:PORT or [IPV6]:PORT, or None where *text* is none of them.

    The port is None where none was said.  A number alone is not a host.
    """
    if _DIGITS.fullmatch(text):
        return None
    host, port = text, None
    if text.startswith("["):
        host, bracket, behind = text[1:].partition("]")
        if not bracket or not behind.startswith(":"):
            return None
        port = behind[1:]
    address: IPAddress | None = parse_ipv6(host)
    if address is None:
        # Only an IPv6 address keeps what is behind its brackets: of [198.51.100.1]:80 the port is lost.
        front, colon, behind = host.rpartition(":")
        host, port = (front, behind) if colon else (host, None)
        address = parse_host(host, resolver)
    if address is None:
        return None
    if port is None:
        return address, None
    number = parse_port(port, protocol, resolver)
    return None if number is None else (address, number)


def parse_port(text: str, protocol: int, resolver: Resolver) -> int | None:
    """Return the port that *text* is, or names as a service of *protocol*."""
    number = parse_number(text, 0, 65535)
    if number is None and protocol in (TCP, UDP, SCTP):
        number = resolver.port(text, protocol)
    return number


def prefix_length(mask: IPv4Address) -> int | None:
    """Return the prefix length that *mask* stands for, or None when its ones are not the first bits."""
    length = int(mask).bit_count()
    return length if IPv4Network((0, length)).netmask == mask else None
