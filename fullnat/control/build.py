# SPDX-License-Identifier: Apache-2.0
"""From a configuration to the objects that serve it: a director, and what to ask of the host."""

from __future__ import annotations

from fullnat.control.config import Config, ServiceConfig
from fullnat.core.addr import PortRange
from fullnat.core.director import Director
from fullnat.core.flow import FlowTable
from fullnat.core.fragment import FragmentTable
from fullnat.core.lport import LocalPortPool
from fullnat.core.mtu import PathMtu
from fullnat.core.persist import PersistenceTable
from fullnat.core.service import RealServer, VirtualService
from fullnat.host.plan import HostPlan

# One bit of the packet mark, high where few set one: forwarded packets carry it, by which FORWARD
# rules know them, and so do packets of our own, which steering leaves alone.
MARK = 1 << 26


def build_director(config: Config, ports: PortRange, path_mtu: PathMtu, seed: int, now: int) -> Director:
    """Return a director that serves *config* from *ports* of its local addresses."""
    services = [_build_service(service, seed) for service in config.services]
    listens = frozenset(service.listen for service in config.services)
    return Director(
        services,
        FlowTable(config.limits.flows, now),
        LocalPortPool(config.snat.addresses, ports, config.snat.rest, seed, listens),
        PersistenceTable(config.limits.persistence),
        FragmentTable(config.limits.fragments),
        seed=seed,
        path_mtu=path_mtu,
        # Steering hands us the pings only of those that no interface has.
        answers_ping=[service.listen.address for service in config.services],
    )


def _build_service(config: ServiceConfig, seed: int) -> VirtualService:
    return VirtualService(
        config.name,
        config.protocol,
        config.listen,
        config.scheduler(seed=seed, flags=config.scheduler_flags),
        config.timeouts,
        [RealServer(server.endpoint, server.weight, server.upper, server.lower) for server in config.servers],
        config.persistence,
        config.one_packet,
    )


def plan_host(config: Config, ports: PortRange) -> HostPlan:
    """Return what *config* needs of the host."""
    servers = {
        (service.protocol, server.endpoint): None for service in config.services for server in service.servers
    }
    return HostPlan(
        instance=config.instance,
        queue=config.engine.queue,
        mark=MARK,
        services=tuple((service.protocol, service.listen) for service in config.services),
        servers=tuple(servers),
        lips=config.snat.addresses,
        port_range=ports,
        add_addresses=config.engine.add_addresses,
    )
