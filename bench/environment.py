# SPDX-License-Identifier: Apache-2.0
"""Where a run was made: what a reader needs to repeat it, and nothing that names the machine."""

from __future__ import annotations

import os
import platform
import re
import shlex
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from bench.plan import ANY_CPU, DIRECTOR_CPU, GENERATOR_CPU
from bench.waiting import PATIENCE

_ROOT = Path(__file__).resolve().parent.parent
_VERSION_COMMANDS = {
    "iptables": ["iptables", "--version"],
    "nft": ["nft", "--version"],
    "haproxy": ["haproxy", "-v"],
    "nginx": ["nginx", "-v"],
    "wrk": ["wrk", "-v"],
    "iperf3": ["iperf3", "--version"],
    "gcc": ["gcc", "--version"],
}


def describe(argv: Sequence[str]) -> dict[str, object]:
    """Return the content of env.json for a run with these arguments."""
    return {
        "command": command_line(argv),
        "commit": _first_line(["git", "-C", str(_ROOT), "describe", "--always", "--dirty", "--abbrev=12"]),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": cpu_model(_read("/proc/cpuinfo")),
        "cpus": os.cpu_count(),
        "virtual_machine": "hypervisor" in _read("/proc/cpuinfo"),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip() or "none visible",
        "memory_mib": memory_mib(_read("/proc/meminfo")),
        "lab": {
            "links": "veth, MTU 1500, offloads as the kernel sets them",
            "cpus_pps": {"generator": GENERATOR_CPU, "director, by rps_cpus and taskset": DIRECTOR_CPU},
            "cpus_tcp": ANY_CPU,
            "netdev_max_backlog": int(_read("/proc/sys/net/core/netdev_max_backlog") or 0),
        },
        "versions": versions(),
    }


def command_line(argv: Sequence[str]) -> str:
    """Return the command to repeat the run, without the folder this one was written to."""
    kept, skip = [], False
    for word in argv:
        if not skip and not word.startswith("--out"):
            kept.append(word)
        skip = not skip and word == "--out"
    return shlex.join([".venv/bin/python", "bench/run.py", *kept])


def versions() -> dict[str, str]:
    """Return the versions of fullnat and of every program involved."""
    found = {"python": platform.python_version()}
    for package in ("fullnat", "NetfilterQueue", "uvloop"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found | {name: _first_line(argv) for name, argv in _VERSION_COMMANDS.items()}


def cpu_model(cpuinfo: str) -> str:
    """Return the name of the CPU from /proc/cpuinfo, and whether it is a program: QEMU without KVM."""
    found = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    model = found[1].strip() if found else platform.machine()
    return f"{model} (emulated)" if "TCG" in model else model


def memory_mib(meminfo: str) -> int:
    """Return the size of the memory from /proc/meminfo."""
    found = re.search(r"^MemTotal:\s+(\d+) kB", meminfo, re.MULTILINE)
    return int(found[1]) // 1024 if found else 0


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _first_line(argv: list[str]) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=10 * PATIENCE, check=False)
    except OSError:
        return "not installed"
    return next(iter((done.stdout + done.stderr).strip().splitlines()), "unknown")
