# SPDX-License-Identifier: Apache-2.0
"""The operator's terminal: keys at once, a screen of its own, and both back as they were on every way out.

A signal that ends a program ends it through the stack here, as an error does.  Ctrl-Z gives the screen
back for as long as the shell has it.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import tty
from contextlib import suppress
from types import FrameType, TracebackType
from typing import IO, Any

from rich.console import Console, ConsoleDimensions, RenderableType
from rich.control import Control
from rich.screen import Screen

from fullnat.control.top.keys import Decoder

_ENDING = (signal.SIGTERM, signal.SIGHUP)
_SIGNALLED = 128  # and the number: the exit status of who was ended by a signal
_AT_ONCE = 4096  # bytes
_WIDTH, _HEIGHT = 80, 24  # of a terminal that does not say


class Terminal:
    """A context manager that has the terminal meanwhile."""

    def __init__(self, console: Console, source: IO[Any] = sys.stdin) -> None:
        self._console = console
        self._input = source.fileno()
        self._keys = Decoder()
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Terminal:
        self._saved = termios.tcgetattr(self._input)
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        self._set_handlers()
        try:
            self._take()
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._give_back()
        os.close(self._woken)
        os.close(self._wake)

    def _take(self) -> None:
        tty.setcbreak(self._input)
        self._console.set_alt_screen()
        self._console.show_cursor(False)

    def _give_back(self) -> None:
        with suppress(OSError):  # a terminal that is gone needs nothing back
            self._console.show_cursor()
            self._console.set_alt_screen(False)
        with suppress(termios.error):
            termios.tcsetattr(self._input, termios.TCSADRAIN, self._saved)

    def fit(self) -> tuple[int, int]:
        """Return width and height of the terminal, and have the console draw for these."""
        columns, lines = os.get_terminal_size(self._input)
        self._console.size = ConsoleDimensions(columns or _WIDTH, lines or _HEIGHT)
        return self._console.size

    def draw(self, renderable: RenderableType) -> None:
        """Show *renderable*, in one write."""
        with self._console:
            self._console.control(Control.home())
            self._console.print(Screen(renderable), end="")

    def read(self, timeout: float) -> list[str]:
        """Return the keys pressed within *timeout* seconds, as soon as there is one or the size changed."""
        ready, _, _ = select.select([self._input, self._woken], [], [], max(0.0, timeout))
        if self._woken in ready:
            os.read(self._woken, _AT_ONCE)
        if self._input not in ready:
            return []
        data = os.read(self._input, _AT_ONCE)
        if not data:
            raise SystemExit(_SIGNALLED + signal.SIGHUP)
        return self._keys.feed(data)

    # Signals.

    def _set_handlers(self) -> None:
        actions = {
            signal.SIGWINCH: self._on_resize,
            signal.SIGTSTP: self._on_stop,
            **dict.fromkeys(_ENDING, _on_end),
        }
        self._handlers = {number: signal.signal(number, action) for number, action in actions.items()}

    def _on_resize(self, _number: int, _frame: FrameType | None) -> None:
        with suppress(BlockingIOError):
            os.write(self._wake, b".")

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        self._give_back()
        ours = signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)  # and here it goes on when the shell says so
        signal.signal(number, ours)
        self._take()
        self._on_resize(number, frame)


def _on_end(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(_SIGNALLED + number)
