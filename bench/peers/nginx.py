# SPDX-License-Identifier: Apache-2.0
"""nginx as a TCP proxy: its stream module."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from bench.peers.proxy import Proxy, tcp_ports
from bench.plan import Plan

_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")


class Nginx(Proxy):
    """One worker on the director's core; connections to the server leave from the LIPs."""

    name: ClassVar[str] = "nginx"
    title: ClassVar[str] = "nginx, stream, one worker"
    tools: ClassVar[dict[str, str]] = {"nginx": "nginx"}

    @classmethod
    def missing(cls) -> str | None:
        """Say that the module is not there."""
        return None if _MODULE.exists() else f"no {_MODULE}: apt-get install libnginx-mod-stream"

    def configuration(self) -> str:
        """Return nginx.conf."""
        return configuration(self.lab.plan, self.lab.directory)

    def command(self, path: Path) -> list[str]:
        """Return the command line."""
        return ["nginx", "-e", "stderr", "-c", str(path)]


def configuration(plan: Plan, directory: Path) -> str:
    """Return nginx.conf.  The source is drawn by the client's address and port."""
    share = 100 / len(plan.lips)
    sources = [f"    {share:.2f}% {lip};" for lip in plan.lips[:-1]] + [f"    * {plan.lips[-1]};"]
    servers = [
        f"  server {{ listen {plan.bracketed(plan.vip)}:{port}; proxy_bind $source;"
        f" proxy_pass {plan.bracketed(plan.server)}:{port}; }}"
        for port in tcp_ports()
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
