# SPDX-License-Identifier: Apache-2.0
"""Addresses, ports and the pairs made of them.

An address is the standard library's IPv4Address or IPv6Address; a port is a host-order integer.
Flow lookups never touch these types: they compare the bytes of the packet (see packet.py), and
an Endpoint is built only when a flow opens or a person wants to read one.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

IPAddress = IPv4Address | IPv6Address

TCP = 6
UDP = 17
ICMP = 1
ICMPV6 = 58

PROTOCOL_NAMES = {TCP: "tcp", UDP: "udp", ICMP: "icmp", ICMPV6: "icmpv6"}
PROTOCOL_NUMBERS = {"tcp": TCP, "udp": UDP}


class Endpoint(NamedTuple):
    """An address and a port; prints as 198.51.100.1:80 or [2001:db8::1]:80."""

    address: IPAddress
    port: int  # host order

    def __str__(self) -> str:
        host = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{host}:{self.port}"

    @property
    def family(self) -> int:
        """4 or 6."""
        return self.address.version

    @property
    def packed_port(self) -> bytes:
        """The port as it stands in a header: two bytes, network order."""
        return self.port.to_bytes(2, "big")


def parse_endpoint(text: str) -> Endpoint:
    """Return the Endpoint written as a.b.c.d:port or [v6]:port; ValueError says what is wrong."""
    host, colon, port_text = text.rpartition(":")
    if not colon:
        raise ValueError(f"no port in {text!r}")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if ":" not in host:
            raise ValueError(f"only an IPv6 address is written in brackets, not {host!r}")
    elif ":" in host:
        raise ValueError(f"write an IPv6 address in brackets: [{host}]:{port_text}")
    if not (port_text.isascii() and port_text.isdigit() and 0 < int(port_text) < 65536):
        raise ValueError(f"a port is 1-65535, not {port_text!r}")
    return Endpoint(ip_address(host), int(port_text))


class PortRange(NamedTuple):
    """Ports low..high, both included."""

    low: int
    high: int

    def __str__(self) -> str:
        return f"{self.low}-{self.high}"

    def __len__(self) -> int:
        return self.high - self.low + 1

    def __contains__(self, port: object) -> bool:
        return isinstance(port, int) and self.low <= port <= self.high

    def overlaps(self, other: PortRange) -> bool:
        """Whether a port lies in both ranges."""
        return self.low <= other.high and other.low <= self.high
