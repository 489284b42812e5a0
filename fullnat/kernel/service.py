# SPDX-License-Identifier: Apache-2.0
"""What the kernel is to serve: virtual services as IPVS and netfilter can have them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from fullnat.core.addr import PROTOCOL_NAMES, Endpoint, IPAddress, PortRange


class Forward(Enum):
    """How packets reach the real servers; the value is what the config calls it."""

    FULLNAT = "fullnat"  # from a local address; the servers answer whom they see
    NAT = "nat"  # from the client; the servers' way back leads through the director
    DR = "dr"  # to the server's MAC address; the servers have the VIP and do not answer ARP for it
    TUN = "tun"  # in IPIP; the servers have the VIP, and a tunnel device


@dataclass(frozen=True, slots=True)
class KernelServer:
    """One real server."""

    endpoint: Endpoint  # port 0, with a mark: whatever port the client asked for
    weight: int = 1
    upper: int = 0  # connections from which on it gets no new one; 0: no limit
    lower: int = 0  # and below which it gets them again; 0: three quarters of upper


@dataclass(frozen=True, slots=True)
class KernelPersistence:
    """Clients of one prefix stay on one server."""

    timeout: int  # seconds
    mask: int  # prefix length


@dataclass(frozen=True, slots=True)
class KernelService:
    """One virtual service: an endpoint, or all packets with a mark."""

    listen: Endpoint | Fwmark
    protocol: int  # addr.TCP or addr.UDP; 0 with a mark
    scheduler: str  # as the config names it
    servers: tuple[KernelServer, ...]
    flags: frozenset[str] = frozenset()
    persistence: KernelPersistence | None = None
    one_packet: bool = False
    forward: Forward = Forward.FULLNAT

    @property
    def family(self) -> int:
        """4 or 6."""
        return self.listen.family

    @property
    def is_translated(self) -> bool:
        """Whether packets come back through the director, which has to know their connections."""
        return self.forward in (Forward.FULLNAT, Forward.NAT)

    @property
    def total_weight(self) -> int:
        """What the weights add up to: 0 when nobody takes new connections."""
        return sum(server.weight for server in self.servers)

    def __str__(self) -> str:
        scheme = f"{PROTOCOL_NAMES[self.protocol]}://" if self.protocol else ""
        return f"{scheme}{self.listen}"


@dataclass(frozen=True, slots=True)
class Fwmark:
    """The mark of netfilter that makes packets of one family a service."""

    mark: int
    family: int = 4

    def __str__(self) -> str:
        return f"fwmark{'6' if self.family == 6 else ''}://{self.mark}"


@dataclass(frozen=True, slots=True)
class LocalPool:
    """Where connections to the servers come from: the LIPs, and the ports the kernel may use on them."""

    addresses: tuple[IPAddress, ...]
    ports: PortRange

    def of(self, family: int) -> tuple[IPAddress, ...]:
        """Return the addresses of *family*."""
        return tuple(address for address in self.addresses if address.version == family)
