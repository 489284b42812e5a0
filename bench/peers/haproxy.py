# SPDX-License-Identifier: Apache-2.0
"""HAProxy in tcp mode: what most people put where a full NAT could stand.  Two sockets a connection.

It carries no UDP: the datagram figures have no value for it.
"""

from __future__ import annotations

from typing import ClassVar

from bench.peers.base import SERVICES, Peer
from bench.plan import Plan
from bench.waiting import wait_until

READY_SECONDS = 5.0

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


class Haproxy(Peer):
    """One thread on the director's core; connections to the server leave from the LIPs in turn."""

    name: ClassVar[str] = "haproxy"
    title: ClassVar[str] = "HAProxy, tcp mode, one thread"
    baseline: ClassVar[bool] = True
    protocols: ClassVar[frozenset[str]] = frozenset({"tcp"})
    tools: ClassVar[dict[str, str]] = {"haproxy": "haproxy"}

    def start(self) -> None:
        """Return when every service is listened for.  A proxy needs the VIP on an interface."""
        plan = self.lab.plan
        self.lab.director.ip(f"addr add {plan.vip}/{32 if plan.family == 4 else 128} dev lo")
        path = self.lab.directory / "haproxy.cfg"
        path.write_text(configuration(plan), encoding="utf-8")
        self.lab.spawn_peer(["haproxy", "-db", "-f", str(path)])
        wait_until(self._listens, READY_SECONDS, "haproxy to listen")

    def _listens(self) -> bool:
        self.lab.check()
        return len(self.lab.director.run(["ss", "-Hltn"]).splitlines()) == len(tcp_ports())


def tcp_ports() -> list[int]:
    """Return the ports HAProxy serves."""
    return [port for protocol, port in SERVICES if protocol == "tcp"]


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
