# SPDX-License-Identifier: Apache-2.0
"""`fullnat run`: the one module that knows every part, and puts them together.

Order.  Claim the instance, bind the queues, then change the host: no packet meets a queue that
nobody reads.  Back the other way: the host first, so that nothing is steered to a queue that goes.
Which engine runs decides how many queues there are, so each that is tried claims anew.

Once a second flows expire.  Every CHECK_INTERVAL the host is compared with what was set up, for
somebody may have flushed the rules, and its routes and addresses are read again, in a worker thread.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

from fullnat import __version__
from fullnat.control import summary
from fullnat.control.api import ControlSocket
from fullnat.control.build import MARK, build_director, build_services, build_setup, plan_host
from fullnat.control.config import Config
from fullnat.control.fallback import choose_fallback, connections, differences
from fullnat.control.leave import Leave
from fullnat.control.paths import socket_path
from fullnat.control.ports import local_ports
from fullnat.core.addr import Endpoint
from fullnat.datapath.base import Datapath, DatapathError, Setup, Unsupported
from fullnat.datapath.choice import choose
from fullnat.datapath.ebpf import EbpfDatapath
from fullnat.datapath.kernel import KernelDatapath
from fullnat.datapath.native import NativeDatapath, require_extension
from fullnat.datapath.nfqueue import NfqueueDatapath
from fullnat.host.addresses import read_local_addresses
from fullnat.host.conntrack import Conntrack
from fullnat.host.errors import HostError
from fullnat.host.fastpath import ForeignFlowsError
from fullnat.host.host import Host
from fullnat.host.plan import HostPlan
from fullnat.host.rawsock import RawSender
from fullnat.host.routes import read_route_mtus
from fullnat.host.tuning import LoopSchedule, plan_loop

CHECK_INTERVAL = 10.0  # seconds
_NICENESS = 10  # of what looks after the host, which may share a core with the packets
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def serve(config: Config, datapath: str) -> None:
    """Serve *config* until a signal says stop; DatapathError or HostError when that cannot be."""
    uvloop.run(_Daemon(config, datapath).run())


def describe(config: Config, datapath: str) -> str:
    """Return the rules, sysctls and addresses that serve() would set."""
    ports = local_ports(config)
    fallback, _ = choose_fallback(config, ports)

    def plan(engine: str) -> HostPlan:
        if engine in (EbpfDatapath.name, NativeDatapath.name):
            require_extension()
        return plan_host(config, ports, engine, fallback)

    return Host(choose(datapath, plan)[0]).render_text()


class _Daemon:
    """One run of one instance."""

    def __init__(self, config: Config, datapath: str) -> None:
        self._began = time.monotonic() - _process_age()
        self._config = config
        self._datapath = datapath
        self._ports = local_ports(config)
        self._fallback, self._why_none = choose_fallback(config, self._ports)
        self._worker = ThreadPoolExecutor(max_workers=1, initializer=_give_way)
        self._stopping = asyncio.Event()
        self._leave = Leave.NOTHING

    async def run(self) -> None:
        """Serve until told to stop, and leave the host as it was found."""
        loop = asyncio.get_running_loop()
        for number in _STOP_SIGNALS:
            loop.add_signal_handler(number, self._stopping.set)
        try:
            await self._serve(loop)
        finally:
            self._worker.shutdown()

    async def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        self._engine, self._why = self._choose_engine(loop)
        control = ControlSocket(
            socket_path(self._config.instance), self._engine, self._status, time.monotonic_ns, self._stop
        )
        try:
            self._engine.set_local_addresses(read_local_addresses())
            self._host.set_up()
            self._engine.set_path_mtu(read_route_mtus())
            await control.start()
            for difference in differences(self._fallback) if self._fallback else ():
                print(f"fallback: {difference}", file=sys.stderr)
            print(self._ready_line(), flush=True)
            await self._tend(loop)
        finally:
            await control.stop()
            if self._leave is Leave.SERVICE:
                self._hand_over()
            if self._leave is Leave.NOTHING:
                self._host.restore()
            else:
                self._host.leave()
            self._engine.stop()
            self._sender.close()
        summary.show(self._engine, self._uptime)

    def _stop(self, leave: Leave) -> None:
        """End the run and leave what *leave* says; ValueError when that cannot be."""
        if leave is Leave.FLOWS and not self._engine_keeps_flows:
            raise ValueError(f"engine {self._engine.name} forwards every packet itself: it cannot keep flows")
        if leave is Leave.SERVICE and self._fallback is None:
            raise ValueError(f"there is no fallback to hand over to: {self._why_none or 'fallback = none'}")
        self._leave = leave
        self._stopping.set()

    @property
    def _engine_keeps_flows(self) -> bool:
        """Whether they go on when the engine ends."""
        return self._engine.name in (EbpfDatapath.name, KernelDatapath.name)

    def _hand_over(self) -> None:
        """Have the kernel go on with the flows of an engine that keeps none, and end that engine.

        Its own are untracked, so they can be known to conntrack while they are still forwarded.  What
        opened meanwhile follows when no more can: a packet of it in between is answered with a reset.
        """
        if self._engine_keeps_flows:
            return
        try:
            with Conntrack() as table:
                taken = table.add(connections(self._engine), MARK)
                self._engine.stop()
                handed = connections(self._engine)
                taken += table.add(handed, MARK)
            self._host.hold(handed)
        except (OSError, HostError) as error:
            print(f"fullnat: flows are lost: {error}", file=sys.stderr)
        else:
            print(f"handed over: {taken} flows", flush=True)

    def _choose_engine(self, loop: asyncio.AbstractEventLoop) -> tuple[Datapath, str]:
        """Return the engine that runs, and why that one; with a fallback none need be able to."""
        try:
            engine, why = choose(self._datapath, lambda name: self._start_engine(name, loop))
        except DatapathError as refusal:
            if self._fallback is None:
                raise
            why = f"{refusal}; {self._fallback.kind} serves in its place"
            return self._start_engine(KernelDatapath.name, loop), why
        workers = self._host.plan.workers
        return engine, f"{why}; {workers} worker{'s' if workers > 1 else ''}"

    def _start_engine(self, name: str, loop: asyncio.AbstractEventLoop) -> Datapath:
        """Claim the instance and have engine *name* take packets; a failure leaves nothing behind."""
        self._host = Host(plan_host(self._config, self._ports, name, self._fallback))
        self._host.claim()
        with ExitStack() as undo:
            undo.callback(self._host.give_up)
            self._sender = undo.enter_context(RawSender(MARK))
            engine = self._build_engine(name)
            engine.start(loop)
            undo.pop_all()
        return engine

    def _build_engine(self, name: str) -> Datapath:
        config = self._config
        seed = int.from_bytes(os.urandom(8), "big")
        setup = build_setup(config, self._ports, seed, self._fallback is not None, self._foreign_ends())
        services = build_services(config, seed)
        if name == KernelDatapath.name:
            return KernelDatapath(services)
        if name in (EbpfDatapath.name, NativeDatapath.name):
            *queues, segmented = self._host.plan.queues
            schedule = plan_loop(len(queues)) if config.engine.tune else LoopSchedule(0, ())
            build = self._ebpf_builder(setup) if name == EbpfDatapath.name else _native_builder()
            return build(
                setup,
                services,
                queues=queues,
                segmented=segmented,
                mark=MARK,
                sockets=self._sender.descriptors,
                clock=time.monotonic_ns,
                priority=schedule.priority,
                cpus=schedule.cpus,
            )
        return NfqueueDatapath(
            build_director(setup, services, time.monotonic_ns()),
            self._sender,
            queue=config.engine.queue,
            mark=MARK,
            clock=time.monotonic_ns,
            repeats=setup.has_fallback,
        )

    def _foreign_ends(self) -> list[Endpoint]:
        """Return the local ends of connections that an engine before has handed to the kernel."""
        if self._fallback is None:
            return []
        try:
            with Conntrack() as table:
                return [end for end in table.local_ends(MARK) if end.port in self._ports]
        except OSError as error:
            raise HostError(f"cannot read what the kernel tracks: {error.strerror}") from None

    def _ebpf_builder(self, setup: Setup) -> Callable[..., NativeDatapath]:
        """Return what makes engine `ebpf`, with the program loaded; Unsupported when that cannot be."""
        require_extension()
        try:
            return partial(EbpfDatapath, maps=self._host.open_fastpath(setup.flow_limit))
        except ForeignFlowsError:
            raise  # they are being forwarded: no other engine may give their ports away
        except HostError as error:
            raise Unsupported("engine ebpf", str(error)) from None

    async def _tend(self, loop: asyncio.AbstractEventLoop) -> None:
        """Do what has to be done from time to time, until it is time to stop."""
        progress = summary.Progress(self._engine, sys.stderr)
        next_check = loop.time() + CHECK_INTERVAL
        while not self._stopping.is_set():
            try:
                await asyncio.wait_for(self._stopping.wait(), timeout=1.0)
            except TimeoutError:
                await self._engine.expire(time.monotonic_ns())
                progress.update()
                if loop.time() >= next_check:
                    await self._check_host(loop)
                    next_check = loop.time() + CHECK_INTERVAL
        progress.close()

    async def _check_host(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            for finding in await loop.run_in_executor(self._worker, self._host.repair):
                print(f"repaired: {finding}", file=sys.stderr, flush=True)
            self._engine.set_path_mtu(await loop.run_in_executor(self._worker, read_route_mtus))
            addresses = await loop.run_in_executor(self._worker, read_local_addresses)
            self._engine.set_local_addresses(addresses)
        except HostError as error:
            print(f"fullnat: {error}", file=sys.stderr, flush=True)

    @property
    def _uptime(self) -> float:
        return time.monotonic() - self._began

    def _ready_line(self) -> str:
        served = ", ".join(
            f"{service} ({service.scheduler_name}, {len(service.servers)} servers)"
            for service in self._engine.services
        )
        return (
            f"ready in {self._uptime:.2f} s: engine {self._engine.name} ({self._why}), "
            f"serving {served or 'nothing'}, from {' '.join(map(str, self._config.snat.addresses))} "
            f"ports {self._ports}; fallback: {self._describe_fallback()}"
        )

    def _describe_fallback(self) -> str:
        if self._fallback is not None:
            return f"{self._fallback.kind}, ports {self._fallback.pool.ports}"
        return f"none, {self._why_none}" if self._why_none else "none"

    def _status(self) -> dict[str, Any]:
        config = self._config
        return {
            "version": __version__,
            "instance": config.instance,
            "pid": os.getpid(),
            "engine": self._engine.name,
            "why": self._why,
            "queue": config.engine.queue,
            "workers": self._host.plan.workers,
            "uptime": round(self._uptime, 3),
            "config": str(Path(config.path).absolute()),
            "services": [str(service) for service in self._engine.services],
            "local_addresses": [str(address) for address in config.snat.addresses],
            "local_ports": str(self._ports),
            "flows": self._engine.statistics().flows,
        }


def _native_builder() -> Callable[..., NativeDatapath]:
    return partial(NativeDatapath, hash_key=os.urandom(16))


def _give_way() -> None:
    """Let packets go before this thread, and the programs it runs."""
    os.nice(_NICENESS)  # of the thread: Linux keeps one each


def _process_age() -> float:
    """Return how many seconds ago this process began: what an operator waits includes our imports."""
    stat = Path("/proc/self/stat").read_text(encoding="ascii", errors="replace")
    started = int(stat.rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started)
