# SPDX-License-Identifier: Apache-2.0
"""Services and requests for tests of schedulers and persistence, without packets."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import ip_address

from fullnat.core.addr import TCP, Endpoint, IPAddress
from fullnat.core.sched import BUILTIN, Request
from fullnat.core.service import Persistence, RealServer, VirtualService
from fullnat.core.timeouts import PROFILES, SECOND

VIP = Endpoint(ip_address("203.0.113.10"), 80)
VIP6 = Endpoint(ip_address("2001:db8::10"), 80)


def make_servers(
    weights: Iterable[int], make: Callable[..., RealServer] = RealServer, skip: int = 0
) -> list[RealServer]:
    """Return servers 198.18.0.1:80, 198.18.0.2:80, ... of these weights."""
    first = ip_address("198.18.0.1") + skip
    return [make(Endpoint(first + index, 80), weight) for index, weight in enumerate(weights)]


def make_service(
    scheduler: str,
    weights: Iterable[int | RealServer],
    *,
    flags: Iterable[str] = (),
    seed: int = 1,
    listen: Endpoint = VIP,
    persistence: Persistence | None = None,
) -> VirtualService:
    """Return a service of this built-in scheduler; *weights* may hold servers as well."""
    servers: list[RealServer] = []
    for item in weights:
        servers += [item] if isinstance(item, RealServer) else make_servers([item], skip=len(servers))
    return VirtualService(
        "test",
        TCP,
        listen,
        BUILTIN[scheduler](seed=seed, flags=frozenset(flags)),
        PROFILES["lvs"],
        servers,
        persistence,
    )


def make_request(client: int | str = 1, port: int = 4000, virtual: Endpoint = VIP, now: int = 0) -> Request:
    """Return a request of the *client*-th of 198.19.0.0/16, or of an address."""
    return Request(Endpoint(client_address(client), port), virtual, TCP, b"", now)


def client_address(client: int | str) -> IPAddress:
    """Return the *client*-th address of 198.19.0.0/16, or the address written."""
    return ip_address("198.19.0.0") + client if isinstance(client, int) else ip_address(client)


def pick(service: VirtualService, request: Request | None = None) -> int | None:
    """Return the position of the server picked for *request*."""
    server = service.scheduler.schedule(request or make_request())
    return None if server is None else server.position


def letters(service: VirtualService, count: int) -> str:
    """Return *count* picks as a word, A for the first server and - for none."""
    picks = (pick(service) for _ in range(count))
    return "".join("-" if position is None else "ABCDEFGHIJ"[position] for position in picks)


def seconds(number: float) -> int:
    """Return nanoseconds."""
    return int(number * SECOND)
