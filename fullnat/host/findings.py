# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a host, or would be: one pure check a subject, from facts to findings.

The facts are read in facts.py.  One that cannot be read is Unknown, and its check says why.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from fullnat.core.addr import PortRange
from fullnat.host.devices import Device
from fullnat.host.errors import HostError
from fullnat.host.firewall import ClosedChain
from fullnat.host.ports import default_port_range
from fullnat.host.sysctl import Setting, Snapshot, plan_settings, sysctl_name
from fullnat.host.tuning import plan_tunings

# Of the parameters that fullnat sets, those without which packets are lost.
_VITAL = ("ip_forward", "all/forwarding", "accept_local", "rp_filter")

_FULL_RING = "offered more than one CPU carries, next to nothing is forwarded"
_SETS_IT = "nothing to do: fullnat run sets it and puts it back"


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    NOTE = "note"  # worth knowing, or what fullnat puts right itself
    PROBLEM = "problem"  # packets would be lost, or it would not run


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check came to."""

    subject: str
    level: Level
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{self.level:<8} {self.subject}: {self.message}{remedy}"

    def to_json(self) -> dict[str, Any]:
        """Return the finding as JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Unknown:
    """A fact that could not be read."""

    why: str


@dataclass(frozen=True, slots=True)
class QueueRow:
    """A row of the kernel's table of queues."""

    number: int
    queue_dropped: int  # because the queue was full
    user_dropped: int  # because the process could not be given them


def check_programs(missing: Sequence[str]) -> list[Finding]:
    """Check that the programs are there; *missing* has a sentence for each that is not."""
    problems = [Finding("programs", Level.PROBLEM, *_split(sentence)) for sentence in missing]
    return problems or [Finding("programs", Level.OK, "ip, iptables and ipset are there")]


def check_kernel(trial: str | Unknown) -> list[Finding]:
    """Check that the kernel takes our rules; *trial* is what a try came to, empty when it went well."""
    if isinstance(trial, Unknown):
        return [_unknown("kernel", trial)]
    if trial:
        return [Finding("kernel", Level.PROBLEM, *_split(trial))]
    return [Finding("kernel", Level.OK, "takes the rules and sets of full NAT, and has NFQUEUE")]


def check_native(failure: str, *, wanted: bool) -> list[Finding]:
    """Check that engine `native` can be had; *failure* says why its extension cannot be imported."""
    if not failure:
        return [Finding("engine native", Level.OK, "its extension is built")]
    level = Level.PROBLEM if wanted else Level.NOTE
    return [
        Finding("engine native", level, f"cannot be had: {failure}", "apt-get install gcc, and install anew")
    ]


def check_ebpf(refusal: str, *, wanted: bool) -> list[Finding]:
    """Check that engine `ebpf` can be had; *refusal* says why the kernel takes no program of ours."""
    if not refusal:
        return [Finding("engine ebpf", Level.OK, "the kernel takes its programs")]
    level = Level.PROBLEM if wanted else Level.NOTE
    return [Finding("engine ebpf", level, *_split(refusal))]


def check_fallback(kind: str, refusal: str, *, wanted: bool) -> list[Finding]:
    """Check that the kernel can serve by *kind* behind an engine; *refusal* says why it cannot."""
    if not refusal:
        return [Finding(f"fallback {kind}", Level.OK, "the kernel can serve by it while no engine does")]
    level = Level.PROBLEM if wanted else Level.NOTE
    return [Finding(f"fallback {kind}", level, *_split(refusal))]


def check_services(refusal: str | Unknown) -> list[Finding]:
    """Check that IPVS can have the services beside the engine; *refusal* names one that it cannot have."""
    if isinstance(refusal, Unknown):
        return [_unknown("IPVS", refusal)]
    if not refusal:
        return [Finding("IPVS", Level.OK, "the kernel can have the services beside the engine")]
    return [Finding("IPVS", Level.PROBLEM, *_split(refusal))]


def note_needs(lines: Iterable[str]) -> list[Finding]:
    """Return what the real servers must have, which only they can be asked: *lines* of kernel/needs.py."""
    return [Finding("servers", Level.NOTE, line) for line in lines]


