# SPDX-License-Identifier: Apache-2.0
"""Open and close flows in the C director: `python -m tests.churn COUNT`, to look for what is left.

Under AddressSanitizer it ends with a search for leaks, reported on standard error.  LeakSanitizer does
not look where the interpreter keeps its frames, so what only a frame holds is reported too; what leaks
here has our sources in its stack.
"""

from __future__ import annotations

import ctypes
import gc
import struct
import sys
from contextlib import suppress

import tests.sanitized  # noqa: F401  # first: it says which build of the extension is meant
from fullnat import _native
from fullnat.core.addr import UDP
from fullnat.core.timeouts import SECOND

LIP, VIP, SERVER = bytes((198, 19, 0, 1)), bytes((203, 0, 113, 10)), bytes((198, 19, 0, 11))
SERVICE = 1
ROUND = 1000  # flows open at once
FOREVER = 1 << 62


def make_director(**changes: object) -> _native.Director:
    """Return a director without services."""
    options: dict[str, object] = {
        "flow_limit": 1 << 16,
        "persistence_limit": 1000,
        "fragment_limit": 100,
        "addresses": [LIP],
        "ports": (1024, 32767),
        "rest": 0,
        "has_fallback": False,
        "seed": 1,
        "hash_key": bytes(range(16)),
        "now": 0,
        "fastpath": None,
    }
    return _native.Director(**options | changes)  # type: ignore[arg-type]


def add_service(director: _native.Director, service: int = SERVICE, **changes: object) -> None:
    """Have *director* serve UDP at VIP:80, for now without servers."""
    options: dict[str, object] = {
        "protocol": UDP,
        "address": VIP,
        "port": 80,
        "scheduler": "rr",
        "seed": 1,
        "flags": 0,
        "timeouts": [60 * SECOND] * 7,
        "persistence": None,
        "one_packet": False,
    }
    director.add_service(service, **options | changes)  # type: ignore[arg-type]


def server(
    number: int, address: bytes = SERVER, port: int = 8080, weight: int = 1
) -> tuple[int, bytes, int, int, int, int, int, bool]:
    """Return a row for set_servers()."""
    return number, address, port, weight, weight, 0, 0, True


def datagram(
    client: int, saddr: bytes = b"", daddr: bytes = VIP, sport: int = 4000, dport: int = 80
) -> bytes:
    """Return a datagram of the *client*-th of 203.0.113.0/24, and of its next port for each turn of those."""
    saddr = saddr or bytes((203, 0, 113, client % 256))
    header = struct.pack("!BBHHHBBH", 0x45, 0, 30, 0, 0x4000, 64, UDP, 0)
    return header + saddr + daddr + struct.pack("!HHHH", sport + client // 256, dport, 10, 0) + b"hi"


def churn(director: _native.Director, count: int, now: int = 0) -> int:
    """Open and close *count* flows; return the time it is then."""
    for start in range(0, count, ROUND):
        for client in range(start, start + ROUND):
            director.decide(datagram(client % 60_000), now)
        director.flows(0, ROUND)
        director.servers()
        now += 61 * SECOND
        director.expire(now, FOREVER)
    return now


def find_leaks() -> None:
    """Have LeakSanitizer report what it finds."""
    gc.collect()
    ctypes.CDLL(None).__lsan_do_recoverable_leak_check()


def main(count: int) -> None:
    """Churn, throw everything away, and look for leaks."""
    director = make_director()
    for service, address in ((SERVICE, VIP), (2, SERVER)):
        add_service(director, service, address=address, persistence=(SECOND, 24))
        for numbers in (range(3), range(2, 6)):
            director.set_servers(service, [server(10 * service + number) for number in numbers])
        with suppress(TypeError):
            director.set_servers(service, [server(1), 2])  # type: ignore[list-item]
        with suppress(ValueError):
            director.set_servers(service, [server(1), server(1)])
    churn(director, count)
    for scheduler in (("wlc", 0, 0), (None, 0, 0), ("mh", 1, 0), None):
        director.change_service(
            SERVICE, scheduler=scheduler, timeouts=[SECOND] * 7, persistence=None, one_packet=False
        )
    for client in range(1000):
        director.decide(datagram(client), 1 << 49)
    for number in range(10, 16):
        director.end_flows(number, 0, 100, 1 << 49)
    director.set_servers(SERVICE, [])
    director.forget_servers()
    director.remove_service(2)
    director.decide(datagram(1), 1 << 50)
    del director
    find_leaks()


if __name__ == "__main__":
    main(int(sys.argv[1]))
