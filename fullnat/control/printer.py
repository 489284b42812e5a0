# SPDX-License-Identifier: Apache-2.0
"""The printer: what an instance says while it runs, to whoever reads it."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TextIO


class Printer:
    """A stream on which nobody may listen any more: that is no reason to stop serving.

    Nothing is buffered, so nothing is left to fail at the end.
    """

    def __init__(self, stream: TextIO) -> None:
        """Print on *stream*."""
        self._stream = stream

    @property
    def is_terminal(self) -> bool:
        """Whether a line can be overwritten."""
        return self._stream.isatty()

    def line(self, text: str) -> None:
        """Print *text* as a line."""
        self.write(f"{text}\n")

    def write(self, text: str) -> None:
        """Print *text*; what cannot be printed is lost."""
        left = text.encode(errors="backslashreplace")
        with suppress(OSError, ValueError):  # its end is gone, or it is closed
            while left:
                left = left[os.write(self._stream.fileno(), left) :]
