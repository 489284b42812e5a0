# SPDX-License-Identifier: Apache-2.0
"""`fullnat run` as a peer: what its engines have in common.

Where a figure confines the director to one core, the process shares it with the softirqs of the
director's devices: the figure is what one core of a director does, whoever does it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from bench.errors import BenchError
from bench.namespace import Daemon
from bench.ns import Lab
from bench.peers.base import SERVICES, Peer
from bench.plan import HTTP_PORT, IPV4, Plan
from bench.waiting import PATIENCE

READY_SECONDS = 15.0
INSTANCE = "bench"
CHECKED_PORT = 20_000  # of the virtual address, and the first of the servers'
_PROGRAM = Path(sys.executable).with_name("fullnat")
_EXIT_USABLE = (0, 4)  # 4: with warnings


class Fullnat(Peer):
    """fullnat with one of its engines; a subclass names the engine."""

    datapath: ClassVar[str]
    engine: ClassVar[Mapping[str, object]] = {}  # further keys of [engine]

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        self.flows_limit: int | None = None  # [limits] flows; None: the program's default
        self._checks = 0  # servers that are checked, besides those that serve
        self._daemon: Daemon | None = None

    @classmethod
    def missing(cls) -> str | None:
        """Say that the program is not there, or why it would refuse the configuration."""
        if not _PROGRAM.exists():
            return "fullnat is not installed beside this python: make setup"
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "fullnat.toml"
            path.write_text(configuration(IPV4, cls.engine_keys()), encoding="utf-8")
            argv = [str(_PROGRAM), "check", str(path)]
            done = subprocess.run(argv, capture_output=True, text=True, timeout=30 * PATIENCE, check=False)
        return None if done.returncode in _EXIT_USABLE else first_complaint(done.stderr)

    @classmethod
    def engine_keys(cls) -> dict[str, object]:
        """Return the table [engine]."""
        return {"datapath": cls.datapath, **cls.engine}

    def start(self) -> None:
        """Return when fullnat says it is ready; BenchError when another engine than ours is."""
        argv = [str(_PROGRAM), "run", "-c", str(self._configure())]
        self._daemon = self.lab.spawn_peer(argv)
        self._daemon.wait_for_line("ready", READY_SECONDS)
        engine = self.ask("status")["engine"]
        if engine != self.datapath:
            raise BenchError(f"{self.name}: engine {engine} runs instead of {self.datapath}")

    def stop(self) -> None:
        """End the program before the lab does."""
        assert self._daemon is not None  # started
        self.lab.end(self._daemon)

    def check_servers(self, number: int) -> None:
        """Have so many servers, which get no requests, asked for a page every second: a reload."""
        self._checks = number
        self._configure()
        self.lab.director.run([str(_PROGRAM), "reload", "--instance", INSTANCE])

    def _configure(self) -> Path:
        path = self.lab.directory / "fullnat.toml"
        plan = self.lab.plan
        text = configuration(plan, self.engine_keys(), self.flows_limit) + checked_servers(plan, self._checks)
        path.write_text(text, encoding="utf-8")
        return path

    def ask(self, *what: str) -> Any:
        """Return what `fullnat` answers, for example to ("show", "stats")."""
        answer = self.lab.director.run([str(_PROGRAM), *what, "--instance", INSTANCE, "--json"])
        return json.loads(answer)

    def count_flows(self) -> int:
        """Return how many flows are in the table."""
        return int(self.ask("show", "stats")["flows"])

    def pid(self) -> int:
        """Return the process of the program."""
        return int(self.ask("status")["pid"])

    def resident_bytes(self) -> int:
        """Return the resident memory of the program, with what it maps of the kernel's."""
        status = Path(f"/proc/{self.pid()}/status").read_text(encoding="ascii", errors="replace")
        return parse_resident(status)

    def kernel_bytes(self) -> int | None:
        """Return the memory the kernel has flows in, None for an engine whose flows are its own."""
        return None


def obstacle(peer: type[Peer]) -> str | None:
    """Say why *peer* cannot have a figure that asks its instance."""
    return None if issubclass(peer, Fullnat) else "is no instance of fullnat that can be asked"


def first_complaint(text: str) -> str:
    """Return the first line of `fullnat check` without the file it is about."""
    lines = [line for line in text.splitlines() if ": warning: " not in line]
    if not lines:
        return "`fullnat check` refuses its configuration"
    return lines[0].partition(": ")[2] or lines[0]


def parse_resident(status: str) -> int:
    """Return VmRSS of /proc/PID/status (proc(5)) in bytes."""
    for line in status.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise BenchError("the program has no resident memory: it has ended")


def configuration(plan: Plan, engine: Mapping[str, object], flows_limit: int | None = None) -> str:
    """Return the TOML that serves the lab."""
    lines = ["version = 1", f'instance = "{INSTANCE}"', "[engine]"]
    lines += [f"{key} = {json.dumps(value)}" for key, value in engine.items()]
    lines += ["[snat]", f'addresses = ["{plan.lips[0]}-{plan.lips[-1]}"]']
    if flows_limit is not None:
        lines += ["[limits]", f"flows = {flows_limit}"]
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


def checked_servers(plan: Plan, number: int) -> str:
    """Return the TOML of a service with so many servers: ports of an address, one HTTP server behind them."""
    if not number:
        return ""
    lines = [
        "[[service]]",
        'name = "checked"',
        f"listen = {json.dumps(f'tcp://{plan.bracketed(plan.vip)}:{CHECKED_PORT}')}",
        f'health = {{ type = "http", interval = "1s", port = {HTTP_PORT} }}',
    ]
    for port in range(CHECKED_PORT, CHECKED_PORT + number):
        lines += ["[[service.server]]", f"address = {json.dumps(f'{plan.bracketed(plan.server)}:{port}')}"]
    return "\n".join(lines) + "\n"
