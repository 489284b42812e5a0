# SPDX-License-Identifier: Apache-2.0
"""The control socket: who comes is known by the kernel, and what is answered is in read.py and change.py.

A client can hold up nobody.  Connections are bounded for each user apart, so that one who opens many keeps
no other out, least of all root; a head, and a body, must be there within ten seconds; and who stops reading
is left alone.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

from aiohttp import web
from aiohttp.http import HttpProcessingError

from fullnat.control.access import Access, Role, peer_of
from fullnat.control.api.answer import ROLE, Handler, demand, one_line
from fullnat.control.api.change import Changer
from fullnat.control.api.read import Reader, unknown
from fullnat.control.instance import Instance
from fullnat.web.connections import Door, Limits

MAX_BODY = 1 << 20  # bytes
LIMITS = Limits(connections=32, idle=10.0, stalled=30.0)  # of each user
_LEAVE = 2.0  # seconds an answer under way may take when the socket is closed
_OWNER_ONLY, _EVERYBODY = 0o600, 0o666  # who may connect; what they may do then is Access's

_LOG = logging.getLogger("fullnat.api")
# What clients did wrong is told to them, and could fill the log.
_LOG.addFilter(lambda record: not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError)))

Route = tuple[str, str, Role, Handler]


class ControlSocket:
    """Serves an instance on a unix socket."""

    def __init__(self, path: Path, instance: Instance, access: Access, limits: Limits = LIMITS) -> None:
        """Serve on *path* those who have a role by *access*."""
        self._path = path
        self._access = access
        self._limits = limits
        self._doors: dict[int, Door] = {}  # by uid
        self._server: asyncio.Server | None = None
        application = web.Application(middlewares=[one_line], client_max_size=MAX_BODY)
        for method, route, role, handler in routes(instance):
            application.router.add_route(method, route, self._guarded(handler, role))
        application.router.add_route("*", "/{path:.*}", self._guarded(unknown, Role.VIEWER))
        self._runner = web.AppRunner(
            application,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=_LEAVE,
            keepalive_timeout=limits.idle,  # counts from the first moment on
            logger=_LOG,
        )

    async def start(self) -> None:
        """Listen; a socket file left by a dead process is replaced."""
        await self._runner.setup()
        self._path.unlink(missing_ok=True)
        mode = _EVERYBODY if self._access.is_shared else _OWNER_ONLY
        mask = os.umask(0o777 & ~mode)
        try:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_unix_server(lambda: _Arrival(self._door_of), str(self._path))
        finally:
            os.umask(mask)

    async def stop(self) -> None:
        """Close the socket and every connection, and remove the file."""
        if self._server is not None:
            self._server.close()
        await self._runner.cleanup()
        self._path.unlink(missing_ok=True)

    def _door_of(self, uid: int) -> Door:
        """Return the way in of the user *uid*."""
        if uid not in self._doors:
            inside = self._runner.server
            assert inside is not None  # since start()
            self._doors[uid] = Door(inside, self._limits)
        return self._doors[uid]

    def _guarded(self, handler: Handler, needed: Role) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            assert request.transport is not None  # it is connected
            peer = peer_of(request.transport.get_extra_info("socket"))
            request[ROLE] = self._access.role_of(peer)
            demand(request, needed)
            return await handler(request)

        return answer


class _Arrival(asyncio.Protocol):
    """Leads a new connection to the door of its user."""

    def __init__(self, door_of: Callable[[int], Door]) -> None:
        self._door_of = door_of

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        inside = self._door_of(peer_of(transport.get_extra_info("socket")).uid)()
        cast(asyncio.Transport, transport).set_protocol(inside)
        inside.connection_made(transport)


def routes(instance: Instance) -> Iterator[Route]:
    """Yield everything there is: method, path, the role it takes, and what answers."""
    reader, changer = Reader(instance), Changer(instance)
    for name, handler in reader.handlers().items():
        yield "GET", f"/v1/{name}", Role.VIEWER, handler
    yield "GET", "/metrics", Role.VIEWER, reader.metrics
    server = "/v1/services/{service}/servers/{server}"
    yield "POST", server, Role.OPERATOR, changer.server
    yield "POST", f"{server}/reset", Role.OPERATOR, changer.reset
    yield "POST", "/v1/reload", Role.ADMIN, changer.reload
    yield "POST", "/v1/stop", Role.ADMIN, changer.stop
    yield "POST", "/v1/ipvsadm", Role.VIEWER, changer.ipvsadm  # and what is no listing takes more
