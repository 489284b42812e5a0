# SPDX-License-Identifier: Apache-2.0
"""What can be changed: every POST."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from fullnat.control.access import Role
from fullnat.control.api.answer import absent, bad, body_of, conflict, demand
from fullnat.control.api.read import flag
from fullnat.control.instance import Instance
from fullnat.control.ipvsadm.shim import Shim, is_change
from fullnat.control.leave import Leave
from fullnat.control.roster import ADMIN_WORDS
from fullnat.control.served import Served
from fullnat.core.addr import parse_endpoint
from fullnat.core.service import Admin, RealServer
from fullnat.core.timeouts import SECOND

_MAX_WEIGHT = 65535
_MAX_SECONDS = 365 * 86400


class Changer:
    """Changes a running instance."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance

    async def server(self, request: web.Request) -> web.Response:
        """Change the state or the weight of one server."""
        served, server = self._find(request)
        wanted = _read_wanted(await body_of(request))
        now = self._instance.now()
        roster = self._instance.roster
        if "weight" in wanted:
            roster.set_weight(served, server, wanted["weight"], now)
        if "admin" in wanted:
            deadline = now + wanted["deadline"] if "deadline" in wanted else None
            roster.set_admin(served, server, wanted["admin"], now, deadline)
        self._instance.engine.refresh()
        return web.json_response(self._instance.server_row(served, server))

    async def reset(self, request: web.Request) -> web.Response:
        """End the flows of one server."""
        _, server = self._find(request)
        return web.json_response({"ended": await self._instance.farewells.end(server)})

    async def reload(self, request: web.Request) -> web.Response:
        """Read the configuration again, and make it so."""
        is_trial = flag(request, "dry_run")
        changes = await self._instance.reload(is_trial=is_trial)
        return web.json_response({"changes": list(changes.lines), "applied": not is_trial})

    async def stop(self, request: web.Request) -> web.Response:
        """End the run."""
        leave = request.query.get("leave", Leave.NOTHING)
        if leave not in list(Leave):
            raise bad(f"leave is one of {', '.join(Leave)}, not {leave[:40]!r}")
        try:
            self._instance.stop(Leave(leave))
        except ValueError as error:
            raise conflict(str(error)) from None
        return web.json_response({"stopping": True})

    async def ipvsadm(self, request: web.Request) -> web.Response:
        """Carry out a command line as the program of that name has them."""
        body = await body_of(request)
        arguments, text = body.get("arguments", ()), body.get("input", "")
        if not _is_words(arguments) or not isinstance(text, str):
            raise bad('the body is {"arguments": [words], "input": text}')
        if is_change(arguments):
            demand(request, Role.ADMIN)
        done = await Shim(self._instance).run(arguments, text)
        return web.json_response({"output": done.output, "errors": done.errors, "status": done.status})

    def _find(self, request: web.Request) -> tuple[Served, RealServer]:
        name, address = request.match_info["service"], request.match_info["server"]
        served = self._instance.roster.find(name)
        if served is None:
            raise absent(f"no service {name[:100]!r}")
        try:
            server = served.find(parse_endpoint(address))
        except ValueError:
            raise bad(f"{address[:100]!r} is not ADDRESS:PORT") from None
        if server is None:
            raise absent(f"service {served.config.name} has no server {address[:100]}")
        return served, server


def _read_wanted(body: dict[str, Any]) -> dict[str, Any]:
    """Return what *body* asks for: admin as Admin, weight, deadline in nanoseconds from now."""
    wanted: dict[str, Any] = {}
    for key, value in body.items():
        if key == "admin" and isinstance(value, str) and value in ADMIN_WORDS:
            wanted[key] = ADMIN_WORDS[value]
        elif key == "weight" and type(value) is int and 0 <= value <= _MAX_WEIGHT:
            wanted[key] = value
        elif key == "deadline" and _is_duration(value):
            wanted[key] = round(value * SECOND)
        elif key in _ACCEPTED:
            raise bad(f"{key} is {_ACCEPTED[key]}, not {_shown(value)}")
        else:
            raise bad(f"unknown key {key[:40]!r}, accepted: {', '.join(_ACCEPTED)}")
    if not wanted:
        raise bad(f"nothing to change: give one of {', '.join(_ACCEPTED)}")
    if "deadline" in wanted and wanted.get("admin") is not Admin.QUIESCED:
        raise bad('deadline goes with "admin": "drain"')
    return wanted


_ACCEPTED = {
    "admin": f"one of {', '.join(ADMIN_WORDS)}",
    "weight": f"0-{_MAX_WEIGHT}",
    "deadline": "seconds from now on",
}


def _is_duration(value: object) -> bool:
    return isinstance(value, (int, float)) and type(value) is not bool and 0 <= value <= _MAX_SECONDS


def _shown(value: object) -> str:
    """Return *value* in short; what holds others may hold them a thousand deep, and is only named."""
    names = {list: "a list", dict: "an object", type(None): "null"}
    return names.get(type(value)) or repr(str(value)[:40])


def _is_words(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)
