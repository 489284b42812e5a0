# SPDX-License-Identifier: Apache-2.0
"""nginx as a TCP and UDP proxy (its stream module): two sockets a connection, or a client's datagrams."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from bench.peers.base import SERVICES, Peer
from bench.plan import Plan
from bench.waiting import wait_until

READY_SECONDS = 5.0
_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")


class Nginx(Peer):
    """One worker on the director's core; connections to the server leave from the LIPs."""

    name: ClassVar[str] = "nginx"
    title: ClassVar[str] = "nginx, stream, one worker"
    protocols: ClassVar[frozenset[str]] = frozenset({"tcp"})  # of datagrams it makes a socket a client
    tools: ClassVar[dict[str, str]] = {"nginx": "nginx"}

    @classmethod
    def missing(cls) -> str | None:
        """Say that the module is not there."""
        return None if _MODULE.exists() else f"no {_MODULE}: apt-get install libnginx-mod-stream"

    def start(self) -> None:
        """Return when every service is listened for.  A proxy needs the VIP on an interface."""
        plan = self.lab.plan
        self.lab.director.ip(f"addr add {plan.vip}/{32 if plan.family == 4 else 128} dev lo")
        path = self.lab.directory / "nginx.conf"
        path.write_text(configuration(plan, self.lab.directory), encoding="utf-8")
        self.lab.spawn_peer(["nginx", "-e", "stderr", "-c", str(path)])
        wait_until(self._listens, READY_SECONDS, "nginx to listen")

    def _listens(self) -> bool:
        self.lab.check()
        return len(self.lab.director.run(["ss", "-Hltn"]).splitlines()) == len(_tcp_ports())


def _tcp_ports() -> list[int]:
    return [port for protocol, port in SERVICES if protocol == "tcp"]


def configuration(plan: Plan, directory: Path) -> str:
    """Return nginx.conf.  The source is drawn by the client's address and port."""
    share = 100 / len(plan.lips)
    sources = [f"    {share:.2f}% {lip};" for lip in plan.lips[:-1]] + [f"    * {plan.lips[-1]};"]
    servers = [
        f"  server {{ listen {plan.bracketed(plan.vip)}:{port}; proxy_bind $source;"
        f" proxy_pass {plan.bracketed(plan.server)}:{port}; }}"
        for port in _tcp_ports()
    ]
    return "\n".join(
        [
            f"load_module {_MODULE};",
            "daemon off;",
            "worker_processes 1;",
            f"pid {directory}/nginx.pid;",
            "error_log stderr crit;",
            "events { worker_connections 8192; }",
            "stream {",
            '  split_clients "$remote_addr$remote_port" $source {',
            *sources,
            "  }",
            *servers,
            "}",
            "",
        ]
    )
