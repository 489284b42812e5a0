# SPDX-License-Identifier: Apache-2.0
"""How the cost of a new flow grows with the number of servers: bench/picks.py, for this peer's engine."""

from __future__ import annotations

from bench.figures.cell import Cell
from bench.peers.base import Peer
from bench.peers.fullnat import Fullnat
from bench.picks import SIZES, TIMERS, growth


def measure_picks(cell: Cell) -> dict[str, float]:
    """Return the growth of the scheduler that grows most.  The peer need not run for this."""
    assert isinstance(cell.peer, Fullnat)  # see obstacle()
    costs = TIMERS[cell.peer.datapath]()
    for scheduler, by_size in costs.items():
        for size in SIZES:
            cell.add_row("pick", f"{scheduler} {size}", value=by_size[size])
    return {"pick": max(growth(by_size) for by_size in costs.values())}


def obstacle(peer: type[Peer]) -> str | None:
    """Say why *peer* has no such figure: its director must be callable from here."""
    if not issubclass(peer, Fullnat):
        return "is no engine of fullnat"
    return None if peer.datapath in TIMERS else f"engine {peer.datapath} has no picks to time"
