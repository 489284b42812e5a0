# SPDX-License-Identifier: Apache-2.0
"""What is measured, by its name on the command line, and of whom unless the command line says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.figures import checked, crowd, flows, overload, picks
from bench.figures.bulk import TRANSFERS, measure_bulk
from bench.figures.cell import Cell
from bench.figures.cpu import measure_cpu
from bench.figures.http import measure_connections, measure_keepalive
from bench.figures.latency import PERCENTILES, SHARES, measure_latency
from bench.figures.pps import measure_pps
from bench.figures.saturated import measure_saturated
from bench.figures.sizes import SIZES, measure_sizes
from bench.peers import fullnat
from bench.peers.base import Peer

_KERNELS = ("plain", "iptables", "nft", "ipvs", "ipvs-masq")
_FORWARDERS = (*_KERNELS, "haproxy", "nginx", "python", "native", "ebpf")
_IN_THE_KERNEL = (*_KERNELS, "ebpf")  # a loop in a process would get no time beside softirqs
_WITHOUT_PYTHON = tuple(name for name in _FORWARDERS if name != "python")  # it would not carry the load
# In a quick run one of a kind stands for its like, and where a turn is long only whom the figure is about.
_LIKE_OTHERS = frozenset({"nft", "ipvs-masq", "nginx", "python"})
_OUTLINE = ("plain", "iptables", "ebpf")


@dataclass(frozen=True, slots=True)
class Figure:
    """How it is taken, what it yields, and who has it."""

    measure: Callable[[Cell], Mapping[str, float]]  # starts the peer; values by metric
    metrics: tuple[str, ...]
    peers: tuple[str, ...]  # by default
    obstacle: Callable[[type[Peer]], str | None]  # why a peer cannot have it, None when it can
    seconds: float  # a turn takes about so long in a full run; says no more than what time is left
    outline: tuple[str, ...] = ()  # those of a quick run; without any: of each kind one

    @property
    def quick_peers(self) -> tuple[str, ...]:
        """Those of a quick run."""
        return self.outline or tuple(name for name in self.peers if name not in _LIKE_OTHERS)


def _carries(protocol: str) -> Callable[[type[Peer]], str | None]:
    def obstacle(peer: type[Peer]) -> str | None:
        return None if protocol in peer.protocols else f"does not carry {protocol.upper()}"

    return obstacle


_udp, _tcp = _carries("udp"), _carries("tcp")

FIGURES: dict[str, Figure] = {
    "pps": Figure(measure_pps, ("pps",), _FORWARDERS, _udp, 20),
    "sizes": Figure(measure_sizes, tuple(SIZES), _WITHOUT_PYTHON, _udp, 40, _OUTLINE),
    "crowd": Figure(crowd.measure_crowd, ("pps-100k",), _WITHOUT_PYTHON, crowd.obstacle, 30, _OUTLINE),
    "saturated": Figure(measure_saturated, ("saturated",), _IN_THE_KERNEL, _udp, 25),
    "cpu": Figure(measure_cpu, ("cpu",), _FORWARDERS, _udp, 12),
    "cps": Figure(measure_connections, ("cps",), _FORWARDERS, _tcp, 9),
    "keepalive": Figure(measure_keepalive, ("keepalive",), _FORWARDERS, _tcp, 9),
    "latency": Figure(
        measure_latency,
        tuple(f"{load}-{name}" for load in SHARES for name in PERCENTILES),
        _WITHOUT_PYTHON,
        _tcp,
        18,
    ),
    "checked": Figure(
        checked.measure_checked,
        tuple(f"{load}-{name}" for load in checked.LOADS for name in checked.PERCENTILES),
        ("native", "ebpf"),
        fullnat.obstacle,
        25,
        ("ebpf",),
    ),
    "bulk": Figure(measure_bulk, tuple(TRANSFERS), _FORWARDERS, _tcp, 28),
    "flows": Figure(
        flows.measure_flows,
        ("pps-1k", "pps-1m", "memory", "kernel-memory"),
        ("native", "ebpf"),
        fullnat.obstacle,
        90,
        ("ebpf",),
    ),
    "overload": Figure(
        overload.measure_overload, ("napi-pps", "goodput", "overload"), ("native", "native-tuned"), _udp, 30
    ),
    "picks": Figure(picks.measure_picks, ("pick",), ("python", "native"), picks.obstacle, 8),
}
