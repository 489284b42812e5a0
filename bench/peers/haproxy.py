# SPDX-License-Identifier: Apache-2.0
"""HAProxy in tcp mode: what most people put where a full NAT could stand.  Two sockets a connection."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from bench.peers.proxy import Proxy, tcp_ports
from bench.plan import Plan

_DEFAULTS = """
global
  nbthread 1
  maxconn 4000
defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s
"""


class Haproxy(Proxy):
    """One thread on the director's core; connections to the server leave from the LIPs in turn."""

    name: ClassVar[str] = "haproxy"
    title: ClassVar[str] = "HAProxy, tcp mode, one thread"
    baseline: ClassVar[bool] = True
    tools: ClassVar[dict[str, str]] = {"haproxy": "haproxy"}

    def configuration(self) -> str:
        """Return haproxy.cfg."""
        return configuration(self.lab.plan)

    def command(self, path: Path) -> list[str]:
        """Return the command line."""
        return ["haproxy", "-db", "-f", str(path)]


def configuration(plan: Plan) -> str:
    """Return haproxy.cfg.  A server has one `source`, so each LIP is a server line of its own."""
    parts = [_DEFAULTS]
    for port in tcp_ports():
        parts += [f"listen tcp-{port}", f"  bind {plan.bracketed(plan.vip)}:{port}", "  balance roundrobin"]
        parts += [
            f"  server lip{number} {plan.bracketed(plan.server)}:{port} source {plan.bracketed(lip)}"
            for number, lip in enumerate(plan.lips)
        ]
    return "\n".join(parts) + "\n"
