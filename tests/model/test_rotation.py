# SPDX-License-Identifier: Apache-2.0
"""Rotation against its rules written down once more, naively, and the cases people know by name."""

from __future__ import annotations

from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from fullnat.core.addr import Endpoint
from fullnat.core.rotation import FULL_SHARE, MAX_WEIGHT, Pool, Rotation
from fullnat.core.service import Admin, Health, RealServer
from fullnat.core.timeouts import SECOND


def make_server(
    number: int, weight: int = 1, admin: Admin = Admin.ENABLED, health: Health = Health.UP
) -> RealServer:
    server = RealServer(Endpoint(ip_address(f"198.19.0.{number}"), 80), weight)
    server.admin, server.health = admin, health
    return server


def make_pool(name: str, *servers: RealServer, quorum: int = 1, hysteresis: int = 0) -> Pool:
    return Pool(name, servers, quorum, hysteresis)


states = st.tuples(st.integers(0, 3), st.sampled_from(Admin), st.sampled_from(Health))
pools = st.lists(st.tuples(st.lists(states, max_size=4), st.integers(1, 5)), min_size=1, max_size=3)


@given(pools, st.booleans(), st.booleans())
def test_it_is_as_the_rules_say(drawn: list, has_sorry: bool, inhibit: bool) -> None:
    built = [
        make_pool(f"p{place}", *(make_server(n, *state) for n, state in enumerate(servers, 1)), quorum=quorum)
        for place, (servers, quorum) in enumerate(drawn)
    ]
    sorry = make_server(99) if has_sorry else None
    rotation = Rotation(built, sorry, inhibit)

    def weight_of(pool: Pool) -> int:
        usable = [
            s for s in pool.servers if s.admin is Admin.ENABLED and s.health in (Health.UP, Health.UNKNOWN)
        ]
        return sum(s.configured_weight for s in usable)

    expected = None
    for pool in built:
        if weight_of(pool) >= pool.quorum:
            expected = pool
            break
    if expected is None and sorry is None:
        alive = [pool for pool in built if weight_of(pool) > 0]
        expected = alive[0] if alive else built[0]
    listed = rotation.look()
    if expected is None:
        assert listed == [sorry]
        assert rotation.serving == "sorry"
        return
    assert rotation.serving == (expected.name if weight_of(expected) else "")
    for server in expected.servers:
        out = server.admin is Admin.DISABLED or (server.health is Health.DOWN and not inhibit)
        assert (server in listed) == (not out)
    assert [s for s in expected.servers if s in listed] == listed


def test_a_backup_serves_until_the_pool_above_is_whole_again() -> None:
    one, two, other = make_server(1), make_server(2), make_server(3)
    rotation = Rotation([make_pool("main", one, two, quorum=2), make_pool("site-b", other)])
    assert rotation.look() == [one, two]
    one.health = Health.DOWN
    assert rotation.look() == [other]
    assert rotation.serving == "site-b"
    one.health = Health.UP
    assert rotation.look() == [one, two]


def test_hysteresis_keeps_a_service_on_the_edge_where_it_is() -> None:
    servers = [make_server(number) for number in range(1, 5)]
    backup = make_server(9)
    rotation = Rotation([make_pool("main", *servers, quorum=3, hysteresis=1), make_pool("spare", backup)])
    rotation.look()
    seen = []
    for down in (1, 2, 3, 2, 1, 0):  # weight 3, 2, 1, 2, 3, 4
        for place, server in enumerate(servers):
            server.health = Health.DOWN if place < down else Health.UP
        rotation.look()
        seen.append(rotation.serving)
    assert seen == ["main", "main", "spare", "spare", "spare", "main"]


def test_without_a_sorry_server_who_is_left_serves_below_quorum() -> None:
    one, two = make_server(1), make_server(2, health=Health.DOWN)
    rotation = Rotation([make_pool("main", one, two, quorum=2)])
    assert rotation.look() == [one]


def test_with_a_sorry_server_it_does() -> None:
    one, two, sorry = make_server(1), make_server(2, health=Health.DOWN), make_server(9)
    rotation = Rotation([make_pool("main", one, two, quorum=2)], sorry)
    assert rotation.look() == [sorry]
    two.health = Health.UP
    assert rotation.look() == [one, two]


def test_a_server_in_slow_start_gets_a_growing_share() -> None:
    old, new = make_server(1, weight=2), make_server(2)
    rotation = Rotation([make_pool("main", old, new)], slow_start=10 * SECOND)
    rotation.returned(new, now=100 * SECOND)
    shares = [dict(rotation.shares(now * SECOND)) for now in (100, 101, 105, 109, 110, 111)]
    assert [each[new] for each in shares] == [1, 10, 50, 90, FULL_SHARE, FULL_SHARE]
    assert {each[old] for each in shares} == {FULL_SHARE}
    assert not rotation.is_ramping


@given(st.lists(st.integers(0, MAX_WEIGHT), min_size=1, max_size=5), st.integers(0, 30))
def test_no_share_makes_a_weight_too_big(weights: list[int], elapsed: int) -> None:
    servers = [make_server(number, weight) for number, weight in enumerate(weights, 1)]
    rotation = Rotation([make_pool("main", *servers)], slow_start=20 * SECOND)
    rotation.returned(servers[0], now=0)
    for server, share in rotation.shares(elapsed * SECOND):
        assert share >= 1
        assert server.configured_weight * share <= MAX_WEIGHT


def test_without_slow_start_weights_are_what_they_are() -> None:
    server = make_server(1)
    rotation = Rotation([make_pool("main", server)])
    rotation.returned(server, now=0)
    assert dict(rotation.shares(1)) == {server: 1}
    assert not rotation.is_ramping
