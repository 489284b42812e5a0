# SPDX-License-Identifier: Apache-2.0
"""The fallback: what the kernel is told to serve behind the engine, from the same services."""

from __future__ import annotations

from contextlib import suppress

from fullnat.control.build import plan_host
from fullnat.control.config.model import Config
from fullnat.control.kernel import ServersOf, as_configured, engine_services, kernel_services
from fullnat.core.addr import TCP, PortRange
from fullnat.core.timeouts import SECOND
from fullnat.datapath.base import Datapath
from fullnat.host.addresses import read_interfaces
from fullnat.host.conntrack import Connection
from fullnat.host.errors import HostError
from fullnat.host.ipvs import find_unserved
from fullnat.host.plan import FALLBACKS, IPVS, Fallback, HostPlan
from fullnat.host.ports import other_ports
from fullnat.host.trial import try_services, try_steering
from fullnat.kernel import iptables, ipvs
from fullnat.kernel.service import KernelPersistence, KernelServer, KernelService, LocalPool


def plan_fallback(
    config: Config, ports: PortRange, kind: str, servers_of: ServersOf = as_configured
) -> Fallback:
    """Return what the kernel is to serve, by *kind*, while no engine does, which has *ports* for itself.

    *servers_of* says who takes part.  HostError when *ports* leave the kernel none.
    """
    pool = LocalPool(config.snat.addresses, other_ports(ports))
    return Fallback(kind, engine_services(config, servers_of), pool, _memory(config))


def choose_fallback(config: Config, ports: PortRange) -> tuple[Fallback | None, str]:
    """Return what the kernel is to serve behind the engine, and why nothing where that was not asked for.

    HostError when it was asked for and cannot be.
    """
    wanted = config.engine.fallback
    if wanted == "none" or not config.services:
        return None, ""
    refusals = []
    for kind in FALLBACKS if wanted == "auto" else (wanted,):
        try:
            fallback = plan_fallback(config, ports, kind)
            refusal = find_refusal(plan_host(config, ports, "python", fallback))
        except HostError as error:
            refusal = str(error)
        except PermissionError:
            refusal = ""  # nothing is known against it; who may not try may not run either
        if not refusal:
            return fallback, ""
        refusals.append(f"{kind}: {refusal}")
    if wanted == "auto":
        return None, "; ".join(refusals)
    raise HostError(f"fallback {refusals[0]}")


def find_refusal(plan: HostPlan, *, is_example: bool = False) -> str:
    """Return why this host cannot have the fallback of *plan*; empty when it can.

    The addresses of an example need not be the host's.  PermissionError when this process may not try.
    """
    assert plan.fallback is not None
    have_to_be_local = plan.fallback.services if plan.fallback.kind == IPVS and not is_example else ()
    try:
        return try_steering(plan) or find_unserved(plan, have_to_be_local, read_interfaces())
    except HostError as error:
        return str(error)


def require_kernel_services(config: Config) -> None:
    """Raise HostError unless the kernel has the IPVS that services of *config* are served by."""
    with suppress(PermissionError):  # nothing is known against it; who may not try may not run either
        refusal = try_services(kernel_services(config)) if config.kernel_services else ""
        if refusal:
            raise HostError(refusal)


def fallback_in_general(plan: HostPlan, kind: str) -> Fallback:
    """Return a fallback of *kind* for the services of *plan*, whose rules are of every kind there is."""
    services = tuple(
        KernelService(listen, protocol, "rr", (KernelServer(listen),), persistence=KernelPersistence(1, 8))
        for protocol, listen in plan.services
    )
    return Fallback(kind, services, LocalPool(plan.lips, other_ports(plan.port_range)), 1)


def differences(fallback: Fallback) -> list[str]:
    """Return what the kernel does otherwise than the config says, a line each."""
    of_service = ipvs.differences if fallback.kind == IPVS else iptables.differences
    return [f"{service}: {clause}" for service in fallback.services for clause in of_service(service)]


def connections(engine: Datapath) -> list[Connection]:
    """Return the flows of *engine* as the kernel can go on with them."""
    return [
        Connection(
            record.service.protocol,
            record.client,
            record.service.listen,
            record.local,
            record.server.endpoint,
            record.timeout // SECOND,
        )
        for record in engine.flows()
    ]


def _memory(config: Config) -> int:
    """Return how many seconds a silent connection of any service is kept."""
    timeouts = [
        service.timeouts.tcp_established if service.protocol == TCP else service.timeouts.udp
        for service in config.services
    ]
    return max(timeouts, default=SECOND) // SECOND + 1
