# SPDX-License-Identifier: Apache-2.0
"""Services and schedulers in C against their Python twins: the same picks, in the same order.

Servers live exactly as long as the rules let them (their list and their flows hold them), and each
test ends with nothing allocated; the last one runs all others under sanitizers.
"""

from __future__ import annotations

import ctypes
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from ipaddress import ip_address
from itertools import combinations, count
from pathlib import Path
from typing import NamedTuple

import pytest

from fullnat.core.addr import TCP, Endpoint
from fullnat.core.sched import BUILTIN, Request
from fullnat.core.service import Admin, Health, RealServer, VirtualService, effective_weight
from fullnat.core.timeouts import PROFILES, SECOND
from tests import features
from tests.services import make_request, make_servers, make_service
from tests.twins.native_schedulers import CServer, CService, Library, build
from tests.twins.native_tables import SANITIZERS, CEndpoint
from tests.unit.test_sched_cost import FEW, GROWTH, MANY, STATES

LIBRARY = "FULLNAT_SCHEDULERS"  # names a library to test in the place of one built now
PICKS = 2000
HOUR = 3600 * SECOND

# Each scheduler, and each choice of the flags it takes.
VARIANTS = [
    (name, *flags)
    for name, cls in BUILTIN.items()
    for size in range(len(cls.accepted_flags) + 1)
    for flags in combinations(sorted(cls.accepted_flags), size)
]


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Library:
    if path := os.environ.get(LIBRARY):
        return Library(Path(path))
    features.demand("gcc")
    built = tmp_path_factory.mktemp("schedulers") / "schedulers.so"
    build(built)
    return Library(built)


@pytest.fixture
def library(shared: Library) -> Iterator[Library]:
    yield shared
    assert shared.live == 0


class Shape(NamedTuple):
    """What kind of service a run is about."""

    most: int  # servers
    weights: Callable[[random.Random], int]
    changes: float  # of settings and of the list, in a hundred steps


SHAPES = {
    "pairs": Shape(3, lambda dice: dice.choice((0, 2, 3, 4, 6, 8, 9, 12)), 10),  # of many a divisor
    "few": Shape(6, lambda dice: dice.choice((0, 1, 1, 2, 3, 5)), 4),
    "some": Shape(40, lambda dice: dice.choice((0, 10, 20, 30, 50)), 3),
    "heavy": Shape(90, lambda dice: dice.choice((1, 2, 65535, dice.randrange(65536))), 1.5),
    "many": Shape(300, lambda dice: dice.randrange(8), 1),
}


class Pair(NamedTuple):
    """A server in both languages."""

    real: RealServer
    twin: CServer


