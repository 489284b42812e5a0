# SPDX-License-Identifier: Apache-2.0
"""Medians, extremes, ratios inside a round, and the order of turns: exact."""

from __future__ import annotations

import pytest

from bench.stats import Spread, ratios, rotated, spread


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([7.0], Spread(7.0, 7.0, 7.0, 1)),
        ([3.0, 1.0], Spread(2.0, 1.0, 3.0, 2)),
        ([9.0, 1.0, 2.0], Spread(2.0, 1.0, 9.0, 3)),
        ([4.0, 1.0, 2.0, 1000.0], Spread(3.0, 1.0, 1000.0, 4)),
        ([], None),
    ],
)
def test_spread(values: list[float], expected: Spread | None) -> None:
    assert spread(values) == expected


def test_ratios_are_formed_inside_a_round() -> None:
    # The host was half as fast in round 1; the ratio of medians would be 75 / 150.
    assert ratios({0: 100.0, 1: 50.0}, {0: 200.0, 1: 100.0}) == [0.5, 0.5]
    assert ratios({0: 10.0, 1: 90.0, 2: 20.0}, {0: 100.0, 1: 100.0, 2: 50.0}) == [0.1, 0.9, 0.4]


def test_rounds_that_lack_a_side_or_have_a_zero_baseline_give_no_ratio() -> None:
    assert ratios({0: 1.0, 1: 1.0, 2: 1.0}, {1: 4.0, 2: 0.0, 3: 5.0}) == [0.25]
    assert ratios({0: 0.0}, {0: 4.0}) == [0.0]
    assert ratios({}, {0: 1.0}) == []


def test_each_begins_as_often_as_the_others() -> None:
    assert [rotated("abc", turn) for turn in range(4)] == [
        ["a", "b", "c"],
        ["b", "c", "a"],
        ["c", "a", "b"],
        ["a", "b", "c"],
    ]
