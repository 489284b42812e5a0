# SPDX-License-Identifier: Apache-2.0
"""What is measured, by its name on the command line, and of whom unless the command line says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.figures import flows, overload, picks
from bench.figures.bulk import measure_bulk
from bench.figures.cell import Cell
from bench.figures.http import measure_connections, measure_keepalive
from bench.figures.latency import measure_latency
from bench.figures.pps import measure_pps
from bench.figures.saturated import measure_saturated
from bench.peers.base import Peer

_FORWARDERS = ("plain", "iptables", "nft", "haproxy", "nginx", "python", "native", "ebpf")
_IN_THE_KERNEL = ("plain", "iptables", "nft", "ebpf")  # a loop in a process would get no time beside softirqs
_WITHOUT_PYTHON = tuple(name for name in _FORWARDERS if name != "python")  # it would not carry the load


@dataclass(frozen=True, slots=True)
class Figure:
    """How it is taken, what it yields, and who has it."""

    measure: Callable[[Cell], Mapping[str, float]]  # starts the peer; values by metric
    metrics: tuple[str, ...]
    peers: tuple[str, ...]  # by default
    obstacle: Callable[[type[Peer]], str | None]  # why a peer cannot have it, None when it can


def _carries(protocol: str) -> Callable[[type[Peer]], str | None]:
    def obstacle(peer: type[Peer]) -> str | None:
        return None if protocol in peer.protocols else f"does not carry {protocol.upper()}"

    return obstacle


_udp, _tcp = _carries("udp"), _carries("tcp")

FIGURES: dict[str, Figure] = {
    "pps": Figure(measure_pps, ("pps",), _FORWARDERS, _udp),
    "saturated": Figure(measure_saturated, ("saturated",), _IN_THE_KERNEL, _udp),
    "cps": Figure(measure_connections, ("cps",), _FORWARDERS, _tcp),
    "keepalive": Figure(measure_keepalive, ("keepalive",), _FORWARDERS, _tcp),
    "latency": Figure(measure_latency, ("latency-p50", "latency-p99"), _WITHOUT_PYTHON, _tcp),
    "bulk": Figure(measure_bulk, ("bulk-up", "bulk-down"), _FORWARDERS, _tcp),
    "flows": Figure(
        flows.measure_flows,
        ("pps-1k", "pps-1m", "memory", "kernel-memory"),
        ("native", "ebpf"),
        flows.obstacle,
    ),
    "overload": Figure(
        overload.measure_overload, ("napi-pps", "goodput", "overload"), ("native", "native-tuned"), _udp
    ),
    "picks": Figure(picks.measure_picks, ("pick",), ("python", "native"), picks.obstacle),
}
