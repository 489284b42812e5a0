# SPDX-License-Identifier: Apache-2.0
"""The Config: what the rest of the program gets to see of the file, frozen and checked.

Nothing here is as the file writes it: durations are nanoseconds, ranges are expanded, defaults are
filled in, and a scheduler is its class.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fullnat.control.config.problems import Problem
from fullnat.core.addr import Endpoint, IPAddress, PortRange
from fullnat.core.sched.base import Scheduler
from fullnat.core.service import Persistence
from fullnat.core.timeouts import Timeouts


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


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """One virtual service."""

    name: str
    protocol: int  # addr.TCP or addr.UDP
    listen: Endpoint
    scheduler: type[Scheduler]
    scheduler_name: str  # as the file spells it
    scheduler_flags: frozenset[str]
    persistence: Persistence | None
    one_packet: bool
    timeouts: Timeouts  # the global ones with the service's own on top
    servers: tuple[ServerConfig, ...]


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
    warnings: tuple[Problem, ...]
