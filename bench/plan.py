# SPDX-License-Identifier: Apache-2.0
"""What the lab is wired with: CPUs, ports, addresses."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass

DIRECTOR_CPU = 1
GENERATOR_CPU = 0
ANY_CPU = f"{GENERATOR_CPU},{DIRECTOR_CPU}"  # as taskset has it: where the scheduler puts it

UDP_PORT = 9000
HTTP_PORT = 80
BULK_PORT = 5201


@dataclass(frozen=True, slots=True)
class Plan:
    """The addresses of one family.  Only documentation and benchmark prefixes."""

    family: int  # 4 or 6
    prefix: int
    client: str
    client_net: str
    crowd: str  # the first of many clients, whose addresses the generator makes up
    outside: str  # the director's address towards the client
    vip: str
    inside: str  # the director's address towards the server
    inside_net: str
    lips: tuple[str, ...]  # one after the other, without a gap
    server: str
    frame_bytes: int  # the smallest UDP frame worth sending: 60, or what the headers need

    @property
    def address_family(self) -> socket.AddressFamily:
        """What socket() takes."""
        return socket.AF_INET if self.family == 4 else socket.AF_INET6

    def url(self, host: str) -> str:
        """Return the HTTP URL of *host*."""
        return f"http://{self.bracketed(host)}:{HTTP_PORT}/"

    def bracketed(self, host: str) -> str:
        """Return *host* as it stands in front of a port."""
        return host if self.family == 4 else f"[{host}]"


# 40 LIPs: one has some 31 000 ports towards one server, and the figure of a million flows needs them all
# at once.  Engines that let closed ports rest would run out of one address's in a connection-rate trial.
_LIPS = 40
IPV4 = Plan(
    family=4,
    prefix=24,
    client="198.18.0.2",
    client_net="198.18.0.0/24",
    crowd="198.18.1.0",
    outside="198.18.0.1",
    vip="203.0.113.10",
    inside="198.19.0.1",
    inside_net="198.19.0.0/24",
    lips=tuple(f"198.19.0.{100 + i}" for i in range(_LIPS)),
    server="198.19.0.11",
    frame_bytes=60,
)
IPV6 = Plan(
    family=6,
    prefix=64,
    client="2001:db8:1::2",
    client_net="2001:db8:1::/64",
    crowd="2001:db8:1:1::",
    outside="2001:db8:1::1",
    vip="2001:db8:a::10",
    inside="2001:db8:2::1",
    inside_net="2001:db8:2::/64",
    lips=tuple(f"2001:db8:2::{0x100 + i:x}" for i in range(_LIPS)),
    server="2001:db8:2::11",
    frame_bytes=62,
)
PLANS = {4: IPV4, 6: IPV6}

# Fixed, locally administered.
CLIENT_MAC = "02:00:00:00:01:02"
OUTSIDE_MAC = "02:00:00:00:01:01"
INSIDE_MAC = "02:00:00:00:02:01"
SERVER_MAC = "02:00:00:00:02:11"


@dataclass(frozen=True, slots=True)
class Sources:
    """The addresses, from first to last, that the server may see packets come from."""

    first: str
    last: str

    def __contains__(self, address: str) -> bool:
        found = ipaddress.ip_address(address)
        return int(ipaddress.ip_address(self.first)) <= int(found) <= int(ipaddress.ip_address(self.last))
