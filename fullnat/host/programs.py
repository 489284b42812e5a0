# SPDX-License-Identifier: Apache-2.0
"""Run the programs that configure Linux networking, and say plainly what is wrong when one fails.

A program is looked up in PATH and then in /usr/sbin and /sbin, which the PATH of an ordinary user
does not have.  Its messages are asked for in English, because some are matched.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from fullnat.host.errors import HostError

_DEADLINE_S = 30  # generous: xtables' own lock is waited for 5 s

# Program -> the Debian package that has it, where that is called otherwise.
_PACKAGES = {"ip": "iproute2", "tc": "iproute2", "nft": "nftables", "umount": "mount"}
_XTABLES = ("iptables", "ip6tables")


class ProgramError(HostError):
    """A program ran and failed."""

    def __init__(self, program: str, status: int, message: str) -> None:
        super().__init__(f"{program} failed ({status}): {message or 'no message'}")
        self.message = message


def find_program(name: str) -> str:
    """Return the absolute path of the program *name*."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path is None:
        package = "iptables" if name.startswith(_XTABLES) else _PACKAGES.get(name, name)
        raise HostError(f"program {name} is missing: apt-get install {package}")
    return path


def concrete_program(name: str) -> str:
    """Return the path of *name* with Debian's alternatives followed: .../iptables-nft-restore.

    What was set through one flavour of iptables can only be undone through the same one, and the
    alternative may be switched in between.  Links are followed while the name still says which
    program of the multi-call binary is meant.
    """
    family = name.split("-", maxsplit=1)[0]
    path = Path(find_program(name))
    while path.is_symlink():
        target = path.parent / os.readlink(path)
        if not target.name.startswith(family):
            break
        path = target
    return str(path)


def run_program(argv: Sequence[str], text: str = "") -> str:
    """Run *argv* with *text* as its input and return its output; ProgramError when it fails."""
    finished = run_tolerant(argv, text)
    if finished.returncode != 0:
        name = Path(argv[0]).name
        raise ProgramError(name, finished.returncode, _one_line(finished.stderr))
    return finished.stdout


def run_tolerant(argv: Sequence[str], text: str = "") -> subprocess.CompletedProcess[str]:
    """Run *argv* with *text* as its input and return what came of it, failed or not."""
    program = argv[0] if argv[0].startswith("/") else find_program(argv[0])
    try:
        return subprocess.run(
            [program, *argv[1:]],
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=_DEADLINE_S,
            env={**os.environ, "LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired:
        raise HostError(f"{Path(program).name} did not finish within {_DEADLINE_S} s") from None
    except OSError as error:
        raise HostError(f"cannot run {program}: {error.strerror}") from None


def _one_line(text: str) -> str:
    """The message of a program as one line, without blank lines and hints to its help."""
    lines = (line.strip() for line in text.splitlines())
    return "; ".join(line for line in lines if line and not line.startswith(("Try `", "# Warning")))
