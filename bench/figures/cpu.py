# SPDX-License-Identifier: Apache-2.0
"""CPU time a packet costs the director while it has time to spare: its core's, at one rate for everybody.

Theory.  All that the director does is on DIRECTOR_CPU, in softirqs and in the peer's program, so what that
core was not idle is what the packets cost.  Idle time is counted exactly, from the moment the core falls
asleep to the interrupt that wakes it; who used the rest is known only by sampling (at each tick, where
the kernel has no CONFIG_IRQ_TIME_ACCOUNTING), and is not asked for.

Rules.
  1. Time used = time passed - idle - iowait - stolen by the hypervisor.
  2. The share used without traffic is taken off: what the core does anyhow.
  3. With and without take turns, and the least of each counts: what else happens to run on the core can
     only add, and rarely does so every time.
  4. Divided by the frames that arrived, counted after the last; the window holds all work on them.
  5. Everybody gets the same rate: a core that is woken seldom finds more to do at once, and the cost
     of waking is a part of a packet's.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench.figures.cell import Cell
from bench.figures.pps import primed_generator
from bench.figures.udp import Generator, Sink
from bench.host import CoreTimes
from bench.plan import DIRECTOR_CPU
from bench.results import Results

SHARE = 0.5  # of what the slowest carries without loss
FIXED_RATE = 20_000.0  # packets/s, where that is not known
WINDOWS = 3  # with traffic, and as many without


def measure_cpu(cell: Cell) -> dict[str, float]:
    """Return CPU seconds a million packets."""
    rate = choose_rate(cell.results)
    generator = primed_generator(cell, "cpu")
    loads = []
    for _ in range(WINDOWS):
        cell.add_row("cpu", "idle", value=(share := _idle_share(generator.sink, cell.effort.cpu_seconds)))
        loads.append(Load(share, *_work(cell, generator, rate)))
    _remark(cell.results, rate)
    return {"cpu": cost(loads)}


@dataclass(frozen=True, slots=True)
class Load:
    """The director's core without and with traffic."""

    idle_share: float  # used without
    passed: float  # seconds with
    used: float  # of these
    packets: int


def cost(loads: Sequence[Load]) -> float:
    """Return CPU seconds a million packets."""
    idle = min(load.idle_share for load in loads)
    return min((load.used - idle * load.passed) / max(1, load.packets) for load in loads) * 1e6


def _work(cell: Cell, generator: Generator, rate: float) -> tuple[float, float, int]:
    """Offer *rate*; return the seconds that passed, those used of them, and the packets that arrived."""
    before = CoreTimes.now(DIRECTOR_CPU)
    trial = generator.trial("run", rate, cell.effort.cpu_seconds)
    passed, used = CoreTimes.now(DIRECTOR_CPU).since(before)
    cell.lab.check()
    if trial.loss > cell.effort.limits.tolerance:
        cell.results.remark(f"`cpu`, `{cell.peer.name}`, round {cell.round + 1}: {trial.loss:.1%} were lost.")
    return passed, used, trial.received


def _idle_share(sink: Sink, seconds: float) -> float:
    """Return the share of the director's core used without traffic, while the sink is read as in a trial."""
    before = CoreTimes.now(DIRECTOR_CPU)
    sink.count()
    time.sleep(seconds)
    sink.drain()
    passed, used = CoreTimes.now(DIRECTOR_CPU).since(before)
    return used / passed


def choose_rate(results: Results) -> float:
    """Return the packets/s of this run; the first round decides for all."""
    rates = [by_round[min(by_round)] for by_round in results.values.get("pps", {}).values()]
    carried = [rate for rate in rates if rate]
    return min(carried) * SHARE if carried else FIXED_RATE


def _remark(results: Results, rate: float) -> None:
    known = "pps" in results.values
    origin = "half of the lowest `pps` of the first round" if known else "`pps` was not measured"
    results.remark(f"`cpu`: {rate:.0f} packets/s, the same for every peer: {origin}.")
