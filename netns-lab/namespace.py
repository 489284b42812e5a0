# SPDX-License-Identifier: Apache-2.0
"""Named network namespaces: make, enter, configure, empty, delete.

Programs enter through nsenter(1), which costs an exec and leaves the mounts alone (`ip netns exec`
and `ip -n` make a mount namespace and remount /sys there, which hides a mounted bpffs).  This
process enters with setns(2) for one thread: enough to open a socket or write a sysctl there, both
of which then belong to that namespace.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

NETNS = Path("/run/netns")
SBIN = ":/usr/sbin:/sbin"  # for PATH: that of an ordinary user, which `su` keeps, lacks them
CLONE_NEWNET = 0x40000000
SO_NETNS_COOKIE = 71  # <asm-generic/socket.h>
TERMINATE_SECONDS = 3.0  # between SIGTERM and SIGKILL

_libc = ctypes.CDLL(None, use_errno=True)


class LabError(Exception):
    """The lab cannot be built or used; the message is one line for a person."""


class Process(NamedTuple):
    """A process and when it began: a recycled pid is another process."""

    pid: int
    started: int  # clock ticks after boot

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The process that has *pid* now, or None; a zombie has ended."""
        try:
            # pid (comm) state ppid ...: comm may hold anything, spaces and parentheses too.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if fields[0] == "Z" else cls(pid, int(fields[19]))

    @property
    def alive(self) -> bool:
        """Whether it runs still."""
        return Process.of(self.pid) == self

    @property
    def command(self) -> str:
        """Its command line, or the empty string when it has ended."""
        try:
            words = Path(f"/proc/{self.pid}/cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            return ""
        return b" ".join(words).decode(errors="replace").strip()


def ip(*arguments: str, namespace: str = "", stdin: str | None = None) -> str:
    """What the command prints, run in *namespace* if given; LabError quotes its complaint."""
    line = ["ip", *arguments]
    done = subprocess.run(
        command(namespace, line) if namespace else line,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        where = f" in {namespace}" if namespace else ""
        raise LabError(f"{' '.join(line)}{where}: {' '.join(done.stderr.split())}")
    return done.stdout


def ip_batch(lines: Iterable[str], namespace: str = "") -> None:
    """Run many ip(8) commands in one process."""
    ip("-batch", "-", namespace=namespace, stdin="\n".join(lines) + "\n")


def ip_json(*arguments: str, namespace: str = "") -> Any:
    """What ip(8) prints, parsed."""
    return json.loads(ip("-json", *arguments, namespace=namespace) or "[]")


def command(namespace: str, argv: Sequence[str]) -> list[str]:
    """The command line that runs *argv* in *namespace*; the pid stays that of the first exec."""
    return ["nsenter", f"--net={NETNS / namespace}", "--", *argv]


def existing(prefix: str) -> list[str]:
    """The named namespaces that begin with *prefix*."""
    if not NETNS.is_dir():
        return []
    return sorted(path.name for path in NETNS.iterdir() if path.name.startswith(prefix))


def delete(namespace: str) -> None:
    """Delete *namespace*, its devices, rules and all; gone already is fine."""
    try:
        ip("netns", "delete", namespace)
    except LabError:
        if (NETNS / namespace).exists():
            raise


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@contextlib.contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Run the body with the calling thread in *namespace*; sockets opened there stay there."""
    with open("/proc/thread-self/ns/net") as home, open(NETNS / namespace) as target:
        _setns(target.fileno())
        try:
            yield
        finally:
            _setns(home.fileno())


def cookie(namespace: str) -> int:
    """The kernel's number for *namespace*, never used twice between two boots."""
    with inside(namespace), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        return int.from_bytes(probe.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8), sys.byteorder)


def write_sysctls(namespace: str, values: Iterable[tuple[str, int]]) -> None:
    """Set each (name, value), name as in /proc/sys with slashes."""
    with inside(namespace):
        for name, value in values:
            Path("/proc/sys", name).write_text(f"{value}\n")


def read_sysctls(namespace: str, patterns: Iterable[str]) -> dict[str, str]:
    """Every readable sysctl that matches one of *patterns* (globs below /proc/sys)."""
    found = {}
    with inside(namespace):
        root = Path("/proc/sys")
        for pattern in patterns:
            for path in sorted(root.glob(pattern)):
                with contextlib.suppress(OSError):  # stable_secret and a few more exist but cannot be read
                    found[str(path.relative_to(root))] = path.read_text().strip()
    return found


def processes_in(namespaces: Iterable[str]) -> list[Process]:
    """Every process that lives in one of *namespaces*, this one excepted."""
    wanted = set()
    for name in namespaces:
        with contextlib.suppress(FileNotFoundError):
            wanted.add(_identity(NETNS / name))
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if _identity(entry / "ns/net") in wanted and (process := Process.of(int(entry.name))):
                found.append(process)
    return found


def is_in(pid: int, namespace: str) -> bool:
    """Whether process *pid* has entered *namespace* already."""
    return _identity(Path(f"/proc/{pid}/ns/net")) == _identity(NETNS / namespace)


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def terminate(processes: Sequence[Process]) -> None:
    """End *processes*: SIGTERM, and SIGKILL for those that do not follow; return when all have ended.

    The pidfd is taken before the start time is checked, so no signal can reach a recycled pid.
    """
    descriptors = []
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(process.pid)
            if process.alive:
                descriptors.append(descriptor)
            else:
                os.close(descriptor)
    try:
        running = _signal_and_wait(descriptors, signal.SIGTERM)
        running = _signal_and_wait(running, signal.SIGKILL)
        if running:
            raise LabError(f"{len(running)} processes of the lab outlive SIGKILL")
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _signal_and_wait(descriptors: list[int], number: signal.Signals) -> list[int]:
    """Signal each process and return those that run still after TERMINATE_SECONDS."""
    for descriptor in descriptors:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, number)
    running = set(descriptors)
    poller = select.poll()
    for descriptor in running:
        poller.register(descriptor, select.POLLIN)  # a pidfd is readable once its process has ended
    deadline = time.monotonic() + TERMINATE_SECONDS
    while running and (left := deadline - time.monotonic()) > 0:
        for descriptor, _ in poller.poll(left * 1000):
            poller.unregister(descriptor)
            running.discard(descriptor)
    return sorted(running)
