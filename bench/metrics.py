# SPDX-License-Identifier: Apache-2.0
"""What is measured: name, unit, how it is written; and what must be reached."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Metric:
    """One column of results."""

    name: str
    title: str
    unit: str
    divisor: float  # raw values divided by this are in *unit*
    digits: int
    lower_is_better: bool = False

    def text(self, value: float) -> str:
        """Return *value* as the report writes it, without the unit."""
        return f"{value / self.divisor:.{self.digits}f}"

    def labelled(self, value: float) -> str:
        """Return *value* with its unit."""
        return f"{self.text(value)} {self.unit}"

    def is_behind(self, ratio: float) -> bool:
        """Return whether *ratio* times the other's value is worse than the other's."""
        return ratio > 1 if self.lower_is_better else ratio < 1


_PERCENTILES = {"p50": "median", "p90": "90 %", "p99": "99 %", "p99.9": "99.9 %"}


def _percentiles(load: str, words: str, names: Iterable[str] = _PERCENTILES) -> tuple[Metric, ...]:
    return tuple(
        Metric(f"{load}-{name}", f"{words}, {_PERCENTILES[name]}", "µs", 1e3, 1, lower_is_better=True)
        for name in names
    )


METRICS = {
    metric.name: metric
    for metric in (
        Metric("pps", "No-loss packets, frames of 64 bytes", "kpps", 1e3, 1),
        Metric("pps-512", "No-loss packets, frames of 512 bytes", "kpps", 1e3, 1),
        Metric("pps-1518", "No-loss packets, frames of 1518 bytes", "kpps", 1e3, 1),
        Metric("pps-100k", "No-loss small packets of 100 000 flows", "kpps", 1e3, 1),
        Metric("saturated", "Small packets carried of all the generator can send", "kpps", 1e3, 1),
        Metric("cps", "HTTP, a connection a request", "connections/s", 1, 0),
        Metric("keepalive", "HTTP, kept-alive connections", "requests/s", 1, 0),
        *_percentiles("latency-low", "Request latency at a fifth of what plain forwarding carries"),
        *_percentiles("latency", "Request latency at half of what plain forwarding carries"),
        *_percentiles("unchecked", "Request latency without health checks", ("p50", "p99")),
        *_percentiles("checked", "Request latency beside 300 health checks a second", ("p50", "p99")),
        Metric("bulk-up", "One TCP stream, client to server", "Gbit/s", 1e9, 2),
        Metric("bulk-down", "One TCP stream, server to client", "Gbit/s", 1e9, 2),
        Metric("bulk-up-8", "Eight TCP streams, client to server", "Gbit/s", 1e9, 2),
        Metric("bulk-down-8", "Eight TCP streams, server to client", "Gbit/s", 1e9, 2),
        Metric("cpu", "CPU time of the director at a fixed rate", "s/million packets", 1, 3, True),
        Metric("pps-1k", "No-loss small packets, 1 000 flows in the table", "kpps", 1e3, 1),
        Metric("pps-1m", "No-loss small packets, 1 000 000 flows in the table", "kpps", 1e3, 1),
        Metric("memory", "Memory a flow, at 1 000 000 flows", "bytes", 1, 0, True),
        Metric("kernel-memory", "Kernel memory a flow, at 1 000 000 flows", "bytes", 1, 0, True),
        Metric("napi-pps", "No-loss small packets, devices with NAPI", "kpps", 1e3, 1),
        Metric("goodput", "Small packets that arrive of three times that rate", "kpps", 1e3, 1),
        Metric("overload", "Goodput at three times the no-loss rate", "of that rate", 1, 3),
        Metric("pick", "A new flow at 1000 servers, the worst scheduler", "times that at 10", 1, 2, True),
    )
}

# What the summary and the main plot show, in this order, in fewer words.
HEADLINES = {
    "pps": "No-loss small packets",
    "saturated": "Small packets, saturated",
    "pps-100k": "No-loss, 100 000 flows",
    "cps": "HTTP, new connections",
    "keepalive": "HTTP, kept alive",
    "latency-low-p99": "Request latency, 99 %",
    "bulk-up": "TCP stream, to server",
    "bulk-down": "TCP stream, to client",
    "cpu": "CPU time a packet",
}


@dataclass(frozen=True, slots=True)
class Quantity:
    """One peer's value of one metric."""

    metric: str
    peer: str


@dataclass(frozen=True, slots=True)
class Target:
    """What must be reached, in the metric's unit or as a ratio to another quantity: judged by the median."""

    quantity: Quantity
    bound: float
    against: Quantity | None = None  # divided by it inside each round
    at_most: bool = False  # otherwise at least

    def is_met_by(self, value: float) -> bool:
        """Return whether *value* is good enough."""
        return value <= self.bound if self.at_most else value >= self.bound


def _ratio(metric: str, peer: str, baseline: str, bound: float) -> Target:
    return Target(Quantity(metric, peer), bound, Quantity(metric, baseline))


TARGETS = (
    _ratio("pps", "python", "iptables", 0.08),
    _ratio("pps", "native", "iptables", 0.42),
    _ratio("pps", "native", "python", 4),
    _ratio("bulk-up", "native", "plain", 0.85),
    _ratio("bulk-down", "native", "plain", 0.85),
    _ratio("cps", "native", "iptables", 1.0),
    _ratio("cps", "native", "haproxy", 1.2),
    _ratio("keepalive", "native", "haproxy", 1.0),
    Target(Quantity("memory", "native"), 256, at_most=True),
    Target(Quantity("pps-1m", "native"), 0.7, Quantity("pps-1k", "native")),
    Target(Quantity("pick", "native"), 3, at_most=True),
    Target(Quantity("overload", "native-tuned"), 0.8),
    _ratio("pps", "ebpf", "iptables", 1.6),
    _ratio("pps", "ebpf", "plain", 1.1),
    _ratio("cps", "ebpf", "iptables", 1.1),
    _ratio("cps", "ebpf", "haproxy", 1.3),
    _ratio("keepalive", "ebpf", "iptables", 1.0),
    _ratio("keepalive", "ebpf", "haproxy", 1.5),
    _ratio("cps", "ebpf", "ipvs", 1.0),
    _ratio("cps", "ebpf", "ipvs-masq", 1.2),
    _ratio("keepalive", "ebpf", "ipvs", 1.2),
    _ratio("keepalive", "ebpf", "ipvs-masq", 1.3),
    _ratio("bulk-up", "ebpf", "plain", 0.98),
    _ratio("bulk-down", "ebpf", "plain", 0.98),
    Target(Quantity("latency-p99", "ebpf"), 1.1, Quantity("latency-p99", "plain"), at_most=True),
    Target(Quantity("checked-p50", "ebpf"), 1.1, Quantity("unchecked-p50", "ebpf"), at_most=True),
    Target(Quantity("checked-p99", "ebpf"), 1.1, Quantity("unchecked-p99", "ebpf"), at_most=True),
    Target(Quantity("pps-1m", "ebpf"), 0.7, Quantity("pps-1k", "ebpf")),
    Target(Quantity("kernel-memory", "ebpf"), 320, at_most=True),
)
