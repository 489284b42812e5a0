# SPDX-License-Identifier: Apache-2.0
"""The schedulers: those of ipvsadm(8) and `random`, one a file.

A scheduler from a file or an installed package is found by control/schedulers.py, since that is I/O.

Bases.      base: what a scheduler is · ranked: the best by a rank · table: a hash looked up.
Structures. tournament: the least of changing keys · cumulative: a draw by changing weights.
"""

from __future__ import annotations

from fullnat.core.sched.base import Request, Scheduler
from fullnat.core.sched.dh import DestinationHashing
from fullnat.core.sched.fo import WeightedFailover
from fullnat.core.sched.lblc import LocalityLeastConnection
from fullnat.core.sched.lblcr import ReplicatedLocalityLeastConnection
from fullnat.core.sched.lc import LeastConnection
from fullnat.core.sched.mh import MaglevHashing
from fullnat.core.sched.nq import NeverQueue
from fullnat.core.sched.ovf import WeightedOverflow
from fullnat.core.sched.rr import RoundRobin
from fullnat.core.sched.sed import ShortestExpectedDelay
from fullnat.core.sched.sh import SourceHashing
from fullnat.core.sched.twos import PowerOfTwoChoices
from fullnat.core.sched.weighted_random import WeightedRandom
from fullnat.core.sched.wlc import WeightedLeastConnection
from fullnat.core.sched.wrr import WeightedRoundRobin

__all__ = ["BUILTIN", "Request", "Scheduler", "find_scheduler"]

_CLASSES: tuple[type[Scheduler], ...] = (
    RoundRobin,
    WeightedRoundRobin,
    LeastConnection,
    WeightedLeastConnection,
    LocalityLeastConnection,
    ReplicatedLocalityLeastConnection,
    DestinationHashing,
    SourceHashing,
    MaglevHashing,
    ShortestExpectedDelay,
    NeverQueue,
    WeightedFailover,
    WeightedOverflow,
    PowerOfTwoChoices,
    WeightedRandom,
)

BUILTIN: dict[str, type[Scheduler]] = {cls.name: cls for cls in _CLASSES}


def find_scheduler(name: str) -> type[Scheduler]:
    """Return the built-in scheduler of this *name*; ValueError lists the names there are."""
    try:
        return BUILTIN[name]
    except KeyError:
        raise ValueError(f"no built-in scheduler is named {name!r}; there are {', '.join(BUILTIN)}") from None
