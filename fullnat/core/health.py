# SPDX-License-Identifier: Apache-2.0
"""The health of one server: what checks find, one after the other, becomes up or down.

Theory.  One lost packet is no reason to take a server out, nor one lucky answer to put it back, so a
state lasts until *fall* failures, or *rise* successes, come in a row.  Before the first result it is
the start state: unknown (the first result decides), up, or down (keepalived's alpha).

                first ok            `fall` failures in a row
     UNKNOWN ------------->   UP  --------------------------->  DOWN
        |                      ^                                 |^
        |                      '--- rise * patience oks in a row-'|
        '---------------------- first failure -------------------'

Damping.  A server that comes and goes takes connections down with it each time.  Each fall after the
first within FLAP_WINDOW doubles the successes it takes to rise, up to FLAP_LIMIT times *rise*; the
falls are forgotten as they leave the window.  Falling is never slowed: what fails is out.

Refused.  A penalty that decays exponentially (RFC 2439): the same curve, but nobody can tell from
          the falls on the screen when the server will be back.
          Damping the fall too: it would keep sending clients to a server known to fail.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from fullnat.core.service import Health
from fullnat.core.timeouts import SECOND

FLAP_WINDOW = 600 * SECOND  # nanoseconds
FLAP_LIMIT = 8  # at the defaults, rise 2 and interval 2 s, half a minute of good answers

_FALLS_KEPT = FLAP_LIMIT.bit_length()  # more of them change nothing


class Transition(NamedTuple):
    """A change of health."""

    before: Health
    after: Health
    now: int  # nanoseconds


class HealthState:
    """The state machine of one server."""

    __slots__ = ("_falls", "checks", "failures", "fall", "health", "rise", "since", "streak", "transitions")

    def __init__(self, rise: int, fall: int, start: Health = Health.UNKNOWN, now: int = 0) -> None:
        self.rise = rise
        self.fall = fall
        self.health = start
        self.since = now  # of the last change, or of the start
        self.streak = 0  # results in a row that speak against the present state
        self.checks = 0
        self.failures = 0
        self.transitions = 0
        self._falls: deque[int] = deque(maxlen=_FALLS_KEPT)

    def observe(self, ok: bool, now: int) -> Transition | None:
        """Take note of a result; return the change it makes, or None."""
        self.checks += 1
        self.failures += not ok
        found = Health.UP if ok else Health.DOWN
        if found is self.health:
            self.streak = 0
            return None
        self.streak += 1
        if self.streak < self.needed(now):
            return None
        return self._change(found, now)

    def needed(self, now: int) -> int:
        """Return how many results in a row it takes to leave the present state."""
        if self.health is Health.UNKNOWN:
            return 1
        return self.fall if self.health is Health.UP else self.rise * self.patience(now)

    def patience(self, now: int) -> int:
        """Return how many times *rise* a server that is down must show; 1 unless it flaps."""
        falls = sum(now - fell < FLAP_WINDOW for fell in self._falls)
        return min(FLAP_LIMIT, 1 << max(0, falls - 1))

    def set_limits(self, rise: int, fall: int) -> None:
        """Go on with other limits; what was found so far stays."""
        self.rise, self.fall = rise, fall

    def _change(self, health: Health, now: int) -> Transition:
        transition = Transition(self.health, health, now)
        # The first result of an unknown server is no fall: it was never up.
        if transition.before is Health.UP:
            self._falls.append(now)
        self.health = health
        self.since = now
        self.streak = 0
        self.transitions += 1
        return transition
