# SPDX-License-Identifier: Apache-2.0
"""What a million flows in the table cost: packets per second, and memory.

One instance with room for them all, in this order: the no-loss rate over 1000 flows; the table is
filled, each flow once, until the instance itself counts every one; its memory; the no-loss rate over
all of them.  The frames of the second search come in a shuffled order, another one in each trial:
neither the order of opening nor a small part of the flows may stay in the caches.

Memory is what there is beyond what an idle instance with room for 1000 flows has.  Whatever an engine
sets aside for a million flows when it starts is thereby theirs.  There are two of it: what is resident
in the process, and the kernel's, where flows lie there; what both have in common is in both.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.errors import BenchError
from bench.figures.cell import Cell
from bench.figures.udp import Crowd, Generator, Sink
from bench.gate import check_datagrams
from bench.peers.fullnat import Fullnat
from bench.plan import UDP_PORT

FEW, MANY = 1_000, 1_000_000
CLIENTS = 1_000
SPARE = 10_000  # room for the gate's flows
FILL_SHARE, FILL_ATTEMPTS = 0.25, 4  # of the rate for open flows; a slower one each time
FILL_RATE = 50_000.0  # at most: an engine that leaves open flows to the kernel opens them itself


def measure_flows(cell: Cell) -> dict[str, float]:
    """Search with few flows, fill, weigh, search with many."""
    peer, plan = cell.peer, cell.lab.plan
    assert isinstance(peer, Fullnat)  # see peers/fullnat.py, obstacle()
    cell.lab.confine_director()
    idle = _weigh_idle(peer)
    peer.flows_limit = MANY + SPARE
    peer.start()
    check_datagrams(cell.lab, peer, UDP_PORT)
    sink, strangers = Sink(cell.lab, peer), peer.count_flows()

    few = Generator(cell, sink, "pps-1k", Crowd(plan.crowd, CLIENTS, FEW))
    few.prime()
    rate = few.search()

    _fill(Generator(cell, sink, "pps-1m", Crowd(plan.crowd, CLIENTS, MANY)), peer, rate, strangers)
    memory = _weigh(peer).per_flow(idle)
    for metric, value in memory.items():
        cell.add_row(metric, "run", value=value)
    many = Generator(cell, sink, "pps-1m", Crowd(plan.crowd, CLIENTS, MANY), shuffled=True)
    found = {"pps-1k": rate, "pps-1m": many.search(), **memory}
    _expect_flows(peer, MANY + strangers)
    return found


@dataclass(frozen=True, slots=True)
class Weight:
    """The bytes of an instance."""

    resident: int
    kernel: int | None  # None: it has none there

    def per_flow(self, idle: Weight) -> dict[str, float]:
        """Return by metric what each of MANY flows takes."""
        found = {"memory": (self.resident - idle.resident) / MANY}
        if self.kernel is not None and idle.kernel is not None:
            found["kernel-memory"] = (self.kernel - idle.kernel) / MANY
        return found


def _weigh(peer: Fullnat) -> Weight:
    return Weight(peer.resident_bytes(), peer.kernel_bytes())


def _weigh_idle(peer: Fullnat) -> Weight:
    peer.flows_limit = FEW
    peer.start()
    found = _weigh(peer)
    peer.stop()
    return found


def _fill(generator: Generator, peer: Fullnat, rate: float, strangers: int) -> None:
    """Return when the table has every flow.  What got lost is offered again: an open flow stays one."""
    for attempt in range(1, FILL_ATTEMPTS + 1):
        pace = max(1.0, min(rate * FILL_SHARE, FILL_RATE) / attempt)
        generator.fill(pace)
        if peer.count_flows() == MANY + strangers:
            return
    _expect_flows(peer, MANY + strangers)


def _expect_flows(peer: Fullnat, wanted: int) -> None:
    if (found := peer.count_flows()) != wanted:
        raise BenchError(f"{peer.name}: {found} flows in the table instead of {wanted}")
