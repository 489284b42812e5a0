# SPDX-License-Identifier: Apache-2.0
"""Whether health checks disturb packets: the low load of `latency`, without checks and beside many.

One instance, asked twice for as long at the same rate, once with CHECKS servers more that are asked for
a page every second and once without them; which comes first changes by round.  From one to the other it
is a reload, and all that are checked have to be found up before the clock starts.

The checks end at the nginx that answers the requests, and take time of the same cores as everything
else: what is seen is the loop that checks and what it asks for, together.
"""

from __future__ import annotations

from bench.errors import BenchError
from bench.figures.cell import Cell
from bench.figures.http import start_nginx
from bench.figures.latency import SHARES, ask_at, choose_carried
from bench.gate import check_stream
from bench.peers.fullnat import Fullnat
from bench.plan import HTTP_PORT
from bench.waiting import wait_until

CHECKS = 300  # a second
READY_SECONDS = 10.0
LOADS = {"unchecked": 0, "checked": CHECKS}
PERCENTILES = ("p50", "p99")


def measure_checked(cell: Cell) -> dict[str, float]:
    """Return median and p99 of both."""
    peer = cell.peer
    assert isinstance(peer, Fullnat)  # see peers/fullnat.py, obstacle()
    rate = choose_carried(cell.results) * SHARES["latency-low"]
    peer.start()
    check_stream(cell.lab, peer, HTTP_PORT)
    start_nginx(cell.lab)
    found: dict[str, float] = {}
    for load in sorted(LOADS, reverse=bool(cell.round % 2)):
        _have_checks(peer, LOADS[load])
        said = ask_at(cell, load, rate)
        if said.unanswered:
            raise BenchError(
                f"{peer.name}, {load}: {said.unanswered} of {said.asked} requests without answer"
            )
        found |= {f"{load}-{name}": said.nanoseconds[name] for name in PERCENTILES}
    cell.results.remark(f"`checked`: {CHECKS} HTTP checks a second beside {rate:.0f} requests/s.")
    return found


def _have_checks(peer: Fullnat, number: int) -> None:
    """Have so many servers checked every second; return when each was asked twice and is up."""
    peer.check_servers(number)

    def are_up() -> bool:
        checked = [row for row in peer.ask("show", "servers") if row["check"]]
        up = [row for row in checked if row["health"] == "up" and row["check"]["checks"] > 1]
        return len(up) == len(checked) == number

    wait_until(are_up, READY_SECONDS, f"{number} servers being up")
