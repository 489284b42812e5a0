# SPDX-License-Identifier: Apache-2.0
"""The control socket, asked over a real one: every route, its shape, and what it does not put up with."""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from fullnat.control.access import Role
from fullnat.control.api import read
from fullnat.control.api.openapi import SCHEMAS, describe
from fullnat.control.api.server import MAX_BODY
from fullnat.control.events import Kind
from fullnat.control.leave import Leave
from fullnat.core.service import Admin, Health
from fullnat.core.timeouts import SECOND
from fullnat.web.connections import Limits
from tests.instances import CONFIG, ONE, TWO, Answer, As, Client, Run, talk
from tests.packets import tcp
from tests.vectors.case import V4

PLACE = f"/v1/services/web/servers/{ONE}"
PERSISTENT = CONFIG.replace('scheduler = "rr"', 'scheduler = "rr"\npersistence = { timeout = 60, mask = 24 }')


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


@pytest.fixture(params=["python", pytest.param("native", marks=pytest.mark.requires("native"))])
def busy(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """An instance with one established connection to server one, two seconds old."""
    made = Run(tmp_path, PERSISTENT, request.param)
    made.send(tcp(V4.to_vip(), "S"))
    made.send(tcp(V4.from_server(), "SA"))
    made.send(tcp(V4.to_vip(), "A"))
    made.now = 2 * SECOND
    return made


def mistakes(value: Any, schema: dict[str, Any], where: str = "") -> list[str]:
    """Return what of *value* is not as *schema*, of the kinds that SCHEMAS has, says; no key is extra."""
    if "$ref" in schema:
        return mistakes(value, SCHEMAS[schema["$ref"].rpartition("/")[2]], where)
    if "oneOf" in schema:
        found = [mistakes(value, one, where) for one in schema["oneOf"]]
        return [] if found.count([]) == 1 else min(found, key=len)
    if not is_of(value, schema["type"]):
        return [f"{where}: {value!r} is no {schema['type']}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{where}: {value!r} is none of {schema['enum']}"]
    if value is not None and value is not False and "minimum" in schema and value < schema["minimum"]:
        return [f"{where}: {value} is too small"]
    if isinstance(value, list):
        return [
            line
            for index, one in enumerate(value)
            for line in mistakes(one, schema["items"], f"{where}[{index}]")
        ]
    if isinstance(value, dict) and "properties" in schema:
        known = schema["properties"]
        found = [f"{where}: no {key}" for key in schema.get("required", ()) if key not in value]
        if not schema.get("additionalProperties"):
            found += [f"{where}: {key} is not described" for key in value if key not in known]
        return [
            *found,
            *(
                line
                for key in known
                if key in value
                for line in mistakes(value[key], known[key], f"{where}.{key}")
            ),
        ]
    return []


def is_of(value: Any, kind: str) -> bool:
    types = {
        "string": str,
        "number": (int, float),
        "integer": int,
        "array": list,
        "object": dict,
        "boolean": bool,
    }
    if kind == "null":
        return value is None
    return isinstance(value, types[kind]) and (kind == "boolean" or not isinstance(value, bool))  # type: ignore[arg-type]


def test_the_validator_sees_what_is_wrong() -> None:
    good = {"name": "main", "servers": 1, "usable_weight": 1, "quorum": 1, "has_quorum": True}
    assert mistakes(good, SCHEMAS["Pool"]) == []
    for bad in ({"name": 1}, {"servers": -1}, {"servers": True}, {"has_quorum": 1}, {"more": 1}):
        assert mistakes(good | bad, SCHEMAS["Pool"]), bad
    assert mistakes({key: good[key] for key in list(good)[1:]}, SCHEMAS["Pool"]) == [": no name"]


def schema_of(path: str) -> dict[str, Any]:
    found: dict[str, Any] = describe()["paths"][path]["get"]["responses"]["200"]["content"]
    return found["application/json"]["schema"]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "name",
    ["status", "services", "servers", "flows", "ports", "persistence", "stats", "events", "openapi.json"],
)
def test_every_view_is_as_it_is_described(busy: Run, name: str) -> None:
    busy.roster.set_health(busy.served(), busy.server(TWO), Health.DOWN, busy.now, "L4CON", "refused")
    busy.roster.set_admin(busy.served(), busy.server(ONE), Admin.QUIESCED, busy.now, busy.now + SECOND)
    answer = talk(busy, lambda client: client.get(f"/v1/{name}"))
    assert answer.status == HTTPStatus.OK
    assert mistakes(answer.body, schema_of(f"/v1/{name}")) == []
    assert answer.body


