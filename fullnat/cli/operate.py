# SPDX-License-Identifier: Apache-2.0
"""Commands that change a running instance: set, drain, enable, disable, reset, reload."""

from __future__ import annotations

import re
import time
from typing import Any
from urllib.parse import quote

import click

from fullnat.cli.common import ask, fail, instance_option, json_option, print_json, tell
from fullnat.cli.complete import complete_server, complete_service

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "": 1}
_STEP = 0.2  # seconds between two looks at a drain


class _Duration(click.ParamType):  # type: ignore[type-arg]
    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, (int, float)):
            return float(value)
        match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|)", value)
        if not match:
            self.fail(f"{value!r} is not a duration like 30s, 5m or 1h", param, ctx)
        return float(match[1]) * _UNITS[match[2]]


_service = click.argument("service", shell_complete=complete_service)
_server = click.argument("server", metavar="ADDRESS:PORT", shell_complete=complete_server)


def _place(service: str, server: str) -> str:
    return f"services/{quote(service, safe='')}/servers/{quote(server, safe='')}"


def _change(instance: str, service: str, server: str, wanted: dict[str, Any], as_json: bool) -> None:
    _show(tell(instance, _place(service, server), wanted), as_json)


def _show(row: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(row)
        return
    flows = row["active"] + row["inactive"]
    state = f"{row['admin']}, {row['health']}, weight {row['weight']}, {flows} flows"
    click.echo(f"{row['service']} {row['address']}: {state}")


@click.command("set")
@_service
@_server
@click.option("--weight", type=click.IntRange(0, 65535), help="Until a reload says another.")
@click.option("--state", type=click.Choice(["enabled", "drain", "disabled"]))
@instance_option
@json_option
def set_(
    service: str, server: str, weight: int | None, state: str | None, instance: str, as_json: bool
) -> None:
    """Set the weight or the state of a server."""
    wanted = {"weight": weight, "admin": state}
    given = {key: value for key, value in wanted.items() if value is not None}
    if not given:
        raise click.UsageError("give --weight, --state, or both")
    _change(instance, service, server, given, as_json)


@click.command()
@_service
@_server
@click.option("--deadline", type=_Duration(), help="Then end what is left, telling both ends: 30s, 5m.")
@click.option("--wait", is_flag=True, help="Return when nothing is left.")
@instance_option
@json_option
def drain(
    service: str, server: str, deadline: float | None, wait: bool, instance: str, as_json: bool
) -> None:
    """Give a server no new connections; those it has go on."""
    wanted: dict[str, Any] = {"admin": "drain"}
    if deadline is not None:
        wanted["deadline"] = deadline
    row = tell(instance, _place(service, server), wanted)
    if not (wait and as_json):
        _show(row, as_json)
    if wait:
        _wait_for_drain(instance, row["service"], row["address"], as_json)


def _wait_for_drain(instance: str, service: str, server: str, as_json: bool) -> None:
    last = -1
    while True:
        rows = ask(instance, "servers")
        row = next((row for row in rows if (row["service"], row["address"]) == (service, server)), None)
        drain_row = row and row["drain"]
        if not drain_row:
            fail(f"{service} {server} drains no more: somebody enabled it, or it is gone")
        if drain_row["left"] == 0:
            break
        if drain_row["left"] != last and not as_json:
            click.echo(f"{drain_row['left']} flows are left", err=True)
            last = drain_row["left"]
        time.sleep(_STEP)
    print_json(row) if as_json else click.echo(f"{service} {server}: drained")


def _state_command(name: str, state: str, meaning: str) -> click.Command:
    @click.command(name, help=meaning)
    @_service
    @_server
    @instance_option
    @json_option
    def command(service: str, server: str, instance: str, as_json: bool) -> None:
        _change(instance, service, server, {"admin": state}, as_json)

    return command


enable = _state_command("enable", "enabled", "Have a server serve again.")
disable = _state_command("disable", "disabled", "Take a server out: no new connections, and no checks.")


@click.command()
@_service
@_server
@instance_option
def reset(service: str, server: str, instance: str) -> None:
    """End all connections of a server now; both ends of each are told."""
    ended = tell(instance, f"{_place(service, server)}/reset")["ended"]
    click.echo(f"{service} {server}: {ended} flows ended")


@click.command("reload")
@click.option("--dry-run", is_flag=True, help="Say what would change, and change nothing.")
@instance_option
@json_option
def reload_(dry_run: bool, instance: str, as_json: bool) -> None:
    """Read the config again and make it so; a mistake in it changes nothing."""
    answer = tell(instance, f"reload?dry_run={int(dry_run)}")
    if as_json:
        print_json(answer)
        return
    click.echo("\n".join(answer["changes"]) or "no changes")


COMMANDS = (set_, drain, enable, disable, reset, reload_)
