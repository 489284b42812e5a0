# SPDX-License-Identifier: Apache-2.0
"""The other end of the control socket: what `fullnat show` asks a running instance.

Standard library only: the command must answer at once, and one GET needs no HTTP framework.
"""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from typing import Any


class ControlError(Exception):
    """The instance cannot be asked; one line says why."""


class AbsentError(ControlError):
    """No instance listens there."""


class ControlRefusedError(ControlError):
    """Only the owner of the socket may ask, and the caller is not."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("fullnat", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def ask(path: Path, what: str) -> Any:
    """Return the answer of the instance at socket *path* to GET /v1/*what*."""
    return _request(path, "GET", what)


def tell(path: Path, what: str) -> Any:
    """Have the instance at socket *path* do *what*: POST /v1/*what*."""
    return _request(path, "POST", what)


def _request(path: Path, method: str, what: str) -> Any:
    connection = _UnixConnection(path)
    try:
        connection.request(method, f"/v1/{what}")
        response = connection.getresponse()
        body = response.read()
    except PermissionError as error:
        raise ControlRefusedError(f"{path}: permission denied; only its owner may ask") from error
    except (FileNotFoundError, ConnectionRefusedError) as error:
        here = "no instance runs in this network namespace"
        raise AbsentError(f"{here}: nothing listens on {path}") from error
    except (OSError, http.client.HTTPException) as error:
        raise ControlError(f"{path}: no instance answers there ({error})") from error
    finally:
        connection.close()
    if response.status >= 500:
        raise ControlError(f"{path}: the instance failed to answer ({response.status} {response.reason})")
    answer = json.loads(body)
    if response.status != 200:
        raise ControlError(f"{path}: {answer['error']}")
    return answer