def test_nothing_is_described_that_is_not_there_and_the_other_way_round(run: Run) -> None:
    from fullnat.control.api.server import routes

    described = {
        (method.upper(), path) for path, methods in describe()["paths"].items() for method in methods
    }
    assert described == {(method, path) for method, path, _, _ in routes(run.instance)}


def test_every_schema_that_is_named_is_there() -> None:
    text = json.dumps(describe())
    named = {part.partition('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert named == set(SCHEMAS)


def test_a_checked_server_says_what_its_check_found(tmp_path: Path) -> None:
    present = tmp_path / "present"
    present.touch()
    health = f'health = {{ type = "file", path = "{present}", interval = "100ms", timeout = "50ms" }}'
    run = Run(tmp_path, CONFIG.replace('scheduler = "rr"', f'scheduler = "rr"\n{health}'))

    async def conversation(client: Client) -> list[dict[str, Any]]:
        run.watch.follow(run.roster.services)
        async with asyncio.timeout(10):
            while run.server(ONE).health is not Health.UP:
                await asyncio.sleep(0.005)
        rows: list[dict[str, Any]] = (await client.get("/v1/servers")).body
        return rows

    rows = talk(run, conversation)
    assert mistakes(rows, schema_of("/v1/servers")) == []
    assert (rows[0]["check"]["type"], rows[0]["check"]["code"], rows[0]["health"]) == ("file", "L7OK", "up")
    assert rows[-1]["check"] is None  # the sorry server


def test_a_change_is_answered_with_the_server_as_it_is_then(busy: Run) -> None:
    async def conversation(client: Client) -> list[Answer]:
        return [
            await client.post(PLACE, {"weight": 7}),
            await client.post(PLACE, {"admin": "drain", "deadline": 30.0}),
            await client.post(PLACE, {"admin": "disabled"}),
            await client.post(PLACE, {"admin": "enabled", "weight": 2}),
        ]

    weight, drain, disabled, enabled = talk(busy, conversation)
    for answer in (weight, drain, disabled, enabled):
        assert answer.status == HTTPStatus.OK
        assert mistakes(answer.body, SCHEMAS["Server"]) == []
    assert (weight.body["weight"], weight.body["effective_weight"]) == (7, 7)
    assert drain.body["drain"] == {"by": "command", "since": 0.0, "deadline": 30.0, "left": 1}
    assert (drain.body["admin"], drain.body["effective_weight"]) == ("drain", 0)
    assert (disabled.body["admin"], disabled.body["in_rotation"]) == ("disabled", False)
    assert (enabled.body["weight"], enabled.body["drain"], enabled.body["in_rotation"]) == (2, None, True)


@pytest.mark.parametrize("name", ["web", "tcp:%2F%2F203.0.113.10:80"])
def test_a_service_goes_by_its_name_and_by_its_address(run: Run, name: str) -> None:
    answer = talk(run, lambda client: client.post(f"/v1/services/{name}/servers/{ONE}", {"weight": 9}))
    assert (answer.status, answer.body["weight"]) == (HTTPStatus.OK, 9)


def test_a_reset_ends_the_flows_and_says_how_many(busy: Run) -> None:
    answers = [talk(busy, lambda client: client.post(f"{PLACE}/reset")) for _ in range(2)]
    assert answers == [(HTTPStatus.OK, {"ended": 1}), (HTTPStatus.OK, {"ended": 0})]
    assert list(busy.engine.flows()) == []


def test_a_reload_says_what_changes_and_a_trial_changes_nothing(run: Run) -> None:
    run.write(CONFIG.replace('"rr"', '"wlc"'))

    async def conversation(client: Client) -> list[Answer]:
        return [await client.post(f"/v1/reload{query}") for query in ("?dry_run=1", "?dry_run=0", "")]

    changes = ["~ service web: scheduler rr -> wlc"]
    assert [answer.body for answer in talk(run, conversation)] == [
        {"changes": changes, "applied": False},
        {"changes": changes, "applied": True},
        {"changes": [], "applied": True},
    ]
    assert run.served().config.scheduler_name == "wlc"
    assert run.instance.reloads.to_json() == {
        "successes": 2,
        "failures": 0,
        "last": 1_795_200_100.0,
        "error": "",
    }


def test_a_file_with_mistakes_is_refused_and_counted(run: Run) -> None:
    run.file.write_text(CONFIG.replace('"rr"', '"rrr"'))
    answer = talk(run, lambda client: client.post("/v1/reload"))
    assert answer.status == HTTPStatus.CONFLICT
    assert "lb.toml:8: service[1].scheduler" in answer.body["error"]
    assert (run.instance.reloads.failures, run.served().config.scheduler_name) == (1, "rr")
    assert "event=FN3002 kind=reload-refused" in run.lines[-1]


@pytest.mark.parametrize(
    ("query", "leave"), [("", Leave.NOTHING), *((f"?leave={one}", one) for one in Leave)]
)
def test_it_is_told_to_stop_and_what_to_leave(run: Run, query: str, leave: Leave) -> None:
    assert talk(run, lambda client: client.post(f"/v1/stop{query}")) == (HTTPStatus.OK, {"stopping": True})
    assert run.stopped == [leave]


def test_a_command_of_ipvsadm_is_carried_out(run: Run) -> None:
    async def conversation(client: Client) -> list[Answer]:
        return [
            await client.post("/v1/ipvsadm", {"arguments": ["-A", "-t", "203.0.113.11:80"]}),
            await client.post("/v1/ipvsadm", {"arguments": ["-A", "-t", "203.0.113.11:80"], "input": ""}),
        ]

    first, second = talk(run, conversation)
    assert first == (HTTPStatus.OK, {"output": "", "errors": "", "status": 0})
    assert second.body == {"output": "", "errors": "Service already exists\n", "status": 255}
    assert mistakes(second.body, SCHEMAS["Done"]) == []


DEEP = b"[" * 900 + b"]" * 900
WRONG: list[tuple[str, bytes, HTTPStatus, str]] = [
    (PLACE, b"{", HTTPStatus.BAD_REQUEST, "the body is not JSON"),
    (PLACE, b"\xff", HTTPStatus.BAD_REQUEST, "the body is not JSON"),
    (PLACE, b"[" * 100_000, HTTPStatus.BAD_REQUEST, "the body is not JSON"),
    (PLACE, b"7", HTTPStatus.BAD_REQUEST, "the body is not a JSON object"),
    (PLACE, b"", HTTPStatus.BAD_REQUEST, "nothing to change: give one of admin, weight, deadline"),
    (PLACE, b"{}", HTTPStatus.BAD_REQUEST, "nothing to change: give one of admin, weight, deadline"),
    (
        PLACE,
        b'{"weigth": 1}',
        HTTPStatus.BAD_REQUEST,
        "unknown key 'weigth', accepted: admin, weight, deadline",
    ),
    (PLACE, b'{"weight": -1}', HTTPStatus.BAD_REQUEST, "weight is 0-65535, not '-1'"),
    (PLACE, b'{"weight": 65536}', HTTPStatus.BAD_REQUEST, "weight is 0-65535, not '65536'"),
    (PLACE, b'{"weight": true}', HTTPStatus.BAD_REQUEST, "weight is 0-65535, not 'True'"),
    (PLACE, b'{"weight": 1.5}', HTTPStatus.BAD_REQUEST, "weight is 0-65535, not '1.5'"),
    (PLACE, b'{"weight": "3"}', HTTPStatus.BAD_REQUEST, "weight is 0-65535, not '3'"),
    (PLACE, b'{"weight": null}', HTTPStatus.BAD_REQUEST, "weight is 0-65535, not null"),
    (PLACE, b'{"weight": 1' + b"0" * 400 + b"}", HTTPStatus.BAD_REQUEST, "weight is 0-65535, not '1000"),
    (PLACE, b'{"weight": 1' + b"0" * 5000 + b"}", HTTPStatus.BAD_REQUEST, "the body is not JSON"),
    (PLACE, b'{"weight": ' + DEEP + b"}", HTTPStatus.BAD_REQUEST, "weight is 0-65535, not a list"),
    (
        PLACE,
        b'{"admin": "out"}',
        HTTPStatus.BAD_REQUEST,
        "admin is one of enabled, drain, disabled, not 'out'",
    ),
    (
        PLACE,
        b'{"admin": {}}',
        HTTPStatus.BAD_REQUEST,
        "admin is one of enabled, drain, disabled, not an object",
    ),
    (PLACE, b'{"admin": "\\ud800\\n"}', HTTPStatus.BAD_REQUEST, "admin is one of"),
    (PLACE, b'{"weight": 5, "admin": "out"}', HTTPStatus.BAD_REQUEST, "admin is one of"),
    (PLACE, b'{"deadline": 3}', HTTPStatus.BAD_REQUEST, 'deadline goes with "admin": "drain"'),
    (
        PLACE,
        b'{"weight": 5, "admin": "enabled", "deadline": 3}',
        HTTPStatus.BAD_REQUEST,
        "deadline goes with",
    ),
    *(
        (
            PLACE,
            b'{"weight": 5, "admin": "drain", "deadline": ' + number + b"}",
            HTTPStatus.BAD_REQUEST,
            "deadline is seconds from now on, not",
        )
        for number in (
            b"NaN",
            b"Infinity",
            b"-Infinity",
            b"-1",
            b"1e99",
            b"1" + b"0" * 400,
            b'"30s"',
            b"true",
            DEEP,
        )
    ),
    ("/v1/services/nobody/servers/" + ONE, b'{"weight": 5}', HTTPStatus.NOT_FOUND, "no service 'nobody'"),
    (
        "/v1/services/web/servers/198.19.0.77:80",
        b'{"weight": 5}',
        HTTPStatus.NOT_FOUND,
        "service web has no server 198.19.0.77:80",
    ),
    ("/v1/services/web/servers/one", b'{"weight": 5}', HTTPStatus.BAD_REQUEST, "'one' is not ADDRESS:PORT"),
    ("/v1/services/web/servers/one/reset", b"", HTTPStatus.BAD_REQUEST, "'one' is not ADDRESS:PORT"),
    ("/v1/stop?leave=me", b"", HTTPStatus.BAD_REQUEST, "leave is one of nothing, flows, service, not 'me'"),
    ("/v1/ipvsadm", b'{"arguments": "-C"}', HTTPStatus.BAD_REQUEST, 'the body is {"arguments": [words]'),
    ("/v1/ipvsadm", b'{"arguments": ["-C", 1]}', HTTPStatus.BAD_REQUEST, 'the body is {"arguments": [words]'),
    (
        "/v1/ipvsadm",
        b'{"arguments": ["-R"], "input": 1}',
        HTTPStatus.BAD_REQUEST,
        'the body is {"arguments": [words]',
    ),
    (
        "/v1/nothing",
        b"",
        HTTPStatus.NOT_FOUND,
        "nothing answers POST '/v1/nothing'; /v1/openapi.json says what there is",
    ),
    ("/v1/status", b"", HTTPStatus.NOT_FOUND, "nothing answers POST '/v1/status'"),
    ("/v1/events?since=-1", b"", HTTPStatus.NOT_FOUND, "nothing answers POST"),
]


@pytest.mark.parametrize(("path", "body", "status", "words"), WRONG, ids=range(len(WRONG)))
def test_what_is_wrong_is_told_in_one_line_and_nothing_is_changed(
    run: Run, path: str, body: bytes, status: HTTPStatus, words: str
) -> None:
    async def conversation(client: Client) -> tuple[Answer, Any]:
        return await client.post(path, body), (await client.get("/v1/servers")).body

    before = talk(run, lambda client: client.get("/v1/servers")).body
    answer, after = talk(run, conversation)
    assert answer.status == status, answer
    assert mistakes(answer.body, SCHEMAS["Error"]) == []
    assert answer.body["error"].startswith(words)
    assert len(answer.body["error"].splitlines()) == 1
    assert len(answer.body["error"]) < 250
    assert (after, run.lines, run.stopped) == (before, [], [])


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/v1/flows?limit=x", "limit is a number, not 'x'"),
        ("/v1/flows?limit=-1", "limit is a number, not '-1'"),
        (f"/v1/flows?limit={'9' * 6000}", "limit is a number, not '9999"),
        ("/v1/events?since=1.5", "since is a number, not '1.5'"),
    ],
)
def test_a_wrong_number_is_told(run: Run, path: str, words: str) -> None:
    answer = talk(run, lambda client: client.get(path))
    assert answer.status == HTTPStatus.BAD_REQUEST
    assert answer.body["error"].startswith(words)


