# SPDX-License-Identifier: Apache-2.0
"""The monitor: its schedule, its bounds, what survives a change, and that it leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import uvloop

from fullnat.core.service import Health
from fullnat.core.timeouts import SECOND
from fullnat.health import run
from fullnat.health.check import Code, HealthCheck, Result, ScriptOptions, Target
from fullnat.health.monitor import START_SPREAD, HealthMonitor, next_due
from fullnat.health.probe import CheckError, Finding, Progress

MS = SECOND // 1000
TARGET = Target(ip_address("198.19.0.11"), 80, None)
FAST = HealthCheck("tcp", interval=5 * MS, timeout=5 * MS, rise=2, fall=3, jitter=0)
UP, DOWN, UNKNOWN = Health.UP, Health.DOWN, Health.UNKNOWN

Act = Callable[[Target], Awaitable[bool]]


class Probes:
    """Stands in for the probe of a type: what *act* says of a target, and when it was asked."""

    def __init__(self) -> None:
        self.good = True
        self.act: Act = self._say
        self.starts: list[tuple[int, Target]] = []
        self.under_way = 0
        self.most_under_way = 0
        self.cancelled = 0

    async def _say(self, _target: Target) -> bool:
        return self.good

    async def probe(self, target: Target, _options: None, _progress: Progress) -> Finding:
        self.starts.append((time.monotonic_ns(), target))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            good = await self.act(target)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.under_way -= 1
        if not good:
            raise CheckError(Code.L4CON, "Connection refused")
        return Finding(Code.L4OK, "connected")


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch) -> Probes:
    made = Probes()
    monkeypatch.setitem(run.PROBES, "tcp", made.probe)
    return made


@pytest.fixture(scope="module", autouse=True)
def _loop_warm() -> None:
    """Whatever a first event loop opens for good is open."""
    uvloop.run(asyncio.sleep(0))


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    before = sorted(os.listdir("/proc/self/fd"))
    yield
    assert sorted(os.listdir("/proc/self/fd")) == before


class Watcher:
    """What a monitor told, and a way to wait for more of it."""

    def __init__(self, **options: Any) -> None:
        self.results: list[tuple[str, Result]] = []
        self.changes: list[tuple[str, Health]] = []
        self._told = asyncio.Event()
        self.monitor: HealthMonitor[str] = HealthMonitor(self._result, self._change, seed=1, **options)

    def _result(self, key: str, result: Result) -> None:
        self.results.append((key, result))
        self._told.set()

    def _change(self, key: str, health: Health, _result: Result) -> None:
        self.changes.append((key, health))
        self._told.set()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self._told.clear()
                await self._told.wait()

    async def results_more(self, count: int) -> None:
        wanted = len(self.results) + count
        await self.until(lambda: len(self.results) >= wanted)


def watched(act: Callable[[Watcher], Coroutine[Any, Any, None]], **options: Any) -> None:
    """Run *act* with a monitor, which is closed then and has left no task."""

    async def main() -> None:
        watcher = Watcher(**options)
        try:
            await act(watcher)
        finally:
            await watcher.monitor.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    uvloop.run(main())


def test_results_are_judged_and_changes_told(probes: Probes) -> None:
    async def act(watcher: Watcher) -> None:
        watcher.monitor.add("a", FAST, TARGET)
        assert [(row.health, row.result.code) for row in watcher.monitor.rows()] == [(UNKNOWN, Code.INI)]
        await watcher.until(lambda: watcher.changes == [("a", UP)])
        probes.good = False
        await watcher.until(lambda: watcher.changes == [("a", UP), ("a", DOWN)])
        (row,) = watcher.monitor.rows()
        assert (row.health, row.result.code, row.result.detail) == (DOWN, Code.L4CON, "Connection refused")
        assert (row.failures, row.transitions, row.needed, row.streak) == (3, 2, 2, 0)
        assert row.checks == len(watcher.results)
        assert [result.ok for _, result in watcher.results[-4:]] == [True, False, False, False]
        assert watcher.monitor.health("a") is DOWN

    watched(act)


def test_trouble_of_our_own_changes_nothing(probes: Probes) -> None:
    async def trouble(_target: Target) -> bool:
        raise CheckError(Code.SOCKERR, "Too many open files")

    async def act(watcher: Watcher) -> None:
        watcher.monitor.add("a", replace(FAST, fall=1, start=UP), TARGET)
        probes.act = trouble
        await watcher.results_more(3)
        (row,) = watcher.monitor.rows()
        assert (row.health, row.checks, row.result.code) == (UP, 0, Code.SOCKERR)
        assert watcher.changes == []

    watched(act)


def test_a_broken_check_or_listener_is_reported_and_checking_goes_on(probes: Probes) -> None:
    async def broken(_target: Target) -> bool:
        raise ZeroDivisionError

    async def act(watcher: Watcher) -> None:
        reported: list[str] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _loop, context: reported.append(context["message"])
        )
        watcher.monitor.add("a", FAST, TARGET)
        await watcher.results_more(1)
        probes.act = broken
        await watcher_sees(lambda: len(reported) >= 2)
        assert reported[0] == "health: check tcp of 198.19.0.11:80"
        probes.act = probes._say
        await watcher.results_more(1)
        assert watcher.monitor.health("a") is UP

    watched(act)


async def watcher_sees(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0)


def test_checks_start_apart_and_then_keep_their_interval(probes: Probes) -> None:
    check = replace(FAST, interval=100 * MS, timeout=50 * MS)
    targets = [TARGET._replace(port=port) for port in range(1, 41)]

    async def act(watcher: Watcher) -> None:
        begun = time.monotonic_ns()
        for target in targets:
            watcher.monitor.add(str(target.port), check, target)
        await watcher.results_more(40 * 6)
        starts = {target: [at for at, which in probes.starts if which == target] for target in targets}
        firsts = sorted(times[0] - begun for times in starts.values())
        assert max(firsts) - min(firsts) > 50 * MS  # spread over the interval
        for times in starts.values():
            # The schedule is fixed: being late once does not move what comes after.
            drift = [times[n] - times[0] - n * check.interval for n in range(1, len(times))]
            assert min(map(abs, drift)) < 20 * MS

    watched(act)


@pytest.mark.parametrize(
    ("begun", "due"),
    [(1000, 1100), (1001, 1100), (1099, 1100), (1100, 1200), (5000, 5100)],
)
def test_being_late_does_not_move_the_schedule_and_nothing_is_made_up_for(begun: int, due: int) -> None:
    assert next_due(1000, begun, 100) == due


def test_jitter_only_shortens(probes: Probes) -> None:
    monitor: HealthMonitor[str] = HealthMonitor(print, print, seed=1)
    periods = {monitor._period(replace(FAST, interval=1000, jitter=10)) for _ in range(5000)}
    assert min(periods) == 900
    assert max(periods) == 1000
    assert monitor._period(FAST) == FAST.interval


def test_first_checks_of_a_long_interval_do_not_wait_for_it(probes: Probes) -> None:
    async def act(watcher: Watcher) -> None:
        for number in range(200):
            watcher.monitor.add(str(number), replace(FAST, interval=3600 * SECOND), TARGET)
        dues = [watch.due - time.monotonic_ns() for watch in watcher.monitor._watches.values()]
        assert max(dues) <= START_SPREAD
        assert max(dues) > START_SPREAD * 0.9

    watched(act)


def test_one_check_a_target_and_a_bound_on_all(probes: Probes) -> None:
    gate = asyncio.Event()

    async def wait(_target: Target) -> bool:
        await gate.wait()
        return True

    async def act(watcher: Watcher) -> None:
        probes.act = wait
        check = replace(FAST, timeout=20 * SECOND)
        for number in range(10):
            watcher.monitor.add(str(number), check, TARGET._replace(port=number + 1))
        await watcher_sees(lambda: probes.under_way == 4)
        assert sum(row.is_checking for row in watcher.monitor.rows()) == 4
        gate.set()
        await watcher.until(lambda: len({key for key, _ in watcher.results}) == 10)
        assert probes.most_under_way == 4

    watched(act, at_once=4)


def test_a_check_longer_than_its_interval_is_never_doubled(probes: Probes) -> None:
    async def slow(_target: Target) -> bool:
        await asyncio.sleep(0.012)
        return True

    async def act(watcher: Watcher) -> None:
        probes.act = slow
        watcher.monitor.add("a", replace(FAST, timeout=SECOND), TARGET)
        await watcher.results_more(8)
        assert probes.most_under_way == 1

    watched(act)


def test_an_equal_check_goes_on_undisturbed(probes: Probes) -> None:
    async def forever(_target: Target) -> bool:
        await asyncio.Event().wait()
        return True

    async def act(watcher: Watcher) -> None:
        probes.act = forever
        check = replace(FAST, timeout=20 * SECOND)
        watcher.monitor.add("a", check, TARGET)
        await watcher_sees(lambda: probes.under_way == 1)
        watcher.monitor.replace("a", replace(check), Target(*TARGET))
        await asyncio.sleep(0)
        assert (probes.under_way, probes.cancelled) == (1, 0)
        watcher.monitor.replace("a", check, TARGET._replace(port=81))
        await watcher_sees(lambda: probes.under_way == 1 and probes.starts[-1][1].port == 81)
        assert probes.cancelled == 1

    watched(act)


def test_health_outlives_another_check(probes: Probes) -> None:
    async def act(watcher: Watcher) -> None:
        watcher.monitor.add("a", replace(FAST, fall=1), TARGET)
        await watcher.until(lambda: watcher.changes)
        probes.good = False
        await watcher.until(lambda: watcher.monitor.health("a") is DOWN)
        (before,) = watcher.monitor.rows()
        watcher.monitor.replace("a", replace(FAST, rise=3, start=UP), TARGET._replace(port=81))
        (after,) = watcher.monitor.rows()
        assert (after.health, after.since, after.checks) == (DOWN, before.since, before.checks)
        probes.good = True
        watcher.results.clear()
        await watcher.until(lambda: watcher.monitor.health("a") is UP)
        assert [result.ok for _, result in watcher.results].count(True) == 3

    watched(act)


def test_suspended_is_not_checked_and_not_forgotten(probes: Probes) -> None:
    async def act(watcher: Watcher) -> None:
        watcher.monitor.add("a", FAST, TARGET)
        watcher.monitor.add("b", FAST, TARGET)
        await watcher.until(lambda: len(watcher.changes) == 2)
        watcher.monitor.suspend("a")
        watcher.monitor.suspend("a")
        watcher.monitor.replace("a", replace(FAST, rise=9), TARGET)
        watcher.results.clear()
        await watcher.results_more(5)
        assert {key for key, _ in watcher.results} == {"b"}
        assert [(row.key, row.is_suspended, row.health) for row in watcher.monitor.rows()] == [
            ("a", True, UP),
            ("b", False, UP),
        ]
        watcher.monitor.resume("a")
        watcher.monitor.resume("a")
        await watcher.until(lambda: "a" in {key for key, _ in watcher.results})
        assert probes.most_under_way <= 2

    watched(act)


def test_removed_is_told_of_no_more(probes: Probes) -> None:
    async def act(watcher: Watcher) -> None:
        watcher.monitor.add("a", FAST, TARGET)
        with pytest.raises(KeyError):
            watcher.monitor.add("a", FAST, TARGET)
        await watcher.results_more(1)
        watcher.monitor.remove("a")
        told = len(watcher.results)
        watcher.monitor.add("a", FAST, TARGET)
        assert watcher.monitor.health("a") is UNKNOWN
        watcher.monitor.remove("a")
        watcher.monitor.add("b", FAST, TARGET)
        await watcher.results_more(2)
        assert {key for key, _ in watcher.results[told:]} == {"b"}

    watched(act)


def test_off_has_a_row_and_no_checks(probes: Probes) -> None:
    async def act(watcher: Watcher) -> None:
        watcher.monitor.add("a", HealthCheck("off", start=UP), TARGET)
        watcher.monitor.add("b", FAST, TARGET)
        await watcher.results_more(2)
        assert next((row.type, row.health) for row in watcher.monitor.rows()) == ("off", UP)
        assert {key for key, _ in watcher.results} == {"b"}
        watcher.monitor.replace("a", FAST, TARGET)
        await watcher.until(lambda: "a" in {key for key, _ in watcher.results})

    watched(act)


def test_the_same_seed_makes_the_same_schedule(probes: Probes) -> None:
    def draws(seed: int) -> list[int]:
        monitor: HealthMonitor[str] = HealthMonitor(print, print, seed=seed)
        return [monitor._period(HealthCheck("tcp")) for _ in range(20)]

    assert draws(7) == draws(7)
    assert draws(7) != draws(8)


def test_close_ends_scripts_and_counts_them(tmp_path: Path) -> None:
    command = ("/bin/sh", "-c", f"touch {tmp_path}/$$; exec sleep 600")
    check = HealthCheck("script", ScriptOptions(command), interval=50 * SECOND, timeout=50 * SECOND)
    pids: list[int] = []

    async def act(watcher: Watcher) -> None:
        for number in range(5):
            watcher.monitor.add(str(number), replace(check, interval=MS), TARGET)
        await watcher_sees(lambda: len(os.listdir(tmp_path)) == 3)
        for _ in range(50):
            await asyncio.sleep(0)
        assert sum(row.is_checking for row in watcher.monitor.rows()) == 3
        pids.extend(int(name) for name in os.listdir(tmp_path))
        watcher.monitor.remove("4")  # close() waits for the script of what was removed, too

    watched(act, scripts_at_once=3)
    assert len(pids) == 3
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
