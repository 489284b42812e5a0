# SPDX-License-Identifier: Apache-2.0
"""fullnat itself, run on the lab's director: started, asked, stopped, killed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lab import Lab
from namespace import LabError
from wait import PATIENCE, wait_until

READY_SECONDS = 15.0
STOP_SECONDS = 15.0 * PATIENCE


def program() -> list[str]:
    """The command line of the fullnat that belongs to this interpreter, installed or not."""
    installed = Path(sys.executable).with_name("fullnat")
    return [str(installed)] if installed.exists() else [sys.executable, "-m", "fullnat"]


class Balancer:
    """One `fullnat run` in the director's namespace, and the log of what it says."""

    def __init__(
        self,
        lab: Lab,
        config: str,
        *,
        arguments: Sequence[str] = (),
        role: str = "director",
        name: str = "fullnat",
    ) -> None:
        """Describe it; start() runs it.  *arguments* follow `fullnat run -c FILE`; *name* is its files'."""
        self.lab = lab
        self.role = role
        self.path = lab.directory / f"{name}.toml"
        self.arguments = list(arguments)
        self.process: subprocess.Popen[Any] | None = None
        self._log = lab.directory / f"{name}.log"
        self._text = ""
        self._seen = 0  # characters of the log that follow() has returned
        self.configure(config)

    def configure(self, config: str) -> None:
        """Write the configuration file; a running fullnat reads it again when told to."""
        self.path.write_text(config)

    def start(self, timeout: float = READY_SECONDS, on_line: Callable[[str], object] | None = None) -> float:
        """Run it until it says `ready`; return the seconds that took.  LabError carries its log."""
        begun = time.monotonic()
        with self._log.open("a") as log:
            self.process = self.lab.popen(
                self.role, [*program(), "run", "-c", str(self.path), *self.arguments], stdout=log, stderr=log
            )
        process = self.process

        def ready() -> bool:
            ended = process.poll()
            lines = self.follow()
            for line in lines:
                if on_line:
                    on_line(line)
            if any(line.startswith("ready") for line in lines):
                return True
            if ended is not None:
                raise LabError(f"fullnat ended with exit status {ended} before it was ready")
            return False

        wait_until(ready, timeout, "fullnat saying `ready`")
        return time.monotonic() - begun

    @property
    def log(self) -> str:
        """Everything it has printed, over all its starts."""
        if self._log.exists():  # until the lab is taken down
            self._text = self._log.read_text()
        return self._text

    def follow(self) -> list[str]:
        """The complete lines printed since the last call."""
        fresh, newline, _ = self.log[self._seen :].rpartition("\n")
        self._seen += len(fresh) + len(newline)
        return fresh.splitlines()

    @property
    def running(self) -> bool:
        """Whether the process runs."""
        return self.process is not None and self.process.poll() is None

    @property
    def status(self) -> int | None:
        """Its exit status, negative for a signal; None before the start and while it runs."""
        return None if self.process is None else self.process.poll()

    def command(
        self, *arguments: str, check: bool = True, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run `fullnat ARGUMENTS` beside it, to its end."""
        return self.lab.run(self.role, [*program(), *arguments], check=check, **options)

    def show(self, what: str) -> Any:
        """What `fullnat show WHAT --json` prints, parsed."""
        return json.loads(self.command("show", what, "--json").stdout)

    def stop(self, timeout: float = STOP_SECONDS) -> int:
        """Ask it to end (SIGTERM) and return its exit status."""
        if self.process is None:
            raise LabError("fullnat was not started")
        self.process.terminate()
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise LabError(f"fullnat runs {timeout:g} s after SIGTERM") from None

    def kill(self) -> None:
        """End it with SIGKILL: it gets no chance to put anything back."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
