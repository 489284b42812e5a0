# SPDX-License-Identifier: Apache-2.0
"""HTTP through the director: nginx that only says `return 200`, wrk with 64 connections.

With `Connection: close` each request is a connection of its own (connections/s), without it the 64
stay open (requests/s).

nginx, wrk and a peer's program run where the scheduler puts them, and the kernel's work is done
where it falls: the director takes time from both ends, which is how its cost shows.  rps_cpus would
make every packet wake another core and the closed loop measure that (plain forwarding: about half
the requests/s).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bench.errors import BenchError
from bench.figures.cell import Cell
from bench.gate import check_stream
from bench.host import CpuTimes
from bench.ns import Lab
from bench.plan import ANY_CPU, HTTP_PORT
from bench.waiting import wait_until

CONNECTIONS = 64
PAGE = "ok\n"
READY_SECONDS = 5.0

NGINX = """
daemon off;
master_process off;
pid nginx.pid;
error_log stderr;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  server {{
    listen {address}:{port} backlog=4096;
    location / {{ return 200 "{page}"; }}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Wrk:
    """What wrk reports."""

    requests_per_second: float
    errors: int


def measure_connections(cell: Cell) -> dict[str, float]:
    """A new connection for each request."""
    return _measure(cell, "cps", ["-H", "Connection: close"])


def measure_keepalive(cell: Cell) -> dict[str, float]:
    """Requests on open connections."""
    return _measure(cell, "keepalive", [])


def _measure(cell: Cell, metric: str, extra: Sequence[str]) -> dict[str, float]:
    cell.peer.start()
    check_stream(cell.lab, cell.peer, HTTP_PORT)
    start_nginx(cell.lab)
    url = cell.lab.plan.url(cell.peer.target)
    if not _wrk(cell.lab, url, cell.effort.tcp_warmup_seconds, extra).requests_per_second:
        raise BenchError(f"gate: {cell.peer.name}, HTTP: not one answer came back")
    times = CpuTimes.now()
    said = _wrk(cell.lab, url, cell.effort.tcp_seconds, extra)
    cell.lab.check()
    cell.add_row(
        metric,
        "run",
        seconds=cell.effort.tcp_seconds,
        value=said.requests_per_second,
        errors=said.errors,
        steal=CpuTimes.now().steal_since(times),
    )
    return {metric: said.requests_per_second}


def start_nginx(lab: Lab) -> None:
    """Return when nginx on the server listens."""
    address = lab.plan.bracketed(lab.plan.server)
    path = lab.directory / "nginx.conf"
    path.write_text(NGINX.format(address=address, port=HTTP_PORT, page=PAGE), encoding="utf-8")
    lab.spawn(lab.server, ["nginx", "-p", str(lab.directory), "-e", "stderr", "-c", str(path)], cpus=ANY_CPU)
    wait_until(lambda: _listens(lab, HTTP_PORT), READY_SECONDS, "nginx to listen")


def _listens(lab: Lab, port: int) -> bool:
    return bool(lab.server.run(["ss", "-Hltn", f"sport = :{port}"]).strip())


def _wrk(lab: Lab, url: str, seconds: int, extra: Sequence[str]) -> Wrk:
    argv = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", *extra, url]
    return parse_wrk(lab.client.run(argv, cpus=ANY_CPU, timeout=seconds + 30))


def parse_wrk(text: str) -> Wrk:
    """Read wrk's report; refused, broken or late connections and answers other than 2xx are errors."""
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    if not rate:
        raise BenchError("wrk reported no rate")
    errors = 0
    if sockets := re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text):
        errors += sum(int(count) for count in sockets.groups())
    if answers := re.search(r"Non-2xx or 3xx responses: (\d+)", text):
        errors += int(answers[1])
    return Wrk(float(rate[1]), errors)
