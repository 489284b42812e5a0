# SPDX-License-Identifier: Apache-2.0
"""The command that watches a running instance and operates it by keys: top."""

from __future__ import annotations

import sys

import click

from fullnat.cli.common import NOT_PERMITTED, fail, instance_option


@click.command()
@instance_option
@click.option(
    "--interval",
    type=click.FloatRange(0.1, 3600),
    metavar="SECONDS",
    default=1.0,
    show_default=True,
    help="Between two looks.",
)
@click.option("--plain", is_flag=True, help="Print one table of servers after another.")
@click.option("-n", "--count", type=click.IntRange(1), help="Print so many tables, and end.")
def top(instance: str, interval: float, plain: bool, count: int | None) -> None:
    """Watch services, servers, ports, drops and events live; keys drain, enable, weigh and reset servers."""
    from rich.console import Console

    from fullnat.control.client import ControlError, ControlRefusedError
    from fullnat.control.paths import socket_path
    from fullnat.control.top import session

    console = Console()
    is_plain = plain or count is not None or not session.is_interactive(console, has_keys=sys.stdin.isatty())
    try:
        if is_plain:
            console.width = console.width if console.is_terminal else _WIDTH
            session.print_tables(socket_path(instance), console, interval, count)
        else:
            session.watch(socket_path(instance), console, interval)
    except ControlRefusedError as error:
        fail(error, NOT_PERMITTED)
    except ControlError as error:
        fail(error)
    except KeyboardInterrupt:
        return


_WIDTH = 160  # where nobody looks at a window

COMMANDS = (top,)
