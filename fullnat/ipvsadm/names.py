# SPDX-License-Identifier: Apache-2.0
"""Hosts and services by name: the hooks that look them up, which this package leaves to its caller.

ipvsadm asks the system's resolver while it reads its words, and again for every address and port that it
prints without -n.  Looking up is I/O and may take seconds; here it is two objects that somebody hands in.
"""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Protocol

from fullnat.core.addr import IPAddress


class Resolver(Protocol):
    """From names to numbers, for what was typed."""

    def host(self, name: str) -> IPv4Address | None:
        """Return the first IPv4 address of *name*: ipvsadm has IPv6 addresses written in numbers only."""

    def port(self, name: str, protocol: int) -> int | None:
        """Return the port of the service *name* in *protocol*: TCP, UDP or SCTP."""


class Names(Protocol):
    """From numbers to names, for what is printed."""

    def host(self, address: IPAddress) -> str | None:
        """Return the name of *address*."""

    def port(self, port: int, protocol: int) -> str | None:
        """Return the name of *port* in *protocol*: TCP, UDP or SCTP."""


class NoNames:
    """A resolver that knows none: numbers only."""

    def host(self, name: str) -> None:
        """Return None."""

    def port(self, name: str, protocol: int) -> None:
        """Return None."""
