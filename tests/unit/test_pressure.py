# SPDX-License-Identifier: Apache-2.0
"""When new flows are shed."""

from __future__ import annotations

import pytest

from fullnat.core.pressure import TRICKLE, UNLIMITED, Pressure


@pytest.mark.parametrize(
    ("waiting", "openings"),
    [
        ([0], UNLIMITED),
        ([500], UNLIMITED),
        ([501], TRICKLE),
        ([501, 400], TRICKLE),
        ([501, 250], TRICKLE),
        ([501, 249], UNLIMITED),
        ([501, 249, 400], UNLIMITED),
        ([501, 0, 501], TRICKLE),
    ],
)
def test_overload_begins_at_half_and_ends_at_a_quarter(waiting: list[int], openings: int) -> None:
    pressure = Pressure(1000)
    for number in waiting:
        pressure.note(number)
    assert pressure.openings == openings
