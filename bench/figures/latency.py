# SPDX-License-Identifier: Apache-2.0
"""How long a request takes while the director has less work than it could have: HTTP, open loop.

nginx and its page are those of http.py.  bench/gen/latency.c asks for it over 64 kept-alive
connections, at fixed times: what a slow answer delays counts as slow too.

Everybody gets the same two rates: a fifth and half of the requests/s that plain forwarding carried when
`keepalive` was first measured in this run, or of FIXED_CARRIED in a run that does not measure that.  Half
is more than some carry; then what is left to see is their queue.
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

SHARES = {"latency-low": 0.2, "latency": 0.5}  # by load: of what plain forwarding carries
FIXED_CARRIED = 20_000.0  # requests/s, where that is not known
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
    """Ask at each of the run's rates, the low one first, after a warm-up at the same."""
    carried = choose_carried(cell.results)
    cell.peer.start()
    check_stream(cell.lab, cell.peer, HTTP_PORT)
    start_nginx(cell.lab)
    _remark(cell.results, carried)
    found: dict[str, float] = {}
    for load, share in SHARES.items():
        said = ask_at(cell, load, carried * share)
        found |= {f"{load}-{name}": value for name, value in said.nanoseconds.items()}
    return found


def ask_at(cell: Cell, load: str, rate: float) -> Latency:
    """Ask for so many pages a second, and keep what came of it as *load*."""
    times = CpuTimes.now()
    said = _ask(cell, rate)
    cell.lab.check()
    cell.add_row(
        load,
        "run",
        asked_pps=rate,
        sent=said.asked,
        received=said.asked - said.unanswered,
        seconds=cell.effort.tcp_seconds,
        errors=said.unanswered,
        steal=CpuTimes.now().steal_since(times),
    )
    cell.add_row(load, "late", value=said.late)
    return said


def choose_carried(results: Results) -> float:
    """Return the requests/s that the loads are shares of; the first round decides for all."""
    carried = results.of("keepalive", Plain.name)
    return carried[min(carried)] if carried else FIXED_CARRIED


def _remark(results: Results, carried: float) -> None:
    known = bool(results.of("keepalive", Plain.name))
    origin = "carried in `keepalive`" if known else "would carry: `keepalive` of `plain` was not measured"
    for load, share in SHARES.items():
        results.remark(
            f"`{load}`: {carried * share:.0f} requests/s, the same for every peer:"
            f" {share:g} of the {carried:.0f} that `plain` {origin}."
        )


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
