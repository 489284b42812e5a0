# SPDX-License-Identifier: Apache-2.0
"""The time of picks: told apart from a scan, and not told when flows were not opened."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

import pytest

from bench.errors import BenchError
from bench.picks import (
    FEW,
    LIPS,
    MANY,
    PORTS,
    ROUNDS,
    VIP,
    WARM_UP,
    PythonOpener,
    datagrams,
    growth,
    time_scheduler,
)
from fullnat.core.packet import parse
from fullnat.core.sched import BUILTIN


class Scanning:
    """Takes time that grows with the servers, and opens one flow a packet from the *lost*-th on."""

    def __init__(self, servers: int, lost: int = 0) -> None:
        self._servers = servers
        self._flows = -lost

    @property
    def decide(self) -> Callable[[bytes, int], object]:
        def scan(packet: bytes, now: int) -> int:
            self._flows += 1
            return sum(range(self._servers))

        return scan

    def prepare(self, packet: bytes) -> bytes:
        return packet

    def count_flows(self) -> int:
        return self._flows


def test_a_scan_shows() -> None:
    by_size = time_scheduler(lambda _, servers: Scanning(servers), "rr", sample=200)
    assert growth(by_size) > 5


def test_datagrams_that_open_no_flow_are_told() -> None:
    with pytest.raises(BenchError, match="rr, 10 servers: 3 datagrams opened no flow"):
        time_scheduler(lambda _, servers: Scanning(servers, lost=3), "rr", sample=1)


def test_each_datagram_is_a_new_clients() -> None:
    views = [parse(packet) for packet in islice(datagrams(), 1000)]
    assert len({view.key for view in views}) == 1000
    assert all(view.malformed is None and len(view.data) == 46 for view in views)
    assert {view.daddr for view in views} == {VIP.address.packed}


@pytest.mark.parametrize("scheduler", sorted(BUILTIN))
def test_the_core_opens_a_flow_for_each(scheduler: str) -> None:
    opener = PythonOpener(scheduler, FEW)
    for packet in islice(datagrams(), 100):
        opener.decide(opener.prepare(packet), 0)
    assert opener.count_flows() == 100


def test_there_are_local_ports_even_if_one_server_gets_all() -> None:
    assert len(LIPS) * len(PORTS) > WARM_UP + ROUNDS * MANY
