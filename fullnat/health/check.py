# SPDX-License-Identifier: Apache-2.0
"""What is to be checked, and what came of it.

The codes are HAProxy's, so that its users and their tools read them: L4 is reaching the server, L6 is
TLS, L7 the conversation; OK, TOUT (time out), CON (refused, unreachable), RSP (not what the protocol
allows) and STS (an answer, and a bad one).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from fullnat.core.addr import Endpoint, IPAddress
from fullnat.core.service import Health
from fullnat.core.timeouts import SECOND

OFF = "off"  # the type of a check that is not made
_DETAIL_LENGTH = 100

# What a DNS check may ask for, and the answers there are.
QUERY_TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28, "SRV": 33}
RCODES = {"NOERROR": 0, "FORMERR": 1, "SERVFAIL": 2, "NXDOMAIN": 3, "NOTIMP": 4, "REFUSED": 5}


class Code(StrEnum):
    """How a check ended."""

    INI = "INI"  # none has ended yet
    UNK = "UNK"  # not checked
    SOCKERR = "SOCKERR"  # our own trouble; says nothing about the server
    L4OK = "L4OK"
    L4TOUT = "L4TOUT"
    L4CON = "L4CON"
    L6OK = "L6OK"
    L6TOUT = "L6TOUT"
    L6RSP = "L6RSP"
    L7OK = "L7OK"
    L7TOUT = "L7TOUT"
    L7RSP = "L7RSP"
    L7STS = "L7STS"


_OK = frozenset({Code.L4OK, Code.L6OK, Code.L7OK})
_NO_VERDICT = frozenset({Code.INI, Code.UNK, Code.SOCKERR})


class Target(NamedTuple):
    """Where one server is checked, and from where."""

    address: IPAddress
    port: int
    source: IPAddress | None  # None: the kernel's choice

    @property
    def family(self) -> int:
        """4 or 6."""
        return self.address.version

    def __str__(self) -> str:
        return str(Endpoint(self.address, self.port))


class Result(NamedTuple):
    """What came of one check."""

    code: Code
    detail: str  # one short line for people
    duration_ns: int
    weight: int | None = None  # what the server asks for; None: what is configured

    @property
    def ok(self) -> bool | None:
        """Whether the server works; None: nothing was learnt about it."""
        return None if self.code in _NO_VERDICT else self.code in _OK


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """How the server is to prove who it is."""

    name: str = ""  # for SNI and verification; empty: `host`, or the address
    verify: bool = True
    ca: Path | None = None  # PEM; None: the system's


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """One request, and what the answer must be."""

    path: str = "/"
    host: str = ""  # empty: the address checked
    method: str = "GET"
    status: tuple[tuple[int, int], ...] = ((200, 299),)  # ranges, both ends included
    body: re.Pattern[bytes] | None = None  # found anywhere in the body
    digest: bytes | None = None  # SHA-256 of the body
    tls: TlsOptions | None = None


@dataclass(frozen=True, slots=True)
class DnsOptions:
    """One question, and the code its answer must have."""

    name: str = "."
    query: str = "SOA"
    rcode: str = "NOERROR"


@dataclass(frozen=True, slots=True)
class UdpOptions:
    """One datagram, and what must come back."""

    payload: bytes = b""
    expect: re.Pattern[bytes] | None = None  # None: no answer is needed, only no refusal


@dataclass(frozen=True, slots=True)
class SmtpOptions:
    """How we introduce ourselves."""

    helo: str = "localhost"


@dataclass(frozen=True, slots=True)
class ScriptOptions:
    """A program whose exit status is the answer."""

    command: tuple[str, ...]
    dynamic: bool = False  # status 2-255 is a weight, plus 2


@dataclass(frozen=True, slots=True)
class FileOptions:
    """A file whose presence is the answer and whose number, if it holds one, the weight."""

    path: Path


Options = HttpOptions | DnsOptions | UdpOptions | SmtpOptions | ScriptOptions | FileOptions


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """What is to be checked of one server, how often, and what its results mean.

    Equal checks are the same check: a reload leaves them alone.
    """

    type: str
    options: Options | None = None  # None: tcp, icmp, off
    interval: int = 2 * SECOND  # from start to start, at most
    timeout: int = SECOND  # over everything
    rise: int = 2
    fall: int = 3
    jitter: int = 10  # percent of the interval that a check may come earlier
    start: Health = Health.UNKNOWN
    address: IPAddress | None = None  # None: the server's
    port: int | None = None  # None: the server's
    source: IPAddress | None = None  # None: a LIP

    def target(self, server: Endpoint, lips: Iterable[IPAddress]) -> Target:
        """Return where *server* is checked; from a LIP, so that the check takes the data's path."""
        address = self.address or server.address
        source = self.source or next((lip for lip in lips if lip.version == address.version), None)
        return Target(address, self.port or server.port, source)


def one_line(text: str | bytes) -> str:
    """Return *text*, which may be a peer's, printable and short."""
    if isinstance(text, bytes):
        text = text[: 2 * _DETAIL_LENGTH].decode("utf-8", "replace")
    shown = "".join(char if char.isprintable() else " " for char in text).strip()
    return shown if len(shown) <= _DETAIL_LENGTH else shown[: _DETAIL_LENGTH - 1] + "…"
