# SPDX-License-Identifier: Apache-2.0
"""No-loss packets per second of 100 000 flows: enough that neither table nor cache has them at hand.

As many as kernel NAT has room for: nf_conntrack_max belongs to the host, a network namespace cannot
raise it, and 262 144 is what the kernel chooses where memory abounds.  The million of flows.py is for
those whose tables are their own.
"""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

from bench.errors import BenchError
from bench.figures.cell import Cell
from bench.figures.pps import start_on_one_core
from bench.figures.udp import Crowd, Generator
from bench.peers.base import Peer
from bench.peers.fullnat import Fullnat
from bench.peers.plain import Plain
from bench.plan import Sources

FLOWS, CLIENTS = 100_000, 1_000
SPARE = 10_000  # connections of the gate, and of the host
FILL_SHARE, FILL_ATTEMPTS = 0.25, 4  # of the rate for open flows; a slower one each time
FILL_RATE = 40_000.0  # at most: a new flow costs several times what an open one does

_CONNTRACK_MAX = Path("/proc/sys/net/netfilter/nf_conntrack_max")


def measure_crowd(cell: Cell) -> dict[str, float]:
    """Open every flow, then search with frames in a shuffled order."""
    plan = cell.lab.plan
    clients = Sources(plan.crowd, str(ip_address(plan.crowd) + (CLIENTS - 1)))
    sink = start_on_one_core(cell, clients if plan.client in cell.peer.sources else None)
    crowd = Crowd(plan.crowd, CLIENTS, FLOWS)
    _open(cell, Generator(cell, sink, "pps-100k", crowd))
    return {"pps-100k": Generator(cell, sink, "pps-100k", crowd, shuffled=True).search(related="pps")}


def _open(cell: Cell, generator: Generator) -> None:
    """Return when one frame of each flow has arrived."""
    for attempt in range(1, FILL_ATTEMPTS + 1):
        pace = min((cell.last_found("pps") or FILL_RATE) * FILL_SHARE, FILL_RATE) / attempt
        trial = generator.fill(max(1.0, pace))
        if trial.received == trial.sent:
            return
    raise BenchError(
        f"{cell.peer.name}: {trial.sent - trial.received} of {trial.sent} frames lost while flows were opened"
    )


def obstacle(peer: type[Peer]) -> str | None:
    """Say why *peer* has no such figure: it carries no UDP, or conntrack has no room."""
    if "udp" not in peer.protocols:
        return "does not carry UDP"
    if issubclass(peer, Plain | Fullnat) or not _CONNTRACK_MAX.exists():
        return None
    room = int(_CONNTRACK_MAX.read_text(encoding="ascii"))
    if room >= FLOWS + SPARE:
        return None
    return f"has room for {room} connections only, the host's nf_conntrack_max"
