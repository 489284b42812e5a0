# SPDX-License-Identifier: Apache-2.0
"""Engine `native`: director and packet loop in C threads, Python for control and users' schedulers.

    kernel queues --C threads: parse, decide, rewrite--> verdicts     no Python, no GIL
                         |--flows of a user's scheduler--> upcalls, in batches, on the daemon's loop
                         `--counts, flows, tables, read when someone asks

Theory.  The C extension (fullnat/csrc/native/) keeps flows, ports, templates and counts.  The
VirtualService and RealServer objects stay here: they are what control changes and shows.  Both
sides know a service and a server by a number, given here and never used twice.

Rules.
  1. A service whose scheduler is exactly a built-in class is scheduled in C, by its twin; a subclass
     of one is a user's class, and is asked.
  2. Before a batch of upcalls the counts are brought up to date, so that a user's scheduler sees
     what flows_changed() promises; each pick counts at once for the rest of the batch, and the truth
     replaces that when the next batch comes.
  3. Packets of one flow in one batch are one question.  Not so where every datagram is scheduled anew.
  4. What C counts for a number is added to the object it stands for, difference by difference.  A
     number is forgotten when C says so, with the last of its counts: a server lives as long as its
     flows.  When it comes back it has another, and so it has in another service of the same listen.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, NamedTuple

from fullnat.core.addr import Endpoint, IPAddress
from fullnat.core.lport import PortUse
from fullnat.core.packet import key_endpoints
from fullnat.core.sched import BUILTIN, Request, Scheduler
from fullnat.core.service import Admin, Health, RealServer, SchedulerError, VirtualService
from fullnat.core.tcp import state_name
from fullnat.datapath.base import (
    DatapathError,
    FlowMaps,
    FlowRecord,
    Route,
    Setup,
    Statistics,
    TemplateRecord,
    Unsupported,
)
from fullnat.datapath.queue_table import Drops, read_drops, require_free

if TYPE_CHECKING:
    from fullnat import _native

_ABI = 3  # of the extension this module was written for
_BATCH = 64  # upcalls taken at once
_CHUNK = 4096  # flows read or ended at once
_HANDFUL = 256  # flows shown at once, of those that were ended
_SMALLEST_MTU = 68  # that C takes, and IPv4 allows: RFC 791, section 3.2
_FLAGS = {"port": 1, "fallback": 2}  # enum fn_scheduler_flag, csrc/native/sched.h

# What is counted for a server, but for `overloaded`.
_COUNTS = ("active", "inactive", "connections", "packets_in", "packets_out", "bytes_in", "bytes_out")

_Answer = tuple[int | None, bool]  # the number of a server or None, and whether the scheduler failed


def require_extension() -> None:
    """Raise Unsupported unless the C extension is there and of this version."""
    try:
        extension = importlib.import_module("fullnat._native")
    except ImportError as error:
        cause = " ".join(str(error).split())
        remedy = "pip install needs a C compiler (gcc) and Python's headers to build it"
        raise Unsupported("engine native", f"{cause}; {remedy}") from None
    if extension.ABI != _ABI:
        raise Unsupported("engine native", "fullnat._native is of another version; install fullnat again")


@dataclass(slots=True)
class _Known:
    """A server that C has, or had when it was last asked."""

    service: VirtualService
    server: RealServer
    of: int  # the number of its service
    active: int = 0  # what of its counts is in *server*
    inactive: int = 0
    connections: int = 0
    packets_in: int = 0
    packets_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


class NativeDatapath:
    """The fast engine."""

    name = "native"

    def __init__(
        self,
        setup: Setup,
        services: Iterable[VirtualService],
        *,
        queues: Sequence[int],
        segmented: int,
        mark: int,
        sockets: tuple[int, int],
        hash_key: bytes,
        clock: Callable[[], int],
        priority: int = 0,
        cpus: Sequence[int] = (),
        maps: FlowMaps | None = None,
    ) -> None:
        """Serve *queues*, a thread each, on *cpus* (none: on any), with SCHED_FIFO *priority* unless 0.

        *segmented* is one queue more: what cannot be rewritten whole is passed on to it, for the kernel
        to segment.  *sockets* are descriptors to send whole packets by, IPv4 and IPv6, -1 for none of
        the family.  *hash_key*, 16 random bytes, keeps outsiders from choosing flows that collide.
        Flows are kept in *maps*, if given, else in our own memory.
        """
        require_extension()
        self._queues = queues
        self._segmented = segmented
        self._mark = mark
        self._foreign_ends = setup.foreign_ends
        self._repeats = setup.has_fallback  # the hook: what is not ours the kernel must be able to track
        self._sockets = sockets
        self._priority = priority
        self._cpus = cpus
        self._clock = clock
        self._services: dict[int, VirtualService] = {}  # those served, by number
        self._servers: dict[int, _Known] = {}  # by number, as long as C has it
        self._numbers: dict[VirtualService, int] = {}
        self._server_numbers: dict[tuple[int, RealServer], int] = {}  # by the number of their service
        self._last_number = 0
        self._schedulers: dict[int, Scheduler] = {}  # those C was told of, by the number of their service
        self._picked: list[RealServer] = []  # counted here before C says so: rule 2
        self._flows_limit = setup.flow_limit
        self._scheduler_error = ""
        self._drops = Drops()  # what the kernel had counted when the queues were unbound
        self._loop: asyncio.AbstractEventLoop | None = None  # while it runs
        self._engine: _native.Engine | None = None  # from the first start on
        self._director = _make_director(setup, hash_key, clock(), maps)
        for service in services:
            self.add_service(service)

    @property
    def _all_queues(self) -> Sequence[int]:
        return (*self._queues, self._segmented)

    @property
    def services(self) -> Sequence[VirtualService]:
        """What is served."""
        return list(self._services.values())

    # Packets.

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Bind the queues and start the threads."""
        from fullnat import _native

        require_free(self._all_queues)
        engine = _native.Engine(
            self._director,
            queues=self._queues,
            segmented=self._segmented,
            mark=self._mark,
            raw4=self._sockets[0],
            raw6=self._sockets[1],
            priority=self._priority,
            cpus=self._cpus,
            repeats=self._repeats,
        )
        try:
            engine.start()
        except _native.EngineError as error:
            raise DatapathError(str(error)) from error
        self._engine, self._loop = engine, loop
        loop.add_reader(engine.upcall_fd, self._on_upcalls)

    def stop(self) -> None:
        """End the threads and unbind the queues."""
        if self._engine is None or self._loop is None:
            return
        self._loop.remove_reader(self._engine.upcall_fd)
        self._drops = read_drops(self._all_queues)
        self._engine.stop()
        self._loop = None

    async def expire(self, now: int) -> None:
        """End idle flows, in another thread: C does it without the GIL."""
        assert self._engine is not None
        await asyncio.get_running_loop().run_in_executor(None, self._engine.expire, now)
        self._forget_servers()

    # What control reads.

    def refresh(self) -> None:
        """Read the counts of all servers, and forget those that are gone."""
        before = {server: _load(server) for server in self._picked}
        self._retract_picks()
        for row in self._director.servers():
            self._take_counts(row, before)
        self._forget_servers()

    def _retract_picks(self) -> None:
        for server in self._picked:
            server.connections -= 1
            server.inactive -= 1
        self._picked.clear()

    def _forget_servers(self) -> None:
        """Take the last counts of servers that left their list and have no flows."""
        for row in self._director.forget_servers():
            self._take_counts(row, {})
            known = self._servers.pop(row.server)
            del self._server_numbers[known.of, known.server]

    def _take_counts(self, row: _native.Server, before: dict[RealServer, _Load]) -> None:
        """Add what *row* has more than when it was read last; *before* are loads as schedulers know them."""
        known = self._servers[row.server]
        service, server = known.service, known.server
        was = before.get(server) or _load(server)
        for name in _COUNTS:
            count = getattr(row, name)
            setattr(server, name, getattr(server, name) + count - getattr(known, name))
            setattr(known, name, count)
        if known.of not in self._services:
            return  # nobody schedules it
        server.overloaded = row.overloaded
        if was != _load(server) and _name_in_c(service.scheduler) is None:
            self._tell_scheduler(service, server, is_availability=was.overloaded != server.overloaded)

    def _tell_scheduler(self, service: VirtualService, server: RealServer, *, is_availability: bool) -> None:
        """Have a user's scheduler hear what happened to *server*."""
        try:
            if is_availability and service.has(server):
                service.scheduler.server_changed(server)
            service.scheduler.flows_changed(server)
        except Exception as error:  # a user's class may raise anything
            self._scheduler_error = f"{service.name}: {type(error).__name__}: {error}"

    def flows(self, limit: int | None = None) -> Iterator[FlowRecord]:
        """Yield the flows, at most *limit* of them, as they stand when they are reached."""
        cursor: int | None = 0
        left = limit if limit is not None else self._flows_limit
        while cursor is not None and left > 0:
            rows, cursor = self._director.flows(cursor, min(left, _CHUNK))
            left -= len(rows)
            for row in rows:
                known = self._servers[row.server]
                yield _flow_record(row, known.service, known.server)

    def ports(self, now: int) -> Iterator[PortUse]:
        """Yield how each local address stands towards each server that ever had a flow."""
        for row in self._director.ports(now):
            real = Endpoint(ip_address(row.rip), row.rport)
            yield PortUse(row.protocol, ip_address(row.lip), real, row.in_use, row.resting, row.capacity)

    def templates(self) -> Iterator[TemplateRecord]:
        """Yield the persistence templates."""
        for row in self._director.templates():
            known = self._servers[row.server]
            clients = ip_network((row.prefix, row.prefix_length))
            yield TemplateRecord(known.service, clients, known.server, row.flows, row.deadline)

    def statistics(self) -> Statistics:
        """Return what C and the kernel counted."""
        totals = self._director.totals()
        counts = {} if self._engine is None else self._engine.statistics()
        drops = self._drops if self._loop is None else read_drops(self._all_queues)
        return Statistics(
            reasons=self._director.counters(),
            flows_limit=self._flows_limit,
            received=counts.pop("received", 0),
            queue_dropped=drops.queue,
            user_dropped=drops.user,
            send_failures=counts.pop("send_failures", 0),
            replies_suppressed=totals.replies_suppressed,
            flows=totals.flows,
            fragments=totals.fragments,
            fragments_held=totals.fragments_held,
            persistence=totals.templates,
            scheduler_error=self._scheduler_error,
            of_engine=counts,
        )

    # What control changes.

    def add_service(self, service: VirtualService) -> None:
        """Serve *service* as well."""
        if any(
            (known.protocol, known.listen) == (service.protocol, service.listen) for known in self.services
        ):
            raise ValueError(f"{service} is served already")
        number = self._last_number = self._last_number + 1
        name, seed, flags = _scheduler_in_c(service.scheduler)
        self._director.add_service(
            number,
            protocol=service.protocol,
            address=service.listen.address.packed,
            port=service.listen.port,
            scheduler=name,
            seed=seed,
            flags=flags,
            timeouts=astuple(service.timeouts),
            persistence=_persistence_in_c(service),
            one_packet=service.one_packet,
        )
        self._numbers[service] = number
        self._services[number] = service
        self._schedulers[number] = service.scheduler
        self._push_servers(service)
        self._leave_out_listens()

    def remove_service(self, service: VirtualService) -> None:
        """Open no more flows for *service*, which loses its servers."""
        number = self._numbers.pop(service, None)
        if number is None:
            raise ValueError(f"{service} is not served")
        self._director.remove_service(number)
        del self._services[number], self._schedulers[number]
        service.set_servers([])
        self._leave_out_listens()

    def set_servers(self, service: VirtualService, servers: list[RealServer]) -> None:
        """Make *servers* those of *service*."""
        service.set_servers(servers)
        self._push_servers(service)

    def server_changed(self, service: VirtualService, server: RealServer) -> None:
        """Take over weight, admin state, health and thresholds of *server*."""
        if service.has(server):
            number = self._server_numbers[self._numbers[service], server]
            self._director.set_server(number, *_settings(server))

    def service_changed(self, service: VirtualService) -> None:
        """Take over scheduler, persistence, timeouts and one_packet of *service*."""
        number = self._numbers[service]
        is_same = self._schedulers[number] is service.scheduler
        self._director.change_service(
            number,
            scheduler=None if is_same else _scheduler_in_c(service.scheduler),
            timeouts=astuple(service.timeouts),
            persistence=_persistence_in_c(service),
            one_packet=service.one_packet,
        )
        self._schedulers[number] = service.scheduler
        if not is_same and _name_in_c(service.scheduler) is None:
            self.refresh()  # it was attached with the counts of the last time

    async def end_flows(self, server: RealServer) -> AsyncIterator[Sequence[FlowRecord]]:
        """End the flows of *server*, in another thread: C does it without the GIL."""
        for number in [number for number, known in self._servers.items() if known.server is server]:
            async for flows in self._end_flows(number, self._servers[number].service, server):
                yield flows

    async def _end_flows(
        self, number: int, service: VirtualService, server: RealServer
    ) -> AsyncIterator[Sequence[FlowRecord]]:
        loop = asyncio.get_running_loop()
        cursor: int | None = 0
        while cursor is not None:
            arguments = number, cursor, _CHUNK, self._clock()
            rows, cursor = await loop.run_in_executor(None, self._director.end_flows, *arguments)
            for start in range(0, len(rows), _HANDFUL):
                yield [_flow_record(row, service, server) for row in rows[start : start + _HANDFUL]]
                await asyncio.sleep(0)

    def set_path_mtu(self, routes: Iterable[Route]) -> None:
        """Clamp MSS by *routes* from now on."""
        self._director.set_path_mtu(
            [
                (network.network_address.packed, network.prefixlen, max(mtu, _SMALLEST_MTU))
                for network, mtu in routes
            ]
        )

    def set_local_addresses(self, addresses: Iterable[IPAddress]) -> None:
        """Take *addresses* as those of this host from now on."""
        if self._engine is not None:
            self._engine.set_local_addresses([address.packed for address in addresses])

    def _push_servers(self, service: VirtualService) -> None:
        of = self._numbers[service]
        rows = []
        for server in service.servers:
            address, port = server.endpoint
            rows.append((self._number(service, of, server), address.packed, port, *_settings(server)))
        self._director.set_servers(of, rows)

    def _number(self, service: VirtualService, of: int, server: RealServer) -> int:
        """Return the number of *server* in *service*, whose own is *of*; a new one if it has none."""
        number = self._server_numbers.get((of, server))
        if number is None:
            number = self._last_number = self._last_number + 1
            self._server_numbers[of, server] = number
            self._servers[number] = _Known(service, server, of)
        return number

    def _leave_out_listens(self) -> None:
        """Keep the local ports that services listen on from being handed out."""
        left_out = (*(service.listen for service in self.services), *self._foreign_ends)
        self._director.exclude([(endpoint.address.packed, endpoint.port) for endpoint in left_out])

    # Users' schedulers.

    def _on_upcalls(self) -> None:
        """Ask the schedulers of a batch of packets, and let the packets go on."""
        assert self._engine is not None
        upcalls = self._engine.take_upcalls(_BATCH)
        if upcalls:
            self.refresh()
        known: dict[tuple[int, bytes], _Answer] = {}
        answers = []
        for upcall in upcalls:
            flow = upcall.service, upcall.key
            answer = known.get(flow) or self._ask(upcall)
            service = self._services.get(upcall.service)
            if service is not None and not service.one_packet:
                known[flow] = answer
            answers.append((upcall.token, *answer))
        self._engine.answer_upcalls(answers)

    def _ask(self, upcall: _native.Upcall) -> _Answer:
        service = self._services.get(upcall.service)
        if service is None:  # removed since the packet came
            return None, False
        client = Endpoint(ip_address(upcall.cip), upcall.cport)
        request = Request(client, service.listen, service.protocol, upcall.payload, self._clock())
        try:
            server = service.schedule(request)
        except SchedulerError as error:
            self._scheduler_error = str(error)
            return None, True
        if server is None:
            return None, False
        self._count_pick(service, server)
        return self._server_numbers[upcall.service, server], False

    def _count_pick(self, service: VirtualService, server: RealServer) -> None:
        """Have the rest of the batch see the flow that *server* was picked for."""
        if service.one_packet:
            return  # the flow may be there already
        self._picked.append(server)
        try:
            service.flow_opened(server)
        except Exception as error:  # a user's class may raise anything
            self._scheduler_error = f"{service.name}: {type(error).__name__}: {error}"


