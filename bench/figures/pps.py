# SPDX-License-Identifier: Apache-2.0
"""No-loss packets per second of one core: the smallest UDP frames of 1000 flows, one direction.

The generator has a core to itself and the director the other: rps_cpus moves what its devices
receive there, and a peer's program is bound to it, so that kernel and program share one core.

The sink counts in an nft chain at the server's netdev ingress and drops there, so that the server
costs as little as it can; that work is done on the director's core (veth delivers on the sending
CPU), for every peer alike.  It counts frames from the expected sources apart from all others: a
frame that crosses untranslated ends the run.
"""

from __future__ import annotations

import json

from bench.build import PKTGEN
from bench.errors import BenchError
from bench.figures.cell import Cell
from bench.gate import check_datagrams
from bench.host import CpuTimes
from bench.ns import Lab
from bench.peers.base import Peer
from bench.plan import CLIENT_MAC, GENERATOR_CPU, OUTSIDE_MAC, UDP_PORT, Plan, Sources
from bench.search import Trial, find_no_loss_rate
from bench.waiting import wait_until_still

FLOWS = 1000
PRIME_RATE, PRIME_SECONDS, PRIME_ATTEMPTS = 2_000.0, 1.1, 3
STILL_SECONDS, DRAIN_SECONDS = 0.1, 10.0


def measure_pps(cell: Cell) -> dict[str, float]:
    """Search the highest rate the peer carries whole."""
    check_datagrams(cell.lab, cell.peer, UDP_PORT)
    cell.lab.confine_director()
    sink = Sink(cell.lab, cell.peer)
    generator = Generator(cell, sink)
    generator.prime()
    found = find_no_loss_rate(generator.trial, cell.effort.limits)
    cell.lab.check()
    if found.generator_bound:
        cell.results.generator_bound.add(("pps", cell.peer.name))
    return {"pps": found.rate}


class Sink:
    """Counts what reaches the server's device, and drops it."""

    def __init__(self, lab: Lab, peer: Peer) -> None:
        self._lab = lab
        self._peer = peer
        lab.server.run(["nft", "-f", "-"], stdin=sink_rules(lab.plan, peer.sources))

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
    """Offers frames and waits until the sink has seen what will come."""

    def __init__(self, cell: Cell, sink: Sink) -> None:
        self._cell = cell
        self._sink = sink

    def prime(self) -> None:
        """Return when every flow exists: opening one is not what this figure is about."""
        for _ in range(PRIME_ATTEMPTS):
            trial = self.trial("prime", PRIME_RATE, PRIME_SECONDS)
            if trial.received == trial.sent >= FLOWS:
                return
        raise BenchError(
            f"{self._cell.peer.name}: {trial.sent - trial.received} of {trial.sent} frames lost at"
            f" {PRIME_RATE:.0f} packets/s, while its flows were opened"
        )

    def trial(self, step: str, rate: float, seconds: float) -> Trial:
        """Offer *rate* for *seconds* and count."""
        before, times = self._sink.count(), CpuTimes.now()
        said = json.loads(self._cell.lab.client.run(self._argv(rate, seconds), cpu=GENERATOR_CPU))
        prompt = self._sink.count()
        steal = CpuTimes.now().steal_since(times)
        received = self._sink.drain()
        trial = Trial(rate, said["sent"], prompt - before, received - before, said["seconds"])
        if trial.received > trial.sent:
            raise BenchError(f"{self._cell.peer.name}: {trial.sent} frames sent, {trial.received} arrived")
        self._cell.add_row(
            "pps",
            step,
            asked_pps=rate,
            sent=trial.sent,
            prompt=trial.prompt,
            received=trial.received,
            refused=said["refused"],
            stalls=said["stalls"],
            seconds=trial.seconds,
            value=trial.received / trial.seconds,
            steal=steal,
        )
        return trial

    def _argv(self, rate: float, seconds: float) -> list[str]:
        plan = self._cell.lab.plan
        options = {
            "device": "eth0",
            "src-mac": CLIENT_MAC,
            "dst-mac": OUTSIDE_MAC,
            "client": plan.client,
            "server": self._cell.peer.target,
            "dport": UDP_PORT,
            "flows": FLOWS,
            "size": plan.frame_bytes,
            "rate": f"{rate:.3f}",
            "seconds": seconds,
        }
        return [str(PKTGEN), *(word for key, value in options.items() for word in (f"--{key}", str(value)))]
