# SPDX-License-Identifier: Apache-2.0
"""The control socket's file, and the client at the other end of it; what is answered: test_api.py."""

from __future__ import annotations

import asyncio
import itertools
import socket
import stat
from collections.abc import Callable
from http.client import OK
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from fullnat.control.access import Access, Role
from fullnat.control.api import answer, server
from fullnat.control.client import AbsentError, ControlError, ControlRefusedError, ask, follow_events, tell
from fullnat.control.events import Kind
from fullnat.control.leave import Leave
from tests.instances import ONE, As, Client, Run, talk


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def with_socket(run: Run, question: Callable[[Path], Any], access: Access | None = None) -> Any:
    """Return what *question* returns while a control socket serves."""

    async def conversation(client: Client) -> Any:
        return await asyncio.get_running_loop().run_in_executor(None, question, client.path)

    return talk(run, conversation, access)


@pytest.mark.parametrize(
    "what", ["services", "servers", "flows", "ports", "persistence", "stats", "status", "events"]
)
def test_every_view_is_answered(run: Run, what: str) -> None:
    found = with_socket(run, lambda path: ask(path, what))
    assert isinstance(found, dict if what in ("stats", "status") else list)
    assert not (run.folder / "main.sock").exists()


@pytest.mark.parametrize(
    ("access", "mode"),
    [(Access(), 0o600), (Access({Role.VIEWER: ("@ops",)}), 0o666), (Access({Role.VIEWER: ()}), 0o600)],
)
def test_only_the_owner_may_open_it_unless_others_have_a_role(run: Run, access: Access, mode: int) -> None:
    assert stat.S_IMODE(with_socket(run, lambda path: path.stat().st_mode, access)) == mode


def test_a_file_left_by_a_dead_process_is_replaced(run: Run) -> None:
    (run.folder / "main.sock").write_text("left")
    assert with_socket(run, lambda path: ask(path, "status"))["pid"] == 812


def test_a_change_is_told_and_answered(run: Run) -> None:
    row = with_socket(run, lambda path: tell(path, f"services/web/servers/{ONE}", {"weight": 5}))
    assert (row["address"], row["weight"]) == (ONE, 5)


def test_events_are_followed_until_the_instance_ends(run: Run) -> None:
    run.events.add(Kind.READY)
    run.events.add(Kind.STOPPING)

    def first_two(path: Path) -> list[Any]:
        return list(itertools.islice(follow_events(path), 2))

    assert [event["kind"] for event in with_socket(run, first_two)] == ["ready", "stopping"]

    def all_of_them(path: Path) -> list[Any]:
        followed = []
        for event in follow_events(path):
            followed.append(event["event"])
            if len(followed) == 2:
                loop.call_soon_threadsafe(run.events.close)
        return followed

    async def conversation(client: Client) -> list[Any]:
        nonlocal loop
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, all_of_them, client.path)

    loop: asyncio.AbstractEventLoop
    assert talk(run, conversation) == ["FN1001", "FN1002"]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("nothing", "nothing answers GET '/v1/nothing'; /v1/openapi.json says what there is"),
        ("flows?limit=x", "limit is a number, not 'x'"),
        ("stop", "nothing answers GET '/v1/stop'"),
    ],
)
def test_a_wrong_question_is_told_what_is_right(run: Run, what: str, message: str) -> None:
    with pytest.raises(ControlError) as caught:
        with_socket(run, lambda path: ask(path, what))
    assert str(caught.value).startswith(message)
    assert run.stopped == []


def test_who_may_not_is_told_apart_from_what_does_not_go(run: Run) -> None:
    for do in (lambda path: ask(path, "status"), lambda path: list(follow_events(path))):
        with pytest.raises(
            ControlRefusedError, match=r"^this takes the role viewer, and yours is none: \[api\]$"
        ):
            with_socket(run, do, As(Role.NOBODY))


def test_what_cannot_be_kept_is_answered_in_one_line(run: Run) -> None:
    def refuse(leave: Leave) -> None:
        raise ValueError("it cannot keep flows")

    run.instance.stop = refuse
    with pytest.raises(ControlError, match=r"^it cannot keep flows$"):
        with_socket(run, lambda path: tell(path, "stop?leave=flows"))


def test_a_fault_of_ours_is_not_blamed_on_the_question(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> Any:
        raise ZeroDivisionError

    run.instance.server_rows = fail  # type: ignore[method-assign]
    with pytest.raises(ControlError, match=r"main.sock: the instance failed to answer \(500 "):
        with_socket(run, lambda path: ask(path, "servers"))
    assert "ZeroDivisionError" in caplog.text  # and it is in the log


def test_where_nobody_listens_one_line_says_so(tmp_path: Path) -> None:
    with pytest.raises(AbsentError, match="no instance runs in this network namespace"):
        ask(tmp_path / "main.sock", "status")


def test_a_client_that_stays_does_not_hold_up_the_end(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_LEAVE", 0.05)
    monkeypatch.setattr(answer, "_BODY_TIME", 3600.0)

    async def conversation(client: Client) -> None:
        staying.connect(str(client.path))
        staying.send(b"POST /v1/ipvsadm HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")  # and no more
        assert (await client.get("/v1/status")).status == OK

    begun = monotonic()
    with socket.socket(socket.AF_UNIX) as staying:
        talk(run, conversation)
    assert monotonic() - begun < 30
