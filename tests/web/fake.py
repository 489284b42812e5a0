# SPDX-License-Identifier: Apache-2.0
"""A stand-in for an instance: what docs/api.md describes, with numbers that move as they would.

    python -m tests.web.fake [--port 8404] [--services 200 --servers 20] [--restless]

With --restless servers fall and come back by themselves, to look at.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import time
from typing import Any

from aiohttp import web

from fullnat.web.server import PageServer, make_pages

Row = dict[str, Any]

_PACKET_IN, _PACKET_OUT = 148, 1074  # bytes, on average
_NAMES = "web api mail login static search orders media"
_REASONS = {
    "flow_inbound": ("forward", "client to server, in a known flow"),
    "flow_opened": ("forward", "first packet of a new flow"),
    "not_service": ("pass", "no service at this address and port"),
    "no_flow": ("reply", "TCP to a service, not a SYN and in no known flow"),
    "no_server": ("reply", "no real server may take the flow"),
    "no_local_port": ("reply", "every local port towards the chosen server is taken or resting"),
    "truncated": ("drop", "shorter than its headers say"),
    "bad_transport": ("drop", "TCP, UDP or ICMP header with impossible fields"),
    "martian_source": ("drop", "from an address nobody can be answered at"),
    "stray_reset": ("drop", "RST to a service, in no known flow"),
}
_LOST = {"no_flow": 3.0, "stray_reset": 1.2, "martian_source": 0.2, "bad_transport": 0.05}  # a second
_TRAFFIC = ("connections", "packets_in", "packets_out", "bytes_in", "bytes_out")


class FakeInstance:
    """Its state is in plain rows, for a test to change; time makes the counters grow."""

    def __init__(self, services: int = 4, servers: int = 3, seed: int = 1) -> None:
        """Make so many services with so many servers each."""
        self._random = random.Random(seed)
        self._loads: dict[int, float] = {}  # connections a second, by id of the server's row
        self._moved = 0.0
        self._listeners: set[asyncio.Queue[Row | None]] = set()
        self.begun = time.time() - 86400
        self.services = [self._service(index, servers) for index in range(services)]
        self.servers = [self._server(row, index) for row in self.services for index in range(row["servers"])]
        self._members = [
            [row for row in self.servers if row["service"] == service["name"]] for service in self.services
        ]
        self.events: list[Row] = []
        self.reload: Row = {"successes": 3, "failures": 0, "last": self.begun + 80000, "error": ""}
        self.reasons = {
            name: {"count": 0, "verdict": verdict, "meaning": meaning}
            for name, (verdict, meaning) in _REASONS.items()
        }
        self._look()

    # What a test does to it.

    def find(self, service: str, address: str) -> Row:
        """Return the row of a server."""
        return next(row for row in self.servers if (row["service"], row["address"]) == (service, address))

    def set_health(self, service: str, address: str, health: str, code: str, detail: str) -> None:
        """Have a check find a server up or down."""
        row = self.find(service, address)
        row["health"] = health
        row["check"] |= {"code": code, "detail": detail, "since": 0.0}
        row["check"]["transitions"] += 1
        self._look()
        number = {"up": "FN2001", "down": "FN2002"}[health]
        self.tell(number, f"server-{health}", service=service, server=address, code=code, detail=detail)

    def rename(self, index: int, name: str) -> None:
        """Give a service another name."""
        self.services[index]["name"] = name
        for row in self._members[index]:
            row["service"] = name

    def drain(self, service: str, address: str, deadline: float) -> None:
        """Drain a server by command."""
        row = self.find(service, address)
        row["admin"] = "drain"
        row["drain"] = {"by": "command", "since": 0.0, "deadline": deadline, "left": row["active"]}
        self._look()
        self.tell("FN2003", "server-state", service=service, server=address, admin="drain")

    def tell(self, number: str, kind: str, **fields: Any) -> None:
        """Add an event."""
        row = {"sequence": len(self.events) + 1, "time": round(time.time(), 3)}
        self.events.append(row | {"event": number, "kind": kind} | fields)
        for queue in self._listeners:
            queue.put_nowait(self.events[-1])

    @property
    def listeners(self) -> int:
        """How many follow the events."""
        return len(self._listeners)

    def close(self) -> None:
        """End the streams."""
        for queue in self._listeners:
            queue.put_nowait(None)

    # What it answers.

    def application(self) -> web.Application:
        """Return the status page of it."""
        views = {
            "status": self._status,
            "services": lambda: self.services,
            "servers": lambda: self.servers,
            "ports": self._ports,
            "stats": self._stats,
        }
        answers = {name: self._answer(view) for name, view in views.items()}
        return make_pages({**answers, "events": self._follow, "metrics": self._metrics})

    def _answer(self, view: Any) -> Any:
        async def handler(request: web.Request) -> web.Response:
            self._move(asyncio.get_running_loop().time())
            return web.json_response(view())

        return handler

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(text='fullnat_build_info{version="0.1.0"} 1\n')

    async def _follow(self, request: web.Request) -> web.StreamResponse:
        since = int(request.query.get("since", "0"))
        old = [event for event in self.events if event["sequence"] > since]
        if "follow" not in request.query:
            return web.json_response(old)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        queue: asyncio.Queue[Row | None] = asyncio.Queue()
        for event in old:
            queue.put_nowait(event)
        self._listeners.add(queue)
        try:
            while (event := await queue.get()) is not None:
                await response.write(f"id: {event['sequence']}\ndata: {json.dumps(event)}\n\n".encode())
        finally:
            self._listeners.discard(queue)
        return response

    def _status(self) -> Row:
        return {
            "version": "0.1.0",
            "instance": "main",
            "pid": 812,
            "engine": "ebpf",
            "why": "auto: the fastest that runs here; 1 worker",
            "queue": 1080,
            "workers": 1,
            "uptime": time.time() - self.begun,
            "started": self.begun,
            "config": "/etc/fullnat/fullnat.toml",
            "services": [row["address"] for row in self.services],
            "local_addresses": ["198.19.0.1", "198.19.0.2"],
            "local_ports": "1024-32767",
            "flows": sum(row["active"] + row["inactive"] for row in self.servers),
            "fallback": "iptables, ports 32768-65535",
            "reload": self.reload,
        }

    def _ports(self) -> list[Row]:
        return [
            {
                "protocol": "tcp",
                "local": local,
                "server": row["address"],
                "in_use": row["active"] * (18 - 9 * index),
                "resting": row["inactive"] * 9,
                "capacity": 31744,
            }
            for row in self.servers
            for index, local in enumerate(("198.19.0.1", "198.19.0.2"))
        ]

    def _stats(self) -> Row:
        return {
            "reasons": self.reasons,
            "packets_received": sum(row["packets_in"] + row["packets_out"] for row in self.servers),
            "queue_dropped": 0,
            "flows": self._status()["flows"],
            "flows_limit": 1_000_000,
        }

    # How it lives.

    def _service(self, index: int, servers: int) -> Row:
        names = _NAMES.split()
        name = names[index] if index < len(names) else f"service-{index:03}"
        protocol = "udp" if index % 9 == 5 else "tcp"
        listen = f"203.0.113.{10 + index % 200}:{(80, 443, 25, 993, 8080)[index % 5]}"
        backed_up = index == 1
        return {
            "name": name,
            "protocol": protocol,
            "listen": listen,
            "address": f"{protocol}://{listen}",
            "scheduler": ("wlc", "rr", "sh", "wrr")[index % 4],
            "scheduler_flags": [],
            "persistence": {"timeout": 300.0, "mask": 32} if index % 4 == 2 else None,
            "one_packet": False,
            "forward": "fullnat",
            "serving": "main",
            "pools": [
                {"name": name, "servers": servers, "usable_weight": servers, "quorum": 1, "has_quorum": True}
                for name in (["main", "backup"] if backed_up else ["main"])
            ],
            "servers": servers * 2 if backed_up else servers,
            "available": servers,
            "active": 0,
            "inactive": 0,
            **dict.fromkeys(_TRAFFIC, 0),
        }

    def _server(self, service: Row, index: int) -> Row:
        half = service["servers"] // len(service["pools"])
        number = self.services.index(service)
        row: Row = {
            "service": service["name"],
            "pool": service["pools"][index // half]["name"],
            "address": f"198.19.{number}.{11 + index}:8080",
            "weight": 1 + index % 3,
            "effective_weight": 1 + index % 3,
            "upper": 0,
            "lower": 0,
            "overloaded": False,
            "admin": "enabled",
            "health": "up",
            "in_rotation": True,
            "check": {
                "type": "http",
                "code": "L7OK",
                "detail": "200",
                "duration": 0.0021,
                "since": 3600.0 * (1 + index),
                "checks": 1800,
                "failures": 2,
                "transitions": 1,
                "checking": False,
            },
            "drain": None,
            "active": 0,
            "inactive": 0,
            **dict.fromkeys(_TRAFFIC, 0),
        }
        self._loads[id(row)] = self._random.uniform(8, 60) / (1 + number % 5)
        return row

    def _look(self) -> None:
        """Say who is in rotation, as pools and quorum have it."""
        for service, mine in zip(self.services, self._members, strict=True):
            usable = [row for row in mine if row["health"] != "down" and row["admin"] == "enabled"]
            staffed = {row["pool"] for row in usable}
            serving = (pool["name"] for pool in service["pools"] if pool["name"] in staffed)
            service["serving"] = next(serving, "")
            for row in mine:
                row["in_rotation"] = row in usable and row["pool"] == service["serving"]
                row["effective_weight"] = row["weight"] if row["in_rotation"] else 0
            for pool in service["pools"]:
                members = [row for row in usable if row["pool"] == pool["name"]]
                pool["usable_weight"] = sum(row["weight"] for row in members)
                pool["has_quorum"] = pool["usable_weight"] >= pool["quorum"]
            service["available"] = sum(row["in_rotation"] for row in mine)

    def _move(self, now: float) -> None:
        """Let the time pass until *now*."""
        passed = now - self._moved if self._moved else 0.0
        if self._moved and passed <= 0:
            return
        self._moved = now
        for row in self.servers:
            self._carry(row, now, passed)
        for service, mine in zip(self.services, self._members, strict=True):
            for name in (*_TRAFFIC, "active", "inactive"):
                service[name] = sum(row[name] for row in mine)
        for name, each in _LOST.items():
            self.reasons[name]["count"] += self._some(each * passed)

    def _carry(self, row: Row, now: float, passed: float) -> None:
        wave = 1 + 0.45 * math.sin(now / 37 + id(row) % 7) + 0.2 * math.sin(now / 11)
        load = self._loads[id(row)] * wave * self._random.uniform(0.8, 1.2) if row["in_rotation"] else 0.0
        opened = self._some(load * passed)
        packets_in, packets_out = opened * 14, opened * 19
        for name, more in zip(
            _TRAFFIC,
            (opened, packets_in, packets_out, packets_in * _PACKET_IN, packets_out * _PACKET_OUT),
            strict=True,
        ):
            row[name] += more
        row["active"] = int(load * 4) if load else int(row["active"] * math.exp(-passed / 20))
        row["inactive"] = int(load * 9) if load else int(row["inactive"] * math.exp(-passed / 30))
        row["check"]["since"] += passed
        row["check"]["checks"] += 1
        if row["drain"] is not None:
            row["drain"]["since"] += passed
            row["drain"]["left"] = row["active"]
            if row["drain"]["deadline"] is not None:
                row["drain"]["deadline"] = max(0.0, row["drain"]["deadline"] - passed)

    def _some(self, expected: float) -> int:
        return int(expected) + (self._random.random() < expected % 1)


async def _live(fake: FakeInstance, chance: random.Random) -> None:
    """Have a server fall or come back every few seconds."""
    while True:
        await asyncio.sleep(chance.uniform(3, 9))
        row = chance.choice(fake.servers)
        found = ("up", "L7OK", "200") if row["health"] == "down" else ("down", "L4CON", "connection refused")
        fake.set_health(row["service"], row["address"], *found)


async def _main() -> None:
    parser = argparse.ArgumentParser(description="A stand-in for an instance, to work on the status page.")
    parser.add_argument("--port", type=int, default=8404)
    parser.add_argument("--services", type=int, default=4)
    parser.add_argument("--servers", type=int, default=3)
    parser.add_argument("--restless", action="store_true")
    options = parser.parse_args()
    fake = FakeInstance(options.services, options.servers)
    fake.tell("FN1001", "ready", services=options.services)
    server = PageServer(fake.application(), "127.0.0.1", options.port)
    await server.start()
    print(f"http://127.0.0.1:{server.port}/")
    await (_live(fake, random.Random(2)) if options.restless else asyncio.Event().wait())


if __name__ == "__main__":
    asyncio.run(_main())
