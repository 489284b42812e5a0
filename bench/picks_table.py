# SPDX-License-Identifier: Apache-2.0
"""What the figure `pick` is made of, as the report shows it: picks a second by scheduler and servers."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from bench.markdown import table
from bench.results import OUTCOME, Results
from bench.subjects import Subject

Nanoseconds = dict[str, dict[str, dict[int, list[float]]]]  # by peer, scheduler and number of servers


def collect_picks(results: Results) -> Nanoseconds:
    """Return the values of all rounds."""
    found: Nanoseconds = {}
    for row in results.rows:
        if row.metric == "pick" and row.step != OUTCOME and row.value is not None:
            scheduler, servers = row.step.split()
            by_servers = found.setdefault(row.peer, {}).setdefault(scheduler, {})
            by_servers.setdefault(int(servers), []).append(row.value)
    return found


def tabulate_picks(results: Results, subjects: Sequence[Subject]) -> list[str]:
    """Return the table, thousands a second by the median of the rounds; no line when there is none."""
    found = collect_picks(results)
    peers = [s.name for s in subjects if s.name in found]
    if not peers:
        return []
    columns = [(peer, servers) for peer in peers for servers in _sizes(found, peer)]
    schedulers = list(dict.fromkeys(scheduler for peer in peers for scheduler in found[peer]))
    rows = [
        [f"`{scheduler}`", *(_thousands(found[peer].get(scheduler, {}).get(size)) for peer, size in columns)]
        for scheduler in schedulers
    ]
    return [
        "## Picks a second by scheduler and number of servers",
        "",
        "Thousands. `native`: picking a server and counting the flow; `python`: all that a new flow needs.",
        "",
        *table(["scheduler", *(f"`{peer}`, {size}" for peer, size in columns)], rows),
        "",
    ]


def _sizes(found: Nanoseconds, peer: str) -> list[int]:
    return sorted({size for by_servers in found[peer].values() for size in by_servers})


def _thousands(nanoseconds: Sequence[float] | None) -> str:
    return f"{1e6 / median(nanoseconds):.0f}" if nanoseconds else "-"
