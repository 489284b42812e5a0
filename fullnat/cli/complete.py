# SPDX-License-Identifier: Apache-2.0
"""What the shell completes: services and servers of the running instance.

A shell that asks wants words or nothing: without an instance, or without the right to ask it, nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click


def complete_service(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of services that begin with *incomplete*."""
    return _beginning(incomplete, (row["name"] for row in _ask(context, "services")))


def complete_server(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the addresses of the servers of the service before it that begin with *incomplete*."""
    service = context.params.get("service")
    rows = _ask(context, "servers")
    return _beginning(incomplete, (row["address"] for row in rows if row["service"] == service))


def _beginning(incomplete: str, words: Iterable[str]) -> list[str]:
    return [word for word in words if word.startswith(incomplete)]


def _ask(context: click.Context, what: str) -> list[dict[str, Any]]:
    from fullnat.control.client import ControlError, ask
    from fullnat.control.paths import socket_path

    try:
        rows: list[dict[str, Any]] = ask(socket_path(context.params.get("instance") or "main"), what)
    except ControlError:
        return []
    return rows
