# SPDX-License-Identifier: Apache-2.0
"""The state directory: locks and journals of all instances, by network namespace.

    <instance>@<namespace>.lock       held by the process as long as it lives; says what it claims
    <instance>@<namespace>.journal    what it has changed on the host
    @<namespace>.lock                 held by whoever reads or changes any of these

The namespace is the network namespace's cookie: unlike an inode number, the kernel never gives it
twice between two boots.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fullnat.host.claims import Claims
from fullnat.host.errors import HostError
from fullnat.host.journal import Journal
from fullnat.host.lock import FileLock

DEFAULT_DIRECTORY = Path("/run/fullnat")

_SO_NETNS_COOKIE = 71  # since Linux 5.14


class StateDirectory:
    """Locks and journals of all instances, seen from one network namespace."""

    def __init__(self, path: Path = DEFAULT_DIRECTORY, namespace: str | None = None) -> None:
        self.path = path
        self.namespace = namespace or network_namespace()

    def create(self) -> None:
        """Make the directory."""
        try:
            self.path.mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError as error:
            raise HostError(f"cannot make the state directory {self.path}: {error.strerror}") from None

    def lock(self, instance: str) -> FileLock:
        """Return the lock of *instance*."""
        return FileLock(self._file(instance, "lock"))

    def journal(self, instance: str) -> Journal:
        """Return the journal of *instance*."""
        return Journal(self._file(instance, "journal"))

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep every other instance of the namespace from reading or changing anything here."""
        lock = FileLock(self._file("", "lock"))
        lock.acquire(wait=True)
        try:
            yield
        finally:
            lock.release()

    def instances(self) -> list[str]:
        """Return the instances that have left something here, alive or not."""
        suffix = f"@{self.namespace}."
        names = {entry.name.rpartition(suffix)[0] for entry in self.path.glob(f"*{suffix}*")}
        return sorted(name for name in names if name)

    def sweep(self, instance: str) -> None:
        """Remove what a dead *instance* left here besides its lock and its journal."""
        for kind in ("sock", "journal-new"):
            self._file(instance, kind).unlink(missing_ok=True)

    def live_claims(self, besides: str) -> list[Claims]:
        """Return what every living instance claims, *besides* left out."""
        return [
            claims
            for instance in self.instances()
            if instance != besides and (claims := self._claims_if_alive(instance)) is not None
        ]

    def _claims_if_alive(self, instance: str) -> Claims | None:
        lock = self.lock(instance)
        if lock.acquire():
            lock.release()
            return None
        return Claims.from_json(lock.read())

    def _file(self, instance: str, kind: str) -> Path:
        return self.path / f"{instance}@{self.namespace}.{kind}"


def network_namespace() -> str:
    """Return what identifies this thread's network namespace until the next boot."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            cookie = probe.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
        except OSError:  # before 5.14
            return f"inode-{os.stat('/proc/thread-self/ns/net').st_ino}"
    return str(int.from_bytes(cookie, sys.byteorder))
