#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A network to try fullnat on: client, director and real servers, each a network namespace.

   client                    director                     real server
  CIP:cport  ---inbound--->  VIP:vport | LIP:lport  --->  RIP:rport
             <--outbound---            |            <---

By hand:   lab.py up two-arm --servers;  lab.py exec client curl http://203.0.113.10/;  lab.py down
In Python: with Lab("two-arm") as lab: lab.up(servers=True); lab.run("client", ["curl", ...])

The topologies are in topology.py.  Namespaces are called fn-<run>-<role>; two runs with different
ids do not meet.  Nothing of the host's own network is touched, and no packet leaves the machine.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import namespace
import state
import webserver
from namespace import LabError, Process
from plan import Plan
from state import State
from topology import TOPOLOGIES, Host
from wait import PATIENCE, wait_until

_numbers = itertools.count(1)  # several labs of one process

SWITCH = "switch"  # the namespace of the bridges
UP_SECONDS = 10.0  # for links and web servers to come up; they take a few hundredths

# A new namespace inherits the host's IPv4 settings: these put back what the kernel starts with,
# so that a test sees the same director on every host.  ip_forward comes first: writing it resets others.
_KERNEL_DEFAULTS = (
    ("net/ipv4/ip_forward", 0),
    *(
        (f"net/ipv4/conf/{scope}/{name}", value)
        for scope in ("all", "default")
        for name, value in (
            ("rp_filter", 0),
            ("accept_local", 0),
            ("arp_ignore", 0),
            ("arp_announce", 0),
            ("proxy_arp", 0),
            ("send_redirects", 1),
        )
    ),
    ("net/ipv6/conf/all/forwarding", 0),
    # Addresses are usable at once, and nobody asks for or believes router advertisements.
    *(
        (f"net/ipv6/conf/{scope}/{name}", 0)
        for scope in ("all", "default")
        for name in ("disable_ipv6", "accept_dad", "dad_transmits", "accept_ra", "router_solicitations")
    ),
)
_FORWARDING = (("net/ipv4/ip_forward", 1), ("net/ipv6/conf/all/forwarding", 1))


