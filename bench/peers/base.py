# SPDX-License-Identifier: Apache-2.0
"""What a peer is: something on the director that brings the client's packets to the server."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from bench.ns import Lab
from bench.plan import BULK_PORT, HTTP_PORT, UDP_PORT, Sources

SERVICES = (("udp", UDP_PORT), ("tcp", HTTP_PORT), ("tcp", BULK_PORT))


class Peer(ABC):
    """One way to carry UDP_PORT, HTTP_PORT and BULK_PORT to the server, or those of its protocols.

    A peer configures lab.director and nothing else (plain forwarding is the exception).  A program
    it needs is started with lab.spawn_peer(...); the lab ends it.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    baseline: ClassVar[bool] = False  # others are compared with it
    protocols: ClassVar[frozenset[str]] = frozenset({"udp", "tcp"})  # what it can carry
    tools: ClassVar[dict[str, str]] = {}  # program -> Debian package

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    @classmethod
    def missing(cls) -> str | None:
        """Return the line that says why this peer cannot run here, None when it can."""
        return None

    @abstractmethod
    def start(self) -> None:
        """Return when the director carries traffic."""

    @property
    def target(self) -> str:
        """The address the client talks to."""
        return self.lab.plan.vip

    @property
    def sources(self) -> Sources:
        """The addresses the server must see."""
        return Sources(self.lab.plan.lips[0], self.lab.plan.lips[-1])


def enable_forwarding(lab: Lab) -> None:
    """Make the director a router."""
    key = "net.ipv4.ip_forward" if lab.plan.family == 4 else "net.ipv6.conf.all.forwarding"
    lab.director.sysctl(key, 1)
