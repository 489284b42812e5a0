# SPDX-License-Identifier: Apache-2.0
"""The roster: what makes a server serve or not, and who is told of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from fullnat.control.build import build_served
from fullnat.control.config import Config, load_config
from fullnat.control.events import EventLog
from fullnat.control.farewells import Farewells
from fullnat.control.maintenance import Maintenance
from fullnat.control.roster import Roster
from fullnat.control.served import Served
from fullnat.core.addr import parse_endpoint
from fullnat.core.service import Admin, Health, RealServer
from fullnat.core.timeouts import SECOND
from fullnat.datapath.kernel import KernelDatapath

ONE, TWO, SPARE, SORRY = ("198.19.0.11:80", "198.19.0.12:80", "198.19.0.21:80", "198.19.0.99:80")
CONFIG = f"""
version = 1
[snat]
addresses = ["198.19.0.1"]
[[service]]
name = "web"
listen = "tcp://203.0.113.10:80"
scheduler = "wrr"
sorry = "{SORRY}"
OPTIONS
  [[service.server]]
  address = "{ONE}"
  weight = 3
  [[service.server]]
  address = "{TWO}"
  [[service.backup]]
  name = "site-b"
    [[service.backup.server]]
    address = "{SPARE}"
"""


class Engine(KernelDatapath):
    """Writes down what it is told."""

    def __init__(self, roster: Roster) -> None:
        super().__init__(served.virtual for served in roster.services)
        self.told: list[tuple[str, ...]] = []
        self.ended: list[RealServer] = []

    def set_servers(self, service, servers):  # type: ignore[no-untyped-def]
        self.told.append(tuple(str(server.endpoint) for server in servers))
        super().set_servers(service, servers)

    async def end_flows(self, server):  # type: ignore[no-untyped-def]
        self.ended.append(server)
        for _ in ():
            yield _


class Bench:
    """A roster with an engine that writes down, and what was written."""

    def __init__(self, config: Config) -> None:
        self.lines: list[str] = []
        self.kernel_calls = 0
        self.admin_calls: list[str] = []
        events = EventLog(lambda: 0.0, self.lines.append)
        self.roster = Roster(build_served(config, 1), events, self.on_kernel, self.on_admin)
        self.roster.prepare()
        self.engine = Engine(self.roster)
        self.roster.attach(self.engine, Farewells(self.engine, lambda packet: None), 0)
        self.engine.told.clear()
        self.kernel_calls = 0
        (self.web,) = self.roster.services

    def on_kernel(self) -> None:
        self.kernel_calls += 1

    def on_admin(self, served: Served, server: RealServer) -> None:
        self.admin_calls.append(str(server.endpoint))

    def server(self, address: str) -> RealServer:
        found = self.web.find(parse_endpoint(address))
        assert found
        return found

    def health(self, address: str, health: Health, now: int = 0) -> None:
        self.roster.set_health(self.web, self.server(address), health, now, "L4CON", "refused")

    def admin(self, address: str, admin: Admin, now: int = 0, deadline: int | None = None) -> None:
        self.roster.set_admin(self.web, self.server(address), admin, now, deadline)

    @property
    def listed(self) -> list[str]:
        return [str(server.endpoint) for server in self.web.virtual.servers]


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., Bench]:
    def make(options: str = "") -> Bench:
        path = tmp_path / "lb.toml"
        path.write_text(CONFIG.replace("OPTIONS", options))
        return Bench(load_config(path))

    return make


def test_at_first_the_main_pool_serves_and_nothing_is_said(bench: Callable[..., Bench]) -> None:
    made = bench()
    assert made.listed == [ONE, TWO]
    assert made.lines == []


def test_a_server_that_is_down_is_out_and_back_when_it_is_up(bench: Callable[..., Bench]) -> None:
    made = bench()
    made.health(ONE, Health.DOWN)
    assert made.engine.told == [(TWO,)]
    made.health(ONE, Health.UP)
    assert made.engine.told == [(TWO,), (ONE, TWO)]
    assert made.kernel_calls == 2
    assert [line.split()[1] for line in made.lines] == ["kind=server-down", "kind=server-up"]
    assert "code=L4CON detail=refused serving=1" in made.lines[0]


def test_where_it_is_inhibited_it_keeps_its_place_with_weight_0(bench: Callable[..., Bench]) -> None:
    made = bench("inhibit = true")
    made.health(ONE, Health.DOWN)
    assert made.listed == [ONE, TWO]
    assert made.server(ONE).weight == 0


def test_backup_then_sorry_and_back(bench: Callable[..., Bench]) -> None:
    made = bench()
    made.health(ONE, Health.DOWN)
    made.health(TWO, Health.DOWN)
    assert made.listed == [SPARE]
    made.health(SPARE, Health.DOWN)
    assert made.listed == [SORRY]
    made.health(TWO, Health.UP)
    assert made.listed == [TWO]
    pools = [line for line in made.lines if "pool-serves" in line]
    assert [line.split("pool=")[1] for line in pools] == [
        "site-b was=main",
        "sorry was=site-b",
        "main was=sorry",
    ]


def test_a_drained_server_keeps_its_place_with_weight_0(bench: Callable[..., Bench]) -> None:
    made = bench()
    made.admin(ONE, Admin.QUIESCED)
    assert made.listed == [ONE, TWO]
    assert made.server(ONE).weight == 0
    assert made.admin_calls == [ONE]
    made.admin(ONE, Admin.ENABLED)
    assert made.server(ONE).weight == 3
    assert made.roster.wish_for(made.server(ONE)) is None


def test_a_disabled_server_is_out(bench: Callable[..., Bench]) -> None:
    made = bench()
    made.admin(ONE, Admin.DISABLED)
    assert made.listed == [TWO]


def test_a_drain_is_told_to_be_over_once(bench: Callable[..., Bench]) -> None:
    made = bench()
    made.server(ONE).active = 2
    made.admin(ONE, Admin.QUIESCED)
    made.roster.tick(1 * SECOND)
    assert not any("drained" in line for line in made.lines)
    made.server(ONE).active = 0
    made.server(ONE).inactive = 5  # closed by both ends, and kept for a while
    made.roster.tick(2 * SECOND)
    made.roster.tick(3 * SECOND)
    assert [line for line in made.lines if "kind=drained" in line] == [
        f"event=FN2005 kind=drained service=web server={ONE} seconds=2.0"
    ]


def test_at_its_deadline_a_drain_ends_what_is_left(bench: Callable[..., Bench]) -> None:
    made = bench()

    async def run() -> None:
        made.server(ONE).active = 2
        made.admin(ONE, Admin.QUIESCED, 0, 10 * SECOND)
        made.roster.tick(9 * SECOND)
        await asyncio.sleep(0)
        assert made.engine.ended == []
        made.roster.tick(10 * SECOND)
        made.roster.tick(11 * SECOND)
        await asyncio.sleep(0)
        assert made.engine.ended == [made.server(ONE)]
        assert made.server(ONE).admin is Admin.DISABLED

    asyncio.run(run())


@pytest.mark.parametrize(
    ("options", "due"), [('on_down = "reset"', 0), ('on_down = "reset"\nreset_after = "5s"', 5)]
)
def test_flows_of_a_server_that_is_down_are_ended_where_that_is_asked_for(
    bench: Callable[..., Bench], options: str, due: int
) -> None:
    made = bench(options)

    async def run() -> None:
        made.health(ONE, Health.DOWN)
        for second in range(due):
            made.roster.tick(second * SECOND)
            await asyncio.sleep(0)
            assert made.engine.ended == []
        made.roster.tick(due * SECOND)
        await asyncio.sleep(0)
        assert made.engine.ended == [made.server(ONE)]

    asyncio.run(run())


def test_a_server_that_is_back_in_time_keeps_its_flows(bench: Callable[..., Bench]) -> None:
    made = bench('on_down = "reset"\nreset_after = "5s"')

    async def run() -> None:
        made.health(ONE, Health.DOWN)
        made.health(ONE, Health.UP, 4 * SECOND)
        made.roster.tick(6 * SECOND)
        await asyncio.sleep(0)
        assert made.engine.ended == []

    asyncio.run(run())


def test_a_maintenance_file_drains_and_its_absence_ends_that(bench: Callable[..., Bench]) -> None:
    made = bench()
    made.roster.set_files(Maintenance(["198.19.0.11:80", "README"]).__contains__, 0)
    assert made.server(ONE).admin is Admin.QUIESCED
    assert made.server(TWO).admin is Admin.ENABLED
    made.roster.set_files(Maintenance([]).__contains__, 0)
    assert made.server(ONE).admin is Admin.ENABLED
    assert [line.split("state=")[1] for line in made.lines] == ["drain by=file", "enabled by=file"]


def test_a_command_and_a_file_must_both_be_gone(bench: Callable[..., Bench]) -> None:
    made = bench()
    file = Maintenance(["198.19.0.11"]).__contains__
    made.roster.set_files(file, 0)
    made.admin(ONE, Admin.DISABLED)
    assert made.server(ONE).admin is Admin.DISABLED
    made.admin(ONE, Admin.ENABLED)
    assert made.server(ONE).admin is Admin.QUIESCED
    made.roster.set_files(Maintenance().__contains__, 0)
    assert made.server(ONE).admin is Admin.ENABLED


def test_slow_start_grows_with_time(bench: Callable[..., Bench]) -> None:
    made = bench('slow_start = "10s"')
    assert [server.weight for server in made.web.virtual.servers] == [300, 100]
    made.health(TWO, Health.DOWN)
    made.health(TWO, Health.UP, 100 * SECOND)
    seen = []
    for second in (100, 105, 110, 111):
        made.roster.tick(second * SECOND)
        seen.append(made.server(TWO).weight)
    assert seen == [1, 50, 100, 100]


def test_a_weight_set_by_command_is_told_once(bench: Callable[..., Bench]) -> None:
    made = bench()
    made.roster.set_weight(made.web, made.server(ONE), 7, 0)
    made.roster.set_weight(made.web, made.server(ONE), 7, 0)
    assert made.server(ONE).weight == 7
    assert made.lines == [
        f"event=FN2004 kind=server-weight service=web server={ONE} was=3 weight=7 by=command"
    ]


def test_the_kernel_is_told_who_takes_part(bench: Callable[..., Bench]) -> None:
    made = bench()
    made.health(TWO, Health.DOWN)
    made.admin(ONE, Admin.QUIESCED)
    # the main pool has no quorum, so the backup serves
    assert [str(one.endpoint) for one in made.roster.kernel_servers(made.web.config)] == [SPARE]
    made.health(TWO, Health.UP)
    assert [(str(one.endpoint), one.weight) for one in made.roster.kernel_servers(made.web.config)] == [
        (ONE, 0),
        (TWO, 1),
    ]
