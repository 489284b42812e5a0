# SPDX-License-Identifier: Apache-2.0
"""A lock that is a file: the kernel frees it when its holder dies, and its content says who that is."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path


class FileLock:
    """A file that a living process holds; its content says who that is."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None

    @property
    def is_held(self) -> bool:
        """Whether this object holds the lock."""
        return self._fd is not None

    def acquire(self, wait: bool = False) -> bool:
        """Take the lock; False when another process has it and *wait* is not asked for."""
        while True:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except OSError as error:
                os.close(fd)
                if error.errno == errno.EWOULDBLOCK:
                    return False
                raise
            if self._is_current(fd):
                self._fd = fd
                return True
            os.close(fd)  # its holder removed the file while we waited; there is a new one

    def _is_current(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(fd))
        except FileNotFoundError:
            return False

    def write(self, text: str) -> None:
        """Make *text* the content; only the holder may."""
        if self._fd is None:
            raise RuntimeError("the lock is not held")
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, text.encode(), 0)

    def read(self) -> str:
        """Return the content, whoever holds the lock."""
        try:
            return self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""

    def release(self) -> None:
        """Let go of the lock and remove the file."""
        if self._fd is not None:
            self._path.unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = None
