# SPDX-License-Identifier: Apache-2.0
"""What can be read: every GET, for whoever may see it at all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from itertools import islice
from typing import Any

from aiohttp import web

from fullnat.control import snapshot
from fullnat.control.api.answer import Handler, absent, bad
from fullnat.control.api.openapi import describe
from fullnat.control.events import Event
from fullnat.control.instance import Instance
from fullnat.control.metrics import render_metrics

FLOWS_AT_ONCE = 256  # some milliseconds
FLOWS_SHOWN = 1000  # unless the request says how many
HEARTBEAT = 15.0  # seconds of silence on a stream after which it is tried whether anybody still listens
_COMMENT = b":\n\n"  # in a stream of server-sent events
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Reader:
    """Answers from a running instance."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._views: dict[str, Callable[[], Any]] = {
            "status": instance.status,
            "services": self._services,
            "servers": instance.server_rows,
            "ports": lambda: snapshot.ports(instance.engine.ports(instance.now())),
            "persistence": lambda: snapshot.persistence(instance.engine.templates(), instance.now()),
            "stats": lambda: snapshot.stats(instance.engine.statistics()),
            "openapi.json": describe,
        }

    def handlers(self) -> dict[str, Handler]:
        """Return what answers GET /v1/NAME, by name."""
        return {
            **{name: self._handler(view) for name, view in self._views.items()},
            "flows": self.flows,
            "events": self.events,
        }

    def _handler(self, view: Callable[[], Any]) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            self._instance.engine.refresh()
            return web.json_response(view())

        return answer

    def _services(self) -> list[snapshot.Row]:
        return snapshot.services(self._instance.roster.services)

    async def flows(self, request: web.Request) -> web.StreamResponse:
        """Return flows, at most as many as are asked for, a few at a time: there may be millions."""
        records = self._instance.engine.flows(_number(request, "limit", FLOWS_SHOWN))
        stream = web.StreamResponse(headers={"Content-Type": "application/json; charset=utf-8"})
        await stream.prepare(request)
        before = "["
        while some := list(islice(records, FLOWS_AT_ONCE)):
            rows = json.dumps(snapshot.flows(some, self._instance.now()))
            await stream.write(f"{before}{rows[1:-1]}".encode())
            before = ", "
            await asyncio.sleep(0)  # others have their turn
        await stream.write(b"[]" if before == "[" else b"]")
        return stream

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        """Return everything that is counted, for Prometheus."""
        self._instance.engine.refresh()
        instance = self._instance
        text = render_metrics(
            instance.status(),
            self._services(),
            instance.server_rows(),
            snapshot.ports(instance.engine.ports(instance.now())),
            instance.engine.statistics(),
        )
        return web.Response(text=text, headers={"Content-Type": METRICS_TYPE})

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Return the events that are kept, and those to come where that is asked for."""
        since = _number(request, "since", 0)
        if not flag(request, "follow"):
            return web.json_response([event.to_json() for event in self._instance.events.since(since)])
        return await self._follow(request, since)

    async def _follow(self, request: web.Request, since: int) -> web.StreamResponse:
        last = request.headers.get("Last-Event-ID", "")
        since = int(last) if _is_number(last) else since
        stream = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        )
        with self._instance.events.listen() as queue:
            await stream.prepare(request)
            for event in self._instance.events.since(since):
                await stream.write(_as_sse(event))
                since = event.sequence
            async for event in _until_the_end(queue, stream):
                if event.sequence > since:
                    await stream.write(_as_sse(event))
        return stream


async def _until_the_end(
    queue: asyncio.Queue[Event | None], stream: web.StreamResponse
) -> AsyncIterator[Event]:
    """Yield events as they come; a write to who is gone ends it, with an error that aiohttp knows."""
    while True:
        try:
            async with asyncio.timeout(HEARTBEAT):
                event = await queue.get()
        except TimeoutError:
            await stream.write(_COMMENT)
            continue
        if event is None:
            return
        yield event


def _as_sse(event: Event) -> bytes:
    return f"id: {event.sequence}\ndata: {json.dumps(event.to_json())}\n\n".encode()


def _number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name, str(default))
    if not _is_number(text):
        raise bad(f"{name} is a number, not {text[:40]!r}")
    return int(text)


def _is_number(text: str) -> bool:
    return text.isdecimal() and len(text) <= 12


def flag(request: web.Request, name: str) -> bool:
    """Whether the query of *request* has *name*, and not as 0."""
    return request.query.get(name, "0") not in ("0", "false", "")


async def unknown(request: web.Request) -> web.StreamResponse:
    """Say that there is nothing at this path."""
    raise absent(
        f"nothing answers {request.method} {request.path[:100]!r}; /v1/openapi.json says what there is"
    )
