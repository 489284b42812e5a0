# SPDX-License-Identifier: Apache-2.0
"""Wish: what is wanted of one server, by command and by maintenance file, and how far its drain is; pure."""

from __future__ import annotations

from dataclasses import dataclass

from fullnat.core.service import Admin


@dataclass(slots=True)
class Wish:
    """Either source may take a server out of service; it is back when neither wants it out.

    Times are monotonic nanoseconds.
    """

    command: Admin = Admin.ENABLED
    has_file: bool = False  # a maintenance file names the server
    since: int = 0  # when it began to drain
    deadline: int | None = None  # when what is left is ended
    is_drained: bool = False  # told already

    @property
    def admin(self) -> Admin:
        """What follows from both."""
        if self.command is Admin.DISABLED:
            return Admin.DISABLED
        return Admin.QUIESCED if self.has_file else self.command

    @property
    def is_idle(self) -> bool:
        """Whether nothing is wanted but that it serves."""
        return self.admin is Admin.ENABLED

    @property
    def source(self) -> str:
        """Who wants it out, if anybody does."""
        return "command" if self.command is not Admin.ENABLED else "file"

    def begin(self, now: int, deadline: int | None) -> None:
        """Note that the server takes no new flows from *now* on."""
        self.since, self.deadline, self.is_drained = now, deadline, False
