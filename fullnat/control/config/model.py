# SPDX-License-Identifier: Apache-2.0
"""The Config: what the rest of the program gets to see of the file, frozen and checked.

Nothing here is as the file writes it: durations are nanoseconds, ranges are expanded, defaults are
filled in, and a scheduler is its class.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from fullnat.control.config.problems import Problem
from fullnat.core.addr import PROTOCOL_NAMES, Endpoint, IPAddress, PortRange
from fullnat.core.sched.base import Scheduler
from fullnat.core.service import Persistence
from fullnat.core.timeouts import Timeouts
from fullnat.health.check import HealthCheck
from fullnat.kernel.service import Forward, Fwmark


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Which engine, and what it may do to the host."""

    datapath: str
    workers: int  # threads of the packet loop; engine python has one whatever this says
    tune: bool
    fallback: str
    queue: int  # NFQUEUE number; engine native: the first of workers + 1
    add_addresses: bool


@dataclass(frozen=True, slots=True)
class SnatConfig:
    """The LIPs and the ports to use on them."""

    addresses: tuple[IPAddress, ...]  # ranges expanded, each once, in the file's order
    ports: PortRange | None  # None: worked out from the host's ip_local_port_range
    rest: int  # nanoseconds before a released port is used again


@dataclass(frozen=True, slots=True)
class LimitsConfig:
    """How many of each thing are kept at once."""

    flows: int
    persistence: int  # templates
    fragments: int  # datagrams


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """One real server of a service."""

    endpoint: Endpoint
    weight: int
    upper: int  # 0 = no limit
    lower: int | None  # None: RealServer's default
    health: HealthCheck | None = None  # None: it is not checked


@dataclass(frozen=True, slots=True)
class PoolConfig:
    """Servers that serve together, or not at all."""

    name: str
    servers: tuple[ServerConfig, ...]
    quorum: int = 1  # of weight
    hysteresis: int = 0


class OnDown(Enum):
    """What becomes of the connections of a server that is down; the value is what the config calls it."""

    KEEP = "keep"
    RESET = "reset"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonConfig:
    """What every service has, whoever serves it."""

    name: str
    protocol: int  # addr.TCP or addr.UDP; 0 with a mark
    listen: Endpoint | Fwmark
    scheduler_name: str  # as the file spells it
    scheduler_flags: frozenset[str]
    persistence: Persistence | None
    one_packet: bool
    pools: tuple[PoolConfig, ...]  # in the order they serve, the main one first
    sorry: Endpoint | None = None  # a server of last resort
    inhibit: bool = False  # a server that is down keeps its place, with weight 0
    slow_start: int = 0  # nanoseconds
    on_down: OnDown = OnDown.KEEP
    reset_after: int = 0  # nanoseconds

    @property
    def address(self) -> str:
        """What makes it the same in two configurations: tcp://203.0.113.10:80, fwmark://7."""
        scheme = f"{PROTOCOL_NAMES[self.protocol]}://" if self.protocol else ""
        return f"{scheme}{self.listen}"

    @property
    def servers(self) -> tuple[ServerConfig, ...]:
        """Those of the main pool."""
        return self.pools[0].servers

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Where connections may go: the servers of all pools, and the sorry server."""
        pooled = (server.endpoint for pool in self.pools for server in pool.servers)
        return (*pooled, *((self.sorry,) if self.sorry else ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceConfig(CommonConfig):
    """One virtual service of the engine."""

    listen: Endpoint
    scheduler: type[Scheduler]
    timeouts: Timeouts  # the global ones with the service's own on top


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelServiceConfig(CommonConfig):
    """One virtual service that the kernel's IPVS serves, whatever engine there is.

    A server's port is 0 with a mark: whatever the client asked for.
    """

    forward: Forward


AnyServiceConfig = ServiceConfig | KernelServiceConfig


@dataclass(frozen=True, slots=True)
class ApiConfig:
    """Who may use the control socket, beside root and the owner: users, and groups with an @."""

    viewers: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    admins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WebConfig:
    """Where the status page is, and how else browsers may call that place."""

    listen: Endpoint
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MetricsConfig:
    """Where counters are kept as files."""

    procfs: Path | None = None  # directory for net/ip_vs and net/ip_vs_stats


@dataclass(frozen=True, slots=True)
class Config:
    """All of it, checked."""

    path: Path
    instance: str
    engine: EngineConfig
    snat: SnatConfig
    timeouts: Timeouts
    limits: LimitsConfig
    services: tuple[ServiceConfig, ...]
    kernel_services: tuple[KernelServiceConfig, ...]
    warnings: tuple[Problem, ...]
    api: ApiConfig = ApiConfig()
    web: WebConfig | None = None  # None: no page
    metrics: MetricsConfig = MetricsConfig()
    maintenance: Path | None = None  # directory whose files name servers to drain

    @property
    def all_services(self) -> tuple[AnyServiceConfig, ...]:
        """The engine's, and then the kernel's."""
        return (*self.services, *self.kernel_services)
