# SPDX-License-Identifier: Apache-2.0
"""Events: a line each, kept for a while, and passed on to who listens."""

from __future__ import annotations

import asyncio
import itertools
import re
import shlex

import pytest

from fullnat.control import events
from fullnat.control.events import Event, EventLog, Kind


class Log:
    """An event log and what it wrote; its clock goes on by a second each time."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.log = EventLog(map(float, itertools.count(1000)).__next__, self.lines.append)

    def add(self, count: int = 1) -> None:
        for _ in range(count):
            self.log.add(Kind.READY)


def drained(queue: asyncio.Queue[Event | None]) -> list[int | None]:
    """Return the numbers of what waits in *queue*."""
    found = []
    while not queue.empty():
        event = queue.get_nowait()
        found.append(event and event.sequence)
    return found


def test_an_event_is_one_line_with_its_number_first() -> None:
    made = Log()
    made.log.add(Kind.SERVER_DOWN, service="web", server="[2001:db8::1]:80", serving=1, seconds=1.5)
    assert made.lines == [
        "event=FN2002 kind=server-down service=web server=[2001:db8::1]:80 serving=1 seconds=1.5"
    ]


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("L4CON", "L4CON"),
        ("", '""'),
        ("connection refused", '"connection refused"'),
        ('say "no"', r'"say \"no\""'),
        ("a=b", '"a=b"'),
        ("back\\slash", r'"back\\slash"'),
        ("two\nlines\r\x00\x1b[2J", r'"two\nlines\r\u0000\u001b[2J"'),
        ("naïve", r'"na\u00efve"'),
        ("\ud800", r'"\ud800"'),
        (0, "0"),
        (-1.25, "-1.25"),
    ],
)
def test_a_value_is_quoted_where_it_must_be(value: str | float, written: str) -> None:
    made = Log()
    made.log.add(Kind.HOST_FAILED, reason=value, more="x")
    assert made.lines == [f"event=FN5002 kind=host-failed reason={written} more=x"]
    assert made.lines[0].isprintable()
    if isinstance(value, str) and value.isprintable() and value.isascii():
        assert shlex.split(made.lines[0])[2] == f"reason={value}"


def test_it_is_json_in_one_flat_object() -> None:
    event = Event(7, 1000.12345, Kind.DRAINED, {"service": "web", "seconds": 2.5})
    assert event.to_json() == {
        "sequence": 7,
        "time": 1000.123,
        "event": "FN2005",
        "kind": "drained",
        "service": "web",
        "seconds": 2.5,
    }


def test_numbers_and_names_are_each_their_own() -> None:
    assert len({kind.number for kind in Kind}) == len({kind.slug for kind in Kind}) == len(Kind)
    assert all(re.fullmatch(r"FN[1-9][0-9]{3}", kind.number) for kind in Kind)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", kind.slug) for kind in Kind)


def test_the_last_are_kept_and_asked_for_by_number() -> None:
    made = Log()
    made.add(events.KEPT + 3)
    kept = [event.sequence for event in made.log.since(0)]
    assert kept == list(range(4, events.KEPT + 4))
    assert [event.sequence for event in made.log.since(events.KEPT + 1)] == kept[-2:]
    assert list(made.log.since(events.KEPT + 3)) == []
    assert next(made.log.since(0)).time == 1003.0


def test_a_listener_hears_what_happens_while_it_listens() -> None:
    made = Log()
    made.add()
    with made.log.listen() as first, made.log.listen() as second:
        made.add(2)
        assert drained(first) == drained(second) == [2, 3]
    made.add()
    assert drained(first) == []


def test_who_asks_what_is_kept_and_then_listens_misses_none() -> None:
    made = Log()
    made.add(2)
    with made.log.listen() as queue:
        kept = made.log.since(0)
        made.add()  # while the first are written out
        assert [event.sequence for event in kept] == [1, 2]
        assert drained(queue) == [3]


def test_a_listener_that_is_too_far_behind_is_given_up_and_others_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(events, "_WAITING", 3)
    made = Log()
    with made.log.listen() as slow, made.log.listen() as quick:
        heard = []
        for _ in range(6):
            made.add()
            heard += drained(quick)
        assert heard == [1, 2, 3, 4, 5, 6]
        assert drained(slow) == [1, 2, 3, None]


def test_a_listener_that_leaves_after_it_was_given_up_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_WAITING", 0)
    made = Log()
    with made.log.listen():
        made.add()
    made.add()
    assert len(made.lines) == 2


def test_the_end_is_told_to_all() -> None:
    made = Log()
    with made.log.listen() as first, made.log.listen() as second:
        made.log.close()
        made.add()
        assert drained(first) == drained(second) == [None]