class Lab(Plan):
    """One topology, built in namespaces of its own; a context manager that takes it down."""

    def __init__(
        self,
        topology: str = "two-arm",
        *,
        run: str | None = None,
        clients: int = 2,
        servers: int = 3,
        mtu: Mapping[str, int] | None = None,
    ) -> None:
        """Describe a lab; up() builds it.  Without *run* it is this process's own, named by its pid."""
        if topology not in TOPOLOGIES:
            raise LabError(f"no topology {topology!r}; there are: {', '.join(TOPOLOGIES)}")
        super().__init__(TOPOLOGIES[topology].only(clients, servers))
        self.id = _checked_id(run or f"t{os.getpid()}_{next(_numbers)}")
        self.mtu = dict(mtu or {})
        if unknown := self.mtu.keys() - self.topology.segments.keys():
            raise LabError(f"no segment {', '.join(unknown)}; there are: {', '.join(self.topology.segments)}")
        self.directory = Path(tempfile.gettempdir()) / f"fullnat-lab-{self.id}"
        self._state = State(self.id, topology, str(self.directory), None if run else Process.of(os.getpid()))
        self._children: list[subprocess.Popen[Any]] = []

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    # Namespaces.

    def namespace(self, role: str) -> str:
        """The name of the namespace of *role*; LabError lists the roles there are."""
        roles = (*(host.role for host in self.topology.hosts), SWITCH)
        if role not in roles:
            raise LabError(f"no {role!r} in {self.topology.name}; there are: {', '.join(roles)}")
        return f"fn-{self.id}-{role}"

    @property
    def namespaces(self) -> list[str]:
        """The namespaces of this run that exist now."""
        return namespace.existing(f"fn-{self.id}-")

    # Up and down.

    def up(self, *, servers: bool = False) -> Lab:
        """Build the network; *servers*: nginx on each.  What an earlier run of the id left goes first."""
        self.down()
        self._state.save()
        try:
            self.directory.mkdir(mode=0o700)  # fails if somebody else put one there
            self._build()
            if servers:
                self._start_web_servers()
        except BaseException:
            self.down()
            raise
        return self

    def down(self) -> None:
        """End the lab's processes and remove its namespaces and files; what is gone already is fine."""
        left = state.load(self.id)
        recorded = [process for group in left.processes.values() for process in group] if left else []
        namespace.terminate([*{*recorded, *namespace.processes_in(self.namespaces)}])
        for child in self._children:
            child.wait()
        self._children.clear()
        for name in self.namespaces:
            for path in runtime_files(name):  # what a killed fullnat left goes with its machine
                path.unlink(missing_ok=True)
            for folder in pin_folders(name):
                if folder.is_mount():
                    subprocess.run(["umount", str(folder)], check=True)
                folder.rmdir()
            namespace.delete(name)
        for directory in {self.directory, Path(left.directory) if left else self.directory}:
            shutil.rmtree(directory, ignore_errors=True)
        self._state.processes.clear()
        self._state.forget()

    def _build(self) -> None:
        roles = [host.role for host in self.topology.hosts]
        for role in (*roles, SWITCH):
            name = self.namespace(role)
            namespace.ip("netns", "add", name)
            namespace.write_sysctls(name, _KERNEL_DEFAULTS)
        namespace.ip_batch(self._links())
        self._raise_switch()
        for host in self.topology.hosts:
            name = self.namespace(host.role)
            if host.forwards:
                namespace.write_sysctls(name, _FORWARDING)
            namespace.ip_batch(_addressing(host), name)
        for segment, mtu in self.mtu.items():
            self.set_mtu(segment, mtu)
        wait_until(lambda: all(self._is_ready(role) for role in roles), UP_SECONDS, "all links up")

    def _links(self) -> list[str]:
        """The ip(8) commands for all links: a veth pair for two ends, a bridge port for each of more."""
        pairs = []
        for segment, ends in self.topology.segments.items():
            if len(ends) == 2:
                pairs.append(ends)
            else:
                pairs.extend((end, (SWITCH, _port(segment, end[0]))) for end in ends)
        # Every device has an index of its own.  The kernel takes a device whose peer (in another
        # namespace) has the same index for one without a peer, and holds its carrier back for a second.
        return [
            f"link add {device} index {index} netns {self.namespace(role)} type veth"
            f" peer name {far_device} index {index + 1000} netns {self.namespace(far_role)}"
            for index, ((role, device), (far_role, far_device)) in enumerate(pairs, start=100)
        ]

    def _raise_switch(self) -> None:
        """Make the bridges; ports forward at once, without a spanning tree to wait for."""
        name = self.namespace(SWITCH)
        namespace.write_sysctls(name, [("net/ipv6/conf/default/disable_ipv6", 1)])
        # Where br_netfilter is loaded, bridged packets would pass through iptables and conntrack.
        for path in namespace.read_sysctls(name, ["net/bridge/bridge-nf-call-*"]):
            namespace.write_sysctls(name, [(path, 0)])
        lines = []
        for segment, ends in self.topology.segments.items():
            if len(ends) == 2:
                continue
            lines.append(f"link add {segment} type bridge forward_delay 0 stp_state 0 mcast_snooping 0")
            lines.append(f"link set {segment} up")
            lines.extend(f"link set {_port(segment, role)} master {segment} up" for role, _ in ends)
        namespace.ip_batch(lines, name)

    def _is_ready(self, role: str) -> bool:
        host = next(host for host in self.topology.hosts if host.role == role)
        own = {"lo", *(interface.name for interface in host.interfaces)}  # modules of tunnels bring more
        devices = namespace.ip_json("address", "show", namespace=self.namespace(role))
        return all(
            device["operstate"] in ("UP", "UNKNOWN")  # the loopback device never says UP
            and not any(address.get("tentative") for address in device["addr_info"])
            for device in devices
            if device["ifname"] in own
        )

    def set_mtu(self, segment: str, mtu: int) -> None:
        """Set the MTU of every device on *segment*."""
        ends = self.topology.segments[segment]
        for role, device in ends:
            namespace.ip("link", "set", device, "mtu", str(mtu), namespace=self.namespace(role))
            if len(ends) > 2:
                port = _port(segment, role)
                namespace.ip("link", "set", port, "mtu", str(mtu), namespace=self.namespace(SWITCH))

    def _start_web_servers(self) -> None:
        files = self.directory / "files"
        files.mkdir()
        for role in self.servers:
            self.popen(role, webserver.prepare(role, self.directory / role, files))
        for role in self.servers:
            self._await_web_server(role)

    def _await_web_server(self, role: str) -> None:
        def listening() -> bool:
            if not self.processes(role):
                log = (self.directory / role / "error.log").read_text().strip()
                raise LabError(f"nginx on {role} ended: {log or 'it left no message'}")
            return webserver.is_listening(self.namespace(role))

        wait_until(listening, UP_SECONDS, f"nginx on {role} listening on port 80")

    # Programs.

    def command(self, role: str, argv: Sequence[str]) -> list[str]:
        """The command line that runs *argv* in the namespace of *role*."""
        return namespace.command(self.namespace(role), argv)

    def run(
        self, role: str, argv: Sequence[str], *, check: bool = True, timeout: float = 60, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run *argv* on *role* to its end, its output captured as text; *options* are subprocess.run's."""
        timeout *= PATIENCE
        settings: dict[str, Any] = {"capture_output": True, "text": True, "timeout": timeout, **options}
        done = subprocess.run(self.command(role, argv), check=False, **settings)
        if check and done.returncode:
            complaint = f"\n{done.stdout or ''}{done.stderr or ''}".rstrip()
            raise LabError(f"{' '.join(argv)} on {role}: exit status {done.returncode}{complaint}")
        return done

    def popen(self, role: str, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start *argv* on *role*; down() ends it.  Without streams in *options* it gets none.

        A session of its own keeps the terminal's signals away: a lab brought up by hand outlives its shell.
        """
        silent = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        settings: dict[str, Any] = {"start_new_session": True, **silent, **options}
        child: subprocess.Popen[Any] = subprocess.Popen(self.command(role, argv), **settings)
        self._children.append(child)
        if process := Process.of(child.pid):
            self._state.processes.setdefault(role, []).append(process)
            self._state.save()
        return child

    def processes(self, role: str) -> list[Process]:
        """The processes the lab started on *role* that run still."""
        return [process for process in self._state.processes.get(role, []) if process.alive]


def runtime_files(name: str) -> list[Path]:
    """The files that a fullnat in namespace *name* keeps while it runs: /run/fullnat/INSTANCE@COOKIE.*.

    Among them what it has pinned in the kernel: links first, for they use the rest.
    """
    pins = [pin for folder in pin_folders(name) for pin in folder.iterdir() if pin.suffix != ".debug"]
    pins.sort(key=lambda pin: (not pin.name.startswith("link-"), pin))
    return [path for path in _glob_runtime(name, "*") if not path.is_dir()] + pins


def pin_folders(name: str) -> list[Path]:
    """Where fullnats in namespace *name* have pinned something."""
    return _glob_runtime(name, "bpf") + _glob_runtime(name, "", Path("/sys/fs/bpf"))


def _glob_runtime(name: str, suffix: str, folder: Path = Path("/run/fullnat")) -> list[Path]:
    try:
        cookie = namespace.cookie(name)
    except OSError:  # an `ip netns add` that was cut short leaves a name without a namespace
        return []
    return sorted(folder.glob(f"*@{cookie}{'.' if suffix else ''}{suffix}"))


def _checked_id(run: str) -> str:
    # No dash: fn-a-... must not be a prefix of another run's names.
    if not re.fullmatch(r"[A-Za-z0-9_]{1,32}", run):
        raise LabError(f"a run id is 1 to 32 letters, digits and underscores: {run!r}")
    return run


def _port(segment: str, role: str) -> str:
    """The bridge port of *role* on *segment*; a device name is at most 15 characters."""
    return f"{segment[:3]}-{role}"


def _addressing(host: Host) -> list[str]:
    """The ip(8) commands that give *host* its addresses and routes; routes need their device up."""
    lines = ["link set lo up"]
    for device in host.interfaces:
        for address in device.addresses:
            lines.append(f"address add {address} dev {device.name}" + (" nodad" if ":" in address else ""))
        lines.append(f"link set {device.name} up")
    lines.extend(f"route add {route}" for route in host.routes)
    return lines


if __name__ == "__main__":
    from commands import main

    main()