class Twins:
    """A service in both languages; every step is taken in both."""

    def __init__(
        self, library: Library, scheduler: str, flags: Sequence[str], shape: Shape, seed: int
    ) -> None:
        self.dice = random.Random(f"{scheduler} {flags} {seed}")
        self.shape = shape
        self.is_v6 = bool(seed % 2)
        self.now = 0
        self.numbers = count(1)
        vip = self.endpoint("203.0.113.0", "2001:db8:1::", 80)
        self.service = VirtualService(
            "twin",
            TCP,
            vip,
            BUILTIN[scheduler](seed=self.dice.getrandbits(64), flags=frozenset(flags)),
            PROFILES["lvs"],
            [],
        )
        self.twin = CService(library, self.service)
        self.listed: list[Pair] = []
        self.delisted: list[Pair] = []  # alive, as flows hold them
        self.flows: list[tuple[Pair, bool]] = []  # where, and whether active
        self.picks: list[int | None] = []

    def endpoint(self, net4: str, net6: str, port: int) -> Endpoint:
        return Endpoint(ip_address(net6 if self.is_v6 else net4) + self.dice.randrange(200), port)

    def create_server(self) -> Pair:
        """Return a new server; one in ten is down from the start."""
        upper = self.dice.choice((0, 0, 0, 2, 5, 20))
        real = RealServer(
            self.endpoint("198.18.0.0", "2001:db8:2::", self.dice.randrange(1, 65536)),
            self.shape.weights(self.dice),
            upper,
            self.dice.choice((None, 0, upper, upper // 2)),
        )
        real.health = Health.DOWN if self.dice.random() < 0.1 else Health.UNKNOWN
        real.weight = effective_weight(real.configured_weight, real.admin, real.health)
        return Pair(real, self.twin.create_server(next(self.numbers), real))

    def change_list(self) -> None:
        """Replace the list: some stay, some are new, some come back."""
        stay = self.dice.choice((0, 0.5, 0.9, 1))
        kept = [pair for pair in self.listed if self.dice.random() < stay]
        back = [pair for pair in self.delisted if self.dice.random() < 0.3]
        most = self.dice.randrange(self.shape.most + 1)
        kept = (kept + back)[: self.shape.most]
        new = [self.create_server() for _ in range(max(most - len(kept), 0))]
        pairs = kept + new
        if self.dice.random() < 0.5:
            self.dice.shuffle(pairs)
        self.set_servers(pairs, new)

    def set_servers(self, pairs: list[Pair], new: list[Pair]) -> None:
        known = [*self.listed, *self.delisted]
        busy = {id(pair) for pair, _ in self.flows}
        chosen = {id(pair) for pair in pairs}
        self.service.set_servers([pair.real for pair in pairs])
        assert self.twin.set_servers([pair.twin for pair in pairs])
        for pair in new:
            self.twin.release_server(pair.twin)  # now held by the list
        self.listed = pairs
        # Of the others only those with flows are alive.
        self.delisted = [pair for pair in known if id(pair) in busy - chosen]
        assert all(pair.twin.is_listed for pair in self.listed)
        assert not any(pair.twin.is_listed for pair in self.delisted)

    def change_server(self) -> None:
        """Change some settings of a server, be it listed or not."""
        servers = self.listed + self.delisted
        if not servers:
            return
        real, twin = self.dice.choice(servers)
        change = self.dice.randrange(4)
        if change == 0:
            self.service.set_health(real, self.dice.choice(list(Health)))
        elif change == 1:
            self.service.set_admin(real, self.dice.choice((Admin.ENABLED, Admin.QUIESCED)))
        else:
            self.service.set_weight(real, self.shape.weights(self.dice))
        if self.dice.random() < 0.5:  # in C together with the weight
            upper = self.dice.choice((0, real.flows, real.flows + 1, 3, 10))
            self.service.set_thresholds(real, upper, self.dice.randrange(upper + 1))
        self.twin.set_server(twin, real)

    def change_flow(self) -> None:
        """Let a flow become active or inactive, or end."""
        if not self.flows:
            return
        at = self.dice.randrange(len(self.flows))
        pair, active = self.flows[at]
        crowd = len(self.flows) > 5 * self.shape.most
        if crowd or self.dice.random() < 0.4:
            self.flows[at] = self.flows[-1]
            self.flows.pop()
            self.service.flow_ended(pair.real, active)
            self.twin.flow_ended(pair.twin, active)
            self.release_flow(pair)
            return
        name = "flow_deactivated" if active else "flow_activated"
        getattr(self.service, name)(pair.real)
        getattr(self.twin, name)(pair.twin)
        self.flows[at] = pair, not active

    def release_flow(self, pair: Pair) -> None:
        self.agree(pair)
        self.twin.release_server(pair.twin)
        if not pair.real.flows:
            self.delisted = [other for other in self.delisted if other is not pair]

    def open_flow(self, pair: Pair) -> None:
        self.service.flow_opened(pair.real)
        self.twin.flow_opened(pair.twin)
        self.twin.hold(pair.twin)
        self.flows.append((pair, False))

    def adopt_flow(self, pair: Pair, active: bool) -> None:
        """Count one that was there before: opened elsewhere, so no connection of this director."""
        self.service.flow_opened(pair.real)
        pair.real.connections -= 1
        if active:
            self.service.flow_activated(pair.real)
        self.twin.flow_adopted(pair.twin, active)
        self.twin.hold(pair.twin)
        self.flows.append((pair, active))

    def pick(self) -> None:
        """Have both pick for the same client, and mostly open the flow."""
        if self.dice.random() < 0.02:
            self.now += self.dice.choice((HOUR, 7 * HOUR, 23 * HOUR, 24 * HOUR, 25 * HOUR))
        self.now += self.dice.randrange(SECOND)
        client = self.endpoint("198.19.0.0", "2001:db8:3::", self.dice.randrange(1024, 65536))
        request = Request(client, self.service.listen, TCP, b"", self.now)
        server, twin = self.service.scheduler.schedule(request), self.twin.scheduler.schedule(request)
        picked = None if server is None else server.position
        assert (None if twin is None else twin.position) == picked, f"pick {len(self.picks)}"
        self.picks.append(picked)
        if picked is None:
            return
        pair = self.listed[picked]
        assert twin is not None
        assert twin.at == pair.twin.at
        self.agree(pair)
        if self.dice.random() < 0.8:
            self.open_flow(pair)
        elif self.dice.random() < 0.3:
            self.adopt_flow(pair, active=self.dice.random() < 0.5)

    def agree(self, pair: Pair) -> None:
        fields = "position weight configured_weight upper lower active inactive overloaded connections"
        for field in fields.split():
            assert getattr(pair.twin, field) == getattr(pair.real, field), field

    def step(self) -> None:
        chance = self.dice.uniform(0, 100)
        if chance < self.shape.changes / 4:
            self.change_list()
        elif chance < self.shape.changes:
            self.change_server()
        elif chance < 45:
            self.change_flow()
        else:
            self.pick()

    def end(self) -> None:
        for pair in self.listed + self.delisted:
            self.agree(pair)
        self.twin.release()  # flows and their servers outlive the service's place
        for pair, active in self.flows:
            self.twin.flow_ended(pair.twin, active)
            self.twin.release_server(pair.twin)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("variant", VARIANTS, ids="+".join)
def test_twins_pick_alike(library: Library, variant: tuple[str, ...], shape: str, seed: int) -> None:
    name, *flags = variant
    twins = Twins(library, name, flags, SHAPES[shape], seed)
    twins.change_list()
    while len(twins.picks) < PICKS:
        twins.step()
    twins.end()
    assert len(set(twins.picks)) > 2


def test_the_schedulers_are_those_of_python(library: Library) -> None:
    assert library.names() == list(BUILTIN)
    assert library.create_scheduler("none") is None


@pytest.mark.parametrize("name", BUILTIN)
def test_without_servers_there_is_no_pick(library: Library, name: str) -> None:
    service = CService(library, make_service(name, []))
    assert service.scheduler.schedule(make_request()) is None  # never had any
    with library.memory_out_after(0):
        assert service.set_servers([])
    assert service.scheduler.schedule(make_request()) is None
    service.release()


def serve(
    library: Library, name: str, weights: Sequence[int], seed: int = 1
) -> tuple[VirtualService, CService]:
    """Return a service with servers of these *weights*, in both languages."""
    flags = [flag for flag in BUILTIN[name].accepted_flags if flag.endswith("fallback")]
    python = make_service(name, weights, seed=seed, flags=flags)
    native = CService(library, python)
    servers = [native.create_server(number, server) for number, server in enumerate(python.servers)]
    assert native.set_servers(servers)
    for server in servers:
        native.release_server(server)
    return python, native


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", BUILTIN)
def test_counts_of_any_size_are_compared_exactly(library: Library, name: str, seed: int) -> None:
    """Counts near 2**32 and weights next to each other: what 64 bits would round or wrap."""
    dice = random.Random(seed)
    weights = [dice.choice((1, 2, 3, 65534, 65535, (1 << 32) - 1)) for _ in range(7)]
    python, native = serve(library, name, weights)
    sizes = [0, 1, (1 << 24) - 1, 1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 3]
    for _ in range(300):
        at = dice.randrange(len(weights))
        real, twin = python.servers[at], native.servers[at]
        real.active = twin.active = dice.choice(sizes) // dice.choice((1, 1, 3))
        real.inactive = twin.inactive = 1 + dice.randrange(3)
        python.flow_activated(real)
        native.flow_activated(twin)
        request = make_request(dice.randrange(1000))
        expected, picked = python.scheduler.schedule(request), native.scheduler.schedule(request)
        assert (picked and picked.position) == (expected and expected.position)
    native.release()


@pytest.mark.parametrize("weights", [(0, 0), (0, 5, 0, 10), (1,) * 300, (65535, 1), (64, 128), (63, 1)])
@pytest.mark.parametrize("name", BUILTIN)
def test_unusual_weights(library: Library, name: str, weights: tuple[int, ...]) -> None:
    python, native = serve(library, name, weights)
    for client in range(600):
        request = make_request(client)
        expected, picked = python.scheduler.schedule(request), native.scheduler.schedule(request)
        assert (picked and picked.position) == (expected and expected.position)
        if expected and picked:
            python.flow_opened(expected)
            native.flow_opened(picked)
    native.release()


def test_of_equal_servers_the_newest_leaves_the_set_of_lblcr(library: Library) -> None:
    python, native = serve(library, "lblcr", [1] * 4)
    order = []
    for _ in range(8):  # more active flows than weight: the next one joins
        real, twin = python.scheduler.schedule(make_request()), native.scheduler.schedule(make_request())
        assert real
        assert twin
        order.append(real.position)
        for _ in range(2):
            python.flow_opened(real)
            python.flow_activated(real)
            native.flow_opened(twin)
            native.flow_activated(twin)
    assert set(order) == {0, 1, 2, 3}
    for real, twin in zip(python.servers, native.servers, strict=True):
        for _ in range(real.active):
            python.flow_ended(real, was_active=True)
            native.flow_ended(twin, was_active=True)
    picks = []
    for hours in range(0, 120, 20):  # a set that has not changed for a day shrinks
        expected = python.scheduler.schedule(make_request(now=hours * HOUR))
        picked = native.scheduler.schedule(make_request(now=hours * HOUR))
        assert expected
        assert picked
        assert picked.position == expected.position
        picks.append(picked.position)
    assert len(set(picks)) > 2  # the newest first, then as they leave the one before
    native.release()


def test_dh_takes_no_flags(library: Library) -> None:
    python = make_service("dh", [1, 1], flags=["sh-fallback", "sh-port"])
    native = CService(library, python)
    servers = [native.create_server(number, server) for number, server in enumerate(python.servers)]
    native.set_servers(servers)
    picked, other = (native.scheduler.schedule(make_request(port=port)) for port in (1, 2))
    assert picked
    assert other
    assert picked.at == other.at
    native.set_weight(picked, 0)
    assert native.scheduler.schedule(make_request()) is None
    for server in servers:
        native.release_server(server)
    native.release()


@pytest.mark.parametrize("name", BUILTIN)
def test_a_list_that_finds_no_memory_changes_nothing(library: Library, name: str) -> None:
    python, native = serve(library, name, [3, 1, 2])
    spare = make_servers([4, 5], skip=10)
    new = [native.create_server(10 + number, server) for number, server in enumerate(spare)]
    replacement = [new[0], native.servers[2], native.servers[0], new[1]]
    live, refused = library.live, 0
    while True:
        with library.memory_out_after(refused):
            done = native.set_servers(replacement)
        if done:
            break
        refused += 1
        assert library.live == live
        assert [server.position for server in native.servers] == [0, 1, 2]
        assert not any(server.is_listed for server in new)
        for client in range(20):
            request = make_request(client, now=client * HOUR)
            expected, picked = python.scheduler.schedule(request), native.scheduler.schedule(request)
            assert (picked and picked.at) == (expected and native.servers[expected.position].at)
    assert refused >= 2
    for server in new:
        native.release_server(server)
    native.release()


def test_servers_live_while_somebody_holds_them(library: Library) -> None:
    live = library.live
    _, native = serve(library, "rr", [1, 1])
    first, second = native.servers
    assert (first.holders, library.c.schedulers_service_holders(native.at)) == (1, 3)
    native.hold(second)
    native.set_servers([first])
    assert (second.holders, second.is_listed, second.position) == (1, False, 1)
    native.set_servers([second, first])
    assert (second.holders, second.is_listed, second.position) == (2, True, 0)
    native.release()
    assert (second.holders, second.is_listed, second.position) == (1, False, 0)
    assert library.live > live  # the service lives as long as its servers
    native.release_server(second)
    assert library.live == live


def test_a_service_without_a_scheduler_counts(library: Library) -> None:
    """One whose scheduler is a class in Python."""
    [real] = make_servers([2])
    listen = CEndpoint.of(real.endpoint)
    native = CService.__new__(CService)
    native.library, native.at = library, library.c.fn_service_create(1, TCP, ctypes.byref(listen), None)
    server = native.create_server(1, real)
    assert native.set_servers([server])
    native.release_server(server)
    real.upper = real.lower = 1
    native.set_server(server, real)
    native.flow_opened(server)
    native.flow_activated(server)
    assert (server.connections, server.active, server.overloaded) == (1, 1, True)
    native.flow_deactivated(server)
    native.flow_ended(server, was_active=False)
    assert (server.active, server.inactive, server.overloaded) == (0, 0, False)
    native.set_weight(server, 0)
    assert (server.weight, server.configured_weight) == (0, 0)
    native.release()


def work(library: Library, action: Callable[[], object]) -> int:
    """Return how many basic blocks of C *action* runs."""
    before = library.blocks
    action()
    return library.blocks - before


def loaded_service(library: Library, name: str, size: int, state: Callable[..., None]) -> CService:
    _, native = serve(library, name, [1] * size)
    state(native)
    native.scheduler.schedule(make_request())  # builds the tables of sh, mh and dh
    return native


def worst_pick(native: CService) -> int:
    requests = [make_request(client) for client in range(40)]
    return max(work(native.library, partial(native.scheduler.schedule, request)) for request in requests)


def worst_change(native: CService) -> int:
    """Return the most that one event in the life of a flow costs, at several servers."""
    worst = 0
    for server in (native.servers[0], native.servers[len(native.servers) // 2], native.servers[-1]):
        server.upper = server.lower = server.flows + 1  # the flow overloads it, then not
        for event in (
            partial(native.flow_opened, server),
            partial(native.flow_activated, server),
            partial(native.flow_deactivated, server),
            partial(native.flow_ended, server, was_active=False),
        ):
            worst = max(worst, work(native.library, event))
    return worst


@pytest.mark.parametrize("cost", [worst_pick, worst_change])
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("name", BUILTIN)
def test_a_pick_and_a_flow_event_are_flat_or_logarithmic(
    library: Library, name: str, state: Callable[..., None], cost: Callable[[CService], int]
) -> None:
    few, many = (loaded_service(library, name, size, state) for size in (FEW, MANY))
    assert 0 < cost(many) <= GROWTH * cost(few)
    few.release()
    many.release()


def test_the_count_sees_a_scan(library: Library) -> None:
    _, native = serve(library, "mh", [1] * MANY)
    assert work(library, lambda: native.scheduler.schedule(make_request())) > 131071  # builds the table
    assert work(library, lambda: native.scheduler.schedule(make_request())) < 100
    native.release()


@pytest.mark.requires("gcc", "asan")
@pytest.mark.skipif(LIBRARY in os.environ, reason="this is that run")
def test_all_of_it_under_sanitizers(tmp_path: Path) -> None:
    library = tmp_path / "schedulers.so"
    build(library, *SANITIZERS)
    argv = ["gcc", "-print-file-name=libasan.so"]
    runtime = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()
    environment = os.environ | {
        LIBRARY: str(library),
        "LD_PRELOAD": runtime,
        "ASAN_OPTIONS": "detect_leaks=0",  # the tests count what is allocated; the interpreter leaks
    }
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout
