# SPDX-License-Identifier: Apache-2.0
"""The structures under the schedulers, against the plainest way to compute the same."""

from __future__ import annotations

import random
from fractions import Fraction
from ipaddress import ip_address

import pytest

from fullnat.core.prng import SplitMix64
from fullnat.core.sched.cumulative import CumulativeWeights
from fullnat.core.sched.hashing import hash_endpoint, mix64, rehash
from fullnat.core.sched.load import relative
from fullnat.core.sched.tournament import Tournament

SIZES = [0, 1, 2, 3, 7, 8, 9, 33]


def _first_least(keys: list[int | None]) -> int | None:
    present = [key for key in keys if key is not None]
    return keys.index(min(present)) if present else None


def _next_at_most(keys: list[int | None], after: int, bound: int) -> int | None:
    behind = range(after + 1, len(keys))
    return next((i for i in behind if (key := keys[i]) is not None and key <= bound), None)


@pytest.mark.parametrize("size", SIZES)
def test_tournament_agrees_with_a_scan(size: int) -> None:
    chance = random.Random(size)
    keys: list[int | None] = [chance.choice([None, -2, -1, 0, 1, 2]) for _ in range(size)]
    tournament = Tournament(keys)
    for _ in range(400):
        if size:
            position = chance.randrange(size)
            keys[position] = chance.choice([None, None, -2, -1, 0, 1, 2])
            tournament.set(position, keys[position])
        least = _first_least(keys)
        assert tournament.least() == least
        assert tournament.least_key() == (None if least is None else keys[least])
        after, bound = chance.randrange(-1, size + 1), chance.randrange(-3, 3)
        assert tournament.next_at_most(after, bound) == _next_at_most(keys, after, bound)


@pytest.mark.parametrize("size", SIZES)
def test_cumulative_weights_agree_with_a_sum(size: int) -> None:
    chance = random.Random(size)
    weights = [chance.choice([0, 0, 1, 2, 5]) for _ in range(size)]
    cumulative = CumulativeWeights(weights)
    for _ in range(50):
        if size:
            position = chance.randrange(size)
            weights[position] = chance.choice([0, 0, 1, 3, 9])
            cumulative.set(position, weights[position])
        owners = [position for position, weight in enumerate(weights) for _ in range(weight)]
        assert cumulative.total == len(owners)
        assert [cumulative.find(point) for point in range(len(owners))] == owners


def test_relative_load_orders_as_the_fraction_does() -> None:
    chance = random.Random(1)

    def draw() -> tuple[int, int]:
        cost = chance.choice([chance.randrange(9), chance.randrange(1 << 40)])
        weight = chance.choice([1, 2, 3, 65534, 65535, 65536, chance.randrange(1, 65537)])
        return cost, weight

    for _ in range(5000):
        one, other = draw(), draw()
        assert (relative(*one) < relative(*other)) == (Fraction(*one) < Fraction(*other))
        assert (relative(*one) == relative(*other)) == (Fraction(*one) == Fraction(*other))


def test_relative_load_tells_the_closest_fractions_apart() -> None:
    below, above = Fraction(65534, 65535), Fraction(65535, 65536)
    assert below < above
    assert relative(below.numerator, below.denominator) < relative(above.numerator, above.denominator)


def test_mix64_is_the_finaliser_of_splitmix64() -> None:
    golden = 0x9E3779B97F4A7C15
    for seed in (0, 1, 0xDEADBEEF):
        assert mix64(seed + golden) == SplitMix64(seed).next()
    assert rehash(5, 3) == mix64(5 + 3 * golden)


# Fixed numbers: another release, or an engine in another language, must send clients to the same
# servers.  Computed with a separate implementation in C, 64-bit unsigned arithmetic.
@pytest.mark.parametrize(
    ("address", "port", "salt", "expected"),
    [
        ("203.0.113.9", 0, 0, 0xDCA3C518E008D368),
        ("203.0.113.9", 4000, 0, 0x49879B9EB2357F12),
        ("203.0.113.9", 4000, 1, 0xE7AD9C34C2E6F38A),
        ("2001:db8::9", 0, 0, 0x5C5681157BADC384),
        ("2001:db8:ffff:1:2:3:4:5", 65535, 2, 0xF82B1C3A5EA92334),
    ],
)
def test_hash_is_the_same_in_every_process(address: str, port: int, salt: int, expected: int) -> None:
    assert hash_endpoint(ip_address(address), port, salt) == expected


def test_hash_spreads_neighbours_evenly() -> None:
    buckets = [0] * 16
    for address in range(16_000):
        buckets[hash_endpoint(ip_address(address), 0) % 16] += 1
    assert min(buckets) > 850
    assert max(buckets) < 1150
