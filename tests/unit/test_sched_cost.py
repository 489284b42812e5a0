# SPDX-License-Identifier: Apache-2.0
"""What a pick costs must not grow with the number of servers, in the states that invite a scan.

Counted, not timed: the lines Python runs inside the schedulers, and what they read of a server, so that
a loop hidden in a built-in (min, sum, a comprehension) shows as well.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import fullnat.core.sched
from fullnat.core.sched import BUILTIN
from fullnat.core.sched.locality import EXPIRATION
from fullnat.core.service import RealServer, VirtualService
from tests.services import make_request, make_servers, make_service

SCHED_DIR = str(Path(fullnat.core.sched.__file__).parent)
FEW, MANY = 10, 1000
# log2(1000) / log2(10) is 3; a scan would make it 100.
GROWTH = 3
BUDGET = 300  # for few


class Meter:
    """Counts lines and reads while it is on."""

    count = 0
    is_on = False


class MeteredServer(RealServer):
    """Tells the meter what is read of it."""

    def __getattribute__(self, name: str) -> object:
        if Meter.is_on:
            Meter.count += 1
        return super().__getattribute__(name)


def _trace(frame: FrameType, event: str, _argument: Any) -> Callable[[FrameType, str, Any], Any] | None:
    if not frame.f_code.co_filename.startswith(SCHED_DIR):
        return None
    if event == "line":
        Meter.count += 1
    return _trace


def work(action: Callable[[], object]) -> int:
    """Return how much *action* does inside the schedulers."""
    previous = sys.gettrace()
    Meter.count, Meter.is_on = 0, True
    sys.settrace(_trace)
    try:
        action()
    finally:
        sys.settrace(previous)
        Meter.is_on = False
    return Meter.count


def all_available(service: VirtualService) -> None:
    del service


def all_loaded(service: VirtualService) -> None:
    """Every server holds flows, each a different number."""
    for number, server in enumerate(service.servers):
        for _ in range(number % 7 + 1):
            service.flow_opened(server)
            service.flow_activated(server)


def only_last_available(service: VirtualService) -> None:
    for server in service.servers[:-1]:
        service.set_weight(server, 0)


def only_first_available(service: VirtualService) -> None:
    for server in service.servers[1:]:
        service.set_weight(server, 0)


def all_but_last_overloaded(service: VirtualService) -> None:
    for server in service.servers[:-1]:
        server.upper = 1
        service.flow_opened(server)


def none_available(service: VirtualService) -> None:
    only_last_available(service)
    service.set_weight(service.servers[-1], 0)


def heaviest_overloaded(service: VirtualService) -> None:
    """The walk of wrr is about to go through 65,534 levels that nobody reaches."""
    first, *others = service.servers
    for number, server in enumerate(others):
        service.set_weight(server, number % 3 + 1)
    service.set_weight(first, 65535)
    first.upper = 1
    service.flow_opened(first)
    for _ in range(len(others) - 20):  # the level is 1, where all are picked
        service.scheduler.schedule(make_request())


def all_crowded(service: VirtualService) -> None:
    """More active flows than weight everywhere but at the last: lblcr's set takes in all."""
    for server in service.servers:
        chosen = service.scheduler.schedule(make_request())
        for _ in range(2):
            service.flow_opened(chosen or server)
            service.flow_activated(chosen or server)


STATES = (
    all_available,
    all_loaded,
    only_last_available,
    only_first_available,
    all_but_last_overloaded,
    none_available,
    heaviest_overloaded,
    all_crowded,
)


def metered_service(name: str, size: int, state: Callable[[VirtualService], None]) -> VirtualService:
    service = make_service(
        name,
        make_servers([1] * size, MeteredServer),
        flags=[flag for flag in BUILTIN[name].accepted_flags if flag.endswith("fallback")],
    )
    state(service)
    service.scheduler.schedule(make_request())  # builds the tables of sh, mh and dh
    return service


def worst_pick(service: VirtualService) -> int:
    requests = [make_request(client) for client in range(40)]
    return max(work(partial(service.scheduler.schedule, request)) for request in requests)


def worst_change(service: VirtualService) -> int:
    """Return the most that one event in the life of a flow costs, at several servers."""
    worst = 0
    for server in (service.servers[0], service.servers[len(service.servers) // 2], service.servers[-1]):
        server.upper, server.lower = server.flows + 1, server.flows + 1  # the flow overloads it, then not
        for event in (
            partial(service.flow_opened, server),
            partial(service.flow_activated, server),
            partial(service.flow_deactivated, server),
            partial(service.flow_ended, server, was_active=False),
        ):
            worst = max(worst, work(event))
    return worst


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("name", sorted(BUILTIN))
def test_a_pick_is_flat_or_logarithmic(name: str, state: Callable[[VirtualService], None]) -> None:
    few, many = (worst_pick(metered_service(name, size, state)) for size in (FEW, MANY))
    assert few <= BUDGET
    assert many <= GROWTH * few


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("name", sorted(BUILTIN))
def test_a_flow_event_is_flat_or_logarithmic(name: str, state: Callable[[VirtualService], None]) -> None:
    few, many = (worst_change(metered_service(name, size, state)) for size in (FEW, MANY))
    assert few <= BUDGET
    assert many <= GROWTH * few


def test_the_meter_sees_a_scan() -> None:
    service = metered_service("lblcr", MANY, all_crowded)
    now = EXPIRATION * 3 // 4  # keep the entry in use until its set is a day old
    service.scheduler.schedule(make_request(now=now))
    late = make_request(now=EXPIRATION + now)
    assert work(lambda: service.scheduler.schedule(late)) > MANY  # the daily removal looks at all
    assert work(lambda: service.scheduler.schedule(late)) < MANY / 4
    assert work(lambda: sum(server.weight for server in service.servers)) == MANY
