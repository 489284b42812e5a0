# SPDX-License-Identifier: Apache-2.0
"""How the interface says no: a status, and one line of JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from aiohttp import web

from fullnat.control.access import Role
from fullnat.control.reload import RefusedError
from fullnat.host.errors import HostError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

ROLE = web.RequestKey("role", Role)  # of who asks
_BODY_TIME = 10.0  # seconds in which the whole body must be there


class ApiError(Exception):
    """A request that is not carried out; one line says why."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status


def bad(text: str) -> ApiError:
    """Return the error for a request that is not understood."""
    return ApiError(HTTPStatus.BAD_REQUEST, text)


def absent(text: str) -> ApiError:
    """Return the error for something that is not there."""
    return ApiError(HTTPStatus.NOT_FOUND, text)


def conflict(text: str) -> ApiError:
    """Return the error for a change that cannot be made."""
    return ApiError(HTTPStatus.CONFLICT, text)


def demand(request: web.Request, needed: Role) -> None:
    """Refuse *request* to those who have less than the role it takes."""
    role = request[ROLE]
    if role < needed:
        has = "none" if role is Role.NOBODY else role.name.lower()
        takes = needed.name.lower()
        raise ApiError(HTTPStatus.FORBIDDEN, f"this takes the role {takes}, and yours is {has}: [api]")


@web.middleware
async def one_line(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Have whatever goes wrong be a status and one line, whoever noticed."""
    try:
        return await handler(request)
    except ApiError as error:
        return _error(error.status, str(error))
    except (RefusedError, HostError) as error:
        return _error(HTTPStatus.CONFLICT, str(error))
    except web.HTTPException as error:
        if error.status < HTTPStatus.BAD_REQUEST:
            raise
        return _error(HTTPStatus(error.status), error.reason)


def _error(status: HTTPStatus, text: str) -> web.Response:
    return web.json_response({"error": text}, status=status)


async def body_of(request: web.Request) -> dict[str, Any]:
    """Return the JSON object in the body of *request*, an empty one without a body; ApiError else."""
    try:
        async with asyncio.timeout(_BODY_TIME):
            raw = await request.read()
    except TimeoutError:
        raise ApiError(HTTPStatus.REQUEST_TIMEOUT, f"no whole body within {_BODY_TIME:.0f} s") from None
    if not raw.strip():
        return {}
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        raise bad("the body is not JSON") from None
    if not isinstance(body, dict):
        raise bad("the body is not a JSON object")
    return body
