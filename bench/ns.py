# SPDX-License-Identifier: Apache-2.0
"""The bench's lab: client - director - server, three network namespaces and two veth pairs.

      client              director                 server
      eth0 ------------ outside  inside ------------ eth0
      CIP                      LIPs                   RIP        VIP: on no interface

Which CPU does what is the figure's choice.
Neighbours are permanent: an ARP answer lost in an overload trial is not the subject.

Namespaces are named fn-bench-<pid>-<role>.  Leaving the context stops every process started in
them and deletes them; a run that was killed is cleaned up after by the next one.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shlex
import shutil
import signal
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from bench.namespace import Daemon, Namespace, run
from bench.plan import ANY_CPU, CLIENT_MAC, DIRECTOR_CPU, INSIDE_MAC, OUTSIDE_MAC, SERVER_MAC, Plan
from bench.waiting import PATIENCE

_PREFIX = "fn-bench-"
_KILL_SECONDS = 15.0 * PATIENCE


class Lab:
    """Three namespaces, wired; a context manager that leaves nothing behind."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.client, self.director, self.server = (
            Namespace(f"{_PREFIX}{os.getpid()}-{role}") for role in ("client", "director", "server")
        )
        self._daemons: list[Daemon] = []
        self._numbers = itertools.count()  # of logs
        self._foreign_napi_threads = frozenset(_napi_threads())
        self._directory = tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-")
        self.directory = Path(self._directory.name)
        self._peer_cpus = ANY_CPU

    def __enter__(self) -> Self:
        try:
            self._wire()
            self._address()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def use_napi(self) -> None:
        """Have the director's devices receive through a ring and NAPI, as physical ones do.

        veth has a ring where GRO is on, and takes it for what comes from a device without TSO (veth_xmit()
        in drivers/net/veth.c).
        """
        for namespace, device, feature in (
            (self.director, "outside", "gro on"),
            (self.director, "inside", "gro on"),
            (self.client, "eth0", "tso off"),
            (self.server, "eth0", "tso off"),
        ):
            namespace.run(["ethtool", "-K", device, *feature.split()])

    def count_napi(self) -> int:
        """Return how many frames from the client came through the ring."""
        text = self.director.run(["ethtool", "-S", "outside"])
        return sum(int(count) for count in re.findall(r"rx_queue_\d+_xdp_packets: (\d+)", text))

    def confine_director(self) -> None:
        """Have all that the director's devices receive, and a peer's program, processed on DIRECTOR_CPU.

        Before the peer starts: one that spreads the work of its devices leaves alone what is set.
        """
        self._peer_cpus = str(DIRECTOR_CPU)
        mask = f"{1 << DIRECTOR_CPU:x}"
        # `ip netns exec` mounts the namespace's own /sys, which is where its devices are.
        queues = "/sys/class/net/*side/queues/rx-*/rps_cpus"
        self.director.run(["sh", "-c", f'for queue in {queues}; do echo {mask} > "$queue" || exit 1; done'])

    def confine_napi_threads(self) -> set[str]:
        """Bind the threads of the director's NAPI to DIRECTOR_CPU; return the devices that have any."""
        devices = set()
        for pid, device in _napi_threads().items():
            if pid not in self._foreign_napi_threads:
                os.sched_setaffinity(pid, {DIRECTOR_CPU})
                devices.add(device)
        return devices

    def spawn_peer(self, argv: Sequence[str]) -> Daemon:
        """Start the program of a peer on the director; a confined director has one CPU for it."""
        return self.spawn(self.director, argv, cpus=self._peer_cpus)

    def spawn(self, namespace: Namespace, argv: Sequence[str], *, cpus: str = "") -> Daemon:
        """Start a process that the lab ends."""
        name = Path(argv[0]).name
        log = self.directory / f"{next(self._numbers)}-{name}.log"
        daemon = Daemon(name, namespace.command(argv, cpus), log)
        self._daemons.append(daemon)
        return daemon

    def end(self, daemon: Daemon) -> None:
        """Stop one process before the others."""
        self._daemons.remove(daemon)
        daemon.stop()

    def check(self) -> None:
        """Raise BenchError when a process of the lab has ended by itself."""
        for daemon in self._daemons:
            daemon.check()

    def close(self) -> None:
        """Stop every process, newest first, and delete the namespaces."""
        while self._daemons:
            self._daemons.pop().stop()
        for namespace in (self.client, self.director, self.server):
            _delete(namespace.name)
        self._directory.cleanup()

    def _wire(self) -> None:
        for namespace in (self.client, self.director, self.server):
            run(["ip", "netns", "add", namespace.name])
        for peer, mac, device, director_mac in (
            (self.client, CLIENT_MAC, "outside", OUTSIDE_MAC),
            (self.server, SERVER_MAC, "inside", INSIDE_MAC),
        ):
            run(
                shlex.split(
                    f"ip link add {device} netns {self.director.name} address {director_mac}"
                    f" type veth peer name eth0 netns {peer.name} address {mac}"
                )
            )

    def _address(self) -> None:
        plan = self.plan
        nodad = "nodad" if plan.family == 6 else ""
        lips = [f"addr add {lip}/{plan.prefix} dev inside {nodad}" for lip in plan.lips]
        self.client.ip(
            "link set lo up",
            "link set eth0 up",
            f"addr add {plan.client}/{plan.prefix} dev eth0 {nodad}",
            f"neigh replace {plan.outside} lladdr {OUTSIDE_MAC} dev eth0 nud permanent",
            f"route add default via {plan.outside}",
        )
        self.director.ip(
            "link set lo up",
            "link set outside up",
            "link set inside up",
            f"addr add {plan.outside}/{plan.prefix} dev outside {nodad}",
            f"addr add {plan.inside}/{plan.prefix} dev inside {nodad}",
            *lips,
            f"neigh replace {plan.client} lladdr {CLIENT_MAC} dev outside nud permanent",
            f"neigh replace {plan.server} lladdr {SERVER_MAC} dev inside nud permanent",
            f"route add default via {plan.client} dev outside",
        )
        self.server.ip(
            "link set lo up",
            "link set eth0 up",
            f"addr add {plan.server}/{plan.prefix} dev eth0 {nodad}",
            *(
                f"neigh replace {address} lladdr {INSIDE_MAC} dev eth0 nud permanent"
                for address in (plan.inside, *plan.lips)
            ),
        )
        # The client of the connection-rate figure opens more connections than it has ports.
        self.client.sysctl("net.ipv4.tcp_tw_reuse", 1)


def _napi_threads() -> dict[int, str]:
    """Return the kernel threads that poll devices named as the director's are, in whatever namespace."""
    found = {}
    for comm in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):  # it has ended
            if name := re.match(
                r"napi/(outside|inside)-", comm.read_text(encoding="utf-8", errors="replace")
            ):
                found[int(comm.parent.name)] = name[1]
    return found


def remove_stale_labs() -> None:
    """Delete what runs that were killed have left: namespaces, processes in them, folders."""
    for line in run(["ip", "netns", "list"]).splitlines():
        name = line.split()[0]
        if _is_stale(name):
            _delete(name)
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        if _is_stale(folder.name):
            shutil.rmtree(folder)


def _is_stale(name: str) -> bool:
    """Return whether the run that chose *name* has ended."""
    found = re.match(rf"{_PREFIX}(\d+)-", name)
    return found is not None and not Path(f"/proc/{found[1]}").exists()


def _delete(name: str) -> None:
    """Delete a namespace of the bench and end what still runs in it."""
    if not Path(f"/run/netns/{name}").exists():
        return
    deadline = time.monotonic() + _KILL_SECONDS
    while pids := run(["ip", "netns", "pids", name]).split():
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    run(["ip", "netns", "delete", name])
