# SPDX-License-Identifier: Apache-2.0
"""Other programs' words: `ipvsadm` spoken to an instance, and configurations taken over."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from glob import glob
from pathlib import Path

import click

from fullnat.cli.common import FAILED, UNUSABLE, WARNINGS, fail, tell

_FORMATS = ("keepalived", "ldirectord", "ipvsadm", "haproxy")
_PASSED_ON = {"ignore_unknown_options": True, "help_option_names": [], "allow_interspersed_args": False}


@click.command(context_settings=_PASSED_ON, add_help_option=False)
@click.option("--instance", default="main")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def ipvsadm(instance: str, arguments: tuple[str, ...]) -> None:
    """Take commands as ipvsadm does; a link of that name to fullnat is the same."""
    sys.exit(run_ipvsadm(arguments, instance))


def run_ipvsadm(arguments: Sequence[str], instance: str) -> int:
    """Carry out *arguments* as ipvsadm would; return its exit status."""
    from fullnat.ipvsadm.commands import Help, Restore, Version
    from fullnat.ipvsadm.language import Refused, parse

    is_restore, is_local = False, False
    try:
        command = parse(arguments)
        is_restore, is_local = isinstance(command, Restore), isinstance(command, (Help, Version))
    except Refused:
        pass  # the instance knows names that we do not look up, and says what is wrong
    if is_local:
        from fullnat.ipvsadm.usage import VERSION, format_help

        sys.stdout.write(format_help() if isinstance(command, Help) else VERSION)
        return 0
    text = sys.stdin.read() if is_restore else ""
    done = tell(instance, "ipvsadm", {"arguments": list(arguments), "input": text})
    sys.stdout.write(done["output"])
    sys.stderr.write(done["errors"])
    return int(done["status"])


@click.command("import")
@click.argument("source", type=click.Choice(_FORMATS))
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path, allow_dash=True))
@click.option(
    "--lip", "lips", multiple=True, metavar="ADDRESS", help="Local address, or range a-b; again for more."
)
@click.option("--keep-forwarding", is_flag=True, help="Leave NAT, DR and tunnels what they are.")
@click.option("--config-id", default="", help="keepalived: which lines that begin with @ID count.")
def import_(source: str, path: Path, lips: tuple[str, ...], keep_forwarding: bool, config_id: str) -> None:
    """Print the config that another program's file becomes; on stderr what it could not take.

    Exit 0 complete, 3 unreadable, 4 with something left to write by hand.
    """
    from fullnat.importers.convert import convert
    from fullnat.importers.notes import ImporterError

    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{path}: {getattr(error, 'strerror', None) or 'it is not UTF-8'}", FAILED)
    try:
        imported = convert(
            source,
            text,
            str(path),
            local_addresses=lips,
            keep_forwarding=keep_forwarding,
            include=_read_included,
            config_id=config_id,
        )
    except ImporterError as error:
        click.echo(str(error), err=True)
        sys.exit(UNUSABLE)
    click.echo(imported.text, nl=False)
    for note in imported.notes:
        click.echo(str(note), err=True)
    if not imported.is_complete:
        sys.exit(WARNINGS)


def _read_included(pattern: str, path: str) -> list[tuple[str, str]]:
    """Return path and text of the files that match *pattern*, which stands in *path*."""
    found = sorted(glob(str(Path(path).parent / pattern)))
    return [(name, Path(name).read_text(encoding="utf-8", errors="replace")) for name in found]


COMMANDS = (ipvsadm, import_)
