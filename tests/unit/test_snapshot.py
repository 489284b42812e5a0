# SPDX-License-Identifier: Apache-2.0
"""What `fullnat show` knows, as rows and as tables."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from fullnat import cli
from fullnat.control import snapshot, summary, tables
from fullnat.core.addr import PortRange
from fullnat.core.reason import Reason, Verdict
from fullnat.core.service import Persistence
from fullnat.core.timeouts import SECOND
from fullnat.datapath.base import Datapath
from tests.feeds import make_feed, web
from tests.packets import tcp
from tests.vectors.case import V4


@pytest.fixture(params=["python", pytest.param("native", marks=pytest.mark.requires("native"))])
def engine(request: pytest.FixtureRequest) -> Datapath:
    """An engine with one established connection, two seconds old and idle for one."""
    service = web(V4, persistence=Persistence(60 * SECOND, 24))
    feed = make_feed(request.param, V4, service, ports=PortRange(5000, 5000))
    feed.send(tcp(V4.to_vip(), "S"))
    feed.send(tcp(V4.from_server(), "SA"))
    feed.now = SECOND
    feed.send(tcp(V4.to_vip(), "A"))
    feed.engine.refresh()
    return feed.engine


def test_services_sum_over_their_servers(engine: Datapath) -> None:
    row = snapshot.services(engine.services)[0]
    assert (row["name"], row["listen"], row["protocol"]) == ("web80", "203.0.113.10:80", "tcp")
    assert (row["servers"], row["available"], row["active"], row["inactive"]) == (3, 3, 1, 0)
    assert (row["connections"], row["packets_in"], row["packets_out"]) == (1, 2, 1)
    assert (row["bytes_in"], row["bytes_out"]) == (80, 40)


def test_a_flow_shows_all_four_ends_and_its_clock(engine: Datapath) -> None:
    (flow,) = snapshot.flows(engine.flows(), 2 * SECOND)
    assert flow == {
        "service": "web80",
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


def test_ports_show_what_is_left(engine: Datapath) -> None:
    assert snapshot.ports(engine.ports(0)) == [
        {
            "protocol": "tcp",
            "local": "198.19.0.1",
            "server": "198.19.0.11:8080",
            "in_use": 1,
            "resting": 0,
            "capacity": 1,
        }
    ]


def test_persistence_shows_whose_server_is_whose(engine: Datapath) -> None:
    assert snapshot.persistence(engine.templates(), 2 * SECOND) == [
        {
            "service": "web80",
            "clients": "203.0.113.0/24",
            "server": "198.19.0.11:8080",
            "flows": 1,
            "expires": 58.0,
        }
    ]


def test_every_reason_is_in_the_statistics(engine: Datapath) -> None:
    statistics = engine.statistics()
    statistics.received = 3
    statistics.of_engine = {"batches": 2}
    shown = snapshot.stats(statistics)
    assert set(shown["reasons"]) == {reason.name.lower() for reason in Reason}
    assert sum(row["count"] for row in shown["reasons"].values()) == shown["packets_received"] == 3
    assert (shown["flows"], shown["flows_limit"], shown["persistence"], shown["batches"]) == (1, 100, 1, 2)
    assert snapshot.count_verdict(statistics, Verdict.FORWARD) == 3


def test_the_command_line_offers_exactly_the_views_that_have_a_table() -> None:
    assert set(cli.VIEWS) == set(tables.VIEWS)


@pytest.mark.parametrize("what", tables.VIEWS)
def test_every_view_has_a_table(engine: Datapath, what: str) -> None:
    answers = {
        "services": snapshot.services(engine.services),
        "servers": snapshot.servers(engine.services),
        "flows": snapshot.flows(engine.flows(), 0),
        "ports": snapshot.ports(engine.ports(0)),
        "persistence": snapshot.persistence(engine.templates(), 0),
        "stats": snapshot.stats(engine.statistics()),
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


def test_progress_is_a_line_a_minute_where_there_is_no_terminal(engine: Datapath) -> None:
    stream = io.StringIO()
    progress = summary.Progress(engine, stream)
    for _ in range(59):
        progress.update()
    assert stream.getvalue() == ""
    progress.update()
    assert stream.getvalue() == "1 flows, 0 new/s, 0 packets/s, 0 dropped\n"
    for _ in range(60):
        progress.update()
    assert stream.getvalue().count("\n") == 1  # nothing changed since


def test_progress_is_one_line_on_a_terminal(engine: Datapath) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    progress = summary.Progress(engine, stream)
    progress.update()
    progress.close()
    assert stream.getvalue() == "\r\x1b[2K1 flows, 1 new/s, 3 packets/s, 0 dropped\r\x1b[2K"