def _make_director(setup: Setup, hash_key: bytes, now: int, maps: FlowMaps | None) -> _native.Director:
    from fullnat import _native

    try:
        return _native.Director(
            flow_limit=setup.flow_limit,
            persistence_limit=setup.persistence_limit,
            fragment_limit=setup.fragment_limit,
            addresses=[address.packed for address in setup.addresses],
            ports=(setup.ports.low, setup.ports.high),
            rest=setup.rest,
            has_fallback=setup.has_fallback,
            seed=setup.seed,
            hash_key=hash_key,
            now=now,
            fastpath=None if maps is None else (maps.descriptors, maps.limit, maps.servers, maps.cpus),
        )
    except MemoryError:
        needs = f"not enough memory for {setup.flow_limit} flows: lower [limits] flows"
        raise Unsupported("engine native", needs) from None


def _flow_record(row: _native.Flow, service: VirtualService, server: RealServer) -> FlowRecord:
    client, _ = key_endpoints(row.inbound_key)
    _, local = key_endpoints(row.outbound_key)
    return FlowRecord(
        service,
        server,
        client,
        local,
        state_name(row.protocol, row.state),
        row.created,
        row.last_seen,
        row.timeout,
        row.packets_in,
        row.packets_out,
        row.bytes_in,
        row.bytes_out,
    )


