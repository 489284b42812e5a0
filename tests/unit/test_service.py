# SPDX-License-Identifier: Apache-2.0
"""Services and real servers: thresholds, weights, counts, and what the scheduler hears of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import pytest

from fullnat.core.addr import TCP, UDP, Endpoint
from fullnat.core.sched import Scheduler
from fullnat.core.service import Admin, Health, RealServer, VirtualService, effective_weight
from fullnat.core.timeouts import PROFILES
from tests.services import VIP, VIP6, make_servers


class Listener(Scheduler):
    """Writes down what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[str, int]] = []  # what, and the server's position

    def attach(self, servers: Sequence[RealServer]) -> None:
        super().attach(servers)
        self.heard.append(("attach", len(servers)))

    def server_changed(self, server: RealServer) -> None:
        self.heard.append(("server", server.position))

    def flows_changed(self, server: RealServer) -> None:
        self.heard.append(("flows", server.position))


@pytest.fixture
def listener() -> Listener:
    return Listener()


def serve(listener: Listener, *servers: RealServer) -> VirtualService:
    service = VirtualService("test", TCP, VIP, listener, PROFILES["lvs"], list(servers))
    listener.heard.clear()
    return service


def server_of(weight: int = 1, upper: int = 0, lower: int | None = None) -> RealServer:
    return RealServer(make_servers([1])[0].endpoint, weight, upper, lower)


def open_flows(service: VirtualService, server: RealServer, count: int) -> None:
    for _ in range(count):
        service.flow_opened(server)


def overloaded_by_flows(service: VirtualService, server: RealServer, top: int) -> tuple[str, str]:
    """Return whether *server* is overloaded at 1, 2, ... *top* flows, and back at top-1, ... 0."""
    up = down = ""
    for _ in range(top):
        service.flow_opened(server)
        up += "x" if server.overloaded else "."
    for _ in range(top):
        service.flow_ended(server, was_active=False)
        down += "x" if server.overloaded else "."
    return up, down


class TestThresholds:
    @pytest.mark.parametrize(
        ("upper", "lower", "up", "down"),
        [
            # flows:  12345678    76543210
            (0, None, "........", "........"),
            (1, None, "xxxxxxxx", "xxxxxxx."),
            (8, 2, ".......x", "xxxxxx.."),
            (8, 8, ".......x", "........"),
            (4, 1, "...xxxxx", "xxxxxxx."),
            (4, 0, "...xxxxx", "xxxxxxx."),  # a lower that nothing is below: an idle server is free
            (8, None, ".......x", "xx......"),  # three quarters: 6, clear from 5 on
            (7, None, "......xx", "xx......"),  # 5.25, so 6
            (6, None, ".....xxx", "xxx....."),  # 4.5, so 5
            (5, None, "....xxxx", "xxxx...."),  # 3.75, so 4
        ],
    )
    def test_overloaded_from_upper_on_until_below_lower(
        self, listener: Listener, upper: int, lower: int | None, up: str, down: str
    ) -> None:
        server = server_of(upper=upper, lower=lower)
        assert overloaded_by_flows(serve(listener, server), server, top=8) == (up, down)

    @pytest.mark.parametrize(
        ("upper", "lower"), [(0, 0), (1, 1), (2, 2), (3, 3), (4, 3), (5, 4), (1000, 750)]
    )
    def test_lower_is_three_quarters_of_upper_rounded_up(self, upper: int, lower: int) -> None:
        assert server_of(upper=upper).lower == lower

    @pytest.mark.parametrize("upper", range(1, 50))
    def test_the_default_clears_where_ipvs_does(self, listener: Listener, upper: int) -> None:
        server = server_of(upper=upper)
        service = serve(listener, server)
        open_flows(service, server, upper)
        while server.overloaded:
            service.flow_ended(server, was_active=False)
        assert server.flows * 4 < upper * 3 <= (server.flows + 1) * 4

    def test_active_and_inactive_flows_count_alike(self, listener: Listener) -> None:
        server = server_of(upper=2, lower=2)
        service = serve(listener, server)
        service.flow_opened(server)
        service.flow_activated(server)
        assert not server.overloaded
        service.flow_opened(server)
        assert (server.active, server.inactive, server.overloaded) == (1, 1, True)
        service.flow_deactivated(server)
        assert server.overloaded
        service.flow_activated(server)
        service.flow_ended(server, was_active=True)
        assert not server.overloaded

    def test_an_overloaded_server_keeps_its_weight_and_is_not_available(self, listener: Listener) -> None:
        server = server_of(weight=3, upper=1)
        service = serve(listener, server)
        assert server.is_available
        service.flow_opened(server)
        assert (server.weight, server.is_available) == (3, False)

    def test_the_scheduler_hears_of_both_thresholds_once(self, listener: Listener) -> None:
        server = server_of(upper=3, lower=2)
        service = serve(listener, server)
        open_flows(service, server, 4)
        assert listener.heard == [("flows", 0)] * 2 + [("server", 0)] + [("flows", 0)] * 2
        listener.heard.clear()
        for _ in range(4):
            service.flow_ended(server, was_active=False)
        assert listener.heard == [("flows", 0)] * 2 + [("server", 0)] + [("flows", 0)] * 2