@pytest.mark.parametrize("engine", ["python", pytest.param("native", marks=pytest.mark.requires("native"))])
@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_flows_come_in_pieces_and_are_one_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str, at_once: int
) -> None:
    monkeypatch.setattr(read, "FLOWS_AT_ONCE", at_once)
    run = Run(tmp_path, CONFIG, engine)
    for client_port in (4000, 4001):  # a server each
        run.send(tcp(V4.to_vip(client_port), "S"))

    async def conversation(client: Client) -> list[list[str]]:
        found = [(await client.get(f"/v1/flows{query}")).body for query in ("", "?limit=1", "?limit=0")]
        return [sorted(row["server"] for row in rows) for rows in found]

    all_of_them, first, none = talk(run, conversation)
    assert all_of_them == [ONE, TWO]
    assert len(first) == 1
    assert none == []


def test_a_charset_that_nobody_knows_does_no_harm(run: Run) -> None:
    headers = {"Content-Type": "application/json; charset=klingon"}
    answer = talk(run, lambda client: client.request("POST", PLACE, data=b'{"weight": 4}', headers=headers))
    assert (answer.status, answer.body["weight"]) == (HTTPStatus.OK, 4)


def test_a_body_may_be_as_large_as_it_is_said_and_no_larger(run: Run) -> None:
    frame = b'{"arguments": ["-R"], "input": "%s"}'

    def restore(size: int) -> Answer:
        body = frame % (b" " * (size - len(frame) + 2))
        assert len(body) == size
        return talk(run, lambda client: client.request("POST", "/v1/ipvsadm", data=BytesIO(body)))

    assert restore(MAX_BODY).status == HTTPStatus.OK
    answer = restore(MAX_BODY + 1)
    assert (answer.status, list(answer.body)) == (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, ["error"])


