# SPDX-License-Identifier: Apache-2.0
"""The local port pool against a model that keeps everything in plain lists and searches them."""

from __future__ import annotations

from ipaddress import ip_address

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from fullnat.core.addr import TCP, UDP, Endpoint, PortRange
from fullnat.core.lport import LocalPortPool
from fullnat.core.timeouts import SECOND

REST = 60 * SECOND
LIPS = [ip_address("198.19.0.1"), ip_address("198.19.0.2"), ip_address("2001:db8:2::1")]
CLIENTS = [ip_address(text) for text in ("203.0.113.100", "203.0.113.101", "2001:db8:1::100")]
REALS = [Endpoint(ip_address(text), 80) for text in ("198.19.0.11", "198.19.0.12", "2001:db8:2::11")]
PORTS = PortRange(1024, 1030)
EXCLUDED = Endpoint(LIPS[0], 1026)


class PoolMachine(RuleBasedStateMachine):
    """Random allocations and releases under a clock that only goes on."""

    taken = Bundle("taken")

    @initialize(seed=st.integers(0, 2**64 - 1))
    def start(self, seed: int) -> None:
        self.pool = LocalPortPool(LIPS, PORTS, REST, seed, frozenset({EXCLUDED}))
        self.now = 0
        self.in_use: set[tuple[int, Endpoint, Endpoint]] = set()
        self.released: dict[tuple[int, Endpoint, Endpoint], tuple[int, int]] = {}  # (order, ready at)
        self.order = 0

    @rule(
        target=taken,
        protocol=st.sampled_from([TCP, UDP]),
        client=st.sampled_from(CLIENTS),
        real=st.sampled_from(REALS),
    )
    def allocate(
        self, protocol: int, client: object, real: Endpoint
    ) -> tuple[int, Endpoint, Endpoint] | None:
        ready = self._ready(protocol, real)
        local = self.pool.allocate(protocol, client, real, self.now)  # type: ignore[arg-type]
        if local is None:
            assert not ready, "refused although a port was free"
            return None
        assert local in ready
        assert local != EXCLUDED
        assert local.port in PORTS
        never_used = {port for port in ready if (protocol, port, real) not in self.released}
        if any(port.address == local.address for port in never_used):
            assert local in never_used, "a used port came before one never used"
        else:
            mine = [self.released[protocol, port, real] for port in ready if port.address == local.address]
            assert self.released[protocol, local, real][1] <= self.now
            assert self.released[protocol, local, real][0] <= max(order for order, _ in mine)
        use = (protocol, local, real)
        assert use not in self.in_use
        self.in_use.add(use)
        return use

    def _ready(self, protocol: int, real: Endpoint) -> set[Endpoint]:
        return {
            Endpoint(lip, port)
            for lip in LIPS
            if lip.version == real.family
            for port in range(PORTS.low, PORTS.high + 1)
            if Endpoint(lip, port) != EXCLUDED
            and (protocol, Endpoint(lip, port), real) not in self.in_use
            and self.released.get((protocol, Endpoint(lip, port), real), (0, 0))[1] <= self.now
        }

    @rule(use=consumes(taken), idle=st.integers(0, 2 * REST))
    def release(self, use: tuple[int, Endpoint, Endpoint] | None, idle: int) -> None:
        if use is None:
            return
        protocol, local, real = use
        self.pool.release(protocol, local, real, self.now, self.now - idle)
        self.in_use.discard(use)
        self.order += 1
        self.released[use] = (self.order, self.now if idle >= REST else self.now + REST)

    @rule(seconds=st.integers(1, 90))
    def wait(self, seconds: int) -> None:
        self.now += seconds * SECOND

    @invariant()
    def usage_adds_up(self) -> None:
        if not hasattr(self, "pool"):
            return
        usage = list(self.pool.usage(self.now))
        assert sum(use.in_use for use in usage) == len(self.in_use)
        assert all(use.in_use + use.resting <= use.capacity for use in usage)
        resting = sum(
            1 for use, (_, ready) in self.released.items() if ready > self.now and use not in self.in_use
        )
        assert sum(use.resting for use in usage) == resting


TestPool = PoolMachine.TestCase
TestPool.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


def test_one_local_port_serves_every_server_at_once() -> None:
    pool = LocalPortPool(LIPS[:1], PortRange(5000, 5000), REST, seed=1)
    locals_ = {pool.allocate(TCP, CLIENTS[0], real, 0) for real in REALS[:2]}
    assert locals_ == {Endpoint(LIPS[0], 5000)}


def test_the_next_address_is_tried_when_one_is_spent() -> None:
    pool = LocalPortPool(LIPS, PortRange(5000, 5001), REST, seed=1)
    got = [pool.allocate(TCP, CLIENTS[0], REALS[0], 0) for _ in range(5)]
    assert len({local for local in got if local}) == 4
    assert got[0] is not None
    assert got[1] is not None
    assert got[0].address == got[1].address  # paired while it can be
    assert got[4] is None


def test_a_released_port_comes_back_last_and_only_after_its_rest() -> None:
    pool = LocalPortPool(LIPS[:1], PortRange(5000, 5003), REST, seed=7)
    first = [pool.allocate(UDP, CLIENTS[0], REALS[0], 0) for _ in range(4)]
    for at, local in enumerate(first):
        assert local is not None
        pool.release(UDP, local, REALS[0], now=at, last_seen=at)
    assert pool.allocate(UDP, CLIENTS[0], REALS[0], REST - 1) is None
    assert [pool.allocate(UDP, CLIENTS[0], REALS[0], REST + 3) for _ in range(4)] == first


def test_the_order_of_ports_depends_on_the_seed() -> None:
    orders = set()
    for seed in range(8):
        pool = LocalPortPool(LIPS[:1], PortRange(1024, 32767), REST, seed)
        orders.add(tuple(pool.allocate(TCP, CLIENTS[0], REALS[0], 0) for _ in range(4)))
    assert len(orders) == 8


def test_every_port_of_the_range_is_handed_out_once() -> None:
    ports = PortRange(1024, 32767)
    pool = LocalPortPool(LIPS[:1], ports, REST, seed=3)
    got = [pool.allocate(TCP, CLIENTS[0], REALS[0], 0) for _ in range(len(ports) + 1)]
    assert got[-1] is None
    assert {local.port for local in got if local} == set(range(1024, 32768)) - {1026} | {1026}
