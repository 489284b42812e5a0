# SPDX-License-Identifier: Apache-2.0
"""What is measured: name, unit, how it is written; and what must be reached."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Metric:
    """One column of results."""

    name: str
    title: str
    unit: str
    divisor: float  # raw values divided by this are in *unit*
    digits: int

    def text(self, value: float) -> str:
        """Return *value* as the report writes it, without the unit."""
        return f"{value / self.divisor:.{self.digits}f}"

    def labelled(self, value: float) -> str:
        """Return *value* with its unit."""
        return f"{self.text(value)} {self.unit}"


METRICS = {
    metric.name: metric
    for metric in (
        Metric("pps", "No-loss small packets", "kpps", 1e3, 1),
        Metric("cps", "HTTP, a connection a request", "connections/s", 1, 0),
        Metric("keepalive", "HTTP, kept-alive connections", "requests/s", 1, 0),
        Metric("bulk-up", "One TCP stream, client to server", "Gbit/s", 1e9, 2),
        Metric("bulk-down", "One TCP stream, server to client", "Gbit/s", 1e9, 2),
    )
}


@dataclass(frozen=True, slots=True)
class Target:
    """The least a peer must reach of a baseline: judged by the median ratio."""

    metric: str
    peer: str
    baseline: str
    ratio: float


TARGETS = (Target("pps", "python", "iptables", 0.08),)
