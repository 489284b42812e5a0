# SPDX-License-Identifier: Apache-2.0
"""A whole instance without a host: what the control socket, ipvsadm and the metrics are about."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import uvloop
from aiohttp import ClientSession, UnixConnector

from fullnat.control.access import Access, Peer, Role
from fullnat.control.api.server import LIMITS, ControlSocket
from fullnat.control.build import build_served, plan_host
from fullnat.control.config import Config, load_config
from fullnat.control.events import EventLog
from fullnat.control.farewells import Farewells
from fullnat.control.instance import Instance
from fullnat.control.leave import Leave
from fullnat.control.reload import Reloader
from fullnat.control.roster import Roster
from fullnat.control.served import Served
from fullnat.control.watch import Watch
from fullnat.core.addr import PortRange, parse_endpoint
from fullnat.core.service import RealServer
from fullnat.datapath.kernel import KernelDatapath
from fullnat.host.plan import HostPlan
from fullnat.web.connections import Limits
from tests.feeds import Feed, make_feed
from tests.vectors.case import V4

_T = TypeVar("_T")

ONE, TWO, SPARE, SORRY = "198.19.0.11:8080", "198.19.0.12:8080", "198.19.0.13:8080", "198.19.0.99:80"
CONFIG = f"""
version = 1
[snat]
addresses = ["198.19.0.1"]
[[service]]
name = "web"
listen = "tcp://203.0.113.10:80"
scheduler = "rr"
sorry = "{SORRY}"
  [[service.server]]
  address = "{ONE}"
  weight = 3
  [[service.server]]
  address = "{TWO}"
  [[service.backup]]
  name = "site-b"
    [[service.backup.server]]
    address = "{SPARE}"
"""


class Run:
    """An instance whose clock and packets are the test's, with what became of it."""

    def __init__(self, folder: Path, text: str = CONFIG, engine: str = "kernel") -> None:
        """*engine* is `kernel`, which has no packets, or one that tests.feeds has."""
        self.now = 0  # nanoseconds
        self.folder = folder
        self.file = folder / "lb.toml"
        config = self.write(text)
        self.lines: list[str] = []
        self.stopped: list[Leave] = []
        self.events = EventLog(lambda: 1_795_200_000.0, self.lines.append)
        self.roster = Roster(build_served(config, 1), self.events, lambda: None, self._on_admin)
        self.roster.prepare()
        services = [served.virtual for served in self.roster.services if served.is_engines]
        self.feed: Feed | None = (
            None if engine == "kernel" else make_feed(engine, V4, *services, ports=PortRange(5000, 5000))
        )
        self.engine = self.feed.engine if self.feed else KernelDatapath(services)
        self.watch = Watch(self.roster, config.snat.addresses, lambda: self.now, 1)
        farewells = Farewells(self.engine, lambda packet: None)
        self.roster.attach(self.engine, farewells, 0)
        reloader = Reloader(config, self.roster, self.watch, self._plan, self._go_over, lambda: self.now, 1)
        self.instance = Instance(
            self.engine,
            self.roster,
            self.watch,
            self.events,
            reloader,
            farewells,
            clock=lambda: self.now,
            wall_clock=lambda: 1_795_200_100.0,
            read_config=self._read,
            about=self._about,
            stop=self.stopped.append,
        )

    def write(self, text: str) -> Config:
        """Make *text* the file, and return what it says."""
        self.file.write_text(text)
        return load_config(self.file)

    def send(self, packet: bytes) -> bytes | None:
        """Give the engine a packet."""
        assert self.feed
        self.feed.now = self.now
        return self.feed.send(packet)

    def served(self, name: str = "web") -> Served:
        """Return a service."""
        found = self.roster.find(name)
        assert found
        return found

    def server(self, address: str, name: str = "web") -> RealServer:
        """Return a server of a service."""
        found = self.served(name).find(parse_endpoint(address))
        assert found
        return found

    def _on_admin(self, served: Served, server: RealServer) -> None:
        self.watch.look(served, server)

    def _plan(self, config: Config) -> HostPlan:
        return plan_host(config, PortRange(1024, 2047), "python", None, self.roster.kernel_servers)

    async def _go_over(self, plan: HostPlan) -> None:
        """There is no host."""

    async def _read(self) -> Config:
        return load_config(self.file)

    def _about(self) -> dict[str, Any]:
        return {
            "version": "0.1.0",
            "instance": "main",
            "pid": 812,
            "engine": self.engine.name,
            "why": "a test",
            "queue": 1080,
            "workers": 1,
            "uptime": 12.5,
            "started": 1_795_200_000.0,
            "config": str(self.file),
            "by_ipvs": [],
            "local_addresses": ["198.19.0.1"],
            "local_ports": "1024-2047",
            "fallback": "none",
        }


class As(Access):
    """Has everybody be one who has this role."""

    def __init__(self, role: Role) -> None:
        super().__init__()
        object.__setattr__(self, "_role", role)

    __slots__ = ("_role",)
    _role: Role

    def role_of(self, peer: Peer) -> Role:
        return self._role


class Answer(NamedTuple):
    """What came back; *body* is JSON, or text where it is none."""

    status: int
    body: Any


class Client:
    """Asks a control socket."""

    def __init__(self, path: Path, session: ClientSession) -> None:
        self.path = path
        self.session = session

    async def get(self, path: str) -> Answer:
        """Read *path*."""
        return await self.request("GET", path)

    async def post(self, path: str, body: Any = None) -> Answer:
        """Change something; bytes are sent as they are."""
        if isinstance(body, bytes):
            return await self.request("POST", path, data=body)
        return await self.request("POST", path, json=body)

    async def request(self, method: str, path: str, **options: Any) -> Answer:
        """Send any request."""
        async with self.session.request(method, f"http://fullnat{path}", **options) as answer:
            is_json = answer.content_type == "application/json"
            return Answer(answer.status, await answer.json() if is_json else await answer.text())


def talk(
    run: Run,
    conversation: Callable[[Client], Awaitable[_T]],
    access: Access | None = None,
    limits: Limits = LIMITS,
) -> _T:
    """Return what *conversation* with the control socket of *run* comes to."""

    async def main() -> _T:
        path = run.folder / "main.sock"
        socket = ControlSocket(path, run.instance, access or Access(), limits)
        await socket.start()
        try:
            async with ClientSession(connector=UnixConnector(str(path))) as session:
                return await conversation(Client(path, session))
        finally:
            run.events.close()
            await run.watch.close()
            await run.instance.farewells.close()
            await socket.stop()

    return uvloop.run(main())
