# SPDX-License-Identifier: Apache-2.0
"""Commands about a configuration: run, check, render, doctor; and stop."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from fullnat.cli.common import (
    FAILED,
    NOT_PERMITTED,
    WARNINGS,
    config_option,
    fail,
    instance_option,
    json_option,
    load,
    print_json,
)


@click.command()
@config_option
@click.option(
    "--datapath",
    type=click.Choice(["auto", "ebpf", "native", "python"]),
    help="Use this engine, whatever the config says.",
)
@click.option("--dry-run", is_flag=True, help="Print the rules and sysctls that would be set, and set none.")
def run(path: Path, datapath: str | None, dry_run: bool) -> None:
    """Serve until SIGTERM or Ctrl-C, in the foreground; SIGHUP reads the config again."""
    config = load(path)
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
        fail(error, NOT_PERMITTED)
    except (DatapathError, HostError) as error:
        fail(error)


@click.command()
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path, readable=False))
def check(path: Path) -> None:
    """Check a config: exit 0 usable, 3 unusable, 4 usable with warnings."""
    config = load(path)
    for warning in config.warnings:
        click.echo(str(warning), err=True)
    servers = sum(len(pool.servers) for service in config.all_services for pool in service.pools)
    click.echo(f"{path}: usable, {len(config.all_services)} services, {servers} servers")
    if config.warnings:
        sys.exit(WARNINGS)


@click.command()
@click.argument("tool", type=click.Choice(["iptables", "ipvsadm", "nft"]))
@config_option
def render(tool: str, path: Path) -> None:
    """Print a script that has the kernel's own TOOL serve a config."""
    config = load(path)
    from fullnat.control import render as rendering
    from fullnat.control.ports import local_ports
    from fullnat.host.errors import HostError

    try:
        click.echo(rendering.render(config, tool, local_ports(config)), nl=False)
    except HostError as error:
        fail(error)


@click.command()
@click.option(
    "-c",
    "--config",
    "path",
    type=click.Path(path_type=Path, readable=False),
    help="Look at what this TOML file needs; without it, at every device.",
)
@json_option
def doctor(path: Path | None, as_json: bool) -> None:
    """Say what this host would lose or break, and the remedy: exit 0 nothing, 1 something."""
    config = None if path is None else load(path)
    from fullnat.control.doctor import examine, has_problem
    from fullnat.host.errors import HostError

    try:
        findings = examine(config)
    except HostError as error:
        fail(error)
    if as_json:
        print_json([finding.to_json() for finding in findings])
    else:
        click.echo("\n".join(map(str, findings)))
    if has_problem(findings):
        sys.exit(FAILED)


@click.command()
@instance_option
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
        fail(error, NOT_PERMITTED)
    except (ControlError, HostError) as error:
        fail(error)


COMMANDS = (run, check, render, doctor, stop)
