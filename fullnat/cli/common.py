# SPDX-License-Identifier: Apache-2.0
"""What the commands share: options, exit codes, asking an instance, and saying no."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    from rich.console import Console

    from fullnat.control.config import Config

FAILED, UNUSABLE, WARNINGS, NOT_PERMITTED = 1, 3, 4, 5

config_option = click.option(
    "-c",
    "--config",
    "path",
    type=click.Path(path_type=Path, readable=False),
    required=True,
    help="The TOML file to serve.",
)
instance_option = click.option("--instance", default="main", show_default=True, help="Which instance to ask.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def fail(message: object, code: int = FAILED) -> NoReturn:
    """Say in one line what went wrong, and exit."""
    click.echo(f"fullnat: {message}", err=True)
    sys.exit(code)


def load(path: Path) -> Config:
    """Return the configuration in *path*; what is wrong with it is told, and ends the program."""
    from fullnat.control.config import ConfigError, load_config

    try:
        return load_config(path)
    except ConfigError as error:
        click.echo(str(error), err=True)
        sys.exit(UNUSABLE)


def ask(instance: str, what: str) -> Any:
    """Return what the running *instance* answers to *what*; where it does not, say why and exit."""
    from fullnat.control.client import ask as do
    from fullnat.control.paths import socket_path

    return _or_exit(lambda: do(socket_path(instance), what))


def tell(instance: str, what: str, body: dict[str, Any] | None = None) -> Any:
    """Have the running *instance* do *what*, and return its answer."""
    from fullnat.control.client import tell as do
    from fullnat.control.paths import socket_path

    return _or_exit(lambda: do(socket_path(instance), what, body))


def _or_exit(do: Callable[[], Any]) -> Any:
    from fullnat.control.client import ControlError, ControlRefusedError

    try:
        return do()
    except ControlRefusedError as error:
        fail(error, NOT_PERMITTED)
    except ControlError as error:
        fail(error)


def print_json(answer: Any) -> None:
    """Print *answer* as programs read it."""
    click.echo(json.dumps(answer, indent=2))


def make_console() -> Console:
    """Return where tables are printed; wide where nobody looks at a window."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = 240
    return console
