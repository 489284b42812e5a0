# SPDX-License-Identifier: Apache-2.0
"""The command line: verbs change something, `show` reads.

Exit codes: 0 done; 1 it failed while running; 2 wrong usage; 3 the config is unusable; 4 it is
usable with warnings; 5 not permitted.

serve: a configuration is looked at or served · ask: a running instance is asked · top: it is watched ·
operate: it is changed · foreign: other programs' words · common: what they share.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from fullnat import __version__
from fullnat.cli import ask, foreign, operate, serve, top


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fullnat")
def commands() -> None:
    """Full NAT load balancing: a client's CIP->VIP leaves as LIP->RIP, and back.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 config unusable, 4 config usable with warnings,
    5 not permitted.
    """


for _module in (serve, ask, top, operate, foreign):
    for _command in _module.COMMANDS:
        commands.add_command(_command)


def main() -> None:
    """Run the command line; called by the name of ipvsadm, speak its language."""
    if Path(sys.argv[0]).name == "ipvsadm":
        sys.exit(foreign.run_ipvsadm(sys.argv[1:], "main"))
    commands()
