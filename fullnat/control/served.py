# SPDX-License-Identifier: Apache-2.0
"""Served: one service while it runs, made of its configuration and changed to another.

The configuration says what should be; VirtualService and RealServer objects are what engines know and
count in; the rotation says who takes part.  What an operator set by command and what checks found is
kept through a change of the configuration, for every server that stays.

A service that the kernel's IPVS serves has the same objects, so that checks and commands work alike;
only no engine is told of them, and nothing is counted in them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fullnat.control.config.model import (
    AnyServiceConfig,
    KernelServiceConfig,
    PoolConfig,
    ServerConfig,
    ServiceConfig,
)
from fullnat.core.addr import Endpoint
from fullnat.core.rotation import Pool, Rotation
from fullnat.core.sched.base import Scheduler
from fullnat.core.service import RealServer, VirtualService
from fullnat.core.timeouts import PROFILES, Timeouts
from fullnat.health.check import OFF


def make_scheduler(config: AnyServiceConfig, seed: int) -> Scheduler:
    """Return a new scheduler for *config*; a user's class may raise anything."""
    if isinstance(config, ServiceConfig):
        return config.scheduler(seed=seed, flags=config.scheduler_flags)
    return Scheduler()  # IPVS has its own


class Served:
    """A service that is served: by the engine, or by the kernel's IPVS beside it."""

    def __init__(self, config: AnyServiceConfig, scheduler: Scheduler) -> None:
        """Make it new, with no flows and nothing known of its servers."""
        self.config = config
        self.virtual = VirtualService(
            config.name,
            config.protocol,
            config.listen,  # type: ignore[arg-type]  # a mark, where no engine meets it
            scheduler,
            _timeouts(config),
            [],
            config.persistence,
            config.one_packet,
        )
        self._by_endpoint: dict[Endpoint, RealServer] = {}
        self.rotation = self._make_rotation({})

    @property
    def key(self) -> str:
        """What makes it the same in two configurations: tcp://203.0.113.10:80."""
        return self.config.address

    @property
    def is_engines(self) -> bool:
        """Whether the engine serves it; else IPVS does."""
        return not isinstance(self.config, KernelServiceConfig)

    @property
    def scheduler_name(self) -> str:
        """What its scheduler calls itself; a user's class has a name of its own."""
        return self.virtual.scheduler_name if self.is_engines else self.config.scheduler_name

    @property
    def servers(self) -> list[RealServer]:
        """Those of all pools, in configured order, and the sorry server last."""
        return self.rotation.servers

    def find(self, endpoint: Endpoint) -> RealServer | None:
        """Return the server at *endpoint*, None when it has none there."""
        return self._by_endpoint.get(endpoint)

    def in_pools(self) -> Iterator[tuple[str, RealServer]]:
        """Yield every server with the name of its pool, the sorry server last."""
        for pool in self.rotation.pools:
            yield from ((pool.name, server) for server in pool.servers)
        if self.rotation.sorry is not None:
            yield "sorry", self.rotation.sorry

    def checked(self) -> Iterator[tuple[RealServer, ServerConfig]]:
        """Yield the servers that have a health check, with what the configuration says of each."""
        for endpoint, config in _servers_of(self.config).items():
            if config.health is not None and config.health.type != OFF:
                yield self._by_endpoint[endpoint], config

    def change(self, config: AnyServiceConfig, scheduler: Scheduler | None) -> list[RealServer]:
        """Become what *config* says, scheduled by *scheduler* if it is a new one; return who is gone.

        Who is in rotation, and what an engine must be told, is for the caller.
        """
        old, self.config = self.config, config
        virtual = self.virtual
        virtual.name, virtual.timeouts = config.name, _timeouts(config)
        virtual.persistence, virtual.one_packet = config.persistence, config.one_packet
        if scheduler is not None:
            virtual.set_scheduler(scheduler)
        known = self._by_endpoint
        self.rotation = self._make_rotation(_servers_of(old)).succeed(self.rotation)
        return [server for server in known.values() if server not in self._by_endpoint.values()]

    def _make_rotation(self, before: Mapping[Endpoint, ServerConfig]) -> Rotation:
        """Make pools of what the configuration says, of the servers there are; *before* is what it said."""
        config, known = self.config, self._by_endpoint
        self._by_endpoint = {
            endpoint: self._make_server(server, known.get(endpoint), before.get(endpoint))
            for endpoint, server in _servers_of(config).items()
        }
        sorry = None
        if config.sorry is not None:
            sorry = self._by_endpoint[config.sorry] = known.get(config.sorry) or RealServer(config.sorry)
        pools = [self._make_pool(pool) for pool in config.pools]
        return Rotation(pools, sorry, config.inhibit, config.slow_start)

    def _make_pool(self, config: PoolConfig) -> Pool:
        servers = [self._by_endpoint[server.endpoint] for server in config.servers]
        return Pool(config.name, servers, config.quorum, config.hysteresis)

    def _make_server(
        self, config: ServerConfig, known: RealServer | None, before: ServerConfig | None
    ) -> RealServer:
        """Return the server of *config*, the *known* one with new settings where there is one.

        A weight set by command stays until the configuration says another than *before*.
        """
        if known is None:
            new = RealServer(config.endpoint, config.weight, config.upper, config.lower)
            if config.health is not None:
                self.virtual.set_health(new, config.health.start)
            return new
        if before is None or before.weight != config.weight:
            self.virtual.set_weight(known, config.weight)
        if before is None or (before.upper, before.lower) != (config.upper, config.lower):
            fresh = RealServer(config.endpoint, config.weight, config.upper, config.lower)
            self.virtual.set_thresholds(known, fresh.upper, fresh.lower)
        return known


def _servers_of(config: AnyServiceConfig) -> dict[Endpoint, ServerConfig]:
    return {server.endpoint: server for pool in config.pools for server in pool.servers}


def _timeouts(config: AnyServiceConfig) -> Timeouts:
    return config.timeouts if isinstance(config, ServiceConfig) else PROFILES["lvs"]
