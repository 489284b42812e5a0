# SPDX-License-Identifier: Apache-2.0
"""What the datagram figures share: frames of many flows, one direction, and a sink that counts them.

The generator has a core to itself and the director the other: what the director's devices receive
is processed there, and a peer's program is bound to it, so that kernel and program share one core.

The sink counts in an nft chain at the server's netdev ingress and drops there, so that the server
costs as little as it can; that work is done on the director's core (veth delivers on the sending
CPU), for every peer alike.  It counts frames from the expected sources apart from all others: a
frame that crosses untranslated ends the run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from bench.build import PKTGEN
from bench.errors import BenchError
from bench.figures.cell import Cell
from bench.host import CpuTimes
from bench.ns import Lab
from bench.peers.base import Peer
from bench.plan import CLIENT_MAC, GENERATOR_CPU, OUTSIDE_MAC, UDP_PORT, Plan, Sources
from bench.search import Trial, find_no_loss_rate
from bench.waiting import wait_until_still

PRIME_RATE, PRIME_SECONDS, PRIME_ATTEMPTS = 2_000.0, 1.1, 3
STILL_SECONDS, DRAIN_SECONDS = 0.1, 10.0


@dataclass(frozen=True, slots=True)
class Crowd:
    """Who the frames come from: flows in turn over clients with addresses one after the other."""

    first: str
    clients: int
    flows: int


class Sink:
    """Counts what reaches the server's device, and drops it."""

    def __init__(self, lab: Lab, peer: Peer, sources: Sources | None = None) -> None:
        """Expect frames from *sources*; without any, from those the peer says."""
        self._lab = lab
        self._peer = peer
        lab.server.run(["nft", "-f", "-"], stdin=sink_rules(lab.plan, sources or peer.sources))

    def count(self) -> int:
        """Return how many frames have arrived as they should; BenchError if any did otherwise."""
        text = self._lab.server.run(["nft", "-j", "list", "counters"])
        packets = parse_counters(text)
        if packets["strays"]:
            raise BenchError(f"{self._peer.name}: {packets['strays']} frames reached the server untranslated")
        return packets["arrived"]

    def drain(self) -> int:
        """Return the count once nothing is on its way any more."""
        return wait_until_still(
            self.count, STILL_SECONDS, DRAIN_SECONDS, f"{self._peer.name}: the sink's counter"
        )


def sink_rules(plan: Plan, sources: Sources) -> str:
    """Return the nft ruleset of the sink."""
    ip = "ip" if plan.family == 4 else "ip6"
    frame = f"{ip} daddr {plan.server} udp dport {UDP_PORT}"
    source = sources.first if sources.first == sources.last else f"{sources.first}-{sources.last}"
    return f"""
table netdev sink {{
  counter arrived {{ }}
  counter strays {{ }}
  chain ingress {{
    type filter hook ingress device "eth0" priority 0;
    {ip} saddr {source} {frame} counter name "arrived" drop
    udp dport {UDP_PORT} counter name "strays" drop
  }}
}}
"""


def parse_counters(text: str) -> dict[str, int]:
    """Return packets by counter name from `nft -j list counters`."""
    return {
        item["counter"]["name"]: item["counter"]["packets"]
        for item in json.loads(text)["nftables"]
        if "counter" in item
    }


class Generator:
    """Offers the frames of a crowd and waits until the sink has seen what will come."""

    def __init__(
        self,
        cell: Cell,
        sink: Sink,
        metric: str,
        crowd: Crowd,
        *,
        shuffled: bool = False,
        frame_bytes: int | None = None,
    ) -> None:
        """Offer the plan's smallest frames, or such of *frame_bytes*."""
        self._cell = cell
        self.sink = sink
        self._metric = metric  # its trials are kept under this name
        self._crowd = crowd
        self._shuffled = shuffled
        self._frame_bytes = frame_bytes or cell.lab.plan.frame_bytes
        self._trials = 0

    def prime(self) -> None:
        """Return when every flow exists: opening one is not what these figures are about."""
        for _ in range(PRIME_ATTEMPTS):
            trial = self.trial("prime", PRIME_RATE, PRIME_SECONDS)
            if trial.received == trial.sent >= self._crowd.flows:
                return
        raise BenchError(
            f"{self._cell.peer.name}: {trial.sent - trial.received} of {trial.sent} frames lost at"
            f" {PRIME_RATE:.0f} packets/s, while its flows were opened"
        )

    def search(self, related: str = "") -> float:
        """Return the highest rate the peer carries whole.

        Where to look first: what the last round found, else what was found of the metric *related*.
        """
        cell, name = self._cell, self._cell.peer.name
        guess = cell.last_found(self._metric) or cell.last_found(related)
        found = find_no_loss_rate(self.trial, cell.effort.limits, guess)
        cell.lab.check()
        if found.generator_bound:
            cell.results.generator_bound.add((self._metric, name))
        return found.rate

    def fill(self, rate: float) -> Trial:
        """Offer one frame of each flow at *rate*."""
        flows = self._crowd.flows
        return self.trial("fill", rate, 2 * flows / rate, count=flows)

    def trial(self, step: str, rate: float, seconds: float, count: int = 0) -> Trial:
        """Offer *rate* for *seconds*, or until *count* frames have left, and count what arrives."""
        before, times = self.sink.count(), CpuTimes.now()
        said = self.offer(rate, seconds, count)
        prompt = self.sink.count()
        steal = CpuTimes.now().steal_since(times)
        received = self.sink.drain()
        trial = Trial(rate, int(said["sent"]), prompt - before, received - before, said["seconds"])
        if trial.received > trial.sent:
            raise BenchError(f"{self._cell.peer.name}: {trial.sent} frames sent, {trial.received} arrived")
        self._cell.add_row(
            self._metric,
            step,
            asked_pps=rate,
            sent=trial.sent,
            prompt=trial.prompt,
            received=trial.received,
            refused=int(said["refused"]),
            stalls=int(said["stalls"]),
            seconds=trial.seconds,
            value=trial.received / trial.seconds,
            steal=steal,
        )
        return trial

    def offer(self, rate: float, seconds: float, count: int = 0) -> Mapping[str, float]:
        """Send for *seconds*, or until *count* frames have left, and return what pktgen says."""
        crowd = self._crowd
        self._trials += 1
        options = {
            "device": "eth0",
            "src-mac": CLIENT_MAC,
            "dst-mac": OUTSIDE_MAC,
            "client": crowd.first,
            "clients": crowd.clients,
            "server": self._cell.peer.target,
            "dport": UDP_PORT,
            "flows": crowd.flows,
            # Another order each time: a trial may be too short to come round to all of them.
            "shuffle": self._trials if self._shuffled else 0,
            "size": self._frame_bytes,
            "rate": f"{rate:.3f}",
            "seconds": seconds,
            "count": count,
        }
        argv = [str(PKTGEN), *(word for key, value in options.items() for word in (f"--{key}", str(value)))]
        said: Mapping[str, float] = json.loads(
            self._cell.lab.client.run(argv, cpus=str(GENERATOR_CPU), timeout=seconds + 60)
        )
        return said