class _Load(NamedTuple):
    """What a scheduler is told of a server."""

    active: int
    inactive: int
    overloaded: bool


def _load(server: RealServer) -> _Load:
    return _Load(server.active, server.inactive, server.overloaded)


def _scheduler_in_c(scheduler: Scheduler) -> tuple[str | None, int, int]:
    """Return name, seed and flags of *scheduler* as C has them."""
    return _name_in_c(scheduler), scheduler.seed, _flags_in_c(scheduler)


def _persistence_in_c(service: VirtualService) -> tuple[int, int] | None:
    persistence = service.persistence
    return None if persistence is None else (persistence.timeout, persistence.mask)


def _name_in_c(scheduler: Scheduler) -> str | None:
    """Return the name of the twin of *scheduler* in C; None: a user's class, which is asked itself."""
    return scheduler.name if type(scheduler) is BUILTIN.get(scheduler.name) else None


def _flags_in_c(scheduler: Scheduler) -> int:
    """Return the flags of *scheduler* as C has them; those of a user's class are its own affair."""
    if _name_in_c(scheduler) is None:
        return 0
    return sum(_FLAGS[flag.rpartition("-")[2]] for flag in scheduler.flags)


def _settings(server: RealServer) -> tuple[int, int, int, int, bool]:
    """Return what C needs to know of *server*; the last: whether persistence may give it back."""
    may_keep = server.admin is not Admin.DISABLED and server.health is not Health.DOWN
    return server.weight, server.configured_weight, server.upper, server.lower, may_keep
