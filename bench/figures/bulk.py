# SPDX-License-Identifier: Apache-2.0
"""Bulk transfer: iperf3, one TCP stream and eight, each direction by itself; all runs where it falls."""

from __future__ import annotations

import json

from bench.errors import BenchError
from bench.figures.cell import Cell
from bench.gate import check_stream
from bench.host import CpuTimes
from bench.plan import ANY_CPU, BULK_PORT

READY_SECONDS = 5.0
TRANSFERS: dict[str, list[str]] = {  # metric: options of iperf3
    "bulk-up": [],
    "bulk-down": ["--reverse"],
    "bulk-up-8": ["--parallel", "8"],
    "bulk-down-8": ["--parallel", "8", "--reverse"],
}


def measure_bulk(cell: Cell) -> dict[str, float]:
    """Client to server, then server to client; by one stream, then by eight."""
    cell.peer.start()
    check_stream(cell.lab, cell.peer, BULK_PORT)
    argv = ["iperf3", "-s", "--forceflush", "-B", cell.lab.plan.server, "-p", str(BULK_PORT)]
    cell.lab.spawn(cell.lab.server, argv, cpus=ANY_CPU).wait_for_line("Server listening", READY_SECONDS)
    return {metric: _transfer(cell, metric, options) for metric, options in TRANSFERS.items()}


def _transfer(cell: Cell, metric: str, options: list[str]) -> float:
    seconds, warmup = cell.effort.tcp_seconds, cell.effort.tcp_warmup_seconds
    argv = ["iperf3", "-c", cell.peer.target, "-p", str(BULK_PORT), "-J", *options]
    times = CpuTimes.now()
    argv += ["-t", str(seconds), "-O", str(warmup)]
    text = cell.lab.client.run(argv, cpus=ANY_CPU, timeout=seconds + warmup + 30)
    cell.lab.check()
    value = parse_iperf3(text)
    cell.add_row(metric, "run", seconds=seconds, value=value, steal=CpuTimes.now().steal_since(times))
    return value


def parse_iperf3(text: str) -> float:
    """Return bits per second that arrived."""
    report = json.loads(text)
    if "error" in report:
        raise BenchError(f"iperf3: {report['error']}")
    return float(report["end"]["sum_received"]["bits_per_second"])
