# SPDX-License-Identifier: Apache-2.0
"""Reload: all of it or nothing, with everything kept that stays."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from fullnat.control.build import build_served, plan_host
from fullnat.control.config import Config, load_config
from fullnat.control.events import EventLog
from fullnat.control.farewells import Farewells
from fullnat.control.reload import LINGER, RefusedError, Reloader
from fullnat.control.roster import Roster
from fullnat.control.served import Served
from fullnat.core.addr import PortRange, parse_endpoint
from fullnat.core.service import Admin, Health, RealServer, VirtualService
from fullnat.datapath.kernel import KernelDatapath
from fullnat.host.errors import HostError
from fullnat.host.plan import HostPlan

CONFIG = """
version = 1
[snat]
addresses = ["198.19.0.1"]
[[service]]
name = "web"
listen = "tcp://203.0.113.10:80"
scheduler = "rr"
  [[service.server]]
  address = "198.19.0.11:80"
  [[service.server]]
  address = "198.19.0.12:80"
"""
MORE = """
[[service]]
name = "api"
listen = "tcp://203.0.113.11:80"
  [[service.server]]
  address = "198.19.0.21:80"
"""


class Checks:
    """Notes whom it was told to follow."""

    def __init__(self) -> None:
        self.followed: list[list[str]] = []

    def follow(self, services: Iterable[Served]) -> None:
        self.followed.append([served.config.name for served in services])


class Engine(KernelDatapath):
    """Is strict about what it serves, as those that keep tables are."""

    def set_servers(self, service: VirtualService, servers: list[RealServer]) -> None:
        assert service in self.services
        super().set_servers(service, servers)

    def service_changed(self, service: VirtualService) -> None:
        assert service in self.services
        super().service_changed(service)


class Run:
    """A run without packets and without a host."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "lb.toml"
        config = self.read(CONFIG)
        self.events: list[str] = []
        log = EventLog(lambda: 0.0, self.events.append)
        self.roster = Roster(build_served(config, 1), log, lambda: None, lambda served, server: None)
        self.roster.prepare()
        self.engine = Engine(served.virtual for served in self.roster.services)
        self.roster.attach(self.engine, Farewells(self.engine, lambda packet: None), 0)
        self.checks = Checks()
        self.plans: list[HostPlan] = []
        self.refusal: HostError | None = None
        self.now = 0
        self.reloader = Reloader(
            config, self.roster, self.checks, self.make_plan, self.go_over, lambda: self.now, 1
        )

    def read(self, text: str) -> Config:
        self._path.write_text(text)
        return load_config(self._path)

    def make_plan(self, config: Config) -> HostPlan:
        return plan_host(config, PortRange(1024, 2047), "python", None, self.roster.kernel_servers)

    async def go_over(self, plan: HostPlan) -> None:
        if self.refusal:
            raise self.refusal
        self.plans.append(plan)

    def reload(self, text: str, **options: Any) -> tuple[str, ...]:
        file = self.read(text)

        async def run() -> tuple[str, ...]:
            changes = await self.reloader.reload(file, **options)
            await asyncio.sleep(0)
            return changes.lines

        return asyncio.run(run())

    def servers(self, name: str) -> list[str]:
        served = self.roster.find(name)
        assert served
        return [str(server.endpoint) for server in served.virtual.servers]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_a_new_service_is_steered_before_it_is_told_of_and_a_gone_one_after(run: Run) -> None:
    assert run.reload(CONFIG + MORE) == ("+ service api tcp://203.0.113.11:80: wlc, 1 server",)
    assert [str(service) for service in run.engine.services] == [
        "tcp://203.0.113.10:80",
        "tcp://203.0.113.11:80",
    ]
    assert [len(plan.services) for plan in run.plans] == [2, 2]
    assert run.checks.followed == [["web", "api"]]
    run.plans.clear()
    run.reload(CONFIG)
    assert [len(plan.services) for plan in run.plans] == [2]  # what ends of its flows answer must come here
    run.now = LINGER
    asyncio.run(run.reloader.look_at_departing())
    assert [len(plan.services) for plan in run.plans] == [2, 1]
    assert [str(service) for service in run.engine.services] == ["tcp://203.0.113.10:80"]


def test_a_trial_changes_nothing(run: Run) -> None:
    assert run.reload(CONFIG + MORE, is_trial=True)
    assert run.plans == []
    assert len(run.roster.services) == 1


