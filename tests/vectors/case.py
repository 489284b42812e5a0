# SPDX-License-Identifier: Apache-2.0
"""The one format of packet-in/packet-out rows, and the network they play in.

A row is a list of steps on a fresh director.  Each step is one packet, the verdict and reason it
must end in, and the exact bytes that must come out: `out` for FORWARD, `reply` for REPLY.  The
runner also checks that the counters moved by exactly these reasons and no others.

The local port pool has one port for each server, 5000, so that expectations can be written down.
An engine runs the rows through whatever turns bytes into a decision: tests/vectors/directors.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fullnat.core.pressure import UNLIMITED
from fullnat.core.reason import Reason
from fullnat.core.timeouts import SECOND


@dataclass(frozen=True)
class Net:
    """The addresses of one family."""

    family: int
    client: str
    other_client: str
    vip: str
    lip: str
    servers: tuple[str, ...]
    router: str  # on the way to the servers

    def end(self, address: str, port: int) -> str:
        """Return address and port as an endpoint is written."""
        return f"[{address}]:{port}" if self.family == 6 else f"{address}:{port}"

    def to_vip(self, cport: int = 4000, vport: int = 80, client: str = "") -> str:
        """What the client sends."""
        return f"{self.end(client or self.client, cport)} > {self.end(self.vip, vport)}"

    def to_server(self, rport: int = 8080, server: int = 0, lport: int = 5000) -> str:
        """What the server gets."""
        return f"{self.end(self.lip, lport)} > {self.end(self.servers[server], rport)}"

    def from_server(self, rport: int = 8080, server: int = 0, lport: int = 5000) -> str:
        """What the server sends."""
        return f"{self.end(self.servers[server], rport)} > {self.end(self.lip, lport)}"

    def to_client(self, cport: int = 4000, vport: int = 80, client: str = "") -> str:
        """What the client gets."""
        return f"{self.end(self.vip, vport)} > {self.end(client or self.client, cport)}"


V4 = Net(
    4,
    "203.0.113.100",
    "203.0.113.101",
    "203.0.113.10",
    "198.19.0.1",
    ("198.19.0.11", "198.19.0.12", "198.19.0.13"),
    "198.19.0.254",
)
V6 = Net(
    6,
    "2001:db8:1::100",
    "2001:db8:1::101",
    "2001:db8:1::10",
    "2001:db8:2::1",
    ("2001:db8:2::11", "2001:db8:2::12", "2001:db8:2::13"),
    "2001:db8:2::fe",
)
NETS = (V4, V6)


@dataclass(frozen=True)
class Given:
    """What is configured.  Services: tcp port 80 and udp port 53, to ports 8080 and 5353."""

    net: Net
    servers: int = 3  # round robin over this many
    weight: int = 1
    flow_limit: int = 1000
    path_mtu: int = 1500  # towards the servers
    rest: int = 60 * SECOND
    one_packet: bool = False
    has_fallback: bool = False
    scheduler_fails: bool = False
    openings: int = UNLIMITED  # new flows admitted in all


@dataclass(frozen=True)
class Step:
    """One packet; `at` is seconds since the start."""

    packet: bytes
    reason: Reason
    out: bytes | None = None
    reply: bytes | None = None
    at: float = 0
    released: tuple[tuple[Reason, bytes | None], ...] = ()  # held packets this one sets free
    any_ident: bool = False  # the identification is ours to choose: compare all but it
    ends_flows: bool = False  # all flows there are, before the packet comes


@dataclass(frozen=True)
class Case:
    """One row."""

    name: str
    given: Given
    steps: list[Step] = field(default_factory=list)
