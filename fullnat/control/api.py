# SPDX-License-Identifier: Apache-2.0
"""The control socket: HTTP and JSON on a unix socket that only its owner may open.

GET /v1/status, /v1/services, /v1/servers, /v1/flows?limit=N, /v1/ports, /v1/persistence, /v1/stats.
POST /v1/stop?leave=nothing|flows|service.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from fullnat.control import snapshot
from fullnat.control.leave import Leave
from fullnat.datapath.base import Datapath

FLOWS_SHOWN = 1000  # unless the request says how many


class ControlSocket:
    """Serves what the daemon knows to `fullnat show`."""

    def __init__(
        self,
        path: Path,
        engine: Datapath,
        status: Callable[[], dict[str, Any]],
        clock: Callable[[], int],
        stop: Callable[[Leave], None],
    ) -> None:
        """Serve on *path*; *status* returns what only the daemon knows, *stop* ends it."""
        self._path = path
        self._engine = engine
        self._status = status
        self._clock = clock
        self._stop = stop
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen; a socket file left by a dead process is replaced."""
        application = web.Application()
        application.router.add_get("/v1/{what}", self._get)
        application.router.add_post("/v1/stop", self._post_stop)
        self._runner = web.AppRunner(application, access_log=None, handle_signals=False)
        await self._runner.setup()
        self._path.unlink(missing_ok=True)
        mask = os.umask(0o177)
        try:
            await web.UnixSite(self._runner, str(self._path)).start()
        finally:
            os.umask(mask)

    async def stop(self) -> None:
        """Close the socket and remove its file."""
        if self._runner is not None:
            await self._runner.cleanup()
        self._path.unlink(missing_ok=True)

    async def _post_stop(self, request: web.Request) -> web.Response:
        leave = request.query.get("leave", Leave.NOTHING)
        if leave not in list(Leave):
            accepted = ", ".join(Leave)
            return web.json_response({"error": f"leave is one of {accepted}, not {leave!r}"}, status=400)
        try:
            self._stop(Leave(leave))
        except ValueError as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response({"stopping": True})

    async def _get(self, request: web.Request) -> web.Response:
        engine, now = self._engine, self._clock()
        what = request.match_info["what"]
        if what == "flows":
            limit = request.query.get("limit", str(FLOWS_SHOWN))
            if not limit.isdigit():
                return web.json_response({"error": f"limit is a number, not {limit!r}"}, status=400)
            return web.json_response(snapshot.flows(engine.flows(int(limit)), now))
        views: dict[str, Callable[[], Any]] = {
            "status": self._status,
            "services": lambda: snapshot.services(engine.services),
            "servers": lambda: snapshot.servers(engine.services),
            "ports": lambda: snapshot.ports(engine.ports(now)),
            "persistence": lambda: snapshot.persistence(engine.templates(), now),
            "stats": lambda: snapshot.stats(engine.statistics()),
        }
        if what not in views:
            accepted = ", ".join([*views, "flows"])
            return web.json_response({"error": f"no {what!r}; there are {accepted}"}, status=404)
        engine.refresh()
        return web.json_response(views[what]())