READS = [(path, "GET") for path, methods in describe()["paths"].items() if "get" in methods]
CHANGES = [
    (PLACE, {"weight": 5}, Role.OPERATOR),
    (f"{PLACE}/reset", None, Role.OPERATOR),
    ("/v1/reload", None, Role.ADMIN),
    ("/v1/stop", None, Role.ADMIN),
    *(("/v1/ipvsadm", {"arguments": [change]}, Role.ADMIN) for change in ("-C", "-Z", "-R")),
    ("/v1/ipvsadm", {"arguments": ["-Ln"]}, Role.VIEWER),
    ("/v1/ipvsadm", {"arguments": ["-Lcn"]}, Role.VIEWER),
    ("/v1/ipvsadm", {"arguments": ["-S"]}, Role.VIEWER),
    ("/v1/ipvsadm", {"arguments": ["--what"]}, Role.VIEWER),
]


@pytest.mark.parametrize("role", list(Role))
def test_who_may_what(run: Run, role: Role) -> None:
    async def conversation(client: Client) -> None:
        for path, _ in READS:
            expect(path, await client.get(path), Role.VIEWER)
        for path, body, needed in CHANGES:
            expect(path, await client.post(path, body), needed)
        expect("", await client.get("/v1/nothing"), Role.VIEWER, HTTPStatus.NOT_FOUND)

    def expect(path: str, answer: Answer, needed: Role, status: HTTPStatus = HTTPStatus.OK) -> None:
        assert answer.status == (status if role >= needed else HTTPStatus.FORBIDDEN), answer
        if role < needed:
            has = "none" if role is Role.NOBODY else role.name.lower()
            # Who has no role is not told more, where what it takes depends on the body.
            takes = Role.VIEWER if role is Role.NOBODY and "ipvsadm" in path else needed
            assert answer.body == {
                "error": f"this takes the role {takes.name.lower()}, and yours is {has}: [api]"
            }

    talk(run, conversation, As(role))
    assert bool(run.stopped) == (role is Role.ADMIN)
    assert ("event=FN2004" in "".join(run.lines)) == (role >= Role.OPERATOR)


