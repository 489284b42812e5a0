# SPDX-License-Identifier: Apache-2.0
"""How long a request takes while the director has half of the work it could have: HTTP, open loop.

nginx and its page are those of http.py.  bench/gen/latency.c asks for it over 64 kept-alive
connections, at fixed times: what a slow answer delays counts as slow too.

Everybody gets the same rate: half of the requests/s that plain forwarding carried when `keepalive`
was first measured in this run, or FIXED_RATE in a run that does not measure that.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from bench.build import LATENCY
from bench.figures.cell import Cell
from bench.figures.http import CONNECTIONS, PAGE, start_nginx
from bench.gate import check_stream
from bench.host import CpuTimes
from bench.peers.plain import Plain
from bench.plan import ANY_CPU, HTTP_PORT
from bench.results import Results

SHARE = 0.5  # of what plain forwarding carries
FIXED_RATE = 10_000.0  # requests/s, where that is not known
WAIT_SECONDS = 5.0  # for the last answers
PERCENTILES = ("p50", "p90", "p99", "p99.9")


@dataclass(frozen=True, slots=True)
class Latency:
    """What the generator reports."""

    asked: int
    unanswered: int  # of these; they count as having taken until the generator ended
    nanoseconds: dict[str, float]  # by percentile
    late: float  # p99 of how long after its time the generator came to a request, nanoseconds


def measure_latency(cell: Cell) -> dict[str, float]:
    """Ask at the run's rate, after a warm-up at the same."""
    rate = choose_rate(cell.results)
    cell.peer.start()
    check_stream(cell.lab, cell.peer, HTTP_PORT)
    start_nginx(cell.lab)
    times = CpuTimes.now()
    said = _ask(cell, rate)
    cell.lab.check()
    cell.add_row(
        "latency",
        "run",
        asked_pps=rate,
        sent=said.asked,
        received=said.asked - said.unanswered,
        seconds=cell.effort.tcp_seconds,
        errors=said.unanswered,
        steal=CpuTimes.now().steal_since(times),
    )
    for name, value in (*said.nanoseconds.items(), ("late", said.late)):
        cell.add_row("latency", name, value=value)
    _remark(cell.results, rate)
    return {f"latency-{name}": said.nanoseconds[name] for name in ("p50", "p99")}


def choose_rate(results: Results) -> float:
    """Return the requests/s of this run; the first round decides for all."""
    carried = results.of("keepalive", Plain.name)
    return carried[min(carried)] * SHARE if carried else FIXED_RATE


def _remark(results: Results, rate: float) -> None:
    known = bool(results.of("keepalive", Plain.name))
    origin = (
        "half of what `plain` carried in `keepalive`" if known else "`keepalive` of `plain` was not measured"
    )
    remark = f"`latency`: {rate:.0f} requests/s, the same for every peer: {origin}."
    if remark not in results.remarks:
        results.remarks.append(remark)


def _ask(cell: Cell, rate: float) -> Latency:
    seconds, warmup = cell.effort.tcp_seconds, cell.effort.tcp_warmup_seconds
    options = {
        "server": cell.peer.target,
        "port": HTTP_PORT,
        "connections": CONNECTIONS,
        "body": len(PAGE),
        "rate": f"{rate:.3f}",
        "warmup": warmup,
        "seconds": seconds,
        "wait": WAIT_SECONDS,
    }
    argv = [str(LATENCY), *(word for key, value in options.items() for word in (f"--{key}", str(value)))]
    timeout = warmup + seconds + WAIT_SECONDS + 30
    return parse_latency(cell.lab.client.run(argv, cpus=ANY_CPU, timeout=timeout))


def parse_latency(text: str) -> Latency:
    """Read the generator's line."""
    said = json.loads(text)
    percentiles = {name: float(said[name]) for name in PERCENTILES}
    return Latency(said["asked"], said["unanswered"], percentiles, float(said["late"]))
