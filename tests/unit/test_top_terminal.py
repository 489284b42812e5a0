# SPDX-License-Identifier: Apache-2.0
"""`fullnat top` in a terminal: keys operate an instance, and the terminal gets back what it had."""

from __future__ import annotations

import asyncio
import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fullnat.cli import commands
from fullnat.cli.common import FAILED, NOT_PERMITTED
from fullnat.control.access import Access, Role
from fullnat.core.service import Admin
from tests.instances import ONE, TWO, As, Client, Run, talk
from wait import PATIENCE

_WATCH = """
import fcntl, sys, termios
from unittest import mock
from pathlib import Path
from fullnat.cli import commands
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
with mock.patch("fullnat.control.paths.socket_path", lambda instance: Path(sys.argv[1])):
    commands(["top", "--interval", "0.2"])
"""
_ALT_SCREEN, _CURSOR = (b"\x1b[?1049h", b"\x1b[?1049l"), (b"\x1b[?25l", b"\x1b[?25h")
_SECONDS = 30.0 * PATIENCE


class Sitting:
    """Somebody in front of a terminal in which `fullnat top` runs."""

    def __init__(self, path: Path, width: int = 100, height: int = 30) -> None:
        self._terminal, theirs = os.openpty()
        self.resize(width, height)
        self.before = termios.tcgetattr(self._terminal)
        self.written = b""
        self._process = subprocess.Popen(
            [sys.executable, "-c", _WATCH, str(path)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color"},
        )
        os.close(theirs)

    def press(self, keys: str) -> None:
        """Press *keys*."""
        os.write(self._terminal, keys.encode())

    def resize(self, width: int, height: int) -> None:
        """Make the terminal another size."""
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def await_text(self, *texts: str) -> None:
        """Read until all *texts* were written since the last call."""
        begin = len(self.written)
        self._read_until(lambda: all(text.encode() in self.written[begin:] for text in texts), str(texts))

    def await_end(self) -> int:
        """Read until it has ended; return its exit status."""
        late = time.monotonic() + _SECONDS
        while self._read_more("its end"):
            assert time.monotonic() < late, f"it goes on after {_SECONDS} s"
        return self._process.wait(_SECONDS)

    def has_all_back(self) -> bool:
        """Whether screen, cursor and modes of the terminal are what they were."""
        pairs = [
            self.written.rfind(back) > self.written.rfind(taken) for taken, back in (_ALT_SCREEN, _CURSOR)
        ]
        return all(pairs) and termios.tcgetattr(self._terminal) == self.before

    def stop(self) -> None:
        """Let go of the terminal, and end what still runs in it."""
        self._process.kill()
        self._process.wait()
        os.close(self._terminal)

    def _read_until(self, is_there: Callable[[], bool], what: str) -> None:
        late = time.monotonic() + _SECONDS
        while not is_there():
            assert time.monotonic() < late, f"no {what} within {_SECONDS} s"
            assert self._read_more(what), f"it ended before {what}:\n{self.written.decode()}"

    def _read_more(self, what: str) -> bool:
        ready, _, _ = select.select([self._terminal], [], [], _SECONDS)
        assert ready, f"nothing within {_SECONDS} s, waiting for {what}:\n{self.written[-4000:].decode()}"
        try:
            data = os.read(self._terminal, 65536)
        except OSError:  # EIO: nobody has the other end any more
            return False
        self.written += data
        return bool(data)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def at_a_terminal(run: Run, sit: Callable[[Sitting], Any], access: Access | None = None) -> None:
    """Have somebody *sit* at a terminal with `fullnat top` while the instance runs."""

    async def conversation(client: Client) -> None:
        with sitting(client.path) as one:
            await asyncio.to_thread(sit, one)

    talk(run, conversation, access)


@contextmanager
def sitting(path: Path) -> Iterator[Sitting]:
    one = Sitting(path)
    try:
        yield one
    finally:
        one.stop()


def test_keys_operate_servers(run: Run) -> None:
    def sit(terminal: Sitting) -> None:
        terminal.await_text("Conns/s", ONE, TWO, "q quit")
        terminal.press("d")
        terminal.await_text(f"web {ONE}: drain", "DRAIN")
        assert run.server(ONE).admin is Admin.QUIESCED
        terminal.press("e")
        terminal.await_text(f"web {ONE}: enabled")
        terminal.press("j+")
        terminal.await_text(f"web {TWO}: enabled, unknown, weight 2")
        assert run.server(TWO).configured_weight == 2
        terminal.press("\x1b[A--")
        terminal.await_text(f"web {ONE}: enabled, unknown, weight 1")
        terminal.press("r")
        terminal.await_text("both ends told? y/n")
        terminal.press("y")
        terminal.await_text(f"web {ONE}: 0 flows ended")
        terminal.press("/site-b\r")
        terminal.await_text("filter site-b: 1 of 4")
        terminal.press("q")
        assert terminal.await_end() == 0
        assert terminal.has_all_back()

    at_a_terminal(run, sit)


def test_it_follows_the_size_of_the_terminal(run: Run) -> None:
    def sit(terminal: Sitting) -> None:
        terminal.await_text("q quit")
        assert b"Pool" not in terminal.written
        terminal.resize(160, 40)
        terminal.await_text("Pool", "Check")
        terminal.press("q")
        assert terminal.await_end() == 0

    at_a_terminal(run, sit)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_it_in_good_order(run: Run, number: int, status: int) -> None:
    def sit(terminal: Sitting) -> None:
        terminal.await_text("q quit")
        terminal.signal(number)
        assert terminal.await_end() == status
        assert terminal.has_all_back()

    at_a_terminal(run, sit)


def test_ctrl_c_ends_it_in_good_order(run: Run) -> None:
    def sit(terminal: Sitting) -> None:
        terminal.await_text("q quit")
        terminal.press("\x03")
        assert terminal.await_end() == 0
        assert terminal.has_all_back()

    at_a_terminal(run, sit)


def test_an_instance_that_goes_is_told_of(run: Run) -> None:
    def sit(terminal: Sitting) -> None:
        terminal.await_text("q quit")
        (run.folder / "main.sock").unlink()
        assert terminal.await_end() == FAILED
        assert terminal.has_all_back()
        said = terminal.written.rpartition(_ALT_SCREEN[1])[2]
        assert b"fullnat: no instance runs in this network namespace" in said

    at_a_terminal(run, sit)


def test_who_may_only_read_is_told_so(run: Run) -> None:
    def sit(terminal: Sitting) -> None:
        terminal.await_text("q quit")
        terminal.press("d")
        terminal.await_text("this takes the role operator, and yours is viewer")
        assert run.server(ONE).admin is Admin.ENABLED
        terminal.press("q")
        assert terminal.await_end() == 0

    at_a_terminal(run, sit, As(Role.VIEWER))


# Without a terminal.


def plain(run: Run, monkeypatch: pytest.MonkeyPatch, access: Access | None = None) -> Any:
    """What `fullnat top -n 2` comes to, which needs nobody to end it."""
    monkeypatch.setattr("fullnat.control.paths.socket_path", lambda instance: run.folder / "main.sock")
    monkeypatch.setattr(time, "sleep", lambda seconds: None)

    async def conversation(client: Client) -> Any:
        return await asyncio.to_thread(CliRunner().invoke, commands, ["top", "-n", "2"])

    return talk(run, conversation, access)


def test_without_a_terminal_it_prints_tables(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    result = plain(run, monkeypatch)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.output.count("fullnat main  engine kernel") == 2
    assert result.output.count(ONE) == 2
    assert "\x1b" not in result.output


def test_who_may_nothing_is_told_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    result = plain(run, monkeypatch, As(Role.NOBODY))
    assert result.exit_code == NOT_PERMITTED
    assert "this takes the role viewer" in result.stderr
