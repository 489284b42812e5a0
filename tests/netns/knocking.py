# SPDX-License-Identifier: Apache-2.0
"""A client that begins connections at a steady pace, whatever becomes of those before.

So the time from the first to the last that was lost is how long nobody was served, to the pace.  One
is lost when it is refused, or has to send a SYN twice: TCP does so after a second.
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from types import TracebackType

from lab import Lab
from namespace import inside
from tests.netns.conversations import open_socket
from tests.netns.traffic import vips
from wait import PATIENCE, wait_until

PACE = 0.025 * PATIENCE  # seconds from one connection of each family to the next: even Python keeps up
LOST_SECONDS = 0.9  # without an answer
_SECONDS = 30.0  # for what go_on() waits for


class Knocking:
    """A context manager; the client goes on until its end."""

    def __init__(self, lab: Lab) -> None:
        """Begin with the `with`."""
        self._lab = lab
        self._vips = [vips(lab, family)[0] for family in lab.families]
        self._under_way: dict[socket.socket, float] = {}  # when it was begun
        self._made = 0
        self.lost: list[float] = []  # when each was begun
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Knocking:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self._thread.join()

    def go_on(self, count: int) -> None:
        """Return when *count* more connections were made or lost."""
        enough = self._made + len(self.lost) + count
        wait_until(lambda: self._made + len(self.lost) >= enough, _SECONDS, f"{count} connections")

    @property
    def outage(self) -> float:
        """For how many seconds connections were lost."""
        return max(self.lost, default=0.0) - min(self.lost, default=0.0)

    def _run(self) -> None:
        with inside(self._lab.namespace("client")), selectors.DefaultSelector() as selector:
            due = time.monotonic()
            while self._under_way or not self._ending.is_set():
                if time.monotonic() >= due and not self._ending.is_set():
                    for vip in self._vips:
                        self._begin(vip, selector)
                    due = time.monotonic() + PACE  # one that came too late is not made up for
                for key, _ in selector.select(max(0.0, due - time.monotonic())):
                    assert isinstance(key.fileobj, socket.socket)
                    self._end(key.fileobj, selector)
                for knock in self._overdue():
                    self._end(knock, selector)

    def _begin(self, vip: str, selector: selectors.BaseSelector) -> None:
        knock = open_socket(self._lab, "client", vip)
        knock.setblocking(False)
        self._under_way[knock] = time.monotonic()
        knock.connect_ex((vip, 80))
        selector.register(knock, selectors.EVENT_WRITE)

    def _overdue(self) -> list[socket.socket]:
        now = time.monotonic()
        return [knock for knock, begun in self._under_way.items() if now - begun > LOST_SECONDS]

    def _end(self, knock: socket.socket, selector: selectors.BaseSelector) -> None:
        begun = self._under_way.pop(knock)
        selector.unregister(knock)
        try:
            knock.getpeername()
        except OSError:  # it is not connected
            self.lost.append(begun)
        else:
            self._made += 1
        knock.close()
