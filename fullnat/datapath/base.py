# SPDX-License-Identifier: Apache-2.0
"""What an engine is, what control needs of one, and how one fails.

An engine receives packets, has them decided, and carries that out.  The tables behind the decisions
are its own, in whatever language; what leaves it are plain records.  Services and servers are
Python objects everywhere: control makes and changes them, the engine keeps their counts.

The daemon's loop drives it: an engine registers what it must be woken for in start(), and whatever
threads it has never run Python.  All methods are called in the thread of that loop.

Contract for packets, held by tests/unit/test_datapath.py and the packet rows of tests/vectors:
  1. FORWARD sends the rewritten packet on; PASS lets the packet go untouched; DROP ends it.
  2. REPLY ends the packet and sends the answer, if there is one.
  3. HOLD keeps the packet until a later decision, or expire(), releases it.
  4. Nothing a packet contains makes an engine raise.

Contract for changes, held by tests/unit/test_datapath.py for every engine:
  5. A change takes effect for the next packet, without stopping, and never disturbs a flow it does
     not concern.  Flows outlive the service and the server they were opened for.
  6. Settings of a server are changed through its VirtualService, and then told by server_changed();
     those of a service by service_changed().
  7. Counts of a RealServer only grow, but for its flows: they go on when it leaves its list and when
     it comes back, and whatever was counted in between is not lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple, Protocol

from fullnat.core.addr import Endpoint, IPAddress, PortRange
from fullnat.core.lport import PortUse
from fullnat.core.service import RealServer, VirtualService

Route = tuple[IPv4Network | IPv6Network, int]  # destination and MTU


class DatapathError(Exception):
    """The host cannot do what an engine needs; one line says what, and the remedy."""


class Unsupported(DatapathError):
    """A capability that the host lacks."""

    def __init__(self, capability: str, needs: str) -> None:
        super().__init__(f"{capability}: {needs}")
        self.capability = capability
        self.needs = needs


@dataclass(frozen=True, slots=True)
class Setup:
    """What an instance is made of beside its services; stays while it runs."""

    flow_limit: int
    persistence_limit: int  # templates
    fragment_limit: int  # datagrams
    addresses: tuple[IPAddress, ...]  # LIPs
    ports: PortRange
    rest: int  # nanoseconds before a released port is used again
    seed: int
    has_fallback: bool = False  # the kernel serves behind us: it may have connections of our services
    foreign_ends: tuple[Endpoint, ...] = ()  # local ends of connections that the kernel has from us


class FlowMaps(NamedTuple):
    """Maps of the kernel that an engine keeps flows in, beside a program that forwards them."""

    descriptors: tuple[int, ...]  # in the order of enum fn_fastpath_map, csrc/native/fastpath.h
    limit: int  # flows there is room for
    servers: int  # counters
    cpus: int  # values of each counter
    hash_key: bytes
    is_inherited: bool  # whether another process made them, and may have left flows in them


class FlowRecord(NamedTuple):
    """One flow, as it stood when it was read."""

    service: VirtualService
    server: RealServer
    client: Endpoint
    local: Endpoint
    state: str
    created: int  # monotonic nanoseconds
    last_seen: int
    timeout: int  # nanoseconds
    packets_in: int
    packets_out: int
    bytes_in: int
    bytes_out: int


class TemplateRecord(NamedTuple):
    """One client prefix of a service that stays on a server."""

    service: VirtualService
    clients: IPv4Network | IPv6Network
    server: RealServer
    flows: int
    deadline: int  # monotonic nanoseconds; may have passed while flows hold it


@dataclass(slots=True)
class Statistics:
    """What an engine has counted, and how full its tables are."""

    reasons: Sequence[int]  # packets, by Reason
    flows_limit: int
    received: int = 0  # packets taken from the queues
    queue_dropped: int = 0  # by the kernel: a queue was full
    user_dropped: int = 0  # by the kernel: our socket was full
    send_failures: int = 0  # answers of our own that the kernel would not send
    replies_suppressed: int = 0  # answers of our own beyond the limit
    flows: int = 0
    fragments: int = 0  # datagrams tracked
    fragments_held: int = 0  # packets
    persistence: int = 0  # templates
    scheduler_error: str = ""  # what the last failing scheduler said
    of_engine: dict[str, int] = field(default_factory=dict)  # what only this engine counts


class Datapath(Protocol):
    """One engine."""

    name: str

    @property
    def services(self) -> Sequence[VirtualService]:
        """What is served, in the order it was added."""
        ...

    # Packets.

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to take packets; raises DatapathError when the host cannot."""
        ...

    def stop(self) -> None:
        """Take no more packets.  What the kernel still has queued is dropped by it."""
        ...

    async def expire(self, now: int) -> None:
        """End idle flows and settle packets held too long; called about once a second."""
        ...

    # What control reads.

    def refresh(self) -> None:
        """Bring the counts in the servers of all services up to date."""
        ...

    def flows(self, limit: int | None = None) -> Iterator[FlowRecord]:
        """Yield the flows, at most *limit* of them; others may do as they like between two."""
        ...

    def ports(self, now: int) -> Iterator[PortUse]:
        """Yield how each local address stands towards each server that ever had a flow."""
        ...

    def templates(self) -> Iterator[TemplateRecord]:
        """Yield the persistence templates."""
        ...

    def statistics(self) -> Statistics:
        """Return the counts so far."""
        ...

    # What control changes.

    def add_service(self, service: VirtualService) -> None:
        """Serve *service* as well; ValueError when another has its listen."""
        ...

    def remove_service(self, service: VirtualService) -> None:
        """Open no more flows for *service*, which loses its servers; the flows it has live on."""
        ...

    def set_servers(self, service: VirtualService, servers: list[RealServer]) -> None:
        """Make *servers* those of *service*, in this order; one that was there keeps its counts."""
        ...

    def service_changed(self, service: VirtualService) -> None:
        """Take over scheduler, persistence, timeouts and one_packet of *service*, which is served.

        Set them before: the scheduler by its set_scheduler(), with the counts as the last refresh()
        left them; an engine that has others by now tells them to a user's class.  A flow gets one of
        the new timeouts when its state changes next, and until then has the one it has.  Templates
        of another prefix length lead nowhere any more.
        """
        ...

    def end_flows(self, server: RealServer) -> AsyncIterator[Sequence[FlowRecord]]:
        """End the flows that *server* has, listed or not, and yield them as they end, some at a time.

        They are off its counts, their local ports rest, and fragments under way are dropped: no
        packet meets a flow that was yielded.  TCP ends are reset by what they send next; those that
        are silent, and UDP ones, are told by core/farewell.py.  Flows that open meanwhile may
        be among them, so whoever wants the server empty first takes its weight away.
        """
        ...

    def server_changed(self, service: VirtualService, server: RealServer) -> None:
        """Take over weight, admin state, health and thresholds of *server*."""
        ...

    def set_path_mtu(self, routes: Iterable[Route]) -> None:
        """Clamp MSS by *routes* from now on."""
        ...

    def set_local_addresses(self, addresses: Iterable[IPAddress]) -> None:
        """Take *addresses* as those of this host from now on: packets to them meet no device."""
        ...
