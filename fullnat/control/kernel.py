# SPDX-License-Identifier: Apache-2.0
"""From a configuration to what the kernel serves: the engine's services in its place, and its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fullnat.control.config.model import AnyServiceConfig, Config
from fullnat.core.service import Persistence
from fullnat.core.timeouts import SECOND
from fullnat.kernel.service import Forward, KernelPersistence, KernelServer, KernelService

_WHOLE = {4: 32, 6: 128}


# Who of a service takes part: as it is configured, or as it is now.
ServersOf = Callable[[AnyServiceConfig], Sequence[KernelServer]]


def as_configured(config: AnyServiceConfig) -> list[KernelServer]:
    """Return the servers of the main pool, as if all of them worked."""
    return [
        KernelServer(server.endpoint, server.weight, server.upper, server.lower or 0)
        for server in config.servers
    ]


def engine_services(config: Config, servers_of: ServersOf = as_configured) -> tuple[KernelService, ...]:
    """Return the services of the engine as the kernel can have them."""
    return tuple(_service(service, Forward.FULLNAT, servers_of) for service in config.services)


def kernel_services(config: Config, servers_of: ServersOf = as_configured) -> tuple[KernelService, ...]:
    """Return the services that IPVS serves, whatever engine there is."""
    return tuple(_service(service, service.forward, servers_of) for service in config.kernel_services)


def _service(config: AnyServiceConfig, forward: Forward, servers_of: ServersOf) -> KernelService:
    return KernelService(
        listen=config.listen,
        protocol=config.protocol,
        scheduler=config.scheduler_name,
        servers=tuple(servers_of(config)),
        flags=config.scheduler_flags,
        persistence=_persistence(config.persistence, config.listen.family) if config.persistence else None,
        one_packet=config.one_packet,
        forward=forward,
    )


def _persistence(config: Persistence, family: int) -> KernelPersistence:
    return KernelPersistence(max(1, config.timeout // SECOND), config.mask or _WHOLE[family])
