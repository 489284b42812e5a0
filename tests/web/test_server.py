# SPDX-License-Identifier: Apache-2.0
"""The page's server: what it serves, to whom, and what a client cannot do to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import ClientSession, web

from fullnat.web.connections import Limits
from fullnat.web.files import load_files
from fullnat.web.hosts import is_own_host
from fullnat.web.server import PageServer, make_pages
from fullnat.web.shared import CLOCK_HEADER
from tests.web.fake import FakeInstance

pytestmark = pytest.mark.usefixtures("runner")

BIG = 64 << 20  # more than the buffers of a connection take


class Counted:
    """An answer that counts how often it was made."""

    def __init__(self, size: int = 0) -> None:
        self.made = 0
        self._padding = "x" * size

    async def __call__(self, request: web.Request) -> web.Response:
        self.made += 1
        return web.json_response({"made": self.made, "padding": self._padding})


@asynccontextmanager
async def serving(application: web.Application, limits: Limits | None = None) -> AsyncIterator[PageServer]:
    server = PageServer(application, "127.0.0.1", 0, limits)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def client_of(application: web.Application) -> AsyncIterator[ClientSession]:
    async with serving(application) as server, ClientSession(f"http://127.0.0.1:{server.port}") as session:
        yield session


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def read(session: ClientSession, path: str, **options: object) -> tuple[int, str]:
    async with session.get(path, **options) as answer:  # type: ignore[arg-type]
        return answer.status, await answer.text()


@pytest.mark.parametrize(
    "header",
    [
        "127.0.0.1:8404",
        "localhost",
        "LOCALHOST:9000",
        "localhost.",
        "[::1]:8404",
        "192.0.2.7",
        "status.example",
    ],
)
def test_hosts_that_are_its_own(header: str) -> None:
    assert is_own_host(header, {"status.example"})


@pytest.mark.parametrize(
    "header",
    [
        "",
        "evil.example",
        "evil.example:8404",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "localhost:80@evil.example",
        "[::1",
        "::1",
        "127.0.0.1:",
        "127.0.0.1:8404:1",
        "status.example.evil",
    ],
)
def test_hosts_that_are_not(header: str) -> None:
    assert not is_own_host(header, {"status.example"})


async def test_every_file_has_its_type_and_the_policy() -> None:
    async with client_of(FakeInstance().application()) as session:
        for file in load_files():
            path = "/" if file.name == "index.html" else f"/{file.name}"
            async with session.get(path) as answer:
                assert answer.status == 200, path
                assert await answer.read() == file.body
                assert answer.content_type == file.content_type
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert answer.headers["Cache-Control"] == "no-cache"
                assert "default-src 'none'; script-src 'self';" in answer.headers["Content-Security-Policy"]
                assert answer.headers["Server"] == "fullnat"
            async with session.get(path, headers={"If-None-Match": answer.headers["ETag"]}) as again:
                assert again.status == 304


def test_no_file_has_code_or_style_in_its_markup() -> None:
    page = next(file for file in load_files() if file.name == "index.html").body.decode()
    assert "<style" not in page
    assert " style=" not in page
    assert " on" not in page.replace(" once", "").replace(" on the host", "")
    assert page.count("<script") == page.count('<script type="module" src="app.js"></script>') == 1


def test_every_module_is_fetched_ahead() -> None:
    page = next(file for file in load_files() if file.name == "index.html").body.decode()
    modules = [file.name for file in load_files() if file.name.endswith(".js") and file.name != "app.js"]
    assert all(f'<link rel="modulepreload" href="{name}">' in page for name in modules)


@pytest.mark.parametrize(
    "path", ["/v1/flows", "/v1/", "/v1", "/page/app.js", "/server.py", "/..%2fserver.py", "/icon"]
)
async def test_nothing_else_is_there(path: str) -> None:
    application = make_pages({"status": Counted(), "flows": Counted()})
    async with client_of(application) as session:
        assert (await read(session, path))[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_nothing_can_be_changed(method: str) -> None:
    status = Counted()
    application = make_pages({"status": status})
    async with client_of(application) as session, session.request(method, "/v1/status") as answer:
        assert answer.status == 405
        assert answer.headers["Allow"] == "GET,HEAD"
    assert status.made == 0


async def test_a_strange_host_is_told_nothing() -> None:
    status = Counted()
    async with client_of(make_pages({"status": status}, ["Status.example"])) as session:
        refused = await read(session, "/v1/status", headers={"Host": "evil.example"})
        allowed = await read(session, "/v1/status", headers={"Host": "status.example:8404"})
    assert refused[0] == 421
    assert json.loads(refused[1])["error"].startswith("not served as 'evil.example'")
    assert allowed[0] == 200


async def test_those_who_ask_together_get_one_answer() -> None:
    status = Counted()
    async with client_of(make_pages({"status": status})) as session:
        answers = await asyncio.gather(*(session.get("/v1/status") for _ in range(10)))
        clocks = {answer.headers[CLOCK_HEADER] for answer in answers}
        bodies = {await answer.text() for answer in answers}
    assert status.made == 1
    assert len(bodies) == len(clocks) == 1


async def test_answers_are_not_stored_by_others() -> None:
    async with client_of(FakeInstance().application()) as session:
        for path in ("/v1/servers", "/metrics", "/v1/events"):
            async with session.get(path) as answer:
                assert answer.headers["Cache-Control"] == "no-store", path


async def test_a_head_has_no_body() -> None:
    async with client_of(FakeInstance().application()) as session, session.head("/v1/status") as answer:
        assert answer.status == 200
        assert await answer.read() == b""


async def test_events_are_a_stream() -> None:
    fake = FakeInstance()
    fake.tell("FN1001", "ready")
    path = "/v1/events?follow=1&since=0"
    async with client_of(fake.application()) as session, session.get(path) as answer:
        assert answer.content_type == "text/event-stream"
        assert await answer.content.readline() == b"id: 1\n"
        fake.tell("FN2002", "server-down")
        assert json.loads((await answer.content.readline()).removeprefix(b"data: "))["kind"] == "ready"
        assert (await answer.content.readline(), await answer.content.readline()) == (b"\n", b"id: 2\n")


async def test_a_slow_head_is_cut_off() -> None:
    async with serving(make_pages({}), Limits(idle=0.2)) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()


async def test_an_endless_head_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(make_pages({})) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"x: y\r\n" * 1000)
        assert b" 400 " in await asyncio.wait_for(reader.readline(), 10)
        writer.close()
    assert caplog.records == []  # a client cannot fill the log


async def test_who_stops_reading_is_cut_off() -> None:
    async with serving(make_pages({"status": Counted(BIG)}), Limits(stalled=0.2)) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert await asyncio.wait_for(reader.readline(), 10) == b"HTTP/1.1 200 OK\r\n"
        await until(lambda: server.connections == 0)
        assert len(await reader.read()) < BIG
        writer.close()


async def test_so_many_connections_and_no_more() -> None:
    async with serving(make_pages({}), Limits(connections=2)) as server:
        inside = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(2)]
        await until(lambda: server.connections == 2)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        assert (await asyncio.wait_for(reader.read(), 10)).startswith(b"HTTP/1.1 503 ")
        writer.close()
        inside[0][1].close()
        await until(lambda: server.connections == 1)
        async with ClientSession(f"http://127.0.0.1:{server.port}") as session:
            assert (await read(session, "/"))[0] == 200
        inside[1][1].close()


async def test_a_port_that_is_taken_is_an_error_and_leaves_nothing() -> None:
    async with serving(make_pages({})) as server:
        second = PageServer(make_pages({}), "127.0.0.1", server.port)
        with pytest.raises(OSError, match="address already in use"):
            await second.start()
        await second.stop()
