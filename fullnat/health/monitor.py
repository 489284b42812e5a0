# SPDX-License-Identifier: Apache-2.0
"""The monitor: every check of a director at its time, and who wants to know told of it.

    add, replace, remove, suspend, resume           on_result(key, Result)         each check
        by key; state stays with the key     --->   on_change(key, Health, Result)  what it changed

Rules.
  1. From one start to the next passes the interval or, by at most *jitter* percent, less: a server that
     is gone is found out within fall * interval + timeout whatever the jitter, and checks that began
     together drift apart.  A check that is late does not delay the ones after it.
  2. First checks are spread over START_SPREAD, or the interval if that is shorter.
  3. A target has one check under way at most.  All together have at most *at_once*, and *scripts_at_once*
     of them are scripts; waiting for a place takes nothing off the timeout.
  4. What is learnt about a server outlives a changed check, and a suspension: its health is in the key.

Call it from the thread of the event loop.  Callbacks are called from there and must not wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from time import monotonic_ns
from typing import Generic, TypeVar

from fullnat.core.health import HealthState, Transition
from fullnat.core.prng import SplitMix64
from fullnat.core.service import Health
from fullnat.core.timeouts import SECOND
from fullnat.health.check import OFF, Code, HealthCheck, Result, Target
from fullnat.health.run import run_check

Key = TypeVar("Key", bound=Hashable)

START_SPREAD = 2 * SECOND
CHECKS_AT_ONCE = 512  # each has a descriptor
SCRIPTS_AT_ONCE = 8  # each is a process

_NOT_YET = Result(Code.INI, "not checked yet", 0)


@dataclass(frozen=True, slots=True)
class HealthRow(Generic[Key]):
    """What is known of one server, for display."""

    key: Key
    type: str
    target: Target
    health: Health
    is_suspended: bool
    is_checking: bool  # one is under way
    since: int  # of the last change, in monotonic nanoseconds
    streak: int  # results in a row against the present health ...
    needed: int  # ... and how many it takes to change it
    checks: int
    failures: int
    transitions: int
    result: Result  # the last


class _Watch:
    """One server: its check, what is known of it, and the task that checks it."""

    def __init__(self, check: HealthCheck, target: Target, now: int) -> None:
        self.check = check
        self.target = target
        self.state = HealthState(check.rise, check.fall, check.start, now)
        self.result = _NOT_YET
        self.due = now
        self.is_suspended = False
        self.is_checking = False
        self.task: asyncio.Task[None] | None = None


class HealthMonitor(Generic[Key]):
    """Checks servers by key until it is closed."""

    def __init__(
        self,
        on_result: Callable[[Key, Result], None],
        on_change: Callable[[Key, Health, Result], None],
        *,
        seed: int,
        at_once: int = CHECKS_AT_ONCE,
        scripts_at_once: int = SCRIPTS_AT_ONCE,
    ) -> None:
        self._on_result = on_result
        self._on_change = on_change
        self._random = SplitMix64(seed)
        self._places = asyncio.Semaphore(at_once)
        self._script_places = asyncio.Semaphore(scripts_at_once)
        self._watches: dict[Key, _Watch] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def add(self, key: Key, check: HealthCheck, target: Target) -> None:
        """Begin to check *target*; *key* is new."""
        if key in self._watches:
            raise KeyError(key)
        now = monotonic_ns()
        watch = self._watches[key] = _Watch(check, target, now)
        watch.due = now + self._random.below(min(check.interval, START_SPREAD))
        self._start(key, watch)

    def replace(self, key: Key, check: HealthCheck, target: Target) -> None:
        """Check *key* in another way from now on; its health, counts and suspension stay.

        A check equal to the one there is goes on undisturbed.
        """
        watch = self._watches[key]
        if (check, target) == (watch.check, watch.target):
            return
        self._stop(watch)
        watch.check, watch.target = check, target
        watch.state.set_limits(check.rise, check.fall)
        watch.due = min(watch.due, monotonic_ns() + check.interval)
        if not watch.is_suspended:
            self._start(key, watch)

    def remove(self, key: Key) -> None:
        """Check *key* no more and forget it."""
        self._stop(self._watches.pop(key))

    def suspend(self, key: Key) -> None:
        """Check *key* no more until resume(); what is known of it stays."""
        watch = self._watches[key]
        watch.is_suspended = True
        self._stop(watch)

    def resume(self, key: Key) -> None:
        """Go on with checking *key*, at once."""
        watch = self._watches[key]
        if watch.is_suspended:
            watch.is_suspended = False
            watch.due = monotonic_ns()
            self._start(key, watch)

    def health(self, key: Key) -> Health:
        """Return what is known of *key*."""
        return self._watches[key].state.health

    def rows(self) -> Iterator[HealthRow[Key]]:
        """Yield what is known of each server, in the order they were added."""
        now = monotonic_ns()
        for key, watch in self._watches.items():
            state = watch.state
            yield HealthRow(
                key=key,
                type=watch.check.type,
                target=watch.target,
                health=state.health,
                is_suspended=watch.is_suspended,
                is_checking=watch.is_checking,
                since=state.since,
                streak=state.streak,
                needed=state.needed(now),
                checks=state.checks,
                failures=state.failures,
                transitions=state.transitions,
                result=watch.result,
            )

    async def close(self) -> None:
        """End all checks; when it returns, no task, socket or process of theirs is left."""
        for watch in self._watches.values():
            self._stop(watch)
        self._watches.clear()
        await asyncio.gather(*self._ending, return_exceptions=True)

    def _start(self, key: Key, watch: _Watch) -> None:
        if watch.check.type != OFF:
            checking = self._keep_checking(key, watch, after=watch.task)
            watch.task = asyncio.create_task(checking, name=f"health {key}")

    def _stop(self, watch: _Watch) -> None:
        """Cancel the task of *watch*; close() waits for what it has to end."""
        if watch.task is not None and watch.task.cancel():
            self._ending.add(watch.task)
            watch.task.add_done_callback(self._ending.discard)

    async def _keep_checking(self, key: Key, watch: _Watch, after: asyncio.Task[None] | None) -> None:
        if after is not None:
            await asyncio.wait([after])  # it was cancelled, and may have a script to end
        places = self._script_places if watch.check.type == "script" else self._places
        while True:
            await asyncio.sleep(max(0, watch.due - monotonic_ns()) / SECOND)
            async with places:
                begun = monotonic_ns()
                result = await self._check(watch)
            watch.due = next_due(watch.due, begun, self._period(watch.check))
            if result is not None:
                self._take(key, watch, result)

    async def _check(self, watch: _Watch) -> Result | None:
        """Return what came of a check; None when the check itself is broken, which no server pays for."""
        watch.is_checking = True
        try:
            return await run_check(watch.check, watch.target)
        except Exception as error:
            _report(f"check {watch.check.type} of {watch.target}", error)
            return None
        finally:
            watch.is_checking = False

    def _take(self, key: Key, watch: _Watch, result: Result) -> None:
        """Note *result* and tell of it."""
        watch.result = result
        transition: Transition | None = None
        if result.ok is not None:
            transition = watch.state.observe(result.ok, monotonic_ns())
        try:
            self._on_result(key, result)
            if transition is not None:
                self._on_change(key, transition.after, result)
        except Exception as error:  # the next check must come all the same
            _report(f"result of {key}", error)

    def _period(self, check: HealthCheck) -> int:
        return check.interval - self._random.below(check.interval * check.jitter // 100 + 1)


def next_due(due: int, begun: int, period: int) -> int:
    """Return when the check after the one of *due* begins, which itself began at *begun*.

    A start that was late, by the loop or for want of a place, leaves the schedule as it is, unless a
    whole period was lost: nothing is made up for in a burst.
    """
    return due + period if begun - due < period else begun + period


def _report(what: str, error: Exception) -> None:
    asyncio.get_running_loop().call_exception_handler({"message": f"health: {what}", "exception": error})
