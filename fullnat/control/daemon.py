# SPDX-License-Identifier: Apache-2.0
"""`fullnat run`: the one module that knows every part, and puts them together.

Order.  Claim the instance, bind the queue, then change the host: no packet meets a queue that
nobody reads.  Back the other way: the host first, so that nothing is steered to a queue that goes.

Once a second flows expire.  Every CHECK_INTERVAL the host is compared with what was set up, for
somebody may have flushed the rules, and path MTUs are read again; both in a worker thread.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import uvloop

from fullnat import __version__
from fullnat.control import summary
from fullnat.control.api import ControlSocket
from fullnat.control.build import MARK, build_director, plan_host
from fullnat.control.config import Config
from fullnat.control.paths import socket_path
from fullnat.core.addr import PortRange
from fullnat.core.mtu import PathMtu
from fullnat.datapath.nfqueue import NfqueueDatapath
from fullnat.host.errors import HostError
from fullnat.host.host import Host
from fullnat.host.ports import default_port_range, read_ip_local_port_range
from fullnat.host.rawsock import RawSender
from fullnat.host.routes import read_route_mtus

CHECK_INTERVAL = 10.0  # seconds
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def serve(config: Config, datapath: str) -> None:
    """Serve *config* until a signal says stop; DatapathError or HostError when that cannot be."""
    uvloop.run(_Daemon(config, datapath).run())


def describe(config: Config) -> str:
    """Return the rules, sysctls and addresses that serve() would set."""
    return Host(plan_host(config, _local_ports(config))).render_text()


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
        self._chosen_by = "chosen" if datapath != "auto" else "auto: the one engine of this version"
        self._ports = _local_ports(config)
        self._host = Host(plan_host(config, self._ports))
        self._worker = ThreadPoolExecutor(max_workers=1)
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Serve until told to stop, and leave the host as it was found."""
        loop = asyncio.get_running_loop()
        for number in _STOP_SIGNALS:
            loop.add_signal_handler(number, self._stopping.set)
        self._host.claim()
        try:
            await self._serve(loop)
        finally:
            self._host.restore()
            self._worker.shutdown()

    async def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        config = self._config
        seed = int.from_bytes(os.urandom(8), "big")
        now = time.monotonic_ns()
        self._director = build_director(config, self._ports, PathMtu(), seed, now)
        sender = RawSender(MARK)
        self._engine = NfqueueDatapath(
            self._director, sender, queue=config.engine.queue, mark=MARK, clock=time.monotonic_ns
        )
        control = ControlSocket(
            socket_path(config.instance), self._director, self._engine, self._status, time.monotonic_ns
        )
        try:
            self._engine.start(loop)
            self._host.set_up()
            self._director.path_mtu = PathMtu(read_route_mtus())
            await control.start()
            print(self._ready_line(), flush=True)
            await self._tend(loop)
        finally:
            await control.stop()
            self._host.restore()
            self._engine.stop()
            sender.close()
        summary.show(self._director, self._engine.statistics(), self._uptime)

    async def _tend(self, loop: asyncio.AbstractEventLoop) -> None:
        """Do what has to be done from time to time, until it is time to stop."""
        progress = summary.Progress(self._director, sys.stderr)
        next_check = loop.time() + CHECK_INTERVAL
        while not self._stopping.is_set():
            try:
                await asyncio.wait_for(self._stopping.wait(), timeout=1.0)
            except TimeoutError:
                self._engine.expire(time.monotonic_ns())
                progress.update()
                if loop.time() >= next_check:
                    await self._check_host(loop)
                    next_check = loop.time() + CHECK_INTERVAL
        progress.close()

    async def _check_host(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            for finding in await loop.run_in_executor(self._worker, self._host.repair):
                print(f"repaired: {finding}", file=sys.stderr, flush=True)
            routes = await loop.run_in_executor(self._worker, read_route_mtus)
            self._director.path_mtu = PathMtu(routes)
        except HostError as error:
            print(f"fullnat: {error}", file=sys.stderr, flush=True)

    @property
    def _uptime(self) -> float:
        return time.monotonic() - self._began

    def _ready_line(self) -> str:
        served = ", ".join(
            f"{service} ({service.scheduler_name}, {len(service.servers)} servers)"
            for service in self._director.services.values()
        )
        return (
            f"ready in {self._uptime:.2f} s: engine {self._engine.name} ({self._chosen_by}), "
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
            "why": self._chosen_by,
            "queue": config.engine.queue,
            "uptime": round(self._uptime, 3),
            "config": str(Path(config.path).absolute()),
            "services": [str(service) for service in self._director.services.values()],
            "local_addresses": [str(address) for address in config.snat.addresses],
            "local_ports": str(self._ports),
            "flows": len(self._director.flows),
        }


def _process_age() -> float:
    """Return how many seconds ago this process began: what an operator waits includes our imports."""
    stat = Path("/proc/self/stat").read_text(encoding="ascii", errors="replace")
    started = int(stat.rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started)
