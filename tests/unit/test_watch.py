# SPDX-License-Identifier: Apache-2.0
"""The watch: which servers are checked, and what comes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from fullnat.core.service import Admin, Health
from fullnat.health.monitor import HealthMonitor
from tests.instances import CONFIG, ONE, SPARE, TWO, Run

HEALTH = 'health = {{ type = "file", path = "{}", interval = "20ms", timeout = "10ms", rise = 1, fall = 1 }}'


class Checked(Run):
    """An instance whose servers are up while a file is there; the file may hold their weight."""

    def __init__(self, folder: Path) -> None:
        self.present = folder / "present"
        self.present.touch()
        self.text = CONFIG.replace('"rr"', f'"rr"\n{HEALTH.format(self.present)}')
        super().__init__(folder, self.text)

    @property
    def health(self) -> dict[str, str]:
        return {str(server.endpoint): server.health.value for server in self.served().servers[:3]}

    @property
    def checked(self) -> list[str]:
        return [str(endpoint) for _, endpoint in self.watch.rows()]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.002)

    async def counts(self, times: int) -> None:
        """Wait until the first server was checked so many times more."""
        place = next(iter(self.watch.rows()))
        before = self.watch.rows()[place]["checks"]
        await self.until(lambda: self.watch.rows()[place]["checks"] >= before + times)


def play(run: Checked, scene: Callable[[], object]) -> None:
    """Run *scene* with all checks going, until it is over."""

    async def main() -> None:
        run.watch.follow(run.roster.services)
        try:
            await scene()  # type: ignore[misc]
        finally:
            await run.watch.close()

    asyncio.run(main())


def test_servers_of_all_pools_are_checked_and_the_sorry_server_is_not(tmp_path: Path) -> None:
    run = Checked(tmp_path)

    async def scene() -> None:
        assert run.checked == [ONE, TWO, SPARE]
        await run.until(lambda: set(run.health.values()) == {"up"})

    play(run, scene)
    assert run.checked == []


def test_what_a_check_finds_is_told_to_the_roster(tmp_path: Path) -> None:
    run = Checked(tmp_path)

    async def scene() -> None:
        await run.until(lambda: set(run.health.values()) == {"up"})
        run.present.unlink()
        await run.until(lambda: set(run.health.values()) == {"down"})
        row = next(iter(run.watch.rows().values()))
        assert (row["type"], row["code"], row["transitions"]) == ("file", "L7STS", 2)
        assert row["detail"] == f"No such file or directory: {run.present}"

    play(run, scene)
    down = [line for line in run.lines if "kind=server-down" in line]
    assert len(down) == 3
    assert "code=L7STS" in down[0]


def test_a_weight_that_a_check_finds_is_taken_over_and_said_once(tmp_path: Path) -> None:
    run = Checked(tmp_path)
    run.present.write_text("42")

    async def scene() -> None:
        await run.until(lambda: run.server(ONE).configured_weight == 42)
        await run.counts(3)

    play(run, scene)
    assert [line for line in run.lines if f"server={ONE} was" in line] == [
        f"event=FN2004 kind=server-weight service=web server={ONE} was=3 weight=42 by=check"
    ]


def test_a_disabled_server_is_not_checked_until_it_is_enabled(tmp_path: Path) -> None:
    run = Checked(tmp_path)

    async def scene() -> None:
        await run.until(lambda: set(run.health.values()) == {"up"})
        first, second = list(run.watch.rows())[:2]
        run.roster.set_admin(run.served(), run.server(ONE), Admin.DISABLED, 0)
        assert run.watch.rows()[first]["suspended"]
        run.present.unlink()
        await run.until(lambda: run.health[TWO] == "down")
        checks = run.watch.rows()[first]["checks"]
        await run.until(lambda: run.watch.rows()[second]["checks"] > checks + 2)
        assert (run.watch.rows()[first]["checks"], run.health[ONE]) == (checks, "up")
        run.roster.set_admin(run.served(), run.server(ONE), Admin.ENABLED, 0)
        assert not run.watch.rows()[first]["suspended"]
        await run.until(lambda: run.health[ONE] == "down")

    play(run, scene)


def test_a_draining_server_is_checked(tmp_path: Path) -> None:
    run = Checked(tmp_path)

    async def scene() -> None:
        await run.until(lambda: run.health[ONE] == "up")
        run.roster.set_admin(run.served(), run.server(ONE), Admin.QUIESCED, 0)
        run.present.unlink()
        await run.until(lambda: run.health[ONE] == "down")

    play(run, scene)


def test_a_server_is_unknown_after_its_check_is_removed(tmp_path: Path) -> None:
    run = Checked(tmp_path)

    async def scene() -> None:
        run.present.unlink()
        await run.until(lambda: set(run.health.values()) == {"down"})
        assert [str(one.endpoint) for one in run.served().virtual.servers] == ["198.19.0.99:80"]
        await run.instance.reloader.reload(run.write(CONFIG))
        assert set(run.health.values()) == {"unknown"}
        assert run.checked == []
        assert [str(one.endpoint) for one in run.served().virtual.servers] == [ONE, TWO]

    play(run, scene)


def test_a_service_that_is_gone_is_checked_no_more_and_nothing_is_told_of_it(tmp_path: Path) -> None:
    run = Checked(tmp_path)

    async def scene() -> None:
        await run.until(lambda: set(run.health.values()) == {"up"})
        gone = run.served()
        told = len(run.lines)
        elsewhere = CONFIG.replace("203.0.113.10:80", "203.0.113.10:81")
        await run.instance.reloader.reload(run.write(elsewhere))
        assert run.checked == []
        assert {server.health for server in gone.servers[:3]} == {Health.UP}  # as it left
        assert [line for line in run.lines[told:] if "kind=server" in line] == []

    play(run, scene)


def test_a_server_that_is_gone_is_not_checked_and_one_that_is_new_is(tmp_path: Path) -> None:
    run = Checked(tmp_path)

    async def scene() -> None:
        await run.until(lambda: set(run.health.values()) == {"up"})
        await run.counts(2)
        checks = [row["checks"] for row in run.watch.rows().values()]
        two = run.server(TWO)
        await run.instance.reloader.reload(run.write(run.text.replace(TWO, "198.19.0.14:8080")))
        assert run.checked == [ONE, SPARE, "198.19.0.14:8080"]
        assert two.health is Health.UP  # as it left
        after = [row["checks"] for row in run.watch.rows().values()]
        assert after[0] >= checks[0] > 0  # it went on
        assert after[2] == 0
        await run.until(lambda: run.server("198.19.0.14:8080").health is Health.UP)

    play(run, scene)


def test_a_check_that_changed_goes_on_with_what_is_known(tmp_path: Path) -> None:
    run = Checked(tmp_path)
    absent = run.text.replace(str(run.present), str(tmp_path / "absent"))

    async def scene() -> None:
        await run.until(lambda: set(run.health.values()) == {"up"})
        await run.instance.reloader.reload(run.write(absent))
        assert set(run.health.values()) == {"up"}
        await run.until(lambda: set(run.health.values()) == {"down"})
        assert next(iter(run.watch.rows().values()))["transitions"] == 2

    play(run, scene)


def test_a_disabled_server_stays_so_through_a_reload(tmp_path: Path) -> None:
    run = Checked(tmp_path)

    async def scene() -> None:
        run.roster.set_admin(run.served(), run.server(ONE), Admin.DISABLED, 0)
        await run.instance.reloader.reload(run.write(run.text.replace("fall = 1", "fall = 2")))
        first = next(iter(run.watch.rows().values()))
        assert (first["suspended"], first["checks"], first["code"]) == (True, 0, "INI")

    play(run, scene)


def test_the_same_service_under_another_name_keeps_its_checks(tmp_path: Path) -> None:
    run = Checked(tmp_path)
    started: list[object] = []

    async def scene() -> None:
        await run.until(lambda: set(run.health.values()) == {"up"})
        start = HealthMonitor._start

        def noted(monitor: HealthMonitor[object], key: object, watch: object) -> None:
            started.append(key)
            start(monitor, key, watch)  # type: ignore[arg-type]

        HealthMonitor._start = noted  # type: ignore[method-assign, assignment]
        try:
            await run.instance.reloader.reload(run.write(run.text.replace('"web"', '"www"')))
        finally:
            HealthMonitor._start = start  # type: ignore[method-assign]
        await run.counts(2)

    play(run, scene)
    assert started == []
