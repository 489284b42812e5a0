# SPDX-License-Identifier: Apache-2.0
"""No-loss packets per second by size of frame: those of RFC 2544 section 9.1 beside the smallest.

Sizes are those on an Ethernet, with the check sequence of 4 bytes that veth does not carry.  That of 64
bytes is the figure `pps`.
"""

from __future__ import annotations

from bench.figures.cell import Cell
from bench.figures.pps import FLOWS, start_on_one_core
from bench.figures.udp import Crowd, Generator

SIZES = {"pps-512": 512, "pps-1518": 1518}  # by metric
CHECK_SEQUENCE = 4


def measure_sizes(cell: Cell) -> dict[str, float]:
    """Search with each size over the same flows, one after the other."""
    sink, crowd = start_on_one_core(cell), Crowd(cell.lab.plan.client, 1, FLOWS)
    generators = {
        metric: Generator(cell, sink, metric, crowd, frame_bytes=size - CHECK_SEQUENCE)
        for metric, size in SIZES.items()
    }
    next(iter(generators.values())).prime()  # the flows are the same for all
    return {metric: generator.search(related="pps") for metric, generator in generators.items()}
