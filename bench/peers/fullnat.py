# SPDX-License-Identifier: Apache-2.0
"""`fullnat run` as a peer: what its engines have in common.

The process shares DIRECTOR_CPU with the softirqs of the director's devices, so that a figure is
what one core of a director does, whoever does it: kernel or program.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import ClassVar

from bench.peers.base import SERVICES, Peer
from bench.plan import DIRECTOR_CPU, Plan

READY_SECONDS = 15.0
_PROGRAM = Path(sys.executable).with_name("fullnat")


class Fullnat(Peer):
    """fullnat with one of its engines; a subclass names the engine."""

    datapath: ClassVar[str]

    @classmethod
    def missing(cls) -> str | None:
        """Name the remedy unless the program is beside the interpreter that runs the bench."""
        return None if _PROGRAM.exists() else "fullnat is not installed beside this python: make setup"

    def start(self) -> None:
        """Return when fullnat says it is ready."""
        path = self.lab.directory / "fullnat.toml"
        path.write_text(configuration(self.lab.plan, self.datapath), encoding="utf-8")
        argv = [str(_PROGRAM), "run", "-c", str(path)]
        self.lab.spawn(self.lab.director, argv, cpu=DIRECTOR_CPU).wait_for_line("ready", READY_SECONDS)


def configuration(plan: Plan, datapath: str) -> str:
    """Return the TOML that serves the lab."""
    lines = [
        "version = 1",
        'instance = "bench"',
        "[engine]",
        f'datapath = "{datapath}"',
        "[snat]",
        f'addresses = ["{plan.lips[0]}-{plan.lips[-1]}"]',
    ]
    for protocol, port in SERVICES:
        lines += [
            "[[service]]",
            f'name = "{protocol}-{port}"',
            f"listen = {json.dumps(f'{protocol}://{plan.bracketed(plan.vip)}:{port}')}",
            'scheduler = "rr"',
            "[[service.server]]",
            f"address = {json.dumps(f'{plan.bracketed(plan.server)}:{port}')}",
        ]
    return "\n".join(lines) + "\n"
