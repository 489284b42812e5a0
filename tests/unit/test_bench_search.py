# SPDX-License-Identifier: Apache-2.0
"""The no-loss search against simulated devices: exact, noisy, livelocking, faster than the generator."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from bench.search import CONFIRM, SEARCH, Limits, NoLoss, Trial, find_no_loss_rate

LIMITS = Limits(resolution=0.03)
CAPACITIES = [2_500, 9_800, 61_000, 118_000, 250_000, 590_000, 1_040_000, 3_000_000]


class Device:
    """Carries up to *capacity*; what is offered beyond it is lost, or costs what it could have carried."""

    def __init__(
        self,
        capacity: float,
        *,
        generator: float = 10_000_000,
        livelock: bool = False,
        queue: int = 0,
        accident: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.capacity = capacity
        self.generator = generator
        self.livelock = livelock
        self.queue = queue  # frames held and carried later when too many come
        self.accident = accident  # share of frames lost for reasons of the host
        self.trials: list[tuple[str, Trial]] = []

    def send(self, step: str, rate: float, seconds: float) -> Trial:
        real = min(rate, self.generator)
        carried = min(real, self.capacity)
        if self.livelock and real > self.capacity:
            carried = max(0.0, 2 * self.capacity - real)
        sent = round(real * seconds)
        prompt = round(sent * carried / real * (1 - self.accident()))
        trial = Trial(rate, sent, prompt, prompt + min(self.queue, sent - prompt), seconds)
        self.trials.append((step, trial))
        return trial

    def steps(self, step: str) -> list[Trial]:
        return [trial for name, trial in self.trials if name == step]


@pytest.mark.parametrize("livelock", [False, True])
@pytest.mark.parametrize("capacity", CAPACITIES)
def test_finds_the_capacity_within_the_resolution(capacity: float, livelock: bool) -> None:
    found = find_no_loss_rate(Device(capacity, livelock=livelock).send, LIMITS)
    assert capacity / 1.035 <= found.rate <= capacity * 1.0011  # resolution below, tolerance above
    assert not found.generator_bound


@pytest.mark.parametrize("capacity", CAPACITIES)
def test_takes_few_trials(capacity: float) -> None:
    device = Device(capacity)
    find_no_loss_rate(device.send, LIMITS)
    # log2(ln(4 M / 2 k) / ln 1.03) is 8.01; a rate just above the capacity may be tried three times.
    assert len({trial.asked for trial in device.steps(SEARCH)}) <= 9
    assert len(device.steps(CONFIRM)) == 1


@pytest.mark.parametrize("capacity", [9_800, 28_000, 61_000, 590_000])
def test_a_queue_does_not_lend_rate(capacity: float) -> None:
    # 8192 frames in half a second are 16 384 a second: without rule 2 that would be added.
    found = find_no_loss_rate(Device(capacity, queue=8192).send, LIMITS)
    assert capacity / 1.035 <= found.rate <= capacity * 1.021


@pytest.mark.parametrize("seed", range(20))
def test_rare_accidents_do_not_move_the_result(seed: int) -> None:
    noise = random.Random(seed)
    device = Device(100_000, accident=lambda: 0.02 if noise.random() < 0.15 else 0.0)
    assert find_no_loss_rate(device.send, LIMITS).rate == pytest.approx(100_000, rel=0.07)


def test_a_loss_of_exactly_the_tolerance_passes_and_one_frame_more_does_not() -> None:
    limits = Limits(floor=1_000, ceiling=1_010, resolution=0.03, confirm_seconds=10)

    def losing(frames: int) -> NoLoss:
        return find_no_loss_rate(
            lambda _step, rate, seconds: Trial(rate, 10_000, 10_000 - frames, 10_000 - frames, seconds),
            limits,
        )

    assert losing(10).rate == 1_000
    assert losing(11).rate == 0


def test_the_result_is_the_rate_sent_not_the_rate_asked_for() -> None:
    device = Device(1e9, generator=700_000)
    found = find_no_loss_rate(device.send, LIMITS)
    assert found.rate == 700_000
    assert found.generator_bound


def test_a_generator_that_is_a_little_faster_than_the_device_does_not_bound_the_result() -> None:
    found = find_no_loss_rate(Device(600_000, generator=700_000).send, LIMITS)
    assert found.rate == pytest.approx(600_000, rel=0.035)
    assert not found.generator_bound


def test_a_generator_that_stumbles_once_is_asked_again() -> None:
    device = Device(600_000)
    stumbles = iter([True])

    def send(step: str, rate: float, seconds: float) -> Trial:
        if next(stumbles, False):
            sent = round(rate * seconds / 3)
            return Trial(rate, sent, sent, sent, seconds)
        return device.send(step, rate, seconds)

    found = find_no_loss_rate(send, LIMITS)
    assert found.rate == pytest.approx(600_000, rel=0.035)
    assert not found.generator_bound


def test_a_device_that_carries_nothing_has_rate_zero() -> None:
    assert find_no_loss_rate(Device(0.001).send, LIMITS) == NoLoss(0.0, False)


def test_a_clear_loss_is_not_tried_again() -> None:
    device = Device(10_000)
    find_no_loss_rate(device.send, LIMITS)
    hopeless = [trial.asked for trial in device.steps(SEARCH) if trial.loss > LIMITS.hopeless]
    assert hopeless
    assert len(hopeless) == len(set(hopeless))


def test_a_rate_that_does_not_hold_for_longer_is_lowered_until_one_does() -> None:
    short, long = Device(100_000), Device(80_000)

    def send(step: str, rate: float, seconds: float) -> Trial:
        return (long if step == CONFIRM else short).send(step, rate, seconds)

    found = find_no_loss_rate(send, LIMITS)
    assert 70_000 <= found.rate <= 80_080
    assert all(trial.seconds == LIMITS.confirm_seconds for trial in long.steps(CONFIRM))


@pytest.mark.parametrize("livelock", [False, True])
@pytest.mark.parametrize("error", [0.01, 0.4, 0.7, 0.95, 1.0, 1.05, 1.4, 2.0, 50.0])
@pytest.mark.parametrize("capacity", CAPACITIES)
def test_a_guess_however_wrong_does_not_move_the_result(
    capacity: float, error: float, livelock: bool
) -> None:
    found = find_no_loss_rate(Device(capacity, livelock=livelock).send, LIMITS, capacity * error)
    assert capacity / 1.035 <= found.rate <= capacity * 1.0011
    assert not found.generator_bound


@pytest.mark.parametrize("error", [0.95, 1.0, 1.05])
@pytest.mark.parametrize("capacity", CAPACITIES[1:])
def test_a_good_guess_saves_trials(capacity: float, error: float) -> None:
    blind, guided = Device(capacity), Device(capacity)
    find_no_loss_rate(blind.send, LIMITS)
    find_no_loss_rate(guided.send, LIMITS, capacity * error)
    assert len({t.asked for t in guided.steps(SEARCH)}) <= len({t.asked for t in blind.steps(SEARCH)}) - 2


def test_a_guess_does_not_hide_the_generators_limit() -> None:
    found = find_no_loss_rate(Device(1e9, generator=700_000).send, LIMITS, 700_000)
    assert found == NoLoss(700_000, True)
