# SPDX-License-Identifier: Apache-2.0
"""Facts about a host, read without changing it; findings.py says what they mean."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from fullnat.core.addr import PortRange
from fullnat.host.claims import Claims
from fullnat.host.devices import Device, read_all_devices, read_used_devices
from fullnat.host.errors import HostError
from fullnat.host.findings import QueueRow, Unknown
from fullnat.host.firewall import ClosedChain, read_closed_chains
from fullnat.host.plan import HostPlan
from fullnat.host.ports import read_ip_local_port_range
from fullnat.host.programs import find_program
from fullnat.host.rules import RESTORE_PROGRAMS, SAVE_PROGRAMS
from fullnat.host.state import DEFAULT_DIRECTORY, StateDirectory
from fullnat.host.sysctl import ProcSys, Snapshot
from fullnat.host.sysfs import open_sysfs
from fullnat.host.trial import try_realtime, try_steering
from fullnat.host.tuning import LOOP_PRIORITY, read_spread_cpus

_NEEDS_ROOT = "that takes root"
_NET = Path("/proc/thread-self/net")
_QUEUES = _NET / "netfilter/nfnetlink_queue"


@dataclass(frozen=True, slots=True)
class Facts:
    """A host at one moment, as far as it matters to full NAT."""

    missing_programs: list[str]
    trial: str | Unknown  # of the rules
    ip_local_ports: PortRange
    sysctls: Snapshot
    is_sysctl_writable: bool
    martians: tuple[int, int]  # the counter before and after everything else was read
    chains: list[ClosedChain] | Unknown
    devices: list[Device] | Unknown
    spread: Collection[int]  # CPUs that can receive beside the packet loop
    cpus: int
    rt_runtime_us: int | None
    realtime_refusal: str | Unknown
    queues: list[QueueRow] | Unknown  # of running instances


def read_facts(plan: HostPlan, *, every_device: bool) -> Facts:
    """Return the facts of this host that matter to *plan*; of all its devices, or of those it uses."""
    is_root = os.geteuid() == 0
    kernel = ProcSys()
    martians = read_martians()
    devices, spread = _read_devices(plan, every_device=every_device)
    runtime = kernel.read("kernel/sched_rt_runtime_us")
    missing = find_missing_programs(plan.families)
    return Facts(
        missing_programs=missing,
        trial=Unknown("the programs come first") if missing else _try_steering(plan),
        ip_local_ports=read_ip_local_port_range(),
        sysctls=kernel.snapshot(),
        # Nobody but root may write them, whatever else forbids it; fullnat runs as root.
        is_sysctl_writable=not is_root or os.access("/proc/sys/net/ipv4/ip_forward", os.W_OK),
        chains=_read_closed_chains(plan),
        devices=devices,
        spread=spread,
        cpus=os.cpu_count() or 1,
        rt_runtime_us=None if runtime is None else int(runtime),
        realtime_refusal=try_realtime(LOOP_PRIORITY) if is_root else Unknown(_NEEDS_ROOT),
        queues=_read_queues(),
        martians=(martians, read_martians()),
    )


def find_missing_programs(families: Iterable[int]) -> list[str]:
    """Return a sentence for each program that cannot be found."""
    names = ["ip", "ipset"]
    for family in families:
        names += [SAVE_PROGRAMS[family], RESTORE_PROGRAMS[family]]
    missing = []
    for name in names:
        try:
            find_program(name)
        except HostError as error:
            missing.append(str(error))
    return missing


def _try_steering(plan: HostPlan) -> str | Unknown:
    try:
        return try_steering(plan)
    except PermissionError:
        return Unknown(_NEEDS_ROOT)


def _read_devices(plan: HostPlan, *, every_device: bool) -> tuple[list[Device] | Unknown, Collection[int]]:
    try:
        with open_sysfs() as tree:
            devices = read_all_devices(tree) if every_device else read_used_devices(plan, tree)
            return devices, read_spread_cpus(tree, plan.workers)
    except HostError as error:
        return Unknown(str(error)), ()


def read_martians(path: Path = _NET / "stat/rt_cache") -> int:
    """Return how many IPv4 packets were dropped for their source address, on all CPUs since boot."""
    try:
        header, *rows = path.read_text().splitlines()
    except OSError:
        return 0
    column = header.split().index("in_martian_src")
    return sum(int(row.split()[column], 16) for row in rows)


def _read_closed_chains(plan: HostPlan) -> list[ClosedChain] | Unknown:
    try:
        return read_closed_chains(plan.families, plan.mark)
    except HostError as error:
        return Unknown(str(error) if os.geteuid() == 0 else _NEEDS_ROOT)


def _read_queues() -> list[QueueRow] | Unknown:
    """Return the kernel's rows of the queues that living instances have."""
    try:
        claims = _living_claims()
        return parse_queues(_QUEUES.read_text(), claims) if claims else []
    except PermissionError:
        return Unknown(_NEEDS_ROOT)
    except FileNotFoundError:
        return []


def _living_claims() -> list[Claims]:
    state = StateDirectory(DEFAULT_DIRECTORY)
    if not state.instances():
        return []
    with state.exclusive():
        return state.live_claims(besides="")


def parse_queues(table: str, claims: Iterable[Claims]) -> list[QueueRow]:
    """Return the rows of the kernel's *table* that belong to instances with *claims*.

    Columns: queue, netlink port, waiting, copy mode, copy range, queue_dropped, user_dropped, ...
    """
    numbers = {claim.queue + number for claim in claims for number in range(claim.queues)}
    rows = ([int(field) for field in line.split()] for line in table.splitlines())
    return [QueueRow(row[0], row[5], row[6]) for row in rows if row[0] in numbers]
