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
from fullnat.control.paths import socket_path
from fullnat.core.addr import PortRange
from fullnat.datapath.base import Datapath, Setup, Unsupported
from fullnat.datapath.choice import choose
from fullnat.datapath.ebpf import EbpfDatapath
from fullnat.datapath.native import NativeDatapath, require_extension
from fullnat.datapath.nfqueue import NfqueueDatapath
from fullnat.host.addresses import read_local_addresses
from fullnat.host.errors import HostError
from fullnat.host.fastpath import ForeignFlowsError
from fullnat.host.host import Host
from fullnat.host.plan import HostPlan
from fullnat.host.ports import default_port_range, read_ip_local_port_range
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
    ports = _local_ports(config)

    def plan(engine: str) -> HostPlan:
        if engine in (EbpfDatapath.name, NativeDatapath.name):
            require_extension()
        return plan_host(config, ports, engine)

    return Host(choose(datapath, plan)[0]).render_text()


def _local_ports(config: Config) -> PortRange:
    """Return the local ports to use; HostError when the host uses some of them itself."""
    taken = read_ip_local_port_range()
    if config.snat.ports is None:
        return default_port_range(taken)
    if config.snat.ports.overlaps(taken):
        raise HostError(
            f"[snat] ports {config.snat.ports} overlap the host's own net.ipv4.ip_local_port_range {taken}: "
            f"leave ports out to have {default_port_range(taken)}, or change the sysctl"
        )
    return config.snat.ports


class _Daemon:
    """One run of one instance."""

    def __init__(self, config: Config, datapath: str) -> None:
        self._began = time.monotonic() - _process_age()
        self._config = config
        self._datapath = datapath
        self._ports = _local_ports(config)
        self._worker = ThreadPoolExecutor(max_workers=1, initializer=_give_way)
        self._stopping = asyncio.Event()
        self._keeps_flows = False

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
        self._engine, why = choose(self._datapath, lambda engine: self._start_engine(engine, loop))
        workers = self._host.plan.workers
        self._why = f"{why}; {workers} worker{'s' if workers > 1 else ''}"
        control = ControlSocket(
            socket_path(self._config.instance), self._engine, self._status, time.monotonic_ns, self._stop
        )
        try:
            self._engine.set_local_addresses(read_local_addresses())
            self._host.set_up()
            self._engine.set_path_mtu(read_route_mtus())
            await control.start()
            print(self._ready_line(), flush=True)
            await self._tend(loop)
        finally:
            await control.stop()
            if self._keeps_flows:
                self._host.leave()
            else:
                self._host.restore()
            self._engine.stop()
            self._sender.close()
        summary.show(self._engine, self._uptime)

    def _stop(self, keep: bool) -> None:
        """End the run; with *keep* the host stays as it is.  ValueError when there is nothing to keep."""
        if keep and self._engine.name != EbpfDatapath.name:
            raise ValueError(f"engine {self._engine.name} forwards every packet itself: it cannot keep flows")
        self._keeps_flows = keep
        self._stopping.set()

    def _start_engine(self, name: str, loop: asyncio.AbstractEventLoop) -> Datapath:
        """Claim the instance and have engine *name* take packets; a failure leaves nothing behind."""
        self._host = Host(plan_host(self._config, self._ports, name))
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
        setup, services = build_setup(config, self._ports, seed), build_services(config, seed)
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
        )

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
            f"ports {self._ports}"
        )

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
