# SPDX-License-Identifier: Apache-2.0
"""The status page's server: the page, and what it shows, over HTTP, read-only.

    /                     the page; its files stand beside it
    /v1/NAME              what the control socket answers to the same GET, for the names in SHOWN
    /v1/events?follow=1   a stream of server-sent events
    /metrics              for Prometheus

Rules.
  1. Nothing here changes anything: GET and HEAD only, and handlers that only read.
  2. Who can connect can see.  So flows, persistence and the configuration are left to the control
     socket, where the kernel says who asks: they name clients.
  3. The page loads nothing from elsewhere and runs no script but its own (CONTENT_POLICY).
  4. A client can hold up nobody: connections, heads and idle times are bounded (connections.py), and
     pages that ask at the same time get the same answer (shared.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping

from aiohttp import web
from aiohttp.http import HttpProcessingError

from fullnat.web.connections import Door, Limits
from fullnat.web.files import PageFile, load_files
from fullnat.web.hosts import is_own_host
from fullnat.web.shared import Answer, Shared

SHOWN = ("status", "services", "servers", "ports", "stats", "events", "openapi.json", "metrics")

CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "fullnat",
    "X-Content-Type-Options": "nosniff",
}
_HEAD_LINE = 4096  # bytes of a header, and of the request line
_HEADS = 64  # header lines
_LEAVE = 1.0  # seconds an answer under way may take when the server stops

_LOG = logging.getLogger("fullnat.web")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_pages(answers: Mapping[str, Answer], names: Collection[str] = ()) -> web.Application:
    """Return the page, with those of *answers* that are in SHOWN.

    *answers* are handlers as the control socket has them, by the name in their path; `metrics` is the
    one of /metrics, `events` may answer with a stream.  *names* are the host names that the page may be
    called by besides addresses and localhost.
    """
    own_names = frozenset(name.lower() for name in names)

    @web.middleware
    async def check_host(request: web.Request, handler: Handler) -> web.StreamResponse:
        host = request.headers.get("Host", "")
        if not is_own_host(host, own_names):
            return _error(421, f"not served as {host!r}; names besides addresses are in [web] names")
        return await handler(request)

    application = web.Application(middlewares=[check_host], client_max_size=1)
    application.on_response_prepare.append(_add_headers)
    for file in load_files():
        application.router.add_get("/" if file.name == "index.html" else f"/{file.name}", _serve(file))
    for name in SHOWN:
        if name in answers:
            path = "/metrics" if name == "metrics" else f"/v1/{name}"
            handler = answers[name] if name == "events" else Shared(answers[name]).get
            application.router.add_get(path, handler)
    return application


class PageServer:
    """Listens for browsers."""

    def __init__(
        self, application: web.Application, host: str, port: int, limits: Limits | None = None
    ) -> None:
        """Serve *application*, of make_pages(), on the address *host*; port 0: any that is free."""
        self._limits = limits or Limits()
        self._host = host
        self._port = port
        self._runner = web.AppRunner(
            application,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=_LEAVE,
            keepalive_timeout=self._limits.idle,
            lingering_time=0,
            max_line_size=_HEAD_LINE,
            max_field_size=_HEAD_LINE,
            max_headers=_HEADS,
            handler_cancellation=True,
            logger=_LOG,
        )
        self._door: Door | None = None
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen; OSError if that cannot be."""
        await self._runner.setup()
        inside = self._runner.server
        assert inside is not None
        self._door = Door(inside, self._limits)
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(self._door, self._host, self._port)
        except OSError:
            await self._runner.cleanup()
            raise

    async def stop(self) -> None:
        """Close the port and every connection."""
        if self._server is not None:
            self._server.close()
        await self._runner.cleanup()

    @property
    def connections(self) -> int:
        """How many are open."""
        return 0 if self._door is None else self._door.open

    @property
    def port(self) -> int:
        """The port it listens on."""
        if self._server is None:
            return self._port
        port: int = self._server.sockets[0].getsockname()[1]
        return port


class _OwnFaults(logging.Filter):
    """Leaves out what clients did wrong: they were told, and could fill the log with it."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_LOG.addFilter(_OwnFaults())


def _serve(file: PageFile) -> Handler:
    async def handler(request: web.Request) -> web.Response:
        headers = {"Cache-Control": "no-cache", "ETag": f'"{file.etag}"'}
        known = request.if_none_match or ()
        if any(tag.value == file.etag for tag in known):
            return web.Response(status=304, headers=headers)
        return web.Response(body=file.body, content_type=file.content_type, charset="utf-8", headers=headers)

    return handler


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    for name, value in _HEADERS.items():
        response.headers[name] = value
    response.headers.setdefault("Cache-Control", "no-store")


def _error(status: int, text: str) -> web.Response:
    return web.json_response({"error": text}, status=status)
