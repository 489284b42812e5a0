# SPDX-License-Identifier: Apache-2.0
"""Goodput under overload: what still arrives at three times the rate that is carried without loss.

The director's devices receive through NAPI, and everything is on one core: the packet loop, and the
softirqs that rps_cpus moves the frames to or, where a peer puts NAPI in threads, these too.  Both
rates are of this set-up.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from bench.errors import BenchError
from bench.figures.cell import Cell
from bench.figures.udp import Crowd, Generator, Sink
from bench.gate import check_datagrams
from bench.host import CpuTimes
from bench.peers.fullnat import Fullnat
from bench.plan import UDP_PORT

FLOWS = 1000
TIMES = 3.0
SETTLE_SECONDS = 1.0  # until queues are full and the overload is steady
TAIL_SECONDS = 0.5  # it goes on while the last count is taken


def measure_overload(cell: Cell) -> dict[str, float]:
    """Search the no-loss rate, then offer a multiple of it."""
    lab, peer = cell.lab, cell.peer
    lab.use_napi()
    lab.confine_director()
    peer.start()
    threaded = lab.confine_napi_threads()
    if isinstance(peer, Fullnat) and peer.engine.get("tune") and "outside" not in threaded:
        raise BenchError(f"{peer.name}: the NAPI of the device towards the client has no thread")
    check_datagrams(lab, peer, UDP_PORT)
    sink = Sink(lab, peer)
    generator = Generator(cell, sink, "napi-pps", Crowd(lab.plan.client, 1, FLOWS))
    generator.prime()
    rate = generator.search()
    if not lab.count_napi():
        raise BenchError(f"{peer.name}: frames did not come through NAPI")
    if not rate:
        return {"napi-pps": 0.0}
    goodput = _overload(cell, sink, generator, rate * TIMES)
    return {"napi-pps": rate, "goodput": goodput, "overload": goodput / rate}


def _overload(cell: Cell, sink: Sink, generator: Generator, rate: float) -> float:
    """Return the packets per second that arrive while *rate* is offered."""
    seconds = cell.effort.overload_seconds
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(generator.offer, rate, SETTLE_SECONDS + seconds + TAIL_SECONDS)
        time.sleep(SETTLE_SECONDS)
        times = CpuTimes.now()
        first_count, first_time = _count(sink)
        time.sleep(seconds)
        last_count, last_time = _count(sink)
        steal = CpuTimes.now().steal_since(times)
        said = sending.result()
    sink.drain()
    cell.lab.check()
    goodput = (last_count - first_count) / (last_time - first_time)
    cell.add_row(
        "goodput",
        "offer",
        asked_pps=rate,
        sent=int(said["sent"]),
        refused=int(said["refused"]),
        stalls=int(said["stalls"]),
        seconds=said["seconds"],
        value=said["pps"],
    )
    cell.add_row(
        "goodput",
        "run",
        received=last_count - first_count,
        seconds=last_time - first_time,
        value=goodput,
        steal=steal,
    )
    if said["pps"] < rate * (1 - cell.effort.limits.shortfall):
        offered = said["pps"] / rate * TIMES
        cell.results.remark(
            f"`overload`, `{cell.peer.name}`, round {cell.round + 1}: the generator offered only"
            f" {offered:.1f} times the no-loss rate."
        )
    return goodput


def _count(sink: Sink) -> tuple[int, float]:
    """Return the sink's count and when it was taken: it is read somewhere in between."""
    before = time.monotonic()
    count = sink.count()
    return count, (before + time.monotonic()) / 2
