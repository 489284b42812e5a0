# SPDX-License-Identifier: Apache-2.0
"""The loop of `fullnat top`: look, draw, take a key, tell the instance.

The instance is asked by this process alone, one question after the other: what it answers takes it
milliseconds, and nothing is asked while the operator looks at a pause.
"""

from __future__ import annotations

import time
from pathlib import Path
from urllib.parse import quote

from rich.console import Console

from fullnat.control.client import AbsentError, ControlError, ask, tell
from fullnat.control.top.controls import Change, Controls, Quit, Reset
from fullnat.control.top.picture import Answers, Painter, Picture, Place
from fullnat.control.top.render import render, render_plain
from fullnat.control.top.terminal import Terminal

_QUESTIONS = ("status", "services", "servers", "ports", "stats")


def is_interactive(console: Console, has_keys: bool) -> bool:
    """Whether there is a screen to draw on and somebody to press keys."""
    return has_keys and console.is_terminal and not console.is_dumb_terminal


def watch(path: Path, console: Console, interval: float) -> None:
    """Show the instance at socket *path* until the operator leaves; ControlError when it is gone."""
    session = _Session(path)
    session.look()
    with Terminal(console) as terminal:
        session.run(terminal, interval)


def print_tables(path: Path, console: Console, interval: float, count: int | None) -> None:
    """Print *count* tables, or tables for ever, each of what happened in *interval* seconds."""
    session = _Session(path)
    session.look()
    printed = 0
    while count is None or printed < count:
        time.sleep(interval)
        console.print(render_plain(session.look(), console.width, time.time()))
        printed += 1


class _Session:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._painter = Painter()
        self._controls = Controls()
        self._message = ""

    def look(self) -> Picture:
        """Ask the instance for everything that is shown."""
        status, services, servers, ports, stats = (ask(self._path, what) for what in _QUESTIONS)
        events = ask(self._path, f"events?since={self._painter.last_event}")
        answers = Answers(status, services, servers, ports, stats, events)
        self._picture = self._painter.paint(answers, time.monotonic())
        return self._picture

    def run(self, terminal: Terminal, interval: float) -> None:
        due = time.monotonic() + interval
        while True:
            shown = self._controls.arrange(self._picture.servers)
            self._controls.settle(shown)
            terminal.draw(render(self._picture, self._controls, shown, self._message, *terminal.fit()))
            timeout = interval if self._controls.is_paused else due - time.monotonic()
            for key in terminal.read(timeout):
                self._message = ""
                command = self._controls.press(key, shown)
                if isinstance(command, Quit):
                    return
                if command is not None:
                    self._message = self._carry_out(command)
                    self.look()
                shown = self._controls.arrange(self._picture.servers)
                self._controls.settle(shown)
            if not self._controls.is_paused and time.monotonic() >= due:
                self.look()
                due = time.monotonic() + interval

    def _carry_out(self, command: Change | Reset) -> str:
        """Have the instance do *command*; return what became of it, a refusal too."""
        place = f"{command.place.service} {command.place.address}"
        try:
            if isinstance(command, Reset):
                ended = tell(self._path, f"{_url(command.place)}/reset")["ended"]
                return f"{place}: {ended} flows ended"
            row = tell(self._path, _url(command.place), command.wanted)
        except AbsentError:
            raise
        except ControlError as error:
            return str(error)
        return f"{place}: {row['admin']}, {row['health']}, weight {row['weight']}"


def _url(place: Place) -> str:
    return f"services/{quote(place.service, safe='')}/servers/{quote(place.address, safe='')}"
