# SPDX-License-Identifier: Apache-2.0
"""Check script: a program of the operator's; its exit status is the answer, as with keepalived's MISC_CHECK.

0 is good, 1 is bad.  With `dynamic`, 2 to 255 is good too and asks for the weight status - 2; without
it, bad.  No shell is involved.  The program finds in its environment PATH and which server it is about
(FULLNAT_ADDRESS, FULLNAT_PORT, FULLNAT_SOURCE); the first line it prints is shown to people.

It is the leader of a process group, which is killed at the timeout, or when the check is cancelled, and
also after it ended, so that nothing it left in the background stays.  A pidfd says when it ends: until
the process is waited for its number cannot be anybody else's, so the signal cannot hit another.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from typing import Self

from fullnat.health.check import Code, ScriptOptions, Target, one_line
from fullnat.health.probe import CheckError, Finding, Progress

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_READ_BYTES = 4096
_KEPT_BYTES = 200
_KILL_SECONDS = 1.0  # for a killed process to end; one that hangs in the kernel is left to itself


async def probe(target: Target, options: ScriptOptions, progress: Progress) -> Finding:
    """Run the program for *target*."""
    progress.talking("end of the script")
    with _Output() as output:
        process = _start(target, options, output.write_end)
        try:
            ended = os.pidfd_open(process.pid)
        except OSError as error:  # no descriptor left
            process.kill()
            process.wait()
            raise CheckError(Code.SOCKERR, f"{error.strerror}: {options.command[0]}") from None
        try:
            await _until_readable(ended)
        finally:
            await _end(process, ended)
        return _judge(process.returncode, output.first_line(), options)


def _start(target: Target, options: ScriptOptions, output: int) -> subprocess.Popen[bytes]:
    environment = {
        "PATH": _PATH,
        "FULLNAT_ADDRESS": str(target.address),
        "FULLNAT_PORT": str(target.port),
        "FULLNAT_SOURCE": str(target.source or ""),
    }
    try:
        return subprocess.Popen(
            options.command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CheckError(Code.SOCKERR, f"{reason}: {options.command[0]}") from None


def _judge(status: int | None, said: str, options: ScriptOptions) -> Finding:
    suffix = f": {said}" if said else ""
    if status is None or status < 0:
        number = signal.SIGKILL if status is None else -status
        raise CheckError(Code.L7RSP, f"killed by signal {number}{suffix}")
    if status > 1 and options.dynamic:
        return Finding(Code.L7OK, one_line(f"weight {status - 2}{suffix}"), status - 2)
    detail = one_line(f"status {status}{suffix}")
    if status:
        raise CheckError(Code.L7STS, detail)
    return Finding(Code.L7OK, detail)


class _Output:
    """A pipe that is emptied as it fills; of what comes the beginning is kept."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._kept = bytearray()
        self._read_end, self.write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        self._loop.add_reader(self._read_end, self._drain)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.remove_reader(self._read_end)
        os.close(self.write_end)
        os.close(self._read_end)

    def first_line(self) -> str:
        """Return what was said first."""
        self._drain()
        return one_line(bytes(self._kept).partition(b"\n")[0])

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):  # never the end: write_end is open here too
            data = os.read(self._read_end, _READ_BYTES)
            self._kept += data[: _KEPT_BYTES - len(self._kept)]


async def _end(process: subprocess.Popen[bytes], ended: int) -> None:
    """Kill the group and wait for its leader, whose end makes *ended* readable; close *ended*."""
    try:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_KILL_SECONDS):
                await _until_readable(ended)
    finally:
        os.close(ended)
        process.poll()


async def _until_readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(descriptor, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(descriptor)
