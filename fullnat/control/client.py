# SPDX-License-Identifier: Apache-2.0
"""The other end of the control socket: what `fullnat show` asks a running instance.

Standard library only: the command must answer at once, and one GET needs no HTTP framework.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import FORBIDDEN, INTERNAL_SERVER_ERROR, OK
from pathlib import Path
from typing import Any, NoReturn

_PATIENCE = 60.0  # seconds; a large change takes a while on a slow machine


class ControlError(Exception):
    """The instance cannot be asked; one line says why."""


class AbsentError(ControlError):
    """No instance listens there."""


class ControlRefusedError(ControlError):
    """The caller may not."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float | None = 10) -> None:
        super().__init__("fullnat", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def ask(path: Path, what: str) -> Any:
    """Return the answer of the instance at socket *path* to GET /v1/*what*."""
    return _request(path, "GET", what)


def tell(path: Path, what: str, body: dict[str, Any] | None = None) -> Any:
    """Have the instance at socket *path* do *what*: POST /v1/*what* with *body*."""
    return _request(path, "POST", what, body)


def follow_events(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the events that are kept, and then each as it happens, until the instance ends."""
    connection = _UnixConnection(path, timeout=None)
    with _explaining(path), closing(connection):
        connection.request("GET", "/v1/events?follow=1")
        response = connection.getresponse()
        if response.status != OK:
            _refuse(path, response.status, response.reason, response.read())
        for line in response:
            if line.startswith(b"data: "):
                yield json.loads(line[len(b"data: ") :])


def _request(path: Path, method: str, what: str, body: dict[str, Any] | None = None) -> Any:
    connection = _UnixConnection(path, timeout=_PATIENCE)
    text = None if body is None else json.dumps(body)
    with _explaining(path), closing(connection):
        connection.request(method, f"/v1/{what}", text)
        response = connection.getresponse()
        answer = response.read()
    if response.status != OK:
        _refuse(path, response.status, response.reason, answer)
    return json.loads(answer)


@contextmanager
def _explaining(path: Path) -> Iterator[None]:
    """Say in one line why nobody answers at *path*."""
    try:
        yield
    except PermissionError as error:
        raise ControlRefusedError(f"{path}: permission denied; only its owner may ask") from error
    except (FileNotFoundError, ConnectionRefusedError) as error:
        here = "no instance runs in this network namespace"
        raise AbsentError(f"{here}: nothing listens on {path}") from error
    except (OSError, http.client.HTTPException) as error:
        raise ControlError(f"{path}: no instance answers there ({error})") from error


def _refuse(path: Path, status: int, reason: str, body: bytes) -> NoReturn:
    if status >= INTERNAL_SERVER_ERROR:
        raise ControlError(f"{path}: the instance failed to answer ({status} {reason})")
    try:
        text = str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        text = f"{status} {reason}"
    raise (ControlRefusedError if status == FORBIDDEN else ControlError)(text)