class TestNewThresholds:
    @pytest.mark.parametrize(
        ("old", "flows", "new", "overloaded"),
        [
            # upper, lower
            ((0, 0), 4, (5, 4), False),
            ((0, 0), 4, (4, 3), True),  # set where there was none
            ((8, 6), 4, (4, 3), True),  # lowered to what it holds
            ((8, 6), 4, (5, 3), False),  # between lower and upper on the way up
            ((4, 3), 4, (5, 3), False),  # raised: over, though not below lower
            ((4, 3), 4, (0, 0), False),  # taken away
            ((2, 2), 4, (3, 3), True),  # raised, and reached as well
            ((4, 3), 4, (4, 5), False),  # same upper: below the new lower
            ((4, 2), 4, (4, 3), True),
            ((4, 4), 4, (3, 1), True),
            ((4, 4), 4, (4, 0), True),
        ],
    )
    def test_the_flows_it_has_count_against_the_new_limits(
        self, listener: Listener, old: tuple[int, int], flows: int, new: tuple[int, int], overloaded: bool
    ) -> None:
        server = server_of(3, *old)
        service = serve(listener, server)
        open_flows(service, server, flows)
        was_overloaded = server.overloaded
        listener.heard.clear()
        service.set_thresholds(server, *new)
        assert (server.upper, server.lower, server.overloaded) == (*new, overloaded)
        assert listener.heard == [("server", 0)] * (overloaded != was_overloaded)

    def test_an_overload_lasts_until_below_lower_when_the_upper_limit_is_not_raised(
        self, listener: Listener
    ) -> None:
        server = server_of(upper=8, lower=4)
        service = serve(listener, server)
        open_flows(service, server, 8)
        for _ in range(3):
            service.flow_ended(server, was_active=False)
        service.set_thresholds(server, 7, 4)  # 5 flows: not reached, and not below lower either
        assert server.overloaded
        service.set_thresholds(server, 7, 6)
        assert not server.overloaded
        service.set_thresholds(server, 5, 4)
        assert server.overloaded

    def test_no_flow_overloads_nothing(self, listener: Listener) -> None:
        server = server_of(upper=1)
        service = serve(listener, server)
        service.set_thresholds(server, 1, 0)
        assert not server.overloaded


class TestWeights:
    @pytest.mark.parametrize(("admin", "health"), list(product(Admin, Health)))
    def test_only_an_enabled_server_that_is_not_down_has_its_weight(
        self, listener: Listener, admin: Admin, health: Health
    ) -> None:
        expected = 5 if admin is Admin.ENABLED and health in (Health.UP, Health.UNKNOWN) else 0
        assert effective_weight(5, admin, health) == expected
        server = server_of(weight=5)
        service = serve(listener, server)
        service.set_admin(server, admin)
        service.set_health(server, health)
        assert (server.weight, server.configured_weight) == (expected, 5)
        assert server.is_available == (expected > 0)

    def test_a_weight_set_meanwhile_counts_once_the_server_is_back(self, listener: Listener) -> None:
        server = server_of(weight=5)
        service = serve(listener, server)
        service.set_health(server, Health.DOWN)
        service.set_weight(server, 7)
        assert (server.weight, server.configured_weight) == (0, 7)
        service.set_health(server, Health.UP)
        assert server.weight == 7

    def test_a_weight_of_zero_quiesces_and_leaves_flows_alone(self, listener: Listener) -> None:
        server = server_of(weight=5)
        service = serve(listener, server)
        service.flow_opened(server)
        service.set_weight(server, 0)
        assert (server.is_available, server.flows) == (False, 1)

    def test_the_scheduler_hears_only_of_weights_that_changed(self, listener: Listener) -> None:
        first, second = make_servers([1, 2])
        service = serve(listener, first, second)
        service.set_health(second, Health.UP)  # unknown before, and in use
        service.set_weight(second, 2)
        assert listener.heard == []
        service.set_admin(second, Admin.QUIESCED)
        assert listener.heard == [("server", 1)]
        service.set_health(second, Health.DOWN)  # 0 already
        service.set_weight(second, 9)
        assert listener.heard == [("server", 1)]


