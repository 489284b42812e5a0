# SPDX-License-Identifier: Apache-2.0
"""Both ends of the control socket, and who may open it."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fullnat.control.api import ControlSocket
from fullnat.control.client import AbsentError, ControlError, ask, tell
from fullnat.control.leave import Leave
from tests.feeds import make_feed
from tests.vectors.case import V4


def not_stopped(leave: Leave) -> None:
    raise AssertionError


def with_socket(path: Path, question: Callable[[], Any], stop: Callable[[Leave], None] = not_stopped) -> Any:
    """Return what *question* returns while a control socket serves on *path*."""

    async def run() -> Any:
        control = ControlSocket(path, make_feed("python", V4).engine, lambda: {"pid": 1}, lambda: 0, stop)
        await control.start()
        try:
            return await asyncio.get_running_loop().run_in_executor(None, question)
        finally:
            await control.stop()

    return asyncio.run(run())


@pytest.mark.parametrize("what", ["services", "servers", "flows", "ports", "persistence", "stats", "status"])
def test_every_view_is_answered(tmp_path: Path, what: str) -> None:
    path = tmp_path / "main.sock"
    answer = with_socket(path, lambda: ask(path, what))
    assert isinstance(answer, dict if what in ("stats", "status") else list)
    assert not path.exists()


def test_only_the_owner_may_open_it(tmp_path: Path) -> None:
    path = tmp_path / "main.sock"
    mode = with_socket(path, lambda: path.stat().st_mode)
    assert stat.S_IMODE(mode) == 0o600


def test_a_file_left_by_a_dead_process_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "main.sock"
    path.write_text("left")
    assert with_socket(path, lambda: ask(path, "status")) == {"pid": 1}


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("nothing", "no 'nothing'; there are status, services"),
        ("flows?limit=x", "limit is a number, not 'x'"),
    ],
)
def test_a_wrong_question_is_told_what_is_right(tmp_path: Path, what: str, message: str) -> None:
    path = tmp_path / "main.sock"

    def question() -> str:
        with pytest.raises(ControlError) as caught:
            ask(path, what)
        return str(caught.value)

    assert message in with_socket(path, question)


@pytest.mark.parametrize(
    ("command", "leave"), [("stop", Leave.NOTHING), *((f"stop?leave={leave}", leave) for leave in Leave)]
)
def test_it_is_told_to_stop_and_what_to_leave(tmp_path: Path, command: str, leave: Leave) -> None:
    path = tmp_path / "main.sock"
    told: list[Leave] = []
    assert with_socket(path, lambda: tell(path, command), told.append) == {"stopping": True}
    assert told == [leave]


def test_a_wrong_way_to_stop_is_told_what_is_right(tmp_path: Path) -> None:
    path = tmp_path / "main.sock"

    def command() -> None:
        tell(path, "stop?leave=me")

    with pytest.raises(ControlError, match="leave is one of nothing, flows, service, not 'me'"):
        with_socket(path, command)


def test_what_cannot_be_kept_is_answered_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "main.sock"

    def refuse(leave: Leave) -> None:
        raise ValueError("it cannot keep flows")

    with pytest.raises(ControlError, match=r"it cannot keep flows$"):
        with_socket(path, lambda: tell(path, "stop?leave=flows"), refuse)


def test_to_ask_does_not_stop_it(tmp_path: Path) -> None:
    path = tmp_path / "main.sock"

    def question() -> None:
        ask(path, "stop")

    with pytest.raises(ControlError, match="no 'stop'; there are"):
        with_socket(path, question)


def test_where_nobody_listens_one_line_says_so(tmp_path: Path) -> None:
    with pytest.raises(AbsentError, match="no instance runs in this network namespace"):
        ask(tmp_path / "main.sock", "status")
