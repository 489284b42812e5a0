# SPDX-License-Identifier: Apache-2.0
"""The command line: verbs change something, `show` reads.

Exit codes: 0 done; 1 it failed while running; 2 wrong usage; 3 the config is unusable; 4 it is
usable with warnings; 5 not permitted.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from fullnat import __version__

if TYPE_CHECKING:
    from fullnat.control.config import Config

FAILED, UNUSABLE, WARNINGS, NOT_PERMITTED = 1, 3, 4, 5

VIEWS = ("services", "servers", "flows", "ports", "persistence", "stats")


def _fail(message: object, code: int = FAILED) -> NoReturn:
    click.echo(f"fullnat: {message}", err=True)
    sys.exit(code)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fullnat")
def main() -> None:
    """Full NAT load balancing: a client's CIP->VIP leaves as LIP->RIP, and back.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 config unusable, 4 config usable with warnings,
    5 not permitted.
    """


def _load(path: Path) -> Config:
    from fullnat.control.config import ConfigError, load_config

    try:
        return load_config(path)
    except ConfigError as error:
        click.echo(str(error), err=True)
        sys.exit(UNUSABLE)


_config_option = click.option(
    "-c",
    "--config",
    "path",
    type=click.Path(path_type=Path, readable=False),
    required=True,
    help="The TOML file to serve.",
)


@main.command()
@_config_option
@click.option(
    "--datapath",
    type=click.Choice(["auto", "ebpf", "native", "python"]),
    help="Use this engine, whatever the config says.",
)
@click.option("--dry-run", is_flag=True, help="Print the rules and sysctls that would be set, and set none.")
def run(path: Path, datapath: str | None, dry_run: bool) -> None:
    """Serve until SIGTERM or Ctrl-C, in the foreground."""
    config = _load(path)
    for warning in config.warnings:
        click.echo(str(warning), err=True)
    from fullnat.control import daemon
    from fullnat.datapath.base import DatapathError
    from fullnat.host.errors import HostError, MissingPrivilegeError

    datapath = datapath or config.engine.datapath
    try:
        if dry_run:
            click.echo(daemon.describe(config, datapath))
        else:
            daemon.serve(config, datapath)
    except MissingPrivilegeError as error:
        _fail(error, NOT_PERMITTED)
    except (DatapathError, HostError) as error:
        _fail(error)


@main.command()
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path, readable=False))
def check(path: Path) -> None:
    """Check a config: exit 0 usable, 3 unusable, 4 usable with warnings."""
    config = _load(path)
    for warning in config.warnings:
        click.echo(str(warning), err=True)
    servers = sum(len(service.servers) for service in config.services)
    click.echo(f"{path}: usable, {len(config.services)} services, {servers} servers")
    if config.warnings:
        sys.exit(WARNINGS)


@main.command()
@click.argument("tool", type=click.Choice(["iptables", "ipvsadm", "nft"]))
@_config_option
def render(tool: str, path: Path) -> None:
    """Print a script that has the kernel's own TOOL serve a config."""
    config = _load(path)
    from fullnat.control import render as rendering
    from fullnat.control.ports import local_ports
    from fullnat.host.errors import HostError

    try:
        click.echo(rendering.render(config, tool, local_ports(config)), nl=False)
    except HostError as error:
        _fail(error)


_instance_option = click.option(
    "--instance", default="main", show_default=True, help="Which instance to ask."
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _ask(instance: str, what: str) -> Any:
    """Return what the running *instance* answers to *what*; where it does not, say why and exit."""
    from fullnat.control.client import ControlError, ControlRefusedError, ask
    from fullnat.control.paths import socket_path

    try:
        return ask(socket_path(instance), what)
    except ControlRefusedError as error:
        _fail(error, NOT_PERMITTED)
    except ControlError as error:
        _fail(error)


@main.command()
@click.argument("what", type=click.Choice(VIEWS))
@_instance_option
@_json_option
@click.option("--limit", default=1000, show_default=True, help="Flows to show at most.")
def show(what: str, instance: str, as_json: bool, limit: int) -> None:
    """Show what a running instance knows, as a table."""
    answer = _ask(instance, f"flows?limit={limit}" if what == "flows" else what)
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    from rich.console import Console

    from fullnat.control import tables

    console = Console()
    if not console.is_terminal:
        console.width = 240
    tables.show(console, what, answer)


@main.command()
@_instance_option
@click.option("--keep", is_flag=True, help="Leave known flows to the kernel, for an upgrade: engine ebpf.")
@click.option("--handover", is_flag=True, help="Leave all to the fallback: known flows and new ones.")
def stop(instance: str, keep: bool, handover: bool) -> None:
    """End an instance, or put back what a killed one left."""
    if keep and handover:
        raise click.UsageError("--handover keeps the flows as well; leave --keep out")
    from fullnat.control import stop as stopping
    from fullnat.control.client import ControlError, ControlRefusedError
    from fullnat.control.leave import Leave
    from fullnat.host.errors import HostError, MissingPrivilegeError

    try:
        leave = Leave.SERVICE if handover else Leave.FLOWS if keep else Leave.NOTHING
        click.echo(stopping.stop(instance, leave))
    except (ControlRefusedError, MissingPrivilegeError) as error:
        _fail(error, NOT_PERMITTED)
    except (ControlError, HostError) as error:
        _fail(error)


@main.command()
@_instance_option
@_json_option
def status(instance: str, as_json: bool) -> None:
    """Show which engine runs, for how long, and what it serves."""
    answer = _ask(instance, "status")
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    for key, value in answer.items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else value
        click.echo(f"{key.replace('_', ' ')}: {shown}")


@main.command()
@click.option(
    "-c",
    "--config",
    "path",
    type=click.Path(path_type=Path, readable=False),
    help="Look at what this TOML file needs; without it, at every device.",
)
@_json_option
def doctor(path: Path | None, as_json: bool) -> None:
    """Say what this host would lose or break, and the remedy: exit 0 nothing, 1 something."""
    config = None if path is None else _load(path)
    from fullnat.control.doctor import examine, has_problem
    from fullnat.host.errors import HostError

    try:
        findings = examine(config)
    except HostError as error:
        _fail(error)
    if as_json:
        click.echo(json.dumps([finding.to_json() for finding in findings], indent=2))
    else:
        click.echo("\n".join(map(str, findings)))
    if has_problem(findings):
        sys.exit(FAILED)


if __name__ == "__main__":
    main()
