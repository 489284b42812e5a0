# SPDX-License-Identifier: Apache-2.0
"""How long a run takes its measurements: the full run and `--quick`."""

from __future__ import annotations

from dataclasses import dataclass

from bench.search import Limits


@dataclass(frozen=True, slots=True)
class Effort:
    """Rounds, and seconds of each trial."""

    rounds: int
    limits: Limits
    tcp_seconds: int  # wrk and iperf3 take whole seconds
    tcp_warmup_seconds: int
    overload_seconds: float  # measured, once the overload is steady
    cpu_seconds: float  # with traffic, and as long without, several times
    saturated_trials: int


FULL = Effort(
    rounds=5,
    limits=Limits(resolution=0.02, trial_seconds=1.0, confirm_seconds=4.0),
    tcp_seconds=5,
    tcp_warmup_seconds=1,
    overload_seconds=4.0,
    cpu_seconds=2.0,
    saturated_trials=5,
)
QUICK = Effort(
    rounds=1,
    limits=Limits(resolution=0.15, trial_seconds=0.2, confirm_seconds=0.6, attempts=2),
    tcp_seconds=1,
    tcp_warmup_seconds=1,
    overload_seconds=1.0,
    cpu_seconds=0.8,
    saturated_trials=1,
)