def check_ports(wanted: PortRange | None, taken: PortRange) -> list[Finding]:
    """Check that the local ports are not those the host gives to its own connections."""
    try:
        free = default_port_range(taken)
    except HostError as error:
        return [Finding("local ports", Level.PROBLEM, *_split(str(error)))]
    if wanted is not None and wanted.overlaps(taken):
        message = f"[snat] ports {wanted} overlap the host's own net.ipv4.ip_local_port_range {taken}"
        return [Finding("local ports", Level.PROBLEM, message, f"leave ports out to have {free}")]
    return [Finding("local ports", Level.OK, f"{wanted or free}, none of which the host uses itself")]


def check_sysctls(snapshot: Snapshot, families: Collection[int], *, is_writable: bool) -> list[Finding]:
    """Check the parameters without which packets are lost."""
    try:
        settings = plan_settings(snapshot, families)
    except HostError as error:
        return [Finding("sysctl", Level.PROBLEM, *_split(str(error)))]
    vital = [setting for setting in settings if setting.key.endswith(_VITAL)]
    findings = [_check_setting(setting, is_writable=is_writable) for setting in vital]
    return findings or [
        Finding("sysctl", Level.OK, "forwarding, accept_local and rp_filter let full NAT pass")
    ]


def _check_setting(setting: Setting, *, is_writable: bool) -> Finding:
    name = sysctl_name(setting.key)
    if is_writable:
        return Finding(name, Level.NOTE, f"is {setting.old}, has to be {setting.new}", _SETS_IT)
    message = f"is {setting.old}, has to be {setting.new}, and cannot be written from here"
    return Finding(name, Level.PROBLEM, message, f"on the host: sysctl {name}={setting.new}")


def check_martians(before: int, after: int) -> list[Finding]:
    """Check that nobody's packets are dropped as martians, from two readings of the counter."""
    if after > before:
        message = f"{after - before} packets dropped for their source address while doctor looked"
        remedy = (
            "sysctl net.ipv4.conf.all.log_martians=1, and see dmesg for whose; accept_local 1, rp_filter 2"
        )
        return [Finding("martians", Level.PROBLEM, message, remedy)]
    return [Finding("martians", Level.OK, f"none while doctor looked, {after} since boot on this machine")]


def check_firewall(chains: Sequence[ClosedChain] | Unknown, mark: int) -> list[Finding]:
    """Check that no firewall of others drops what we forward."""
    if isinstance(chains, Unknown):
        return [_unknown("firewall", chains)]
    findings = [_check_chain(chain, mark) for chain in chains]
    return findings or [Finding("firewall", Level.OK, "no chain of others drops by policy what is forwarded")]


def _check_chain(chain: ClosedChain, mark: int) -> Finding:
    if chain.program == "nft":
        remedy = f"nft insert rule {chain.place} meta mark and {mark:#x} == {mark:#x} accept"
    else:
        remedy = f"{chain.program} -I {chain.place} -m mark --mark {mark:#x}/{mark:#x} -j ACCEPT"
    message = f"{chain.program} chain {chain.place} drops by policy what fullnat forwards"
    return Finding("firewall", Level.PROBLEM, message, remedy)


def check_devices(
    devices: Sequence[Device] | Unknown, spread: Collection[int], *, cpus: int, tune: bool
) -> list[Finding]:
    """Check that no device starves the packet loop when more comes in than it can carry.

    *spread*: the CPUs of *cpus* that can receive beside the packet loop.
    """
    if isinstance(devices, Unknown):
        return [_unknown("devices", devices)]
    findings = [finding for device in devices for finding in _check_device(device, spread, cpus, tune)]
    return findings or [Finding("devices", Level.NOTE, "none that packets could come in by is up")]


