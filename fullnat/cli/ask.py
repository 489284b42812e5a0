# SPDX-License-Identifier: Apache-2.0
"""Commands that ask a running instance: status, show, events."""

from __future__ import annotations

import json
import time
from typing import Any

import click

from fullnat.cli.common import (
    NOT_PERMITTED,
    ask,
    fail,
    instance_option,
    json_option,
    make_console,
    print_json,
)

VIEWS = ("services", "servers", "checks", "flows", "ports", "persistence", "stats")
_CLEAR = "\x1b[H\x1b[2J"


@click.command()
@instance_option
@json_option
def status(instance: str, as_json: bool) -> None:
    """Show which engine runs, for how long, and what it serves."""
    answer = ask(instance, "status")
    if as_json:
        print_json(answer)
        return
    for key, value in answer.items():
        click.echo(f"{key.replace('_', ' ')}: {_shown(value)}")


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{key} {each}" for key, each in value.items() if each not in ("", None))
    return str(value)


@click.command()
@click.argument("what", type=click.Choice(VIEWS))
@instance_option
@json_option
@click.option("--limit", default=1000, show_default=True, help="Flows to show at most.")
@click.option(
    "--watch",
    type=click.FloatRange(0.1, 3600),
    metavar="SECONDS",
    help="Show it again and again, until Ctrl-C.",
)
def show(what: str, instance: str, as_json: bool, limit: int, watch: float | None) -> None:
    """Show what a running instance knows, as a table."""
    question = {"flows": f"flows?limit={limit}", "checks": "servers"}.get(what, what)
    while True:
        answer = ask(instance, question)
        if what == "checks":
            answer = [row for row in answer if row["check"]]
        if watch is not None and not as_json:
            click.echo(_CLEAR, nl=False)
        _print(what, answer, as_json)
        if watch is None:
            return
        try:
            time.sleep(watch)
        except KeyboardInterrupt:
            return


def _print(what: str, answer: Any, as_json: bool) -> None:
    if as_json:
        print_json(answer)
        return
    from fullnat.control import tables

    tables.show(make_console(), what, answer)


@click.command()
@instance_option
@json_option
@click.option("-f", "--follow", is_flag=True, help="Go on with events as they happen, until Ctrl-C.")
def events(instance: str, as_json: bool, follow: bool) -> None:
    """Show what happened: servers that went down and came back, drains, reloads."""
    from fullnat.control.client import ControlError, ControlRefusedError, follow_events
    from fullnat.control.paths import socket_path

    source = follow_events(socket_path(instance)) if follow else ask(instance, "events")
    try:
        for event in source:
            click.echo(json.dumps(event) if as_json else _event_line(event))
    except ControlRefusedError as error:
        fail(error, NOT_PERMITTED)
    except ControlError as error:
        fail(error)
    except KeyboardInterrupt:
        return


def _event_line(event: dict[str, Any]) -> str:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event["time"]))
    words = [
        f"{key}={value}" for key, value in event.items() if key not in ("sequence", "time", "event", "kind")
    ]
    return " ".join([when, event["event"], event["kind"], *words])


COMMANDS = (status, show, events)
