# SPDX-License-Identifier: Apache-2.0
"""What `fullnat show` knows, as rows and as tables."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from fullnat import cli
from fullnat.control import snapshot, summary, tables
from fullnat.core.director import Director
from fullnat.core.packet import parse
from fullnat.core.reason import Reason, Verdict
from fullnat.core.timeouts import SECOND
from fullnat.datapath.base import EngineStatistics
from tests.packets import tcp
from tests.unit.test_vectors import build_director
from tests.vectors.case import V4, Given


@pytest.fixture
def director() -> Director:
    """A director with one established connection, two seconds old and idle for one."""
    made = build_director(Given(V4))
    made.decide(parse(tcp(V4.to_vip(), "S")), 0)
    made.decide(parse(tcp(V4.from_server(), "SA")), 0)
    made.decide(parse(tcp(V4.to_vip(), "A")), SECOND)
    return made


def test_services_sum_over_their_servers(director: Director) -> None:
    web = snapshot.services(director)[0]
    assert (web["name"], web["listen"], web["protocol"]) == ("web", "203.0.113.10:80", "tcp")
    assert (web["servers"], web["available"], web["active"], web["inactive"]) == (3, 3, 1, 0)
    assert (web["connections"], web["packets_in"], web["packets_out"]) == (1, 2, 1)
    assert (web["bytes_in"], web["bytes_out"]) == (80, 40)


def test_a_flow_shows_all_four_ends_and_its_clock(director: Director) -> None:
    (flow,) = snapshot.flows(director, 2 * SECOND)
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
    assert snapshot.flows(director, 0, limit=0) == []


def test_ports_show_what_is_left(director: Director) -> None:
    assert snapshot.ports(director, 0) == [
        {
            "protocol": "tcp",
            "local": "198.19.0.1",
            "server": "198.19.0.11:8080",
            "in_use": 1,
            "resting": 0,
            "capacity": 1,
        }
    ]


def test_every_reason_is_in_the_statistics(director: Director) -> None:
    shown = snapshot.stats(director, EngineStatistics(received=3))
    assert set(shown["reasons"]) == {reason.name.lower() for reason in Reason}
    assert sum(row["count"] for row in shown["reasons"].values()) == shown["packets_received"] == 3
    assert snapshot.count_verdict(director, Verdict.FORWARD) == 3


def test_the_command_line_offers_exactly_the_views_that_have_a_table() -> None:
    assert set(cli.VIEWS) == set(tables.VIEWS)


@pytest.mark.parametrize("what", tables.VIEWS)
def test_every_view_has_a_table(director: Director, what: str) -> None:
    answers = {
        "services": snapshot.services(director),
        "servers": snapshot.servers(director),
        "flows": snapshot.flows(director, 0),
        "ports": snapshot.ports(director, 0),
        "persistence": snapshot.persistence(director, 0),
        "stats": snapshot.stats(director, EngineStatistics(3)),
    }
    console = Console(file=io.StringIO(), width=200)
    tables.show(console, what, answers[what])
    text = console.file.getvalue()  # type: ignore[attr-defined]
    if what in ("services", "flows", "servers"):
        assert "203.0.113.10:80" in text or "198.19.0.11:8080" in text
    assert text.strip()


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


def test_progress_is_a_line_a_minute_where_there_is_no_terminal(director: Director) -> None:
    stream = io.StringIO()
    progress = summary.Progress(director, stream)
    for _ in range(59):
        progress.update()
    assert stream.getvalue() == ""
    progress.update()
    assert stream.getvalue() == "1 flows, 0 new/s, 0 packets/s, 0 dropped\n"
    for _ in range(60):
        progress.update()
    assert stream.getvalue().count("\n") == 1  # nothing changed since


def test_progress_is_one_line_on_a_terminal(director: Director) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    progress = summary.Progress(director, stream)
    progress.update()
    progress.close()
    assert stream.getvalue() == "\r\x1b[2K1 flows, 1 new/s, 3 packets/s, 0 dropped\r\x1b[2K"