def _check_device(device: Device, spread: Collection[int], cpus: int, tune: bool) -> list[Finding]:
    if device.has_napi is None:
        return [_unknown(device.name, Unknown("whether it has NAPI only root may ask this kernel"))]
    tunings = plan_tunings([device], spread)
    by_hand = "; ".join(map(str, tunings))
    level, remedy = (Level.NOTE, _SETS_IT) if tune else (Level.PROBLEM, f"[engine] tune = true, or {by_hand}")
    findings = []
    if device.has_softirq_napi:
        message = f"its NAPI polls in softirq, above every process: {_FULL_RING}"
        findings.append(Finding(device.name, level, message, remedy))
    elif any(tuning.attribute != "threaded" for tuning in tunings):
        message = (
            f"its packets all come up in softirq on whatever CPU brings them (no NAPI, no RPS): {_FULL_RING}"
        )
        findings.append(Finding(device.name, level, message, remedy))
    if device.has_backlog and not device.has_rps and not spread:
        findings.append(_check_stuck_backlog(device, cpus))
    return findings or [Finding(device.name, Level.OK, _describe_tuned(device))]


def _check_stuck_backlog(device: Device, cpus: int) -> Finding:
    """Nothing can be set: every CPU runs the packet loop."""
    if cpus > 1:
        message = f"no NAPI, and with a worker on each of {cpus} CPUs none to receive: {_FULL_RING}"
        return Finding(device.name, Level.PROBLEM, message, f"[engine] workers = {cpus - 1}")
    message = f"no NAPI, and one CPU for everything: {_FULL_RING}"
    return Finding(
        device.name, Level.NOTE, message, "a second CPU, or boot with thread_backlog_napi (Linux 6.10)"
    )


def _describe_tuned(device: Device) -> str:
    ways = []
    if device.has_napi:
        ways.append("its NAPI runs in a thread")
    if device.has_rps:
        ways.append("RPS spreads its packets")
    return ", ".join(ways)


def check_realtime(runtime_us: int | None, refusal: str | Unknown, *, tune: bool) -> list[Finding]:
    """Check that the packet loop can run above NAPI, and cannot lock everybody else out.

    *refusal* says why a thread of ours may not be SCHED_FIFO, empty when it may.
    """
    level = Level.PROBLEM if tune else Level.NOTE
    findings = []
    if runtime_us == -1:
        message = "kernel.sched_rt_runtime_us is -1: a busy packet loop could lock out everything else"
        findings.append(Finding("real-time", level, message, "sysctl kernel.sched_rt_runtime_us=950000"))
    if isinstance(refusal, Unknown):
        findings.append(_unknown("real-time", refusal))
    elif refusal:
        message = f"the packet loop may not be SCHED_FIFO, as tune = true makes it: {refusal}"
        remedy = "run as root with CAP_SYS_NICE; in a cgroup of version 1 with cpu.rt_runtime_us above 0"
        findings.append(Finding("real-time", level, message, remedy))
    return findings or [
        Finding("real-time", Level.OK, "SCHED_FIFO is permitted, and throttled as it should be")
    ]


def check_queues(rows: Sequence[QueueRow] | Unknown) -> list[Finding]:
    """Check that the kernel dropped nothing on its way to a running instance; *rows* are its queues."""
    if isinstance(rows, Unknown):
        return [_unknown("queues", rows)]
    if not rows:
        return [Finding("queues", Level.OK, "no instance runs in this network namespace")]
    return [finding for row in rows for finding in _check_queue(row)]


def _check_queue(row: QueueRow) -> Iterable[Finding]:
    subject = f"queue {row.number}"
    if row.queue_dropped:
        message = f"{row.queue_dropped} packets dropped since the start because it was full"
        yield Finding(subject, Level.PROBLEM, message, "[engine] tune = true, more workers, or engine native")
    if row.user_dropped:
        message = f"{row.user_dropped} packets dropped since the start because fullnat's socket was full"
        yield Finding(
            subject, Level.PROBLEM, message, "run as root, so that the socket may be as large as it asks"
        )
    if not row.queue_dropped and not row.user_dropped:
        yield Finding(subject, Level.OK, "nothing dropped since the start")


def _unknown(subject: str, fact: Unknown) -> Finding:
    return Finding(subject, Level.NOTE, f"not looked at: {fact.why}")


def _split(sentence: str) -> tuple[str, str]:
    """Part `what is wrong: remedy`, as HostError has it."""
    what, separator, remedy = sentence.rpartition(": ")
    return (what, remedy) if separator else (sentence, "")
