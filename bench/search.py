# SPDX-License-Identifier: Apache-2.0
"""Find the highest rate a device carries without loss, as RFC 2544 section 26.1 defines throughput.

Theory.  Loss is zero below the device's capacity and grows above it, so halving an interval of
offered rates finds the edge.  The interval spans three decades: it is halved on a logarithmic
scale and the answer has the same relative precision everywhere.

Rules.
  1. A trial passes when at most `tolerance` of its frames are lost.  RFC 2544 says none; on a
     shared host a stolen time slice loses a few frames at any rate, and 0.1 % is the usual allowance.
  2. Nor may more than `backlog` of them still be under way when the sending ends.  A device with a
     queue of 8192 frames would otherwise pass a trial of half a second at 16 000 frames a second
     more than it can carry.  (RFC 2544 section 24 has trials of a minute for that.)
  3. A rate fails only when `attempts` trials at it fail, for the same reason; a loss or
     a backlog above `hopeless` is no accident and is not tried again.
  4. What counts is the rate the generator really sent at, never the one it was asked for.  A trial
     that passes but was sent too slowly says nothing about higher rates: it is tried again, and the
     result is marked as the generator's limit unless a later trial finds the device's below it.
  5. The rate found is confirmed by a longer trial; if that fails, lower rates are confirmed instead.
  6. A guess, such as what was found last time, only says where to look first: the rates a little below
     and above it are tried like any other, and where they do not enclose the edge the search goes on
     as if there had been none.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

SEARCH, CONFIRM = "search", "confirm"


@dataclass(frozen=True, slots=True)
class Trial:
    """Frames offered and frames that arrived, once everything in flight had."""

    asked: float  # packets per second the generator was asked for
    sent: int
    prompt: int  # had arrived when the sending ended
    received: int
    seconds: float  # how long it sent

    @property
    def rate(self) -> float:
        """The rate really offered."""
        return self.sent / self.seconds

    @property
    def loss(self) -> float:
        """Share of frames that did not arrive."""
        return (self.sent - self.received) / self.sent

    @property
    def backlog(self) -> float:
        """Share of frames that arrived after the sending had ended."""
        return (self.received - self.prompt) / self.sent

    def passes(self, limits: Limits) -> bool:
        """Return whether the device kept up."""
        return self.loss <= limits.tolerance and self.backlog <= limits.backlog

    def is_hopeless(self, limits: Limits) -> bool:
        """Return whether no accident explains the failure."""
        return max(self.loss, self.backlog) > limits.hopeless

    def is_short(self, limits: Limits) -> bool:
        """Return whether the generator sent too slowly to say anything about the rate asked for."""
        return self.rate < self.asked * (1 - limits.shortfall)


@dataclass(frozen=True, slots=True)
class Limits:
    """Where to search and what passes."""

    floor: float = 2_000.0  # packets per second
    ceiling: float = 4_000_000.0
    resolution: float = 0.03  # relative width at which the search ends
    tolerance: float = 0.001  # share of frames that may be lost
    backlog: float = 0.02  # share of frames that may be under way when the sending ends
    hopeless: float = 0.10  # share of frames whose loss or delay is no accident
    attempts: int = 3
    trial_seconds: float = 0.5
    confirm_seconds: float = 1.0
    nearby: tuple[float, ...] = (1.1, 1.5, 2.2)  # how far from a guess to look, one after the other
    shortfall: float = 0.05  # the generator is at its own limit when it sends this much less than asked


@dataclass(frozen=True, slots=True)
class NoLoss:
    """The confirmed rate."""

    rate: float  # packets per second; 0.0 when not even the floor passed
    generator_bound: bool  # true: the generator could not offer more, the device may carry more


SendTrial = Callable[[str, float, float], Trial]  # step, packets per second, seconds


def find_no_loss_rate(send: SendTrial, limits: Limits, guess: float | None = None) -> NoLoss:
    """Return the highest rate at which *send* loses nothing to speak of."""
    low, high = limits.floor, limits.ceiling
    bound = False
    near = _around(guess, limits) if guess else []
    while high / low > 1 + limits.resolution:
        # Once the edge lies between two of them, the others are outside.
        near = [rate for rate in near if low < rate < high]
        asked = near.pop(0) if near else math.sqrt(low * high)
        trial = _best_of(send, SEARCH, asked, limits.trial_seconds, limits)
        if not trial.passes(limits):
            high = trial.rate if low < trial.rate < asked else asked
            bound = False
        elif trial.is_short(limits):
            low, high = max(low, trial.rate), asked
            bound = True
        else:
            low = asked
    return _confirm(send, low, bound, limits)


def _around(guess: float, limits: Limits) -> list[float]:
    return [rate for factor in limits.nearby for rate in (guess / factor, guess * factor)]


def _confirm(send: SendTrial, rate: float, bound: bool, limits: Limits) -> NoLoss:
    """Return *rate* or the first lower one that holds in a longer trial, in growing steps."""
    step = limits.resolution
    while rate >= limits.floor:
        trial = _best_of(send, CONFIRM, rate, limits.confirm_seconds, limits)
        if trial.passes(limits):
            return NoLoss(trial.rate, bound)
        rate, bound = rate / (1 + step), False
        step *= 1.5
    return NoLoss(0.0, False)


def _best_of(send: SendTrial, step: str, rate: float, seconds: float, limits: Limits) -> Trial:
    """Return a trial that passed at the full rate, else one that passed, else one that failed."""
    best: Trial | None = None
    for _ in range(limits.attempts):
        trial = send(step, rate, seconds)
        if trial.is_hopeless(limits):
            return best or trial
        if trial.passes(limits):
            if not trial.is_short(limits):
                return trial
            best = trial
    return best or trial
