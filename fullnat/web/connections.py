# SPDX-License-Identifier: Apache-2.0
"""Connections to the status page: so many at once, and none that does not read what it asked for.

Who does not send a request is closed by aiohttp's keep-alive timer, the head of a request included.  Nobody
there bounds how many connect, nor how long an answer may wait for a client that has stopped reading.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast


@dataclass(frozen=True, slots=True)
class Limits:
    """What clients may take."""

    connections: int = 64  # an open page has up to six
    idle: float = 15.0  # seconds in which the whole head of the next request must be there
    stalled: float = 30.0  # seconds in which a client that has stopped reading must go on


_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 5\r\n"
    b"Content-Type: text/plain\r\nContent-Length: 21\r\n\r\ntoo many connections\n"
)


class Door:
    """A protocol factory that lets in so many at a time."""

    def __init__(self, inside: Callable[[], asyncio.Protocol], limits: Limits) -> None:
        """*inside* makes the protocol that serves a connection."""
        self._inside = inside
        self.limits = limits
        self.open = 0

    def __call__(self) -> asyncio.Protocol:
        """Return what serves the next connection."""
        return _Connection(self, self._inside()) if self.open < self.limits.connections else _Refusal()


class _Refusal(asyncio.Protocol):
    """Says that it is full, and closes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        writer = cast(asyncio.Transport, transport)
        writer.write(_FULL)
        writer.close()


class _Connection(asyncio.Protocol):
    """Passes everything on to the protocol inside, and counts and times it."""

    def __init__(self, door: Door, inside: asyncio.Protocol) -> None:
        self._door = door
        self._inside = inside
        self._transport: asyncio.BaseTransport | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._door.open += 1
        self._transport = transport
        self._inside.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._door.open -= 1
        self._stop_timing()
        self._inside.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._inside.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inside.eof_received()

    def pause_writing(self) -> None:
        loop = asyncio.get_running_loop()
        transport = cast(asyncio.Transport, self._transport)
        self._deadline = loop.call_later(self._door.limits.stalled, transport.abort)
        self._inside.pause_writing()

    def resume_writing(self) -> None:
        self._stop_timing()
        self._inside.resume_writing()

    def _stop_timing(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