class TestCounts:
    def test_a_flow_is_inactive_then_active_then_inactive_then_gone(self, listener: Listener) -> None:
        server = server_of()
        service = serve(listener, server)
        counts = []
        service.flow_opened(server)
        counts.append((server.active, server.inactive, server.flows))
        service.flow_activated(server)
        counts.append((server.active, server.inactive, server.flows))
        service.flow_deactivated(server)
        counts.append((server.active, server.inactive, server.flows))
        service.flow_ended(server, was_active=False)
        counts.append((server.active, server.inactive, server.flows))
        assert counts == [(0, 1, 1), (1, 0, 1), (0, 1, 1), (0, 0, 0)]
        assert listener.heard == [("flows", 0)] * 4

    def test_an_ended_flow_is_taken_off_the_count_it_was_in(self, listener: Listener) -> None:
        server = server_of()
        service = serve(listener, server)
        open_flows(service, server, 3)
        service.flow_activated(server)
        service.flow_ended(server, was_active=True)
        assert (server.active, server.inactive) == (0, 2)

    def test_connections_are_all_flows_there_ever_were(self, listener: Listener) -> None:
        server = server_of()
        service = serve(listener, server)
        open_flows(service, server, 3)
        service.flow_ended(server, was_active=False)
        assert (server.connections, server.flows) == (3, 2)

    def test_servers_are_counted_apart(self, listener: Listener) -> None:
        first, second = make_servers([1, 1])
        service = serve(listener, first, second)
        service.flow_opened(second)
        assert (first.flows, second.flows) == (0, 1)
        assert listener.heard == [("flows", 1)]


class TestServerList:
    def test_positions_follow_the_list_and_the_scheduler_gets_it(self, listener: Listener) -> None:
        first, second, third = make_servers([1, 1, 1])
        service = serve(listener, first, second, third)
        service.set_servers([third, first])
        assert (third.position, first.position) == (0, 1)
        assert listener.heard == [("attach", 2)]
        assert listener.servers == [third, first]

    def test_a_server_out_of_the_list_is_no_affair_of_the_schedulers(self, listener: Listener) -> None:
        first, second = make_servers([1, 1])
        service = serve(listener, first, second)
        service.set_servers([second])
        listener.heard.clear()
        service.set_weight(first, 5)
        service.set_admin(first, Admin.QUIESCED)
        service.set_health(first, Health.DOWN)
        service.set_thresholds(first, 1, 1)
        service.flow_opened(first)
        assert (first.weight, first.configured_weight, first.overloaded) == (0, 5, True)
        assert listener.heard == [("flows", 0)]  # which may be: sched/base.py
        assert [service.has(server) for server in (first, second)] == [False, True]

    def test_another_scheduler_gets_the_list_there_is(self, listener: Listener) -> None:
        service = serve(listener, *make_servers([1, 1]))
        other = Listener()
        service.set_scheduler(other)
        assert other.heard == [("attach", 2)]
        assert service.scheduler is other
        service.set_weight(service.servers[1], 3)
        assert listener.heard == []
        assert other.heard == [("attach", 2), ("server", 1)]

    def test_a_scheduler_that_cannot_take_the_list_changes_nothing(self, listener: Listener) -> None:
        class Choosy(Scheduler):
            def attach(self, servers: Sequence[RealServer]) -> None:
                raise ValueError("not these")

        service = serve(listener, *make_servers([1]))
        with pytest.raises(ValueError, match="not these"):
            service.set_scheduler(Choosy())
        assert service.scheduler is listener

    def test_the_list_is_the_services_own(self, listener: Listener) -> None:
        servers = make_servers([1, 1])
        service = VirtualService("test", TCP, VIP, listener, PROFILES["lvs"], servers)
        servers.clear()
        assert len(service.servers) == 2

    @pytest.mark.parametrize(
        ("protocol", "listen", "text"),
        [(TCP, VIP, "tcp://203.0.113.10:80"), (UDP, VIP6, "udp://[2001:db8::10]:80")],
    )
    def test_a_service_prints_as_its_listen(
        self, listener: Listener, protocol: int, listen: Endpoint, text: str
    ) -> None:
        service = VirtualService("test", protocol, listen, listener, PROFILES["lvs"], [])
        assert str(service) == text