def test_what_takes_a_restart_is_refused_whole(run: Run) -> None:
    with pytest.raises(
        RefusedError, match=r"^this takes a restart: snat.addresses 198.19.0.1 -> 198.19.0.2$"
    ):
        run.reload(CONFIG.replace('["198.19.0.1"]', '["198.19.0.2"]') + MORE)
    assert run.plans == []
    assert len(run.roster.services) == 1


def test_what_the_host_refuses_changes_nothing(run: Run) -> None:
    run.refusal = HostError("no")
    with pytest.raises(HostError):
        run.reload(CONFIG + MORE)
    assert len(run.roster.services) == 1
    assert run.checks.followed == []
    run.refusal = None
    assert run.reload(CONFIG + MORE)


def test_a_scheduler_that_fails_changes_nothing(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from fullnat.core.sched import Scheduler\n"
        "class Mine(Scheduler):\n"
        "    def __init__(self, *a, **k):\n"
        "        raise RuntimeError('not today')\n"
        "    def schedule(self, request):\n"
        "        return None\n"
    )
    with pytest.raises(RefusedError, match=r"service web: scheduler mine.py:Mine: RuntimeError: not today"):
        run.reload(CONFIG.replace('"rr"', '"mine.py:Mine"') + MORE)
    assert len(run.roster.services) == 1


def test_what_is_known_and_wanted_of_a_server_stays(run: Run) -> None:
    (web,) = run.roster.services
    one, two = (web.find(parse_endpoint(f"198.19.0.{n}:80")) for n in (11, 12))
    assert one
    assert two
    run.roster.set_health(web, one, Health.DOWN, 0)
    run.roster.set_admin(web, two, Admin.QUIESCED, 0)
    two.connections = 7
    run.reload(CONFIG.replace('"rr"', '"wlc"').replace('11:80"', '11:80"\n  weight = 5') + MORE)
    assert run.roster.find("web") is web
    assert web.find(parse_endpoint("198.19.0.11:80")) is one
    assert (one.health, one.configured_weight, one.weight) == (Health.DOWN, 5, 0)
    assert (two.admin, two.connections) == (Admin.QUIESCED, 7)
    assert web.virtual.scheduler_name == "wlc"
    assert run.servers("web") == ["198.19.0.12:80"]


def test_a_weight_set_by_command_lasts_until_the_file_says_another(run: Run) -> None:
    (web,) = run.roster.services
    one = web.find(parse_endpoint("198.19.0.11:80"))
    assert one
    run.roster.set_weight(web, one, 9, 0)
    run.reload(CONFIG + MORE)
    assert one.configured_weight == 9
    run.reload(CONFIG.replace('11:80"', '11:80"\n  weight = 2'))
    assert one.configured_weight == 2


def test_a_server_that_is_gone_is_steered_until_its_last_flow_has_ended(run: Run) -> None:
    (web,) = run.roster.services
    two = web.find(parse_endpoint("198.19.0.12:80"))
    assert two
    two.active = 1
    text = CONFIG.replace('  [[service.server]]\n  address = "198.19.0.12:80"\n', "")
    run.reload(text)
    assert run.servers("web") == ["198.19.0.11:80"]
    assert [len(plan.servers) for plan in run.plans] == [2]
    asyncio.run(run.reloader.look_at_departing())
    assert [len(plan.servers) for plan in run.plans] == [2]
    two.active = 0
    asyncio.run(run.reloader.look_at_departing())
    assert [len(plan.servers) for plan in run.plans] == [2, 1]
    assert not run.reloader.is_waiting


def test_a_service_made_by_command_stays_until_a_file_has_had_it(run: Run, tmp_path: Path) -> None:
    both = run.read(CONFIG + MORE)
    asyncio.run(run.reloader.command(lambda config: both))
    assert run.reload(CONFIG.replace('"rr"', '"wlc"')) == ("~ service web: scheduler rr -> wlc",)
    assert [served.config.name for served in run.roster.services] == ["web", "api"]
    run.reload(CONFIG + MORE)
    run.reload(CONFIG)
    assert [served.config.name for served in run.roster.services] == ["web"]


def test_servers_may_move_between_pools_and_keep_their_flows(run: Run) -> None:
    (web,) = run.roster.services
    two = web.find(parse_endpoint("198.19.0.12:80"))
    text = CONFIG.replace(
        '  [[service.server]]\n  address = "198.19.0.12:80"',
        '  [[service.backup]]\n  [[service.backup.server]]\n  address = "198.19.0.12:80"',
    )
    assert run.reload(text)
    assert web.find(parse_endpoint("198.19.0.12:80")) is two
    assert run.servers("web") == ["198.19.0.11:80"]
