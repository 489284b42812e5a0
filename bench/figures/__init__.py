# SPDX-License-Identifier: Apache-2.0
"""What is measured, by its name on the command line.  A figure returns values by metric."""

from __future__ import annotations

from collections.abc import Callable

from bench.figures.bulk import measure_bulk
from bench.figures.cell import Cell
from bench.figures.http import measure_connections, measure_keepalive
from bench.figures.pps import measure_pps

FIGURES: dict[str, Callable[[Cell], dict[str, float]]] = {
    "pps": measure_pps,
    "cps": measure_connections,
    "keepalive": measure_keepalive,
    "bulk": measure_bulk,
}
