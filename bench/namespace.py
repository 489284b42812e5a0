# SPDX-License-Identifier: Apache-2.0
"""Network namespaces, and programs run in them: to their end, or as daemons.

Each program is a session of its own, for the scheduler's sake: where autogroup is on, a session has
one weight on all CPUs together, and a generator that spins on its core would take from that of a
program on the director's.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bench.errors import BenchError
from bench.waiting import PATIENCE, wait_until

_CLONE_NEWNET = 0x4000_0000
_STOP_SECONDS = 15.0 * PATIENCE
_COMMAND_SECONDS = 60.0


class Namespace:
    """One network namespace, by name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def command(self, argv: Sequence[str], cpus: str = "") -> list[str]:
        """Return the command line that runs *argv* inside, on *cpus* (a list as taskset has it) if given."""
        pin = ["taskset", "-c", cpus] if cpus else []
        return ["ip", "netns", "exec", self.name, *pin, *argv]

    def run(
        self,
        argv: Sequence[str],
        *,
        cpus: str = "",
        stdin: str = "",
        timeout: float = _COMMAND_SECONDS,
    ) -> str:
        """Return what the command printed; BenchError when it fails."""
        return run(self.command(argv, cpus), stdin=stdin, timeout=timeout)

    def sysctl(self, key: str, value: int) -> None:
        """Set a sysctl of this namespace."""
        self.run(["sysctl", "-qw", f"{key}={value}"])

    def ip(self, *lines: str) -> None:
        """Run lines of `ip` in one process."""
        run(["ip", "-n", self.name, "-batch", "-"], stdin="\n".join(lines) + "\n")

    def socket(self, family: int, kind: int) -> socket.socket:
        """Return a socket that lives in this namespace, whoever uses it."""
        with open("/proc/thread-self/ns/net") as home, open(f"/run/netns/{self.name}") as there:
            _enter(there.fileno())
            try:
                return socket.socket(family, kind)
            finally:
                _enter(home.fileno())


def _enter(fd: int) -> None:
    # os.setns() begins with Python 3.12.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, _CLONE_NEWNET):
        error = ctypes.get_errno()
        raise BenchError(f"setns: {os.strerror(error)}")


def run(argv: Sequence[str], *, stdin: str = "", timeout: float = _COMMAND_SECONDS) -> str:
    """Return what the command printed; BenchError with its last words when it fails."""
    timeout *= PATIENCE
    try:
        done = subprocess.run(
            argv,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"`{shlex.join(argv)}` did not end within {timeout:g} s") from error
    if done.returncode:
        words = "; ".join((done.stderr or done.stdout).strip().splitlines())
        raise BenchError(f"`{shlex.join(argv)}` exited with {done.returncode}: {words or 'no message'}")
    return done.stdout


class Daemon:
    """A process started in a lab, its output in a file."""

    def __init__(self, name: str, argv: Sequence[str], log: Path) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def output(self) -> str:
        """Return all it has printed."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def check(self) -> None:
        """Raise BenchError when it is no longer running."""
        code = self._process.poll()
        if code is not None:
            raise BenchError(f"{self.name} ended by itself ({code}): {self._last_words()}")

    def _last_words(self) -> str:
        return next(reversed(self.output().strip().splitlines()), "it printed nothing")

    def wait_for_line(self, start: str, timeout: float) -> None:
        """Return once it has printed a line that starts with *start*."""

        def printed() -> bool:
            self.check()
            return any(line.startswith(start) for line in self.output().splitlines())

        try:
            wait_until(printed, timeout, f"{self.name} to print `{start}`")
        except TimeoutError as error:
            raise BenchError(f"{error}: {self._last_words()}") from error

    def stop(self) -> None:
        """End it: SIGTERM, and SIGKILL when that does not help."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