async def read_events(client: Client, query: str, count: int, **headers: str) -> list[int]:
    """Return the numbers of the first *count* events of a stream."""
    found: list[int] = []
    async with client.session.get(f"http://fullnat/v1/events?{query}", headers=headers) as answer:
        assert answer.content_type == "text/event-stream"
        async for line in answer.content:
            if line.startswith(b"data: "):
                event = json.loads(line[6:])
                assert mistakes(event, SCHEMAS["Event"]) == []
                found.append(event["sequence"])
                if len(found) == count:
                    break
    return found


def test_events_are_kept_and_then_come_as_they_happen(run: Run) -> None:
    for number in range(3):
        run.events.add(Kind.HOST_REPAIRED, finding=f"rule {number}")

    async def conversation(client: Client) -> list[list[int]]:
        kept = (await client.get("/v1/events?since=1&follow=0")).body
        following = asyncio.create_task(read_events(client, "follow=1&since=1", 3))
        resumed = asyncio.create_task(read_events(client, "follow=1", 2, **{"Last-Event-ID": "2"}))
        async with asyncio.timeout(10):
            while len(run.events._listeners) < 2:
                await asyncio.sleep(0.005)
            run.events.add(Kind.READY)
            return [[event["sequence"] for event in kept], await following, await resumed]

    assert talk(run, conversation) == [[2, 3], [2, 3, 4], [3, 4]]


