# SPDX-License-Identifier: Apache-2.0
"""Check file: a file that is there, and the weight that it holds, as keepalived's FILE_CHECK has it.

An empty file leaves the configured weight.  The file is a small one on a local disk: it is read by
the event loop.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from fullnat.health.check import Code, FileOptions, Target
from fullnat.health.probe import CheckError, Finding, Progress

_READ_BYTES = 64
_LARGEST_WEIGHT = 65535


async def probe(_target: Target, options: FileOptions, _progress: Progress) -> Finding:
    """Look into the file."""
    try:
        text = _read(options.path)
    except OSError as error:
        raise CheckError(Code.L7STS, f"{error.strerror}: {options.path}") from None
    if not text:
        return Finding(Code.L7OK, "present")
    if not text.isdigit() or len(text) > 5 or int(text) > _LARGEST_WEIGHT:
        raise CheckError(Code.L7RSP, f"not a weight of 0-{_LARGEST_WEIGHT}: {options.path}")
    return Finding(Code.L7OK, f"weight {int(text)}", int(text))


def _read(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO would wait for a writer
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise CheckError(Code.L7RSP, f"not a file: {path}")
        return os.read(descriptor, _READ_BYTES).strip()
    finally:
        os.close(descriptor)
