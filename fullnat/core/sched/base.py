# SPDX-License-Identifier: Apache-2.0
"""What a scheduler is: a class that picks the real server for a new flow.

A scheduler of your own subclasses Scheduler and overrides schedule().  The three other methods
tell it what changed, so that a pick need not look at every server; ignore them and read
self.servers if there are few.

Rules.
  1. schedule() returns a server with is_available true, or None when there is none to be had.
  2. It reads no clock and no random source: *request* carries the time, the constructor a seed.
  3. It does not count: the service does, and calls flows_changed().
  4. Flows outlive their server's place in the list: flows_changed() may name a server that attach()
     no longer did, whose position now belongs to another.  Who keeps an index by position asks
     is_attached() first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from fullnat.core.addr import Endpoint
from fullnat.core.service import RealServer


@dataclass(frozen=True, slots=True)
class Request:
    """What is known of a flow when it opens."""

    client: Endpoint
    virtual: Endpoint
    protocol: int  # addr.TCP or addr.UDP
    payload: bytes  # what the first packet carries behind its TCP or UDP header
    now: int  # monotonic nanoseconds


class Scheduler:
    """Base of all schedulers."""

    name: ClassVar[str] = ""
    accepted_flags: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, *, seed: int = 0, flags: frozenset[str] = frozenset()) -> None:
        self.seed = seed
        self.flags = flags
        self.servers: Sequence[RealServer] = ()

    def attach(self, servers: Sequence[RealServer]) -> None:
        """Take *servers* as the list to pick from; called when the list is made and when it changes."""
        self.servers = servers

    def server_changed(self, server: RealServer) -> None:
        """Hear that the weight or the availability of *server* changed."""

    def flows_changed(self, server: RealServer) -> None:
        """Hear that *server* holds more, fewer, or other flows than before."""

    def schedule(self, request: Request) -> RealServer | None:
        """Return the server for a new flow, or None when none may take it."""
        raise NotImplementedError

    def is_attached(self, server: RealServer) -> bool:
        """Whether *server* is in the list to pick from, at its position."""
        return server.position < len(self.servers) and self.servers[server.position] is server
