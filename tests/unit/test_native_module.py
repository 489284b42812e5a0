# SPDX-License-Identifier: Apache-2.0
"""The C extension as Python sees it: what it refuses and how, what it returns, and what it leaves behind.

What it decides is compared with the Python director in tests/twins/ and tests/unit/test_vectors.py.
"""

from __future__ import annotations

import ctypes
import gc
import os
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from fullnat.core.addr import TCP, UDP
from fullnat.core.reason import Reason
from fullnat.core.timeouts import SECOND
from tests import features, sanitized

if (reason := features.missing("native")) and "native" not in features.required():
    pytest.skip(f"needs native: {reason}", allow_module_level=True)

from fullnat import _native
from fullnat.datapath import ebpf, native
from tests.churn import (
    FOREVER,
    LIP,
    SERVER,
    SERVICE,
    VIP,
    add_service,
    churn,
    datagram,
    make_director,
    server,
)

MORE_THAN_A_STRETCH = 600  # rows are copied 256 at a time
NO_MAPS = [1 << 30] * 7  # descriptors that nobody has

Director = _native.Director
Change = dict[str, Any]


@pytest.fixture
def director() -> Director:
    """One service, one server, number 7."""
    director = make_director()
    add_service(director)
    director.set_servers(SERVICE, [server(7)])
    return director


def change_service(director: Director, service: int = SERVICE, **changes: object) -> None:
    options: dict[str, object] = {
        "scheduler": None,
        "timeouts": [60 * SECOND] * 7,
        "persistence": None,
        "one_packet": False,
    }
    director.change_service(service, **options | changes)  # type: ignore[arg-type]


def open_flows(director: Director, count: int, now: int = 0) -> None:
    for client in range(count):
        assert director.decide(datagram(client), now).reason == Reason.FLOW_OPENED


