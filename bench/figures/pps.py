# SPDX-License-Identifier: Apache-2.0
"""No-loss packets per second of one core: the smallest UDP frames of 1000 flows, one direction."""

from __future__ import annotations

from bench.figures.cell import Cell
from bench.figures.udp import Crowd, Generator, Sink
from bench.gate import check_datagrams
from bench.plan import UDP_PORT, Sources

FLOWS = 1000


def measure_pps(cell: Cell) -> dict[str, float]:
    """Search the highest rate the peer carries whole."""
    return {"pps": primed_generator(cell, "pps").search()}


def primed_generator(cell: Cell, metric: str) -> Generator:
    """Start the peer on one core, and return a generator whose flows it has, for trials of *metric*."""
    generator = Generator(cell, start_on_one_core(cell), metric, Crowd(cell.lab.plan.client, 1, FLOWS))
    generator.prime()
    return generator


def start_on_one_core(cell: Cell, sources: Sources | None = None) -> Sink:
    """Start the peer, have it pass the gate, and return a sink for frames from *sources*."""
    cell.lab.confine_director()
    cell.peer.start()
    check_datagrams(cell.lab, cell.peer, UDP_PORT)
    return Sink(cell.lab, cell.peer, sources)
