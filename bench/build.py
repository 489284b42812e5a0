# SPDX-License-Identifier: Apache-2.0
"""The programs the bench needs: its own, and those of the distribution."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from bench.errors import BenchError
from bench.namespace import run

_HERE = Path(__file__).resolve().parent
PKTGEN = _HERE / "bin" / "pktgen"
LATENCY = _HERE / "bin" / "latency"
PICKS = _HERE / "bin" / "picks"

# program -> Debian package
TOOLS = {
    "ip": "iproute2",
    "ss": "iproute2",
    "sysctl": "procps",
    "taskset": "util-linux",
    "make": "make",
    "gcc": "gcc",
    "ethtool": "ethtool",
    "nft": "nftables",
    "wrk": "wrk",
    "nginx": "nginx-light",
    "iperf3": "iperf3",
}


def check_tools(tools: Mapping[str, str]) -> None:
    """Raise BenchError when a program is missing."""
    if reason := missing_tools(tools):
        raise BenchError(reason)


def missing_tools(tools: Mapping[str, str]) -> str | None:
    """Return a line naming every missing program and the command that installs them all, None without any."""
    missing = [tool for tool in tools if not shutil.which(tool)]
    if not missing:
        return None
    packages = sorted({tools[tool] for tool in missing})
    return f"missing {', '.join(missing)}: apt-get install {' '.join(packages)}"


def build_programs() -> None:
    """Compile the programs of bench/gen into bench/bin where their sources are newer."""
    run(["make", "-s", "-C", str(_HERE / "gen")])
