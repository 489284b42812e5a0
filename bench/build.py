# SPDX-License-Identifier: Apache-2.0
"""The programs the bench needs: its own generator, and those of the distribution."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from bench.errors import BenchError
from bench.namespace import run

_HERE = Path(__file__).resolve().parent
PKTGEN = _HERE / "bin" / "pktgen"

# program -> Debian package
TOOLS = {
    "ip": "iproute2",
    "ss": "iproute2",
    "sysctl": "procps",
    "taskset": "util-linux",
    "make": "make",
    "gcc": "gcc",
    "nft": "nftables",
    "wrk": "wrk",
    "nginx": "nginx-light",
    "iperf3": "iperf3",
}


def check_tools(tools: Mapping[str, str]) -> None:
    """Raise BenchError naming every missing program and the command that installs them all."""
    missing = [tool for tool in tools if not shutil.which(tool)]
    if missing:
        packages = sorted({tools[tool] for tool in missing})
        raise BenchError(f"missing {', '.join(missing)}: apt-get install {' '.join(packages)}")


def build_generator() -> None:
    """Compile bench/bin/pktgen where its source is newer."""
    run(["make", "-s", "-C", str(_HERE / "gen")])