def test_an_event_number_that_is_none_is_passed_over(run: Run) -> None:
    run.events.add(Kind.READY)

    async def conversation(client: Client) -> list[int]:
        async with asyncio.timeout(10):
            return await read_events(client, "follow=1", 1, **{"Last-Event-ID": "9" * 5000})

    assert talk(run, conversation) == [1]


def test_who_has_gone_is_followed_by_nobody(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "HEARTBEAT", 0.01)
    run.events.add(Kind.READY)

    async def conversation(client: Client) -> None:
        assert await read_events(client, "follow=1", 1) == [1]  # and closes the connection
        async with asyncio.timeout(10):
            while run.events._listeners:
                await asyncio.sleep(0.005)

    talk(run, conversation)


async def at_end(reader: asyncio.StreamReader) -> bytes:
    """Return what still comes until the other end closes."""
    async with asyncio.timeout(10):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


@pytest.mark.parametrize("said", [b"", b"GET /v1/status HTTP/1.1\r\nHost: x\r\nX: "])
def test_who_says_nothing_or_half_is_closed_and_others_are_answered(run: Run, said: bytes) -> None:
    async def conversation(client: Client) -> bytes:
        reader, writer = await asyncio.open_unix_connection(str(client.path))
        writer.write(said)
        assert (await client.get("/v1/status")).status == HTTPStatus.OK
        left = await at_end(reader)
        writer.close()
        assert (await client.get("/v1/status")).status == HTTPStatus.OK
        return left

    assert talk(run, conversation, limits=Limits(idle=0.1)) == b""


def test_a_body_that_does_not_come_is_not_waited_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from fullnat.control.api import answer as answers

    monkeypatch.setattr(answers, "_BODY_TIME", 0.05)

    async def conversation(client: Client) -> bytes:
        reader, writer = await asyncio.open_unix_connection(str(client.path))
        writer.write(f"POST {PLACE} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{{".encode())
        async with asyncio.timeout(10):
            head = await reader.readline()
        writer.close()
        return head

    assert talk(run, conversation) == b"HTTP/1.1 408 Request Timeout\r\n"
    assert run.lines == []


def test_one_user_has_so_many_connections(run: Run) -> None:
    async def conversation(client: Client) -> tuple[bytes, bytes]:
        opened = [await asyncio.open_unix_connection(str(client.path)) for _ in range(3)]
        refusal = await at_end(opened[2][0])
        opened[0][1].write(b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(10):
            served = await opened[0][0].readline()
        for _, writer in opened:
            writer.close()
        return refusal.partition(b"\r\n")[0], served

    refusal, served = talk(run, conversation, limits=Limits(connections=2))
    assert (refusal, served) == (b"HTTP/1.1 503 Service Unavailable", b"HTTP/1.1 200 OK\r\n")


NOT_HTTP = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
    b"POST /v1/stop HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    b"POST /v1/stop HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
]


@pytest.mark.parametrize("said", NOT_HTTP, ids=range(len(NOT_HTTP)))
def test_what_is_not_http_is_refused_without_a_word_in_the_log(
    run: Run, said: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def conversation(client: Client) -> bytes:
        reader, writer = await asyncio.open_unix_connection(str(client.path))
        writer.write(said)
        answer = await at_end(reader)
        writer.close()
        assert (await client.get("/v1/status")).status == HTTPStatus.OK
        return answer

    assert talk(run, conversation, limits=Limits(idle=0.2)).startswith(b"HTTP/1.0 400 Bad Request\r\n")
    assert caplog.records == []
    assert run.stopped == []
