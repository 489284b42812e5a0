# SPDX-License-Identifier: Apache-2.0
"""From a configuration to what serves it: services, the setup of an engine, what to ask of the host."""

from __future__ import annotations

from collections.abc import Iterable

from fullnat.control.config import Config
from fullnat.control.kernel import ServersOf, as_configured, kernel_services
from fullnat.control.served import Served, make_scheduler
from fullnat.core.addr import Endpoint, PortRange
from fullnat.core.director import Director
from fullnat.core.flow import FlowTable
from fullnat.core.fragment import FragmentTable
from fullnat.core.lport import LocalPortPool
from fullnat.core.persist import PersistenceTable
from fullnat.core.service import VirtualService
from fullnat.datapath.base import Setup
from fullnat.host.plan import Fallback, HostPlan

# One bit of the packet mark, high where few set one: forwarded packets carry it, by which FORWARD
# rules know them, and so do packets of our own, which steering leaves alone.
MARK = 1 << 26


def build_setup(
    config: Config,
    ports: PortRange,
    seed: int,
    has_fallback: bool = False,
    foreign_ends: Iterable[Endpoint] = (),
) -> Setup:
    """Return what *config* says of tables and addresses; *ports* are those of each local address.

    *has_fallback* is whether the kernel serves behind the engine, *foreign_ends* what it has from an
    engine before.
    """
    return Setup(
        flow_limit=config.limits.flows,
        persistence_limit=config.limits.persistence,
        fragment_limit=config.limits.fragments,
        addresses=config.snat.addresses,
        ports=ports,
        rest=config.snat.rest,
        seed=seed,
        has_fallback=has_fallback,
        foreign_ends=tuple(foreign_ends),
    )


def build_director(setup: Setup, services: Iterable[VirtualService], now: int) -> Director:
    """Return the director in Python that serves *services*."""
    services = list(services)
    return Director(
        services,
        FlowTable(setup.flow_limit, now),
        LocalPortPool(
            setup.addresses,
            setup.ports,
            setup.rest,
            setup.seed,
            (*(service.listen for service in services), *setup.foreign_ends),
        ),
        PersistenceTable(setup.persistence_limit),
        FragmentTable(setup.fragment_limit),
        seed=setup.seed,
        has_fallback=setup.has_fallback,
        foreign_ends=setup.foreign_ends,
    )


def build_served(config: Config, seed: int) -> list[Served]:
    """Return the services of *config* as they run, with all their servers and no flows."""
    return [Served(service, make_scheduler(service, seed)) for service in config.all_services]


def plan_host(
    config: Config,
    ports: PortRange,
    engine: str,
    fallback: Fallback | None = None,
    servers_of: ServersOf = as_configured,
) -> HostPlan:
    """Return what *config* needs of the host for the engine of this name, with *fallback* behind it.

    *servers_of* says who takes part in what the kernel serves.
    """
    is_native = engine in ("ebpf", "native")
    servers = dict.fromkeys(
        (service.protocol, endpoint) for service in config.services for endpoint in service.endpoints
    )
    return HostPlan(
        instance=config.instance,
        queue=config.engine.queue,
        mark=MARK,
        services=tuple((service.protocol, service.listen) for service in config.services),
        servers=tuple(servers),
        lips=config.snat.addresses,
        port_range=ports,
        add_addresses=config.engine.add_addresses,
        tune=config.engine.tune,
        workers=config.engine.workers if is_native else 1,
        more_queues=1 if is_native else 0,
        has_fastpath=engine == "ebpf",
        fallback=fallback,
        has_engine=engine != "kernel",
        kernel_services=kernel_services(config, servers_of),
    )
