# SPDX-License-Identifier: Apache-2.0
"""`fullnat top` without a terminal: rates, states, what keys mean, and the screen as text."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.screen import Screen

from fullnat.control.top.controls import MAX_WEIGHT, Change, Command, Controls, Mode, Order, Quit, Reset
from fullnat.control.top.keys import Decoder
from fullnat.control.top.layout import share_height, window
from fullnat.control.top.meter import Meter
from fullnat.control.top.picture import EVENTS_KEPT, Answers, Painter, Picture, Place
from fullnat.control.top.render import rate_text, render, render_plain
from fullnat.control.top.states import State, state_of_server, state_of_service

GOLDEN = Path(__file__).parent / "golden"
_TRAFFIC = ("connections", "packets_in", "packets_out", "bytes_in", "bytes_out")
CHECK = {"type": "http", "code": "L7OK", "detail": "200", "duration": 0.002, "since": 3600.0}
ONE, TWO, THREE = (
    Place("web", "main", "198.19.0.11:8080"),
    Place("web", "main", "198.19.0.12:8080"),
    Place("mail", "main", "[2001:db8:1::11]:25"),
)


def server(place: Place = ONE, count: int = 0, **other: Any) -> dict[str, Any]:
    """A row of GET /v1/servers; *count* connections, and what they carried."""
    return {
        "service": place.service,
        "pool": place.pool,
        "address": place.address,
        "weight": 3,
        "effective_weight": 3,
        "upper": 0,
        "lower": 0,
        "overloaded": False,
        "admin": "enabled",
        "health": "up",
        "in_rotation": True,
        "check": CHECK,
        "drain": None,
        "active": 10,
        "inactive": 4,
        "connections": count,
        "packets_in": 10 * count,
        "packets_out": 20 * count,
        "bytes_in": 1000 * count,
        "bytes_out": 5000 * count,
        **other,
    }


def service(name: str, listen: str, **other: Any) -> dict[str, Any]:
    """A row of GET /v1/services."""
    row = {
        "name": name,
        "protocol": "tcp",
        "listen": listen,
        "serving": "main",
        "pools": [{"name": "main"}],
        "servers": 2,
        "available": 2,
        "active": 20,
        "inactive": 8,
    }
    return {**row, **dict.fromkeys(_TRAFFIC, 0), **other}


def reason(count: int, verdict: str, meaning: str = "a sentence about it") -> dict[str, Any]:
    return {"count": count, "verdict": verdict, "meaning": meaning}


def answers(*servers: Mapping[str, Any], lost: int = 0, **other: Any) -> Answers:
    """What an instance says in one look."""
    settings: dict[str, Any] = {
        "status": {"instance": "main", "engine": "ebpf", "uptime": 90061.5, "flows": 812, "pid": 812},
        "services": [service("web", "203.0.113.10:80"), service("mail", "[2001:db8::10]:25")],
        "servers": servers,
        "ports": [
            {"protocol": "tcp", "local": "198.19.0.1", "server": TWO.address}
            | {"in_use": 10, "resting": 5, "capacity": 100},
            {"protocol": "tcp", "local": "198.19.0.1", "server": ONE.address}
            | {"in_use": 60, "resting": 21, "capacity": 100},
            {"protocol": "udp", "local": "198.19.0.1", "server": ONE.address}
            | {"in_use": 0, "resting": 0, "capacity": 0},
        ],
        "stats": {
            "reasons": {
                "flow_inbound": reason(9, "forward"),
                "not_service": reason(9, "pass"),
                "truncated": reason(0, "drop"),
                "bad_header": reason(7, "drop"),
                "no_server": reason(lost, "reply", "no real server may take the flow"),
            },
            "queue_dropped": 3,
            "user_dropped": 0,
            "flows_limit": 1_000_000,
        },
    }
    return Answers(**(settings | other))


def after(*servers: Mapping[str, Any], lost: int = 20, **other: Any) -> Picture:
    """The picture two seconds after a look at idle servers."""
    painter = Painter()
    painter.paint(answers(*(server(Place(*_place(row))) for row in servers)), 10.0)
    return painter.paint(answers(*servers, lost=lost, **other), 12.0)


def _place(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["service"], row["pool"], row["address"]


def three() -> Picture:
    """Servers in three states, with traffic."""
    return after(
        server(ONE, 100, active=1, drain={"by": "command", "since": 1.0, "deadline": 65.0, "left": 5})
        | {"admin": "drain", "effective_weight": 0},
        server(TWO, 2000, active=50),
        server(THREE, 0, health="down", active=0, in_rotation=False, effective_weight=0)
        | {"check": CHECK | {"code": "L4CON", "detail": "connection refused"}},
        events=[
            {"sequence": 1, "time": 1795200000.0, "event": "FN1001", "kind": "ready"},
            {"sequence": 2, "time": 1795200060.0, "event": "FN2002", "kind": "server-down"}
            | {"service": "mail", "server": THREE.address, "code": "L4CON"},
        ],
    )


# Rates.


def test_the_first_look_has_no_rates() -> None:
    assert Meter[str]().look({"a": (5, 6)}, 100.0) == {"a": (0.0, 0.0)}


def test_a_rate_is_growth_by_time() -> None:
    meter: Meter[str] = Meter()
    meter.look({"a": (5, 100)}, 10.0)
    assert meter.look({"a": (6, 150)}, 10.5) == {"a": (2.0, 100.0)}
    assert meter.look({"a": (6, 150)}, 11.5) == {"a": (0.0, 0.0)}


def test_who_is_new_has_no_rate_and_who_began_again_begins_at_nothing() -> None:
    meter: Meter[str] = Meter()
    meter.look({"a": (500,)}, 10.0)
    assert meter.look({"a": (20,), "b": (900,)}, 12.0) == {"a": (10.0,), "b": (0.0,)}


def test_two_looks_at_once_are_no_division_by_zero() -> None:
    meter: Meter[str] = Meter()
    meter.look({"a": (5,)}, 10.0)
    assert meter.look({"a": (6,)}, 10.0) == {"a": (0.0,)}


def test_the_rates_of_servers_services_and_all() -> None:
    picture = after(server(ONE, 100), server(TWO, 300), server(THREE, 10))
    assert picture.servers[0].rate == (50.0, 1500.0, 400_000.0, 2_000_000.0)
    assert [line.rate.connections for line in picture.services] == [200.0, 5.0]
    assert picture.total.connections == 205.0


def test_a_server_that_leaves_takes_no_rate_with_it() -> None:
    painter = Painter()
    painter.paint(answers(server(ONE, 1000), server(TWO, 1000)), 1.0)
    assert painter.paint(answers(server(ONE, 1010)), 2.0).services[0].rate.connections == 10.0


def test_what_was_lost_is_told_by_rate_and_then_by_count() -> None:
    losses = after(server()).losses
    assert [(line.reason, line.count, line.rate) for line in losses] == [
        ("no_server", 20, 10.0),
        ("bad_header", 7, 0.0),
        ("queue_dropped", 3, 0.0),
    ]


def test_the_fullest_ports_come_first_and_those_at_rest_count() -> None:
    assert [(line.row["server"], line.share) for line in after(server()).ports] == [
        (ONE.address, 0.81),
        (TWO.address, 0.15),
    ]


def test_events_are_kept_and_asked_for_from_the_last_on() -> None:
    painter = Painter()
    assert painter.last_event == 0
    painter.paint(answers(events=[{"sequence": number} for number in range(1, 151)]), 1.0)
    picture = painter.paint(answers(events=[{"sequence": 151}]), 2.0)
    assert painter.last_event == 151
    assert len(picture.events) == EVENTS_KEPT
    again = answers(events=[{"sequence": 1}], status={"pid": 813})
    assert list(painter.paint(again, 3.0).events) == [{"sequence": 1}]


# States.


@pytest.mark.parametrize(
    ("row", "state"),
    [
        ({}, State.UP),
        ({"check": None, "health": "unknown"}, State.UNCHECKED),
        ({"health": "unknown"}, State.UNKNOWN),
        ({"effective_weight": 0}, State.WEIGHTLESS),
        ({"in_rotation": False}, State.STANDBY),
        ({"overloaded": True}, State.FULL),
        ({"admin": "drain"}, State.DRAIN),
        ({"admin": "drain", "health": "down"}, State.DOWN),
        ({"admin": "disabled", "health": "down"}, State.DISABLED),
    ],
)
def test_a_server_has_one_state(row: dict[str, Any], state: State) -> None:
    assert state_of_server(server(**row)) is state


@pytest.mark.parametrize(
    ("serving", "servers", "state"),
    [
        ("main", [State.UP, State.STANDBY], State.UP),
        ("main", [State.UP, State.DRAIN], State.PARTLY),
        ("spare", [], State.BACKUP),
        ("sorry", [], State.SORRY),
        ("", [State.DOWN], State.DOWN),
    ],
)
def test_a_service_has_one_state(serving: str, servers: list[State], state: State) -> None:
    assert state_of_service(service("web", "203.0.113.10:80", serving=serving), servers) is state


# Keys.


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        (b"jk+", ["j", "k", "+"]),
        (b"\x1b[A\x1bOB\x1b[5~\x1b[6~", ["up", "down", "page up", "page down"]),
        (b"\x1b", ["escape"]),
        (b"\x1bq", ["escape", "q"]),
        (b"\r\x7f", ["enter", "backspace"]),
        (b"\x1b[15~\x1b[1;5C\x01q", ["q"]),
        ("é".encode(), ["é"]),
        (b"\xff\xfeq", ["q"]),
    ],
)
def test_bytes_become_keys(data: bytes, keys: list[str]) -> None:
    assert Decoder().feed(data) == keys


def test_a_key_may_come_in_two_parts() -> None:
    decoder = Decoder()
    assert decoder.feed(b"j\x1b[") == ["j"]
    assert decoder.feed(b"A\xc3") == ["up"]
    assert decoder.feed(b"\xa9") == ["é"]


# Controls.


def press(controls: Controls, picture: Picture, *keys: str) -> Command | None:
    """Press *keys* one after the other; return what the last one asks for."""
    command = None
    for key in keys:
        shown = controls.arrange(picture.servers)
        controls.settle(shown)
        command = controls.press(key, shown)
    controls.settle(controls.arrange(picture.servers))
    return command


def test_the_selection_moves_and_stays_on_the_list() -> None:
    controls, picture = Controls(), three()
    for keys, place in (
        ([], ONE),
        (["up"], ONE),
        (["down"], TWO),
        (["j", "j"], THREE),
        (["k"], TWO),
        (["page down"], THREE),
        (["g"], ONE),
        (["end"], THREE),
    ):
        press(controls, picture, *keys)
        assert controls.selected == place


def test_the_selection_follows_its_server_and_outlives_it() -> None:
    controls = Controls()
    press(controls, after(server(ONE), server(TWO), server(THREE)), "j")
    press(controls, after(server(THREE), server(ONE), server(TWO)))
    assert controls.selected == TWO
    press(controls, after(server(THREE), server(ONE)))
    assert controls.selected == ONE
    press(controls, after())
    assert controls.selected is None
    assert press(controls, after(), "d", "j", "+", "r") is None


@pytest.mark.parametrize(
    ("order", "places"),
    [
        (Order.CONFIGURED, [ONE, TWO, THREE]),
        (Order.STATE, [THREE, ONE, TWO]),
        (Order.CONNECTIONS, [TWO, ONE, THREE]),
        (Order.ACTIVE, [TWO, ONE, THREE]),
        (Order.PACKETS, [TWO, ONE, THREE]),
        (Order.BITS, [TWO, ONE, THREE]),
        (Order.ADDRESS, [ONE, TWO, THREE]),
    ],
)
def test_s_goes_through_every_order(order: Order, places: list[Place]) -> None:
    controls = Controls()
    for _ in range(list(Order).index(order)):
        press(controls, three(), "s")
    assert controls.order is order
    assert [line.place for line in controls.arrange(three().servers)] == places


def test_a_filter_is_typed_kept_and_dropped() -> None:
    controls, picture = Controls(), three()
    press(controls, picture, "/", "W", "e", "x", "backspace", "b")
    assert controls.mode is Mode.FILTER
    press(controls, picture, "enter", "j")
    assert (controls.mode, controls.selected) == (Mode.BROWSE, TWO)
    assert [line.place for line in controls.arrange(picture.servers)] == [ONE, TWO]
    press(controls, picture, "/", "escape")
    assert len(controls.arrange(picture.servers)) == 3
    press(controls, picture, "/", *"down mail", "enter")
    assert [line.place for line in controls.arrange(picture.servers)] == [THREE]
    press(controls, picture, "escape")
    assert len(controls.arrange(picture.servers)) == 3


@pytest.mark.parametrize(
    ("keys", "command"),
    [
        ("d", Change(ONE, {"admin": "drain"})),
        ("e", Change(ONE, {"admin": "enabled"})),
        ("+", Change(ONE, {"weight": 4})),
        ("-", Change(ONE, {"weight": 2})),
        ("ry", Reset(ONE)),
        ("rn", None),
        ("rq", None),
        ("q", Quit()),
        ("x", None),
        ("p", None),
    ],
)
def test_keys_ask_for_changes(keys: str, command: Command | None) -> None:
    controls = Controls()
    assert press(controls, three(), *keys) == command
    assert controls.is_paused is (keys == "p")
    assert controls.mode is Mode.BROWSE


def test_weights_have_limits() -> None:
    assert press(Controls(), after(server(weight=0)), "-") is None
    assert press(Controls(), after(server(weight=MAX_WEIGHT)), "+") is None


# The screen.


@pytest.fixture
def in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def screen(picture: Picture, controls: Controls, width: int, height: int, message: str = "") -> list[str]:
    """What a terminal of this size shows."""
    console = Console(width=width, height=height, record=True, force_terminal=True, file=_Nowhere())
    shown = controls.arrange(picture.servers)
    controls.settle(shown)
    console.print(Screen(render(picture, controls, shown, message, width, height)), end="")
    return console.export_text(styles=False).split("\n")


class _Nowhere:
    """A file that forgets."""

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        """Do nothing."""


@pytest.mark.usefixtures("in_utc")
@pytest.mark.parametrize(("width", "height"), [(80, 24), (140, 30)])
def test_the_screen(width: int, height: int) -> None:
    lines = screen(three(), Controls(), width, height)
    assert {len(line) for line in lines} == {width}
    golden = (GOLDEN / f"top-{width}x{height}.txt").read_text().splitlines()
    assert [line.rstrip() for line in lines] == golden


@pytest.mark.parametrize("height", range(1, 40))
@pytest.mark.parametrize("width", [20, 60, 200])
def test_a_screen_of_any_size_is_filled_and_ends_with_the_keys(width: int, height: int) -> None:
    lines = screen(three(), Controls(), width, height)
    assert (len(lines), {len(line) for line in lines}) == (height, {width})
    if height > 2:
        assert "drain" in lines[-1] or width < 60


def test_many_servers_scroll_with_the_selection() -> None:
    places = [Place("web", "main", f"198.19.1.{number}:80") for number in range(100)]
    picture, controls = after(*map(server, places)), Controls()
    press(controls, picture, *["page down"] * 5)
    assert any(line.startswith("198.19.1.50:80") for line in screen(picture, controls, 80, 24))
    press(controls, picture, "end")
    lines = screen(picture, controls, 80, 24)
    assert any(line.startswith("198.19.1.99:80") for line in lines)
    assert not any(line.startswith("198.19.1.50:80") for line in lines)


def test_what_the_operator_does_is_told() -> None:
    controls, picture = Controls(), three()
    press(controls, picture, "s", "p", "/", *"web")
    top, foot = (screen(picture, controls, 120, 24)[line] for line in (1, -1))
    assert "PAUSED  by worst state  filter web: 2 of 3" in top
    assert foot.startswith("/web_")
    press(controls, picture, "enter", "r")
    asked = "end all flows of web 198.19.0.11:8080, both ends told? y/n"
    assert screen(picture, controls, 120, 24)[-1].startswith(asked)
    press(controls, picture, "n")
    assert screen(picture, controls, 120, 24, "web: drain")[-1].startswith("web: drain ")


@pytest.mark.usefixtures("in_utc")
def test_the_plain_table_has_every_server() -> None:
    console = Console(width=160, record=True, file=_Nowhere())
    console.print(render_plain(three(), 160, 1795200000.0))
    head, columns, *rows = console.export_text().rstrip("\n").split("\n")
    assert head.startswith(
        "2026-11-20 18:40:00  fullnat main  engine ebpf  up 1d 01:01:01  flows 812 of 1000000"
    )
    assert columns.split()[:4] == ["Server", "Service", "Pool", "State"]
    assert [row.split()[0] for row in rows if row.strip()] == [place.address for place in (ONE, TWO, THREE)]


def test_lines_go_to_the_servers_first() -> None:
    assert share_height(24, 50, 100, 9, 9) == (5, 7, 6, 3)
    assert share_height(10, 50, 100, 9, 9).lower == 0
    assert share_height(50, 1, 2, 0, 0) == (2, 3, 0, 0)
    assert window(100, 5, 50) == slice(48, 53)
    assert window(100, 5, 99) == slice(95, 100)
    assert window(3, 5, 2) == slice(0, 5)


@pytest.mark.parametrize(
    ("rate", "text"),
    [(0, "0"), (0.04, "0"), (0.4, "0.4"), (9.94, "9.9"), (9.96, "10"), (18_234.0, "18.2k"), (2.1e9, "2100M")],
)
def test_rates_are_short(rate: float, text: str) -> None:
    assert rate_text(rate) == text
