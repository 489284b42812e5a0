# SPDX-License-Identifier: Apache-2.0
"""What a million flows in the table cost: packets per second, and memory.

One instance with room for them all, in this order: the no-loss rate over 1000 flows; the table is
filled, each flow once, until the instance itself counts every one; its memory; the no-loss rate over
all of them.  The frames of the second search come in a shuffled order, another one in each trial:
neither the order of opening nor a small part of the flows may stay in the caches.

Memory is what is resident beyond what an idle instance with room for 1000 flows has.  Whatever an
engine sets aside for a million flows when it starts is thereby theirs.
"""

from __future__ import annotations

from bench.errors import BenchError
from bench.figures.cell import Cell
from bench.figures.udp import Crowd, Generator, Sink
from bench.gate import check_datagrams
from bench.peers.base import Peer
from bench.peers.fullnat import Fullnat
from bench.plan import UDP_PORT

FEW, MANY = 1_000, 1_000_000
CLIENTS = 1_000
SPARE = 10_000  # room for the gate's flows
FILL_SHARE, FILL_ATTEMPTS = 0.25, 4  # of the rate for open flows; a slower one each time


def measure_flows(cell: Cell) -> dict[str, float]:
    """Search with few flows, fill, weigh, search with many."""
    peer, plan = cell.peer, cell.lab.plan
    assert isinstance(peer, Fullnat)  # see obstacle()
    cell.lab.confine_director()
    idle_bytes = _idle_bytes(peer)
    peer.flows_limit = MANY + SPARE
    peer.start()
    check_datagrams(cell.lab, peer, UDP_PORT)
    sink, strangers = Sink(cell.lab, peer), peer.count_flows()

    few = Generator(cell, sink, "pps-1k", Crowd(plan.crowd, CLIENTS, FEW))
    few.prime()
    rate = few.search()

    _fill(Generator(cell, sink, "pps-1m", Crowd(plan.crowd, CLIENTS, MANY)), peer, rate, strangers)
    memory = (peer.resident_bytes() - idle_bytes) / MANY
    cell.add_row("memory", "run", value=memory)
    many = Generator(cell, sink, "pps-1m", Crowd(plan.crowd, CLIENTS, MANY), shuffled=True)
    found = {"pps-1k": rate, "pps-1m": many.search(), "memory": memory}
    _expect_flows(peer, MANY + strangers)
    return found


def obstacle(peer: type[Peer]) -> str | None:
    """Say why *peer* has no such figure: its flows must be countable."""
    return None if issubclass(peer, Fullnat) else "is no instance of fullnat that can be asked"


def _idle_bytes(peer: Fullnat) -> int:
    peer.flows_limit = FEW
    peer.start()
    found = peer.resident_bytes()
    peer.stop()
    return found


def _fill(generator: Generator, peer: Fullnat, rate: float, strangers: int) -> None:
    """Return when the table has every flow.  What got lost is offered again: an open flow stays one."""
    for attempt in range(1, FILL_ATTEMPTS + 1):
        pace = max(1.0, rate * FILL_SHARE / attempt)
        generator.fill(pace)
        if peer.count_flows() == MANY + strangers:
            return
    _expect_flows(peer, MANY + strangers)


def _expect_flows(peer: Fullnat, wanted: int) -> None:
    if (found := peer.count_flows()) != wanted:
        raise BenchError(f"{peer.name}: {found} flows in the table instead of {wanted}")
