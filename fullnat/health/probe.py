# SPDX-License-Identifier: Apache-2.0
"""What all checks share: how far one got, how it ends, and the outcome as a Finding.

A probe returns a Finding, raises CheckError for an answer it does not accept, or lets the OSError or
the TimeoutError pass that it ran into; run.py makes a Result of each.
"""

from __future__ import annotations

import errno
import os
from typing import NamedTuple

from fullnat.health.check import Code, one_line

# What connect(), send() and recv() report when it is this host that cannot, not the server.
_OURS = frozenset(
    {
        errno.EADDRINUSE,
        errno.EADDRNOTAVAIL,
        errno.EAFNOSUPPORT,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.EPERM,
    }
)


class Finding(NamedTuple):
    """The outcome of a probe."""

    code: Code
    detail: str
    weight: int | None = None


class CheckError(Exception):
    """An answer that is not accepted, or trouble of our own."""

    def __init__(self, code: Code, detail: str | bytes) -> None:
        super().__init__(code, detail)
        self.finding = Finding(code, one_line(detail))


class Progress:
    """How far a probe got: what a timeout or an error means depends on it."""

    __slots__ = ("_silence", "_trouble")

    def __init__(self) -> None:
        self.connecting()

    def connecting(self) -> None:
        """The server is being reached."""
        self._silence = Finding(Code.L4TOUT, "no answer to connect")
        self._trouble = Code.L4CON

    def securing(self) -> None:
        """The TLS handshake is under way."""
        self._silence = Finding(Code.L6TOUT, "TLS handshake not finished")
        self._trouble = Code.L6RSP

    def talking(self, waiting_for: str) -> None:
        """The conversation is under way."""
        self._silence = Finding(Code.L7TOUT, f"no {waiting_for}")
        self._trouble = Code.L7RSP

    def asking(self, silence: Finding) -> None:
        """A datagram was sent: *silence* is what no answer means, and an error is a refusal."""
        self._silence = silence
        self._trouble = Code.L4CON

    def timed_out(self) -> Finding:
        """Return what it means that time is up."""
        return self._silence

    def failed(self, error: OSError) -> Finding:
        """Return what *error* means."""
        code = Code.SOCKERR if error.errno in _OURS else self._trouble
        words = os.strerror(error.errno) if error.errno else str(error)
        return Finding(code, one_line(words))
