# SPDX-License-Identifier: Apache-2.0
"""Rates: against IPVS's estimator in the kernel's own integers, and counts that were set to zero."""

from __future__ import annotations

import random

import pytest

from fullnat.control.rates import COUNTED, PERIOD, Rates, counts_of
from fullnat.core.service import RealServer
from fullnat.core.timeouts import SECOND
from tests.services import make_servers


class IpvsEstimator:
    """One counter as ip_vs_est.c has it: averages in units of 1/1024, or of 1/32 for bytes."""

    def __init__(self, bits: int) -> None:
        self._bits = bits
        self._last = self._average = 0

    def estimate(self, count: int) -> None:
        """Take in *count*, two seconds after the last time."""
        rate = (count - self._last) << (self._bits - 1)
        self._last = count
        self._average += (rate - self._average) >> 2

    @property
    def shown(self) -> int:
        """What ipvsadm is told."""
        return (self._average + (1 << (self._bits - 1)) - 1) >> self._bits


def estimators() -> list[IpvsEstimator]:
    return [IpvsEstimator(5 if name.startswith("bytes") else 10) for name in COUNTED]


def grow(server: RealServer, most: int, chance: random.Random) -> None:
    for name in COUNTED:
        scale = 1000 if name.startswith("bytes") else 1
        setattr(server, name, getattr(server, name) + chance.randrange(most) * scale)


@pytest.mark.parametrize("most", [1, 2, 5, 100, 100_000])
def test_rates_are_those_of_ipvs(most: int) -> None:
    chance, rates, kernel = random.Random(most), Rates(), estimators()
    (server,) = make_servers([1])
    rates.look([server], 0)
    for step in range(1, 200):
        grow(server, most if step < 100 else 1, chance)
        rates.look([server], step * PERIOD)
        for estimator, count in zip(kernel, counts_of(server), strict=True):
            estimator.estimate(count)
        for mine, theirs in zip(rates.rates()[server], kernel, strict=True):
            # The kernel cuts off, at each step; we round once.
            assert abs(mine - theirs.shown) <= 1
    assert all(rate <= 1 for rate in rates.rates()[server])


def test_a_steady_rate_is_found_however_late_it_is_looked() -> None:
    rates = Rates()
    (server,) = make_servers([1])
    now = 0
    for step in range(60):
        rates.look([server], now)
        elapsed = PERIOD + step % 3 * SECOND
        now += elapsed
        server.connections += 40 * elapsed // SECOND
    assert rates.rates()[server] == (40, 0, 0, 0, 0)


def test_a_server_that_is_new_has_no_rate_from_before() -> None:
    rates = Rates()
    (server,) = make_servers([1])
    server.connections = 1_000_000
    rates.look([], PERIOD)
    rates.look([server], 2 * PERIOD)
    assert rates.rates()[server][0] == 0
    server.connections += 80
    rates.look([server], 3 * PERIOD)
    assert rates.rates()[server][0] == 10  # a quarter of 40 a second


def test_a_server_that_is_gone_is_forgotten() -> None:
    rates = Rates()
    one, two = make_servers([1, 1])
    rates.look([one, two], PERIOD)
    rates.zero([one])
    rates.look([two], 2 * PERIOD)
    assert list(rates.rates()) == [two]
    one.connections = 5
    assert rates.totals([one])[one][0] == 5


def test_a_look_is_due_every_period_and_not_put_off_by_a_whole_second() -> None:
    rates = Rates()
    rates.look([], 10 * PERIOD)
    assert not rates.is_due(10 * PERIOD + SECOND)
    assert rates.is_due(11 * PERIOD - SECOND // 8)
    assert rates.is_due(11 * PERIOD)


def test_what_was_set_to_zero_begins_there_and_what_engines_count_goes_on() -> None:
    rates = Rates()
    one, two = make_servers([1, 1])
    one.connections, one.bytes_in, two.connections = 7, 700, 9
    rates.zero([one])
    one.connections += 2
    assert rates.totals([one, two]) == {one: (2, 0, 0, 0, 0), two: (9, 0, 0, 0, 0)}
    assert (one.connections, one.bytes_in) == (9, 700)
    rates.zero([one, two])
    assert rates.totals([one, two]) == {one: (0,) * 5, two: (0,) * 5}
