# SPDX-License-Identifier: Apache-2.0
"""Plain forwarding: a router without netfilter, and the ceiling of this lab."""

from __future__ import annotations

from typing import ClassVar

from bench.peers.base import Peer, enable_forwarding
from bench.plan import Sources


class Plain(Peer):
    """The client talks to the server's own address; the server is given the route back."""

    name: ClassVar[str] = "plain"
    title: ClassVar[str] = "plain forwarding, no NAT"
    baseline: ClassVar[bool] = True

    def start(self) -> None:
        """Route."""
        plan = self.lab.plan
        enable_forwarding(self.lab)
        self.lab.server.ip(f"route add {plan.client_net} via {plan.inside}")

    @property
    def target(self) -> str:
        """The server itself."""
        return self.lab.plan.server

    @property
    def sources(self) -> Sources:
        """The client itself."""
        return Sources(self.lab.plan.client, self.lab.plan.client)
