# SPDX-License-Identifier: Apache-2.0
"""What one core carries when all is offered that the generator has: its speed, whatever a stall costs.

The no-loss rate is lower: 1000 packets, the kernel's backlog, are a millisecond of a million a second,
and a host that takes the core away for longer than that loses some at any rate.
"""

from __future__ import annotations

from statistics import median

from bench.figures.cell import Cell
from bench.figures.pps import primed_generator

OFFERED = 4_000_000.0  # packets a second: more than can be sent


def measure_saturated(cell: Cell) -> dict[str, float]:
    """Return the median of what arrives a second."""
    generator = primed_generator(cell, "saturated")
    seconds = cell.effort.limits.confirm_seconds
    trials = [generator.trial("blast", OFFERED, seconds) for _ in range(cell.effort.saturated_trials)]
    return {"saturated": median(trial.received / trial.seconds for trial in trials)}
