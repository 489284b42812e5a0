# SPDX-License-Identifier: Apache-2.0
"""`fullnat run`: the one module that knows every part, and puts them together.

Order.  Claim the instance, bind the queues, then change the host: no packet meets a queue that
nobody reads.  Back the other way: the host first, so that nothing is steered to a queue that goes.
Which engine runs decides how many queues there are, so each that is tried claims anew.

Once a second flows expire, and the roster looks at what time brings.  Every CHECK_INTERVAL the host
is compared with what was set up, for somebody may have flushed the rules, and its routes and addresses
are read again.  What runs programs is done in one worker thread, one thing after the other.

SIGTERM and SIGINT end the run, SIGHUP is a reload.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from fullnat import __version__
from fullnat.control import summary
from fullnat.control.access import access_of, find_unknown
from fullnat.control.alarms import Alarms
from fullnat.control.api.read import Reader
from fullnat.control.api.server import ControlSocket
from fullnat.control.build import MARK, build_served, plan_host
from fullnat.control.config import Config, load_config
from fullnat.control.engines import EngineStarter, Running, name_engine
from fullnat.control.events import EventLog, Kind
from fullnat.control.fallback import (
    choose_fallback,
    connections,
    differences,
    plan_fallback,
    require_kernel_services,
)
from fullnat.control.farewells import Farewells
from fullnat.control.instance import Instance
from fullnat.control.leave import Leave
from fullnat.control.maintenance import read_maintenance
from fullnat.control.notify import take_notifier
from fullnat.control.paths import socket_path
from fullnat.control.ports import local_ports
from fullnat.control.printer import Printer
from fullnat.control.procfs import ProcFiles
from fullnat.control.pulse import Pulse
from fullnat.control.reload import RefusedError, Reloader
from fullnat.control.roster import Roster
from fullnat.control.served import Served
from fullnat.control.watch import Watch
from fullnat.core.service import RealServer
from fullnat.host.addresses import read_local_addresses
from fullnat.host.conntrack import Conntrack
from fullnat.host.errors import HostError
from fullnat.host.host import Host
from fullnat.host.plan import HostPlan
from fullnat.host.routes import read_route_mtus

CHECK_INTERVAL = 10.0  # seconds
_NICENESS = 10  # of what looks after the host, which may share a core with the packets
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

_T = TypeVar("_T")


def serve(config: Config, datapath: str) -> None:
    """Serve *config* until a signal says stop; DatapathError or HostError when that cannot be."""
    uvloop.run(_Daemon(config, datapath).run())


def describe(config: Config, datapath: str) -> str:
    """Return the rules, sysctls and addresses that serve() would set."""
    ports = local_ports(config)
    require_kernel_services(config)
    fallback, _ = choose_fallback(config, ports)
    return Host(name_engine(datapath, lambda name: plan_host(config, ports, name, fallback))).render_text()


class _Daemon:
    """One run of one instance."""

    def __init__(self, config: Config, datapath: str) -> None:
        self._began = time.monotonic() - _process_age()
        self._config = config
        self._datapath = datapath
        self._ports = local_ports(config)
        require_kernel_services(config)
        self._fallback, self._why_none = choose_fallback(config, self._ports)
        self._seed = int.from_bytes(os.urandom(8), "big")
        self._output, self._log = Printer(sys.stdout), Printer(sys.stderr)
        self._events = EventLog(time.time, self._log.line)
        self._roster = Roster(build_served(config, self._seed), self._events, self._on_kernel, self._on_admin)
        self._alarms = Alarms()
        self._worker = ThreadPoolExecutor(max_workers=1, initializer=_give_way)
        self._stopping = asyncio.Event()
        self._kernel_is_due = asyncio.Event()
        self._reloads: set[asyncio.Task[None]] = set()  # under way, on a signal
        self._leave = Leave.NOTHING
        self._is_ready = False  # packets were served
        self._notifier = take_notifier()

    async def run(self) -> None:
        """Serve until told to stop, and leave the host as it was found."""
        loop = asyncio.get_running_loop()
        for number in _STOP_SIGNALS:
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: None)  # nothing can be reloaded yet
        self._roster.prepare()
        try:
            self._running = self._start_engine(loop)
            await self._serve(loop)
        finally:
            self._worker.shutdown()

    def _start_engine(self, loop: asyncio.AbstractEventLoop) -> Running:
        services = [served.virtual for served in self._roster.services if served.is_engines]
        starter = EngineStarter(
            self._config, self._ports, services, lambda name: self._plan(self._config, name), self._seed
        )
        return starter.start(self._datapath, self._fallback.kind if self._fallback else "", loop)

    def _plan(self, config: Config, engine: str) -> HostPlan:
        """Return what *config* needs of the host, with who takes part now."""
        servers_of, fallback = self._roster.kernel_servers, None
        if self._fallback is not None:
            fallback = plan_fallback(config, self._ports, self._fallback.kind, servers_of)
        return plan_host(config, self._ports, engine, fallback, servers_of)

    async def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        engine, host = self._running.engine, self._running.host
        self._watch = Watch(self._roster, self._config.snat.addresses, time.monotonic_ns, self._seed)
        self._instance = self._make_instance()
        control = ControlSocket(
            socket_path(self._config.instance), self._instance, access_of(self._config.api)
        )
        try:
            async with AsyncExitStack() as stack:
                engine.set_local_addresses(read_local_addresses())
                # Not here: what a predecessor left may lead packets to the queue already.
                await self._in_worker(host.set_up)
                engine.set_path_mtu(read_route_mtus())
                self._roster.attach(engine, self._instance.farewells, time.monotonic_ns())
                await control.start()
                stack.push_async_callback(control.stop)
                await self._open_pages(stack)
                stack.callback(self._events.close)
                stack.push_async_callback(self._watch.close)
                self._watch.follow(self._roster.services)
                self._proc_files = stack.enter_context(ProcFiles(self._config.metrics.procfs, self._instance))
                loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
                self._announce()
                await self._tend(loop)
        finally:
            await self._end()
        summary.show(self._instance, self._uptime, self._output)

    async def _open_pages(self, stack: AsyncExitStack) -> None:
        """Serve the status page, if it is asked for; HostError when its place cannot be had."""
        where = self._config.web
        if where is None:
            return
        from fullnat.web.server import PageServer, make_pages  # only who wants it pays for it

        reader = Reader(self._instance)
        answers = {**reader.handlers(), "metrics": reader.metrics}
        pages = PageServer(make_pages(answers, where.names), str(where.listen.address), where.listen.port)
        try:
            await pages.start()
        except OSError as error:
            raise HostError(f"[web] listen {where.listen}: {error.strerror}") from None
        stack.push_async_callback(pages.stop)

    def _make_instance(self) -> Instance:
        engine = self._running.engine
        reloader = Reloader(
            self._config,
            self._roster,
            self._watch,
            lambda config: self._plan(config, engine.name),
            self._go_over,
            time.monotonic_ns,
            self._seed,
        )
        return Instance(
            engine,
            self._roster,
            self._watch,
            self._events,
            reloader,
            Farewells(engine, self._running.sender.send),
            clock=time.monotonic_ns,
            wall_clock=time.time,
            read_config=lambda: self._in_worker(lambda: load_config(self._config.path)),
            about=self._about,
            stop=self._stop,
        )

    async def _end(self) -> None:
        """Leave the host as it is to be left, and end the engine."""
        self._notifier.stopping()
        if self._is_ready:
            self._events.add(Kind.STOPPING)
        await self._instance.farewells.close()
        await self._in_worker(lambda: None)  # what it has begun is done: two must not change the host at once
        if self._leave is Leave.SERVICE:
            self._hand_over()
        if self._leave is Leave.NOTHING:
            self._running.host.restore()
        else:
            self._running.host.leave()
        self._running.engine.stop()
        self._running.sender.close()

    def _stop(self, leave: Leave) -> None:
        """End the run and leave what *leave* says; ValueError when that cannot be."""
        if leave is Leave.FLOWS and not self._running.keeps_flows:
            name = self._running.engine.name
            raise ValueError(f"engine {name} forwards every packet itself: it cannot keep flows")
        if leave is Leave.SERVICE and self._fallback is None:
            raise ValueError(f"there is no fallback to hand over to: {self._why_none or 'fallback = none'}")
        self._leave = leave
        self._stopping.set()

    def _hand_over(self) -> None:
        """Have the kernel go on with the flows of an engine that keeps none, and end that engine.

        Its own are untracked, so they can be known to conntrack while they are still forwarded.  What
        opened meanwhile follows when no more can: a packet of it in between is answered with a reset.
        """
        engine = self._running.engine
        if self._running.keeps_flows:
            return
        try:
            with Conntrack() as table:
                taken = table.add(connections(engine), MARK)
                engine.stop()
                handed = connections(engine)
                taken += table.add(handed, MARK)
            self._running.host.hold(handed)
        except (OSError, HostError) as error:
            self._log.line(f"fullnat: flows are lost: {error}")
        else:
            self._output.line(f"handed over: {taken} flows")

    # While it runs.

    async def _tend(self, loop: asyncio.AbstractEventLoop) -> None:
        """Do what has to be done from time to time, until it is time to stop."""
        progress = summary.Progress(self._instance, self._log)
        engine, queues = self._running.engine, self._running.host.plan.queues
        pulse = Pulse(engine, queues, self._notifier, time.monotonic_ns)
        beside = [loop.create_task(pulse.run()), loop.create_task(self._follow_kernel())]
        next_check = loop.time() + CHECK_INTERVAL
        try:
            while not self._stopping.is_set():
                try:
                    await asyncio.wait_for(self._stopping.wait(), timeout=1.0)
                except TimeoutError:
                    _require_running(beside)
                    await self._tick()
                    progress.update()
                    if loop.time() >= next_check:
                        await self._check_host()
                        next_check = loop.time() + CHECK_INTERVAL
        finally:
            for task in [*beside, *self._reloads]:
                task.cancel()
            progress.close()

    async def _tick(self) -> None:
        now = time.monotonic_ns()
        files = read_maintenance(self._instance.reloader.config.maintenance)
        self._roster.set_files(files.__contains__, now)
        if self._roster.is_waiting or self._instance.reloader.is_waiting:
            self._running.engine.refresh()
        self._roster.tick(now)
        for kind, refused in self._alarms.look(self._running.engine.statistics().reasons, now):
            self._events.add(kind, refused=refused)
        if self._instance.rates.is_due(now):
            self._look_at_rates(now)
        with self._noting_failures():
            self._proc_files.tick(now)
        with self._noting_failures():
            await self._instance.reloader.look_at_departing()

    def _look_at_rates(self, now: int) -> None:
        self._running.engine.refresh()
        servers = (server for served in self._roster.services for server in served.servers)
        self._instance.rates.look(servers, now)

    async def _follow_kernel(self) -> None:
        """Have the kernel serve by who takes part, whenever that changes."""
        while True:
            await self._kernel_is_due.wait()
            self._kernel_is_due.clear()
            with self._noting_failures():
                await self._instance.reloader.settle()

    async def _check_host(self) -> None:
        engine = self._running.engine
        with self._noting_failures():
            for finding in await self._in_worker(self._running.host.repair):
                self._events.add(Kind.HOST_REPAIRED, finding=finding)
            engine.set_path_mtu(await self._in_worker(read_route_mtus))
            engine.set_local_addresses(await self._in_worker(read_local_addresses))

    @contextmanager
    def _noting_failures(self) -> Iterator[None]:
        """Note that the host could not be changed, instead of ending the run."""
        try:
            yield
        except HostError as error:
            self._events.add(Kind.HOST_FAILED, reason=str(error))

    async def _go_over(self, plan: HostPlan) -> None:
        """Have the host be as *plan* says; HostError, and nothing is changed."""
        if plan != self._running.host.plan:
            await self._in_worker(lambda: self._running.host.update(plan))
            self._running.engine.set_local_addresses(await self._in_worker(read_local_addresses))

    async def _in_worker(self, do: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, do)

    def _on_kernel(self) -> None:
        config = self._instance.reloader.config
        if self._fallback is not None or config.kernel_services:
            self._kernel_is_due.set()

    def _on_admin(self, served: Served, server: RealServer) -> None:
        self._watch.look(served, server)

    def _on_hangup(self) -> None:
        async def reload() -> None:
            self._notifier.reloading(time.monotonic_ns())
            with suppress(RefusedError, HostError):  # an event says it
                await self._instance.reload()
            self._notifier.ready(self._instance.reloads.error or self._ready_line())

        task = asyncio.create_task(reload(), name="reload")
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    # What is said.

    @property
    def _uptime(self) -> float:
        return time.monotonic() - self._began

    def _announce(self) -> None:
        for difference in differences(self._fallback) if self._fallback else ():
            self._log.line(f"fallback: {difference}")
        for names in (self._config.api.viewers, self._config.api.operators, self._config.api.admins):
            if unknown := find_unknown(names):
                self._log.line(f"fullnat: [api]: this host knows no {unknown}: it lets nobody in")
        self._output.line(self._ready_line())
        self._is_ready = True
        self._events.add(Kind.READY, engine=self._running.engine.name, services=len(self._roster.services))
        self._notifier.ready(self._ready_line())

    def _ready_line(self) -> str:
        config, running = self._config, self._running
        served = ", ".join(
            f"{one.key} ({one.scheduler_name}, {len(one.config.servers)} servers)"
            for one in self._roster.services
            if one.is_engines
        )
        by_ipvs = ", ".join(
            f"{service.name} ({service.forward.value}, {service.scheduler_name}, "
            f"{len(service.servers)} servers)"
            for service in config.kernel_services
        )
        return (
            f"ready in {self._uptime:.2f} s: engine {running.engine.name} ({running.why}), "
            f"serving {served or 'nothing'}, from {' '.join(map(str, config.snat.addresses))} "
            f"ports {self._ports}{f'; by IPVS: {by_ipvs}' if by_ipvs else ''}; "
            f"fallback: {self._describe_fallback()}"
        )

    def _describe_fallback(self) -> str:
        if self._fallback is not None:
            return f"{self._fallback.kind}, ports {self._fallback.pool.ports}"
        return f"none, {self._why_none}" if self._why_none else "none"

    def _about(self) -> dict[str, Any]:
        config = self._config
        return {
            "version": __version__,
            "instance": config.instance,
            "pid": os.getpid(),
            "engine": self._running.engine.name,
            "why": self._running.why,
            "queue": config.engine.queue,
            "workers": self._running.host.plan.workers,
            "uptime": round(self._uptime, 3),
            "started": round(time.time() - self._uptime, 3),
            "config": str(Path(config.path).absolute()),
            "by_ipvs": [service.name for service in self._instance.reloader.config.kernel_services],
            "local_addresses": [str(address) for address in config.snat.addresses],
            "local_ports": str(self._ports),
            "fallback": self._describe_fallback(),
        }


def _require_running(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Raise what ended one of *tasks*, none of which ends by itself."""
    for task in tasks:
        if task.done():
            task.result()


def _give_way() -> None:
    """Let packets go before this thread, and the programs it runs."""
    os.nice(_NICENESS)  # of the thread: Linux keeps one each


def _process_age() -> float:
    """Return how many seconds ago this process began: what an operator waits includes our imports."""
    stat = Path("/proc/self/stat").read_text(encoding="ascii", errors="replace")
    started = int(stat.rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started)