def run_python(*arguments: str, prefix: tuple[str, ...] = ()) -> str:
    """Run another Python with the build of the extension that this one has; return its standard error."""
    environment = os.environ | {"LD_PRELOAD": sanitized.PRELOADED}
    done = subprocess.run(
        [*prefix, sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


# What is refused.

BAD_DIRECTORS: list[tuple[Change, type[Exception], str]] = [
    ({"flow_limit": 0}, ValueError, "flow_limit must be 1-268435456: 0"),
    ({"flow_limit": 1 << 80}, ValueError, "flow_limit must be"),
    ({"flow_limit": "1"}, TypeError, "flow_limit must be an integer"),
    ({"persistence_limit": 0}, ValueError, "persistence_limit must be"),
    ({"fragment_limit": -1}, ValueError, "fragment_limit must be 1-268435456: -1"),
    ({"addresses": 7}, TypeError, "addresses must be a sequence"),
    ({"addresses": ["198.19.0.1"]}, TypeError, "an address must be bytes"),
    ({"addresses": [b"12345"]}, ValueError, "an address must have 4 or 16 bytes: 5"),
    ({"addresses": [LIP, LIP]}, ValueError, "addresses: one is there twice"),
    ({"ports": [1, 2]}, TypeError, r"ports must be a tuple \(low, high\)"),
    ({"ports": (1, 2, 3)}, TypeError, r"ports must be a tuple \(low, high\)"),
    ({"ports": (2000, 1000)}, ValueError, "ports: low is above high"),
    ({"ports": (0, 1000)}, ValueError, "ports, low must be 1-65535: 0"),
    ({"rest": -1}, ValueError, "rest must be"),
    ({"seed": 1 << 64}, ValueError, "seed must be"),
    ({"hash_key": bytes(15)}, ValueError, "hash_key must have 16 bytes: 15"),
    ({"hash_key": "0123456789abcdef"}, TypeError, "bytes-like"),
    ({"now": 1 << 62}, ValueError, "now must be"),
    ({"fastpath": 7}, TypeError, r"fastpath must be None or a tuple \(maps, limit, servers, cpus\)"),
    ({"fastpath": (NO_MAPS, 1, 2)}, TypeError, r"fastpath must be None or a tuple"),
    ({"fastpath": (7, 1, 2, 1)}, TypeError, "fastpath, maps must be a sequence"),
    ({"fastpath": (NO_MAPS[1:], 1, 2, 1)}, ValueError, "fastpath, maps: 7 of them"),
    ({"fastpath": ([*NO_MAPS, 0], 1, 2, 1)}, ValueError, "fastpath, maps: at most 7, not 8"),
    ({"fastpath": ([*NO_MAPS[1:], -1], 1, 2, 1)}, ValueError, "fastpath, map must be 0-2147483647: -1"),
    ({"fastpath": (NO_MAPS, 0, 2, 1)}, ValueError, "fastpath, limit must be 1-268435456: 0"),
    ({"fastpath": (NO_MAPS, 1, 1, 1)}, ValueError, "fastpath, servers must be 2-65535: 1"),
    ({"fastpath": (NO_MAPS, 1, 2, 0)}, ValueError, "fastpath, cpus must be 1-65535: 0"),
    ({"fastpath": (NO_MAPS, 1, 2, 1)}, OSError, "Bad file descriptor"),
    ({"surprise": 1}, TypeError, "keyword arguments"),
]

BAD_SERVICES: list[tuple[Change, type[Exception], str]] = [
    ({"service": 1 << 32}, ValueError, "service must be 0-4294967295"),
    ({"service": SERVICE}, ValueError, "there is a service 1 already"),
    ({"port": 80}, ValueError, "service 2: its address and port are another's"),
    ({"protocol": 1}, ValueError, "protocol must be 6 or 17: 1"),
    ({"address": "203.0.113.10"}, TypeError, "an address must be bytes"),
    ({"port": 0}, ValueError, "port must be 1-65535: 0"),
    ({"scheduler": "fifo"}, ValueError, "no built-in scheduler is named 'fifo'"),
    ({"scheduler": "x" * 1000}, ValueError, "no built-in scheduler"),
    ({"scheduler": b"rr"}, TypeError, "str or None"),
    ({"flags": 4}, ValueError, "flags must be 0-3: 4"),
    ({"timeouts": [SECOND] * 6}, ValueError, "timeouts must be 7: 6"),
    ({"timeouts": [SECOND] * 8}, ValueError, "timeouts: at most 7, not 8"),
    ({"timeouts": [0] * 7}, ValueError, "timeout must be 1-"),
    ({"timeouts": [0.5] * 7}, TypeError, "timeout must be an integer"),
    ({"persistence": SECOND}, TypeError, "persistence must be None or a tuple"),
    ({"persistence": (SECOND, 33)}, ValueError, "persistence mask must be 0-32: 33"),
    ({"protocol": TCP, "one_packet": True}, ValueError, "one_packet is for UDP"),
]

BAD_SERVERS: list[tuple[Any, type[Exception], str]] = [
    (None, TypeError, "servers must be a sequence"),
    ([8], TypeError, "a server must be a tuple"),
    ([server(8)[:-1]], TypeError, "a server must be a tuple"),
    ([server(-1)], ValueError, "server must be 0-4294967295: -1"),
    ([server(8, port=65536)], ValueError, "port must be 1-65535: 65536"),
    ([server(8, address=bytes(16))], ValueError, "server 8 has an address of the other family"),
    ([server(8, address=b"")], ValueError, "an address must have 4 or 16 bytes: 0"),
    ([server(8, weight=65536)], ValueError, "weight must be 0-65535: 65536"),
    ([server(8), server(9), server(8)], ValueError, "server 8 is listed twice"),
    ([server(8), server(7, port=81)], ValueError, "server 7 has another address or port"),
]

BAD_CALLS: list[tuple[Callable[[Director], object], type[Exception], str]] = [
    (lambda d: d.remove_service(9), ValueError, "there is no service 9"),
    (lambda d: d.set_servers(9, []), ValueError, "there is no service 9"),
    (lambda d: d.set_server(9, 1, 1, 0, 0, True), ValueError, "there is no server 9"),
    (lambda d: d.set_server(7, 1, -1, 0, 0, True), ValueError, "configured_weight must be 0-65535: -1"),
    (lambda d: change_service(d, 9), ValueError, "there is no service 9"),
    (
        lambda d: change_service(d, scheduler=("fifo", 0, 0)),
        ValueError,
        "no built-in scheduler is named 'fifo'",
    ),
    (
        lambda d: change_service(d, scheduler="rr"),
        TypeError,
        r"scheduler must be None or a tuple \(name, seed, flags\)",
    ),
    (lambda d: change_service(d, scheduler=("rr", 0, 4)), ValueError, "flags must be 0-3: 4"),
    (lambda d: change_service(d, timeouts=[SECOND] * 6), ValueError, "timeouts must be 7: 6"),
    (lambda d: change_service(d, persistence=(SECOND, 33)), ValueError, "persistence mask must be 0-32: 33"),
    (lambda d: d.end_flows(-1, 0, 1, 0), ValueError, "server must be"),
    (lambda d: d.end_flows(7, 0, 0, 0), ValueError, "limit must be 1-65536: 0"),
    (lambda d: d.set_path_mtu([(LIP, 32)]), TypeError, "a route must be a tuple"),  # type: ignore[list-item]
    (lambda d: d.set_path_mtu([(LIP, 33, 1500)]), ValueError, "prefix_length must be 0-32: 33"),
    (lambda d: d.set_path_mtu([(LIP, 24, 1500)]), ValueError, "no host bits"),
    (lambda d: d.set_path_mtu([(LIP, 32, 67)]), ValueError, "mtu must be 68-"),
    (lambda d: d.exclude([LIP]), TypeError, r"an endpoint must be a tuple \(address, port\)"),  # type: ignore[list-item]
    (lambda d: d.exclude([(LIP, 0)]), ValueError, "port must be 1-65535: 0"),
    (lambda d: d.admit(-1), ValueError, "openings must be"),
    (lambda d: d.decide("packet", 0), TypeError, "bytes-like"),  # type: ignore[arg-type]
    (lambda d: d.decide(bytes(65576), 0), ValueError, "a packet has at most 65575 bytes: 65576"),
    (lambda d: d.decide(b"", -1), ValueError, "now must be"),
    (lambda d: d.answer(b"", -1, False, 0), ValueError, "server must be"),
    (lambda d: d.expire(0, -1), ValueError, "budget must be"),
    (lambda d: d.flows(-1, 1), ValueError, "cursor must be"),
    (lambda d: d.flows(0, 0), ValueError, "limit must be"),
    (lambda d: d.ports(1.0), TypeError, "now must be an integer"),  # type: ignore[arg-type]
]


def refuses(error: type[Exception], match: str, call: Callable[[], object]) -> None:
    with pytest.raises(error, match=match) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("change", "error", "match"), BAD_DIRECTORS)
def test_a_director_is_refused(change: Change, error: type[Exception], match: str) -> None:
    refuses(error, match, lambda: make_director(**change))


@pytest.mark.parametrize(("change", "error", "match"), BAD_SERVICES)
def test_a_service_is_refused(director: Director, change: Change, error: type[Exception], match: str) -> None:
    refuses(error, match, lambda: add_service(director, **({"service": 2, "port": 81} | change)))
    add_service(director, 2, port=81)  # nothing of it was left


@pytest.mark.parametrize(("servers", "error", "match"), BAD_SERVERS)
def test_a_list_of_servers_is_refused_as_a_whole(
    director: Director, servers: Any, error: type[Exception], match: str
) -> None:
    refuses(error, match, lambda: director.set_servers(SERVICE, servers))
    assert [row.server for row in director.servers()] == [7]
    open_flows(director, 1)


@pytest.mark.parametrize(("call", "error", "match"), BAD_CALLS)
def test_a_call_is_refused(
    director: Director, call: Callable[[Director], object], error: type[Exception], match: str
) -> None:
    refuses(error, match, lambda: call(director))
    open_flows(director, 1)


def test_a_server_belongs_to_one_service(director: Director) -> None:
    add_service(director, 2, port=81)
    refuses(ValueError, "server 7 belongs to service 1", lambda: director.set_servers(2, [server(7)]))


def test_a_sequence_that_changes_while_it_is_read(director: Director) -> None:
    class Emptying:
        def __index__(self) -> int:
            rows.clear()
            return 8

    rows: list[Any] = [(Emptying(), *server(8)[1:]), server(9)]
    director.set_servers(SERVICE, rows)
    assert [row.server for row in director.forget_servers()] == [7]
    assert [row.server for row in director.servers()] == [8, 9]


def test_director_and_engine_are_final() -> None:
    for cls in (_native.Director, _native.Engine):
        with pytest.raises(TypeError):
            type("Other", (cls,), {})
        with pytest.raises(TypeError):
            cls.start = None  # type: ignore[union-attr, method-assign]


# Services and servers.


def test_a_removed_server_is_shown_until_its_last_flow_ends(director: Director) -> None:
    open_flows(director, 2)
    director.set_servers(SERVICE, [server(8)])
    assert [(row.server, row.inactive) for row in director.servers()] == [(7, 2), (8, 0)]
    assert {flow.server for flow in director.flows(0, 10)[0]} == {7}
    assert director.forget_servers() == []
    director.expire(61 * SECOND, FOREVER)
    assert [(row.server, row.inactive, row.connections) for row in director.forget_servers()] == [(7, 0, 2)]
    assert [row.server for row in director.servers()] == [8]


def test_a_server_that_comes_back_has_its_flows_and_counts(director: Director) -> None:
    open_flows(director, 2)
    director.set_servers(SERVICE, [])
    director.set_servers(SERVICE, [server(8), server(7, weight=2)])
    assert [(row.server, row.connections, row.packets_in) for row in director.servers()] == [
        (7, 2, 2),
        (8, 0, 0),
    ]
    director.set_servers(SERVICE, [])
    director.expire(61 * SECOND, FOREVER)
    assert [row.server for row in director.forget_servers()] == [7, 8]
    assert director.servers() == []


def test_a_removed_service_keeps_its_number_until_its_last_flow_ends(director: Director) -> None:
    open_flows(director, 1)
    director.remove_service(SERVICE)
    assert director.decide(datagram(0), 1).reason == Reason.FLOW_INBOUND
    assert director.decide(datagram(1), 1).reason == Reason.NOT_SERVICE
    assert [row.server for row in director.servers()] == [7]
    refuses(ValueError, "service 1 was removed and still has servers", lambda: add_service(director))
    director.expire(70 * SECOND, FOREVER)
    assert [row.packets_in for row in director.forget_servers()] == [2]
    add_service(director)


def test_settings_take_effect_without_a_new_list(director: Director) -> None:
    director.set_server(7, 0, 1, 0, 0, True)
    assert director.decide(datagram(0), 0).reason == Reason.NO_SERVER
    director.set_server(7, 1, 1, 1, 1, True)
    open_flows(director, 1)
    assert [row.overloaded for row in director.servers()] == [True]


def test_a_change_that_is_refused_changes_nothing(director: Director) -> None:
    director.set_servers(SERVICE, [server(7), server(8, port=81)])
    refuses(
        ValueError,
        "persistence mask must be",
        lambda: change_service(director, scheduler=("fo", 0, 0), persistence=(1, 99), one_packet=True),
    )
    open_flows(director, 4)
    assert [row.inactive for row in director.servers()] == [2, 2]
    change_service(director, scheduler=("fo", 0, 0), timeouts=[SECOND] * 7)
    for client in (4, 5):
        assert director.decide(datagram(client), 0).reason == Reason.FLOW_OPENED
    assert [row.inactive for row in director.servers()] == [4, 2]
    assert sum(flow.timeout == SECOND for flow in director.flows(0, 10)[0]) == 2


def test_to_a_scheduler_in_python_and_back(director: Director) -> None:
    change_service(director, scheduler=(None, 0, 0))
    asked = director.decide(datagram(0), 0)
    assert (asked.reason, asked.service) == (None, SERVICE)
    change_service(director, scheduler=("rr", 0, 0))
    assert director.answer(datagram(0), None, True, 0).reason == Reason.FLOW_OPENED  # no more Python's to say


def test_flows_are_ended_in_pieces_each_once(director: Director) -> None:
    add_service(director, 2, port=81)
    director.set_servers(2, [server(8)])
    open_flows(director, MORE_THAN_A_STRETCH)
    for client in range(10):
        assert director.decide(datagram(client, dport=81), 0).reason == Reason.FLOW_OPENED
    keys: list[bytes] = []
    cursor: int | None = 0
    while cursor is not None:
        rows, cursor = director.end_flows(7, cursor, 250, 1)
        assert len(rows) <= 250
        assert {(row.service, row.server, row.packets_in) for row in rows} <= {(SERVICE, 7, 1)}
        keys += [row.inbound_key for row in rows]
    assert len(keys) == len(set(keys)) == MORE_THAN_A_STRETCH
    assert director.end_flows(7, 0, 1, 1) == ([], None)
    assert director.end_flows(9, 0, 1, 1) == ([], None)
    assert [(row.server, row.inactive) for row in director.servers()] == [(7, 0), (8, 10)]
    assert director.totals().flows == 10


def test_excluded_ports_are_not_handed_out() -> None:
    director = make_director(ports=(5000, 5001))
    add_service(director)
    director.set_servers(SERVICE, [server(7)])
    director.exclude([(LIP, 5000)])
    open_flows(director, 1)
    assert director.flows(0, 1)[0][0].outbound_key[-2:] == (5001).to_bytes(2, "big")
    assert director.decide(datagram(1), 0).reason == Reason.NO_LOCAL_PORT
    assert [(use.lip, use.rip, use.rport, use.in_use, use.capacity) for use in director.ports(0)] == [
        (LIP, SERVER, 8080, 1, 1)
    ]


# One packet.


def test_a_scheduler_in_python_is_asked_and_answered() -> None:
    director = make_director()
    add_service(director, scheduler=None)
    director.set_servers(SERVICE, [server(7)])
    asked = director.decide(datagram(0), 0)
    assert (asked.reason, asked.service, asked.out) == (None, SERVICE, None)
    assert director.answer(datagram(0), None, True, 0).reason == Reason.SCHEDULER_FAILED
    assert director.answer(datagram(0), None, False, 0).reason == Reason.NO_SERVER
    assert director.answer(datagram(0), 8, False, 0).reason == Reason.NO_SERVER  # not in the list
    opened = director.answer(datagram(0), 7, False, 0)
    assert (opened.reason, opened.service) == (Reason.FLOW_OPENED, None)
    assert director.decide(datagram(0), 0).reason == Reason.FLOW_INBOUND


def later_fragment() -> bytes:
    whole = bytearray(datagram(0))
    whole[6:8] = (1).to_bytes(2, "big")  # at offset 8
    return bytes(whole)


def first_fragment() -> bytes:
    whole = bytearray(datagram(0))
    whole[6:8] = (1 << 13).to_bytes(2, "big")  # more fragments
    return bytes(whole)


def test_a_held_packet_is_released_with_its_bytes(director: Director) -> None:
    held = director.decide(later_fragment(), 0)
    assert (held.reason, held.out) == (Reason.FRAGMENT_HELD, None)
    assert director.totals()[:3] == (0, 1, 1)
    first = director.decide(first_fragment(), 1)
    assert first.reason == Reason.FLOW_OPENED
    (released,) = first.released
    assert (released.token, released.reason) == (held.token, Reason.FRAGMENT_FORWARDED)
    assert released.out is not None
    assert released.out[12:20] == LIP + SERVER
    assert released.out[20:] == later_fragment()[20:]


def test_a_held_packet_that_is_dropped_is_returned_by_expire(director: Director) -> None:
    held = director.decide(later_fragment(), 0)
    assert director.expire(100 * SECOND, FOREVER) == ((held.token, Reason.FRAGMENT_TIMEOUT, None),)


def test_a_director_may_go_with_packets_held_and_flows_open(director: Director) -> None:
    director.decide(later_fragment(), 0)
    director.decide(datagram(1), 0)


def test_bytes_behind_the_packet_are_cut(director: Director) -> None:
    out = director.decide(datagram(0) + b"trailer", 0).out
    assert out is not None
    assert len(out) == len(datagram(0))


def test_answers_are_returned() -> None:
    director = make_director()
    add_service(director)
    refused = director.decide(datagram(0), 0)
    assert refused.reason == Reason.NO_SERVER
    assert refused.reply is not None
    assert refused.reply[12:20] == VIP + datagram(0)[12:16]


# Rows.


def test_rows_are_tuples_with_names(director: Director) -> None:
    open_flows(director, 1)
    flow = director.flows(0, 1)[0][0]
    assert isinstance(flow, tuple)
    assert flow[:3] == (flow.service, flow.server, flow.protocol) == (SERVICE, 7, UDP)
    assert repr(flow).startswith("fullnat._native.Flow(service=1, server=7, protocol=17, ")


def test_flows_are_read_in_pieces_each_once(director: Director) -> None:
    open_flows(director, MORE_THAN_A_STRETCH)
    for limit in (1, 7, 256, 300, MORE_THAN_A_STRETCH, 1 << 63):
        seen: list[bytes] = []
        cursor: int | None = 0
        while cursor is not None:
            rows, cursor = director.flows(cursor, limit)
            assert len(rows) <= limit
            seen += [row.inbound_key for row in rows]
        assert len(seen) == len(set(seen)) == MORE_THAN_A_STRETCH


def test_many_servers_ports_and_templates_are_read_whole() -> None:
    director = make_director()
    add_service(director, persistence=(SECOND, 32))
    numbers = list(range(MORE_THAN_A_STRETCH, 0, -1))
    director.set_servers(SERVICE, [server(number, port=number) for number in numbers])
    for client in range(MORE_THAN_A_STRETCH):
        director.decide(datagram(0, saddr=bytes((203, 0, 113 + client // 250, client % 250))), 0)
    assert [row.server for row in director.servers()] == sorted(numbers)
    assert sorted(use.rport for use in director.ports(0)) == sorted(numbers)
    assert len({row.prefix for row in director.templates()}) == MORE_THAN_A_STRETCH
    assert director.totals().templates == MORE_THAN_A_STRETCH


def test_counters_are_in_the_order_of_the_reasons(director: Director) -> None:
    open_flows(director, 3)
    counters = director.counters()
    assert len(counters) == len(Reason)
    assert counters[Reason.FLOW_OPENED] == sum(counters) == 3


def test_without_a_fast_path_nothing_is_carried_and_nothing_adopted(director: Director) -> None:
    assert director.adopt(0) == (0, 0)
    open_flows(director, 1)
    assert director.carried() == [0, 0, *(0 for _ in ebpf.PASSES)]
    with pytest.raises(RuntimeError, match="adopt\\(\\) comes before every flow"):
        director.adopt(0)
    assert director.decide(datagram(0), 0).reason == Reason.FLOW_INBOUND


# What is left behind.


_MALLINFO = (
    "arena",
    "ordblks",
    "smblks",
    "hblks",
    "hblkhd",  # bytes mapped
    "usmblks",
    "fsmblks",
    "uordblks",  # bytes in use of the rest
    "fordblks",
    "keepcost",
)


class MallInfo(ctypes.Structure):
    """struct mallinfo2 of glibc."""

    _fields_ = tuple((name, ctypes.c_size_t) for name in _MALLINFO)


def bytes_in_use() -> int:
    """What is allocated with malloc() and not freed."""
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = MallInfo
    information = mallinfo2()
    return int(information.uordblks + information.hblkhd)


@pytest.mark.skipif(bool(sanitized.PRELOADED), reason="AddressSanitizer has another malloc()")
def test_100_000_flows_opened_and_closed_leave_nothing(director: Director) -> None:
    now = churn(director, 60_000)
    gc.collect()
    before = bytes_in_use(), sys.getallocatedblocks()
    churn(director, 100_000, now)
    gc.collect()
    after = bytes_in_use(), sys.getallocatedblocks()
    assert director.totals().flows == 0
    assert after[0] - before[0] < 1 << 16
    assert after[1] - before[1] < 1000


@pytest.mark.skipif(not sanitized.PRELOADED, reason="needs the sanitized build: make test-sanitized")
def test_100_000_flows_opened_and_closed_leak_nothing() -> None:
    report = run_python("-m", "tests.churn", "100000")
    assert not re.search(r"csrc/native|_native\.abi3", report), report


def test_directors_and_engines_leave_nothing() -> None:
    before = [sys.getrefcount(cls) for cls in (_native.Director, _native.Engine)]
    directors = [make_director(flow_limit=1) for _ in range(20)]
    engines = [_native.Engine(director, **ENGINE) for director in directors]
    descriptors = len(os.listdir("/proc/self/fd"))
    del directors, engines
    assert [sys.getrefcount(cls) for cls in (_native.Director, _native.Engine)] == before
    assert len(os.listdir("/proc/self/fd")) == descriptors - 20


def test_a_fast_path_that_cannot_be_had_leaves_nothing() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    descriptors = os.listdir("/proc/self/fd")
    no_map = [null] * 7
    refuses(OSError, "No such device", lambda: make_director(fastpath=(no_map, 1, 2, 1)))
    assert os.listdir("/proc/self/fd") == descriptors
    os.close(null)


# The engine.

ENGINE: Change = {
    "queues": [0],
    "segmented": 1,
    "mark": 0,
    "raw4": -1,
    "raw6": -1,
    "priority": 0,
    "cpus": [],
    "repeats": False,
}

BAD_ENGINES: list[tuple[Change, type[Exception], str]] = [
    ({"queues": []}, ValueError, "queues: at least one"),
    ({"queues": [3, 3]}, ValueError, "queue 3 is there twice"),
    ({"queues": [3, 1]}, ValueError, "queue 1 is there twice"),
    ({"queues": range(2, 67)}, ValueError, "queues: at most 64, not 65"),
    ({"queues": [65536]}, ValueError, "queue must be 0-65535: 65536"),
    ({"queues": 0}, TypeError, "queues must be a sequence"),
    ({"segmented": None}, TypeError, "queue must be an integer"),
    ({"mark": 1 << 32}, ValueError, "mark must be"),
    ({"raw4": -2}, ValueError, "raw socket must be"),
    ({"raw6": 1 << 31}, ValueError, "raw socket must be"),
    ({"priority": 100}, ValueError, "priority must be 0-99: 100"),
    ({"cpus": [-1]}, ValueError, "CPU must be 0-1023: -1"),
]


@pytest.mark.parametrize(("change", "error", "match"), BAD_ENGINES)
def test_an_engine_is_refused(director: Director, change: Change, error: type[Exception], match: str) -> None:
    refuses(error, match, lambda: _native.Engine(director, **ENGINE | change))
    director.decide(datagram(0), 0)  # it has none


def test_an_engine_needs_a_director() -> None:
    refuses(TypeError, "Director", lambda: _native.Engine(None, **ENGINE))  # type: ignore[arg-type]


def test_a_director_has_one_engine_which_decides_its_packets(director: Director) -> None:
    engine = _native.Engine(director, **ENGINE)
    refuses(ValueError, "has or had an engine", lambda: _native.Engine(director, **ENGINE))
    del engine
    refuses(ValueError, "has or had an engine", lambda: _native.Engine(director, **ENGINE))
    for call in (
        lambda: director.decide(datagram(0), 0),
        lambda: director.answer(datagram(0), None, False, 0),
        lambda: director.expire(0, 1),
    ):
        refuses(RuntimeError, "an engine decides the packets of this director", call)


def test_a_director_that_holds_packets_gets_no_engine(director: Director) -> None:
    director.decide(later_fragment(), 0)
    refuses(ValueError, "holds packets", lambda: _native.Engine(director, **ENGINE))


def test_an_engine_that_does_not_run_can_be_asked(director: Director) -> None:
    engine = _native.Engine(director, **ENGINE)
    engine.stop()
    engine.expire(SECOND)
    engine.set_local_addresses([LIP, bytes(16)])
    assert engine.take_upcalls(64) == []
    engine.answer_upcalls([(1, None, True), (2, 7, False)])  # nobody asked: nothing happens
    assert set(engine.statistics().values()) == {0}
    assert os.fstat(engine.upcall_fd)
    with pytest.raises(AttributeError):
        engine.upcall_fd = 1  # type: ignore[misc]


def test_answers_of_an_engine_are_checked_before_any_is_given(director: Director) -> None:
    engine = _native.Engine(director, **ENGINE)
    refuses(TypeError, r"an answer must be a tuple", lambda: engine.answer_upcalls([(1, None)]))  # type: ignore[list-item]
    refuses(ValueError, "server must be", lambda: engine.answer_upcalls([(1, -1, False)]))
    refuses(ValueError, "limit must be", lambda: engine.take_upcalls(0))
    refuses(ValueError, "now must be", lambda: engine.expire(-1))


_START_AND_STOP = """
from tests import sanitized
from fullnat import _native
from tests.unit.test_native_module import ENGINE, make_director, pytest

engine, other = (_native.Engine(make_director(), **ENGINE) for _ in range(2))
for _ in range(2):
    engine.start()
    with pytest.raises(RuntimeError, match="the engine runs already"):
        engine.start()
    with pytest.raises(_native.EngineError, match="^[^\\n]+$"):
        other.start()
    engine.expire(1)
    assert engine.statistics()["received"] == 0
    engine.stop()
other.start()
del other  # ends its threads
engine.start()
"""


@pytest.mark.requires("root", "nfqueue")
def test_an_engine_is_started_and_stopped() -> None:
    run_python("-c", _START_AND_STOP, prefix=("unshare", "--net", "--"))


def test_the_engine_in_python_is_written_for_this_version() -> None:
    assert _native.ABI == native._ABI
