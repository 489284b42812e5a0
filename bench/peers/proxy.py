# SPDX-License-Identifier: Apache-2.0
"""What proxies have in common: two sockets a connection, and a VIP that must be on an interface.

They carry no UDP here: the datagram figures have no value for them.
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

from bench.peers.base import SERVICES, Peer
from bench.waiting import wait_until

READY_SECONDS = 5.0


class Proxy(Peer):
    """A program that listens on the VIP; a subclass says which, and how it is configured."""

    protocols: ClassVar[frozenset[str]] = frozenset({"tcp"})

    def start(self) -> None:
        """Return when every service is listened for."""
        plan = self.lab.plan
        self.lab.director.ip(f"addr add {plan.vip}/{32 if plan.family == 4 else 128} dev lo")
        path = self.lab.directory / f"{self.name}.conf"
        path.write_text(self.configuration(), encoding="utf-8")
        self.lab.spawn_peer(self.command(path))
        wait_until(self._listens, READY_SECONDS, f"{self.name} to listen")

    @abstractmethod
    def configuration(self) -> str:
        """Return the text of its configuration."""

    @abstractmethod
    def command(self, path: Path) -> list[str]:
        """Return the command line that runs it in the foreground, configured by *path*."""

    def _listens(self) -> bool:
        self.lab.check()
        return len(self.lab.director.run(["ss", "-Hltn"]).splitlines()) == len(tcp_ports())


def tcp_ports() -> list[int]:
    """Return the ports a proxy serves."""
    return [port for protocol, port in SERVICES if protocol == "tcp"]
