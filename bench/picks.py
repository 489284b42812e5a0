# SPDX-License-Identifier: Apache-2.0
"""What a new flow costs among 10, 100 and 1000 servers, by scheduler: python -m bench.picks [ENGINE]

Engine `native`: a program in C times the pick alone, with the counting of the flow (gen/picks.c).
Engine `python`: the time its director takes for the first datagram of a flow is that of the pick and
of what every new flow needs besides; only the pick may grow with the number of servers.

Rules.
  1. The sizes take turns, a sample each; what is compared are the medians of their samples.
  2. Before the first sample each server has had flows: what is built on demand is there.
  3. Python's garbage collector does not run during a sample.
  4. Every datagram must have opened a flow, or nothing is said.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Address
from itertools import count, islice
from statistics import median
from typing import Any, Protocol

from bench.build import PICKS, build_programs
from bench.errors import BenchError
from bench.namespace import run
from bench.stats import rotated
from fullnat.core.addr import UDP, Endpoint, PortRange
from fullnat.core.director import Director
from fullnat.core.flow import FlowTable
from fullnat.core.fragment import FragmentTable
from fullnat.core.lport import LocalPortPool
from fullnat.core.packet import PacketView, parse
from fullnat.core.persist import PersistenceTable
from fullnat.core.sched import BUILTIN, find_scheduler
from fullnat.core.service import RealServer, VirtualService
from fullnat.core.timeouts import PROFILES, SECOND

SIZES = (10, 100, 1000)
FEW, MANY = SIZES[0], SIZES[-1]
ROUNDS = 5
SAMPLE = 1000  # flows
WARM_UP = 3 * MANY

VIP = Endpoint(IPv4Address("203.0.113.10"), 53)
LIPS = [IPv4Address("198.19.255.1") + number for number in range(8)]
PORTS = PortRange(1024, 32767)
FLOW_LIMIT = 1_000_000  # more than are opened
_CLIENTS = int(IPv4Address("198.18.0.0"))
_FLOWS_A_CLIENT = 16
_UDP = b"\0\x35" + (8 + 18).to_bytes(2, "big") + b"\0\0" + b"x" * 18  # of a frame of 60 bytes


class Opener(Protocol):
    """An engine's director with one UDP service, VIP, that has FLOW_LIMIT, LIPs and PORTS to spend."""

    @property
    def decide(self) -> Callable[[Any, int], object]:
        """What takes a prepared packet and the time, and decides; this is timed."""

    def prepare(self, packet: bytes) -> Any:
        """Return *packet* as decide takes it."""

    def count_flows(self) -> int:
        """Return how many flows are open."""


Builder = Callable[[str, int], Opener]  # scheduler, number of servers


class PythonOpener:
    """The director of the core."""

    def __init__(self, scheduler: str, servers: int) -> None:
        self._director = Director(
            [build_service(scheduler, servers)],
            FlowTable(FLOW_LIMIT),
            LocalPortPool(LIPS, PORTS, 60 * SECOND, seed=1),
            PersistenceTable(),
            FragmentTable(100),
            seed=1,
        )

    @property
    def decide(self) -> Callable[[PacketView, int], object]:
        """Return the director's own."""
        return self._director.decide

    def prepare(self, packet: bytes) -> PacketView:
        """Return the view of it: what parsing costs does not depend on the servers."""
        return parse(packet)

    def count_flows(self) -> int:
        """Return how many are in the table."""
        return len(self._director.flows)


def build_service(scheduler: str, servers: int) -> VirtualService:
    """Return the service at VIP with this many servers, their weights from 1 to 7."""
    first = IPv4Address("198.19.0.1")
    reals = [RealServer(Endpoint(first + number, 53), 1 + number % 7) for number in range(servers)]
    made = find_scheduler(scheduler)(seed=1)
    return VirtualService("dns", UDP, VIP, made, PROFILES["lvs"], reals)


def datagrams() -> Iterator[bytes]:
    """Return datagrams to VIP, each from another client address or port; checksums are left out."""
    head = b"\x45\0" + (20 + 2 + len(_UDP)).to_bytes(2, "big") + b"\0\0\x40\0\x40\x11\0\0"
    for number in count():
        client, port = divmod(number, _FLOWS_A_CLIENT)
        address = (_CLIENTS + client).to_bytes(4, "big")
        yield head + address + VIP.address.packed + (10_000 + port).to_bytes(2, "big") + _UDP


Costs = dict[str, dict[int, float]]  # nanoseconds by scheduler and number of servers


def time_python() -> Costs:
    """Return nanoseconds a new flow in the director of the core."""
    return {scheduler: time_scheduler(PythonOpener, scheduler) for scheduler in BUILTIN}


def time_native() -> Costs:
    """Return nanoseconds a pick in C."""
    build_programs()
    costs: Costs = {}
    for line in run([str(PICKS)]).splitlines():
        scheduler, servers, nanoseconds = line.split()
        costs.setdefault(scheduler, {})[int(servers)] = float(nanoseconds)
    return costs


TIMERS: dict[str, Callable[[], Costs]] = {"python": time_python, "native": time_native}  # by engine


def time_scheduler(build: Builder, scheduler: str, sample: int = SAMPLE) -> dict[int, float]:
    """Return nanoseconds a new flow by number of servers; BenchError when one was not opened."""
    runs = {size: _Run(build(scheduler, size)) for size in SIZES}
    for one in runs.values():
        one.open(WARM_UP)
    samples: dict[int, list[float]] = {size: [] for size in SIZES}
    for turn in range(ROUNDS):
        for size in rotated(SIZES, turn):
            samples[size].append(runs[size].open(sample))
    for size, one in runs.items():
        if missing := one.count_missing():
            raise BenchError(f"{scheduler}, {size} servers: {missing} datagrams opened no flow")
    return {size: median(found) for size, found in samples.items()}


def growth(by_size: Mapping[int, float]) -> float:
    """Return how many times the cost at FEW servers the one at MANY is."""
    return by_size[MANY] / by_size[FEW]


class _Run:
    """An opener, and the datagrams it has not seen yet."""

    def __init__(self, opener: Opener) -> None:
        self._opener = opener
        self._datagrams = datagrams()
        self._offered = 0

    def open(self, flows: int) -> float:
        """Offer the first datagrams of this many flows; return nanoseconds for each."""
        packets = [self._opener.prepare(packet) for packet in islice(self._datagrams, flows)]
        decide, now = self._opener.decide, self._offered * 1000
        gc.disable()
        begun = time.perf_counter_ns()
        for packet in packets:
            decide(packet, now)
        spent = time.perf_counter_ns() - begun
        gc.enable()
        self._offered += flows
        return spent / flows

    def count_missing(self) -> int:
        """Return how many datagrams opened no flow."""
        return self._offered - self._opener.count_flows()


def main() -> None:
    """Measure the engine on the command line and print a line a scheduler."""
    engine = sys.argv[1] if len(sys.argv) > 1 else "python"
    if engine not in TIMERS:
        sys.exit(f"no engine {engine!r} to time; there are {', '.join(TIMERS)}")
    print("scheduler", *(f"{size:>5} servers" for size in SIZES), "growth")
    for scheduler, by_size in TIMERS[engine]().items():
        print(f"{scheduler:9}", *(f"{by_size[size]:10.0f} ns" for size in SIZES), f"{growth(by_size):6.2f}")


if __name__ == "__main__":
    main()
