# SPDX-License-Identifier: Apache-2.0
"""Alarms: told when it begins, and then in sums."""

from __future__ import annotations

from fullnat.control.alarms import QUIET, Alarms
from fullnat.control.events import Kind
from fullnat.core.reason import Reason


def counts(**of: int) -> list[int]:
    found = [0] * len(Reason)
    for name, count in of.items():
        found[Reason[name]] = count
    return found


def test_the_first_is_told_at_once_and_those_after_it_in_a_sum() -> None:
    alarms = Alarms()
    assert list(alarms.look(counts(), 0)) == []
    assert list(alarms.look(counts(NO_LOCAL_PORT=3), 1)) == [(Kind.PORTS_SPENT, 3)]
    assert list(alarms.look(counts(NO_LOCAL_PORT=50), QUIET)) == []
    assert list(alarms.look(counts(NO_LOCAL_PORT=60), QUIET + 1)) == [(Kind.PORTS_SPENT, 57)]
    assert list(alarms.look(counts(NO_LOCAL_PORT=60), 9 * QUIET)) == []


def test_one_does_not_silence_another() -> None:
    alarms = Alarms()
    list(alarms.look(counts(NO_LOCAL_PORT=1), 0))
    assert list(alarms.look(counts(NO_LOCAL_PORT=2, TABLE_FULL=5), 1)) == [(Kind.TABLE_FULL, 5)]


def test_other_reasons_are_no_alarm() -> None:
    assert (
        list(
            Alarms().look(
                [7 if reason not in (Reason.NO_LOCAL_PORT, Reason.TABLE_FULL) else 0 for reason in Reason], 0
            )
        )
        == []
    )
