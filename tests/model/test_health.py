# SPDX-License-Identifier: Apache-2.0
"""The health of a server against a model that keeps every result and reads the rules off the list."""

from __future__ import annotations

from itertools import takewhile

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fullnat.core.health import FLAP_LIMIT, FLAP_WINDOW, HealthState, Transition
from fullnat.core.service import Health
from fullnat.core.timeouts import SECOND

UP, DOWN, UNKNOWN = Health.UP, Health.DOWN, Health.UNKNOWN


class HealthMachine(RuleBasedStateMachine):
    """Random results under a clock that only goes on."""

    @initialize(rise=st.integers(1, 4), fall=st.integers(1, 4), start=st.sampled_from(list(Health)))
    def begin(self, rise: int, fall: int, start: Health) -> None:
        self.state = HealthState(rise, fall, start, now=0)
        self.rise, self.fall, self.start = rise, fall, start
        self.now = 0
        self.health = start
        self.results: list[bool] = []
        self.since_change: list[bool] = []
        self.changes: list[Transition] = []

    @rule(ok=st.booleans(), times=st.integers(1, 6), seconds=st.integers(0, 20))
    def check(self, ok: bool, times: int, seconds: int) -> None:
        for _ in range(times):
            self.now += seconds * SECOND
            self.results.append(ok)
            self.since_change.append(ok)
            expected = self._expected(ok)
            assert self.state.observe(ok, self.now) == expected
            if expected is not None:
                self.changes.append(expected)
                self.health = expected.after
                self.since_change = []

    def _expected(self, ok: bool) -> Transition | None:
        found = UP if ok else DOWN
        if found is self.health:
            return None
        row = len(list(takewhile(lambda result: result is ok, reversed(self.since_change))))
        falls = sum(
            1 for change in self.changes if change.before is UP and self.now - change.now < FLAP_WINDOW
        )
        slower = 1 if falls < 2 else min(FLAP_LIMIT, 2 ** (falls - 1))
        needed = {UNKNOWN: 1, UP: self.fall, DOWN: self.rise * slower}[self.health]
        return Transition(self.health, found, self.now) if row >= needed else None

    @rule(seconds=st.integers(1, 900))
    def wait(self, seconds: int) -> None:
        self.now += seconds * SECOND

    @rule(rise=st.integers(1, 4), fall=st.integers(1, 4))
    def reload(self, rise: int, fall: int) -> None:
        self.state.set_limits(rise, fall)
        self.rise, self.fall = rise, fall

    @invariant()
    def counts_add_up(self) -> None:
        if not hasattr(self, "state"):
            return
        assert self.state.health is self.health
        assert self.state.checks == len(self.results)
        assert self.state.failures == self.results.count(False)
        assert self.state.transitions == len(self.changes)
        assert self.state.since == (self.changes[-1].now if self.changes else 0)


TestHealth = HealthMachine.TestCase
TestHealth.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)


def test_the_first_result_decides_about_an_unknown_server() -> None:
    for ok, health in ((True, UP), (False, DOWN)):
        assert HealthState(rise=3, fall=3).observe(ok, 7) == Transition(UNKNOWN, health, 7)


def test_a_server_that_starts_down_has_to_rise() -> None:
    state = HealthState(rise=2, fall=3, start=DOWN)
    assert [state.observe(True, now) for now in (1, 2)] == [None, Transition(DOWN, UP, 2)]


def test_one_good_answer_begins_the_count_of_failures_anew() -> None:
    state = HealthState(rise=2, fall=3, start=UP)
    results = [False, False, True, False, False, False]
    changes = [state.observe(ok, now) for now, ok in enumerate(results)]
    assert changes == [None] * 5 + [Transition(UP, DOWN, 5)]


def test_a_flapping_server_takes_longer_and_longer_to_rise_and_is_forgiven() -> None:
    state = HealthState(rise=2, fall=1, start=UP)
    took = []
    now = 0
    for _ in range(6):
        now += SECOND
        assert state.observe(False, now) is not None  # falling is never slowed
        checks = state.checks
        while state.health is DOWN:
            now += SECOND
            state.observe(True, now)
        took.append(state.checks - checks)
    assert took == [2, 4, 8, 16, 16, 16]
    assert state.patience(now + FLAP_WINDOW) == 1


def test_falls_over_a_long_time_are_no_flapping() -> None:
    state = HealthState(rise=1, fall=1, start=UP)
    for now in range(0, 20 * FLAP_WINDOW, FLAP_WINDOW):
        assert state.observe(False, now) is not None
        assert state.observe(True, now + 1) is not None
