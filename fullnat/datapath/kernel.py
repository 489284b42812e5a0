# SPDX-License-Identifier: Apache-2.0
"""Engine `kernel`: none.  The fallback serves by itself, and this stands where an engine would.

It takes no packets, so it counts none and has no flows: the kernel's tools show those.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence

from fullnat.core.addr import IPAddress
from fullnat.core.lport import PortUse
from fullnat.core.reason import Reason
from fullnat.core.service import RealServer, VirtualService
from fullnat.datapath.base import FlowRecord, Route, Statistics, TemplateRecord


class KernelDatapath:
    """What is served while no engine can be."""

    name = "kernel"

    def __init__(self, services: Iterable[VirtualService]) -> None:
        """Stand for *services*."""
        self._services = list(services)

    @property
    def services(self) -> Sequence[VirtualService]:
        """What is served."""
        return self._services

    # Packets: none.

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Nothing is to be bound."""

    def stop(self) -> None:
        """Nothing was bound."""

    async def expire(self, now: int) -> None:
        """Conntrack does."""

    # What control reads.

    def refresh(self) -> None:
        """There are no counts."""

    def flows(self, limit: int | None = None) -> Iterator[FlowRecord]:
        """None are ours."""
        return iter(())

    def ports(self, now: int) -> Iterator[PortUse]:
        """None are ours."""
        return iter(())

    def templates(self) -> Iterator[TemplateRecord]:
        """None are ours."""
        return iter(())

    def statistics(self) -> Statistics:
        """Return nothing but zeros."""
        return Statistics(reasons=[0] * len(Reason), flows_limit=0)

    # What control changes: the host hears of it (host/host.py).

    def add_service(self, service: VirtualService) -> None:
        """Serve *service* as well."""
        self._services.append(service)

    def remove_service(self, service: VirtualService) -> None:
        """Serve *service* no more."""
        self._services.remove(service)

    def set_servers(self, service: VirtualService, servers: list[RealServer]) -> None:
        """Make *servers* those of *service*."""
        service.set_servers(servers)

    def service_changed(self, service: VirtualService) -> None:
        """Nothing is kept of it here."""

    async def end_flows(self, server: RealServer) -> AsyncIterator[Sequence[FlowRecord]]:
        """None are ours."""
        nothing: tuple[Sequence[FlowRecord], ...] = ()
        for flows in nothing:
            yield flows

    def server_changed(self, service: VirtualService, server: RealServer) -> None:
        """Nothing is kept of it here."""

    def set_path_mtu(self, routes: Iterable[Route]) -> None:
        """The kernel knows."""

    def set_local_addresses(self, addresses: Iterable[IPAddress]) -> None:
        """The kernel knows."""
