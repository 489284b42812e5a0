# SPDX-License-Identifier: Apache-2.0
"""From one configuration to another while packets pass: all of it, or nothing.

    read        the file is checked whole; a mistake ends it here
    compare     what differs, as lines; what takes a restart ends it here
    prepare     schedulers are made, which may be a user's code
    widen       the host is changed to what either needs; a refusal ends it here, with the old restored
    switch      engine, roster and checks, between two packets; this cannot fail
    narrow      the host is changed to what the new one needs

A server that is gone keeps the flows it has: the host goes on to steer its replies until the last has
ended.  A service that is gone does not: its flows are ended, and both ends of each are told.  What they
answer to that must still reach the engine, so the host steers them for LINGER longer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import Protocol

from fullnat.control.changes import Changes, find_changes
from fullnat.control.config.model import AnyServiceConfig, Config, ServiceConfig
from fullnat.control.roster import Roster
from fullnat.control.served import Served, make_scheduler
from fullnat.core.sched.base import Scheduler
from fullnat.core.service import RealServer
from fullnat.core.timeouts import SECOND
from fullnat.host.plan import HostPlan

LINGER = 3 * SECOND


class RefusedError(Exception):
    """A change that cannot be made; one line says why, and nothing was changed."""


class Checks(Protocol):
    """What watches over servers."""

    def follow(self, services: Iterable[Served]) -> None:
        """Check the servers of *services* and no others; what is known of those that stay is kept."""
        ...


class Reloader:
    """Makes changes of the configuration, one after the other."""

    def __init__(
        self,
        config: Config,
        roster: Roster,
        checks: Checks,
        make_plan: Callable[[Config], HostPlan],
        go_over: Callable[[HostPlan], Awaitable[None]],
        clock: Callable[[], int],
        seed: int,
    ) -> None:
        """*make_plan* returns what a configuration needs of the host, *go_over* changes the host to that.

        The latter raises HostError, and then has changed nothing.
        """
        self.config = config
        self._file = config  # as it was last read
        self._roster = roster
        self._checks = checks
        self._make_plan = make_plan
        self._go_over = go_over
        self._clock = clock
        self._seed = seed
        self._lock = asyncio.Lock()
        self._departing: dict[RealServer, int] = {}  # gone and not without flows; their protocols
        self._lingering: dict[str, tuple[int, ServiceConfig]] = {}  # gone, and steered until then

    @property
    def plan(self) -> HostPlan:
        """What the host is to be now: for the configuration, and for servers that are gone and have flows."""
        plan = self._make_plan(self.config)
        gone = [service for _, service in self._lingering.values()]
        servers = [(protocol, server.endpoint) for server, protocol in self._departing.items()]
        servers += [(service.protocol, endpoint) for service in gone for endpoint in service.endpoints]
        services = [(service.protocol, service.listen) for service in gone]
        return replace(
            plan,
            services=tuple(dict.fromkeys((*plan.services, *services))),
            servers=tuple(dict.fromkeys((*plan.servers, *servers))),
        )

    async def reload(self, file: Config, *, is_trial: bool = False) -> Changes:
        """Go over to what *file* says, or only say what that would change; RefusedError, or HostError.

        Services that were made by command, and that no file has had, stay.
        """
        async with self._lock:
            changes = await self._change(_with_others(file, self.config, self._file), is_trial=is_trial)
            if not is_trial:
                self._file = file
            return changes

    async def command(self, change: Callable[[Config], Config]) -> Changes:
        """Go over to what *change* makes of the configuration there is."""
        async with self._lock:
            return await self._change(change(self.config), is_trial=False)

    async def _change(self, config: Config, *, is_trial: bool) -> Changes:
        changes = find_changes(self.config, config)
        if changes.restart:
            raise RefusedError(f"this takes a restart: {'; '.join(changes.restart)}")
        if not is_trial:
            if changes.lines:
                await self._make(config)
            else:
                self.config = config
        return changes

    async def _make(self, config: Config) -> None:
        schedulers = self._make_schedulers(config)
        old, new = self.plan, self._make_plan(config)
        wide = _union(old, new)
        if wide != old:
            await self._go_over(wide)
        self._switch(config, schedulers)
        await self._go_over(self.plan)

    async def settle(self) -> None:
        """Have the host be what is needed now."""
        async with self._lock:
            await self._go_over(self.plan)

    @property
    def is_waiting(self) -> bool:
        """Whether something is gone that is steered still."""
        return bool(self._departing or self._lingering)

    async def look_at_departing(self) -> None:
        """Let go of servers whose last flow has ended, and of services that have lingered."""
        now = self._clock()
        done = [server for server in self._departing if server.flows == 0]
        over = [key for key, (until, _) in self._lingering.items() if until <= now]
        if (done or over) and not self._lock.locked():
            async with self._lock:
                for server in done:
                    self._departing.pop(server, None)
                for key in over:
                    self._lingering.pop(key, None)
                await self._go_over(self.plan)

    def _make_schedulers(self, config: Config) -> dict[str, Scheduler]:
        """Return new schedulers for the services that need one, by key."""
        made = {}
        for service in config.all_services:
            served = self._roster.find(service.address)
            if served is None or _needs_scheduler(served.config, service):
                try:
                    scheduler = made[service.address] = make_scheduler(service, self._seed)
                    scheduler.attach(served.virtual.servers if served else [])
                except Exception as error:  # a user's class may raise anything
                    raise RefusedError(
                        f"service {service.name}: scheduler {service.scheduler_name}: "
                        f"{type(error).__name__}: {error}"
                    ) from None
        return made

    def _switch(self, config: Config, schedulers: dict[str, Scheduler]) -> None:
        now, roster = self._clock(), self._roster
        wanted = {service.address: service for service in config.all_services}
        for served in roster.services:
            if served.key not in wanted or type(served.config) is not type(wanted[served.key]):
                roster.remove(served)
                if isinstance(served.config, ServiceConfig):
                    self._lingering[served.key] = now + LINGER, served.config
        for key, service in wanted.items():
            known = roster.find(key)
            self._lingering.pop(key, None)
            if known is None:
                roster.add(Served(service, schedulers.get(key) or make_scheduler(service, self._seed)), now)
            elif known.config != service:
                self._change_service(known, service, schedulers.get(key), now)
        roster.order(list(wanted))
        self.config = config  # who asks the roster now must find what it is made of
        self._checks.follow(roster.services)

    def _change_service(
        self, served: Served, config: AnyServiceConfig, scheduler: Scheduler | None, now: int
    ) -> None:
        is_more = scheduler is not None or not _differ_in_servers_only(served.config, config)
        gone = served.change(config, scheduler)
        self._roster.changed(served, now, more_than_servers=is_more)
        self._roster.forget(gone)
        if served.is_engines:
            self._departing |= dict.fromkeys(gone, config.protocol)


def _with_others(new: Config, now: Config, before: Config) -> Config:
    """Return *new* with the services of *now* that neither it nor *before* has."""
    known = {service.address for service in (*new.all_services, *before.all_services)}
    return replace(
        new,
        services=(*new.services, *(one for one in now.services if one.address not in known)),
        kernel_services=(
            *new.kernel_services,
            *(one for one in now.kernel_services if one.address not in known),
        ),
    )


def _needs_scheduler(old: AnyServiceConfig, new: AnyServiceConfig) -> bool:
    is_same_kind = type(old) is type(new)
    return not is_same_kind or (old.scheduler_name, old.scheduler_flags) != (
        new.scheduler_name,
        new.scheduler_flags,
    )


def _differ_in_servers_only(old: AnyServiceConfig, new: AnyServiceConfig) -> bool:
    return replace(old, pools=new.pools, sorry=new.sorry) == new


def _union(old: HostPlan, new: HostPlan) -> HostPlan:
    """Return *new* with what the engine still has of *old*; the kernel's part is the new one's already."""
    services = dict.fromkeys((*old.services, *new.services))
    servers = dict.fromkeys((*old.servers, *new.servers))
    return replace(new, services=tuple(services), servers=tuple(servers))
