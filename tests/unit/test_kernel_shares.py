# SPDX-License-Identifier: Apache-2.0
"""What netfilter's rules pick, one after the other, against what the weights say."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fullnat.core.addr import TCP, parse_endpoint
from fullnat.kernel.service import KernelServer, KernelService
from fullnat.kernel.shares import differences, shares


def service(*weights: int, scheduler: str = "wrr") -> KernelService:
    """One with a server of each weight."""
    servers = [
        KernelServer(parse_endpoint(f"198.19.0.{at}:80"), weight) for at, weight in enumerate(weights, 1)
    ]
    return KernelService(parse_endpoint("203.0.113.10:80"), TCP, scheduler, tuple(servers))


@pytest.mark.parametrize("servers", range(1, 8))
def test_by_turns_each_server_has_the_same(servers: int) -> None:
    """As `nth` counts: a rule takes the first packet of every so many that reach it."""
    picks = shares(service(*[1] * servers, scheduler="rr"))
    reached: Counter[int] = Counter()
    taken: Counter[int] = Counter()
    for _ in range(servers * 100):
        for number, share in enumerate(picks):
            reached[number] += 1
            if (reached[number] - 1) % share.of == 0:
                taken[number] += 1
                break
    assert set(taken.values()) == {100}


@given(st.lists(st.integers(0, 10), min_size=1, max_size=8))
def test_by_chance_each_server_has_its_part_of_the_weights(weights: list[int]) -> None:
    left, parts = 1.0, {}
    for share in shares(service(*weights)):
        parts[share.server.endpoint] = left * share.part
        left *= 1 - share.part
    total = sum(weights)
    expected = {
        server.endpoint: server.weight / total for server in service(*weights).servers if server.weight
    }
    assert parts == pytest.approx(expected)


def test_failover_takes_the_highest_weight() -> None:
    (only,) = shares(service(1, 5, 3, scheduler="fo"))
    assert (only.server.weight, only.match) == (5, "")


@pytest.mark.parametrize("scheduler", ["rr", "wrr", "fo"])
def test_nobody_is_picked_where_nobody_may_be(scheduler: str) -> None:
    assert shares(service(0, 0, scheduler=scheduler)) == []
    assert shares(service(scheduler=scheduler)) == []


def test_what_is_otherwise_is_said() -> None:
    assert differences(service(1, scheduler="rr")) == []
    assert differences(service(1, scheduler="random")) == []
    assert differences(service(1, scheduler="sh")) == [
        "scheduler sh becomes chance, in proportion to weights"
    ]
    assert differences(service(1, scheduler="ovf")) == ["scheduler ovf never leaves the first server"]
    limited = replace(
        service(scheduler="rr"), servers=(KernelServer(parse_endpoint("198.19.0.1:80"), upper=5),)
    )
    assert differences(limited) == ["connection thresholds are not kept"]
    assert differences(replace(service(1, scheduler="rr"), one_packet=True)) == [
        "datagrams of one client stay on one server while conntrack remembers it"
    ]
