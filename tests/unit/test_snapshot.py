# SPDX-License-Identifier: Apache-2.0
"""What `fullnat show` knows, as rows and as tables."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fullnat.cli import ask
from fullnat.control import snapshot, summary, tables
from fullnat.control.printer import Printer
from fullnat.core.reason import Reason, Verdict
from fullnat.core.service import Admin, Health
from fullnat.core.timeouts import SECOND
from tests.instances import CONFIG, ONE, SPARE, TWO, Run
from tests.packets import tcp
from tests.vectors.case import V4

PERSISTENT = CONFIG.replace(
    'scheduler = "rr"', 'scheduler = "rr"\npersistence = { timeout = "60s", mask = 24 }'
)


@pytest.fixture(params=["python", pytest.param("native", marks=pytest.mark.requires("native"))])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """An instance with one established connection, two seconds old and idle for one."""
    made = Run(tmp_path, PERSISTENT, request.param)
    made.send(tcp(V4.to_vip(), "S"))
    made.send(tcp(V4.from_server(), "SA"))
    made.now = SECOND
    made.send(tcp(V4.to_vip(), "A"))
    made.now = 2 * SECOND
    made.engine.refresh()
    return made


def test_services_sum_over_their_servers(run: Run) -> None:
    (row,) = snapshot.services(run.roster.services)
    assert row == {
        "name": "web",
        "protocol": "tcp",
        "listen": "203.0.113.10:80",
        "address": "tcp://203.0.113.10:80",
        "scheduler": "rr",
        "scheduler_flags": [],
        "persistence": {"timeout": 60.0, "mask": 24},
        "one_packet": False,
        "forward": "fullnat",
        "serving": "main",
        "pools": [
            {"name": "main", "servers": 2, "usable_weight": 4, "quorum": 1, "has_quorum": True},
            {"name": "site-b", "servers": 1, "usable_weight": 1, "quorum": 1, "has_quorum": True},
        ],
        "servers": 4,
        "available": 2,
        "active": 1,
        "inactive": 0,
        "connections": 1,
        "packets_in": 2,
        "packets_out": 1,
        "bytes_in": 80,
        "bytes_out": 40,
    }


def test_a_server_shows_what_is_wanted_and_known_of_it(run: Run) -> None:
    served, one, two = run.served(), run.server(ONE), run.server(TWO)
    run.roster.set_admin(served, one, Admin.QUIESCED, SECOND, 32 * SECOND)
    run.roster.set_health(served, two, Health.DOWN, SECOND)
    rows = run.instance.server_rows()
    assert [(row["pool"], row["address"]) for row in rows[:3]] == [
        ("main", ONE),
        ("main", TWO),
        ("site-b", SPARE),
    ]
    assert (
        rows[0]
        | {
            "weight": 3,
            "effective_weight": 0,
            "admin": "drain",
            "health": "unknown",
            "check": None,
            "drain": {"by": "command", "since": 1.0, "deadline": 30.0, "left": 1},
            "active": 1,
            "bytes_in": 80,
        }
        == rows[0]
    )
    assert (rows[1]["health"], rows[1]["in_rotation"], rows[1]["effective_weight"]) == ("down", False, 0)


def test_a_flow_shows_all_four_ends_and_its_clock(run: Run) -> None:
    (flow,) = snapshot.flows(run.engine.flows(), 2 * SECOND)
    assert flow == {
        "service": "web",
        "protocol": "tcp",
        "client": "203.0.113.100:4000",
        "virtual": "203.0.113.10:80",
        "local": "198.19.0.1:5000",
        "server": "198.19.0.11:8080",
        "state": "ESTABLISHED",
        "age": 2.0,
        "idle": 1.0,
        "expires": 899.0,
        "packets_in": 2,
        "packets_out": 1,
        "bytes_in": 80,
        "bytes_out": 40,
    }


def test_ports_show_what_is_left(run: Run) -> None:
    assert snapshot.ports(run.engine.ports(0)) == [
        {
            "protocol": "tcp",
            "local": "198.19.0.1",
            "server": "198.19.0.11:8080",
            "in_use": 1,
            "resting": 0,
            "capacity": 1,
        }
    ]


def test_persistence_shows_whose_server_is_whose(run: Run) -> None:
    assert snapshot.persistence(run.engine.templates(), 2 * SECOND) == [
        {
            "service": "web",
            "clients": "203.0.113.0/24",
            "server": "198.19.0.11:8080",
            "flows": 1,
            "expires": 58.0,
        }
    ]


def test_every_reason_is_in_the_statistics(run: Run) -> None:
    statistics = run.engine.statistics()
    statistics.received = 3
    statistics.of_engine = {"batches": 2}
    shown = snapshot.stats(statistics)
    assert set(shown["reasons"]) == {reason.name.lower() for reason in Reason}
    assert sum(row["count"] for row in shown["reasons"].values()) == shown["packets_received"] == 3
    assert (shown["flows"], shown["flows_limit"], shown["persistence"], shown["batches"]) == (1, 100, 1, 2)
    assert snapshot.count_verdict(statistics, Verdict.FORWARD) == 3


def test_the_command_line_offers_exactly_the_views_that_have_a_table() -> None:
    assert set(ask.VIEWS) == set(tables.VIEWS)


def printed(what: str, answer: Any) -> str:
    console = Console(file=io.StringIO(), width=240)
    tables.show(console, what, answer)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("what", tables.VIEWS)
def test_every_view_has_a_table(run: Run, what: str) -> None:
    check = {"type": "tcp", "code": "L4CON", "detail": "refused", "duration": 0.0012, "since": 3.0}
    counts = {"checks": 9, "failures": 2, "transitions": 1}
    answers: dict[str, Any] = {
        "services": snapshot.services(run.roster.services),
        "servers": run.instance.server_rows(),
        "checks": [row | {"check": check | counts} for row in run.instance.server_rows()],
        "flows": snapshot.flows(run.engine.flows(), 0),
        "ports": snapshot.ports(run.engine.ports(0)),
        "persistence": snapshot.persistence(run.engine.templates(), 0),
        "stats": snapshot.stats(run.engine.statistics()),
    }
    text = printed(what, answers[what])
    expected = {"services": "203.0.113.10:80", "stats": "flow_opened", "checks": "L4CON"}
    assert expected.get(what, ONE) in text
    if what == "checks":
        assert "1.2ms" in text


@pytest.mark.parametrize(
    ("admin", "health", "shown"),
    [
        (Admin.ENABLED, Health.UNKNOWN, "up"),
        (Admin.ENABLED, Health.UP, "up"),
        (Admin.ENABLED, Health.DOWN, "down"),
        (Admin.QUIESCED, Health.UP, "drain, 1 left"),
        (Admin.DISABLED, Health.UP, "disabled, 1 left"),
    ],
)
def test_the_state_of_a_server_is_one_word(run: Run, admin: Admin, health: Health, shown: str) -> None:
    served, one = run.served(), run.server(ONE)
    run.roster.set_health(served, one, health, 0)
    run.roster.set_admin(served, one, admin, 0)
    rows = printed("servers", run.instance.server_rows()).splitlines()[2:]
    assert [shown in row for row in rows] == [True, shown == "up", False, False]
    assert ["standby" in row for row in rows] == [False, False, True, True]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (9999, "9999"),
        (10_000, "10.0k"),
        (18_234_567, "18.2M"),
        (999_999_999, "1000M"),
        (5 * 10**12, "5000G"),
    ],
)
def test_numbers_are_short(number: int, text: str) -> None:
    assert tables.scaled(number) == text


class Paper(Printer):
    """Keeps what is printed on it."""

    def __init__(self, is_terminal: bool) -> None:
        self._is_terminal = is_terminal
        self.text = ""

    @property
    def is_terminal(self) -> bool:
        return self._is_terminal

    def write(self, text: str) -> None:
        self.text += text


def test_progress_is_a_line_a_minute_where_there_is_no_terminal(run: Run) -> None:
    paper = Paper(is_terminal=False)
    progress = summary.Progress(run.instance, paper)
    for _ in range(59):
        progress.update()
    assert paper.text == ""
    progress.update()
    assert paper.text == "1 flows, 0 new/s, 0 packets/s, 0 dropped\n"
    for _ in range(60):
        progress.update()
    assert paper.text.count("\n") == 1  # nothing changed since


def test_progress_is_one_line_on_a_terminal(run: Run) -> None:
    paper = Paper(is_terminal=True)
    progress = summary.Progress(run.instance, paper)
    progress.update()
    progress.close()
    assert paper.text == "\r\x1b[2K1 flows, 1 new/s, 3 packets/s, 0 dropped\r\x1b[2K"
