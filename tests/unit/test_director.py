# SPDX-License-Identifier: Apache-2.0
"""What rows of packets cannot show: who holds what after a flow has ended or changed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fullnat.core.director import Director
from fullnat.core.packet import parse
from fullnat.core.reason import Reason
from fullnat.core.service import Persistence, VirtualService
from fullnat.core.timeouts import PROFILES, SECOND
from tests.packets import tcp, udp
from tests.vectors.case import NETS, Given, Net
from tests.vectors.directors import build_director


@pytest.fixture(params=NETS, ids=lambda net: f"v{net.family}")
def net(request: pytest.FixtureRequest) -> Net:
    return request.param  # type: ignore[no-any-return]


def service(director: Director, name: str) -> VirtualService:
    return next(service for service in director.services.values() if service.name == name)


def in_use(director: Director, now: int = 0) -> dict[str, int]:
    """The ports in use, by server."""
    return {str(use.real.address): use.in_use for use in director.pool.usage(now)}


def test_a_flow_reopened_on_another_server_gives_its_port_back(net: Net) -> None:
    director = build_director(Given(net, servers=2))
    director.decide(parse(tcp(net.to_vip(), "S")), 0)
    director.decide(parse(tcp(net.from_server(), "RA")), 0)
    assert director.decide(parse(tcp(net.to_vip(), "S")), SECOND).reason is Reason.FLOW_REOPENED
    assert in_use(director) == {net.servers[0]: 0, net.servers[1]: 1}


def test_a_flow_reopened_on_the_same_server_keeps_its_port(net: Net) -> None:
    director = build_director(Given(net, servers=1))
    director.decide(parse(tcp(net.to_vip(), "S")), 0)
    director.decide(parse(tcp(net.from_server(), "RA")), 0)
    assert director.decide(parse(tcp(net.to_vip(), "S")), SECOND).reason is Reason.FLOW_REOPENED
    assert in_use(director) == {net.servers[0]: 1}
    assert service(director, "web").servers[0].flows == 1


def test_a_flow_that_cannot_be_reopened_gives_everything_back(net: Net) -> None:
    director = build_director(Given(net, servers=1))
    director.decide(parse(tcp(net.to_vip(), "S")), 0)
    director.decide(parse(tcp(net.from_server(), "RA")), 0)
    web = service(director, "web")
    web.set_weight(web.servers[0], 0)
    assert director.decide(parse(tcp(net.to_vip(), "S")), SECOND).reason is Reason.NO_SERVER
    assert (len(director.flows), in_use(director), web.servers[0].flows) == (0, {net.servers[0]: 0}, 0)


def test_an_answer_gives_a_udp_flow_its_longer_timeout(net: Net) -> None:
    director = build_director(Given(net))
    dns = service(director, "dns")
    dns.timeouts = replace(PROFILES["edge"], udp_unreplied=5 * SECOND, udp=50 * SECOND)
    director.decide(parse(udp(net.to_vip(4000, 53))), 0)
    director.decide(parse(udp(net.to_vip(4001, 53))), 0)
    director.decide(parse(udp(net.from_server(5353))), 0)  # answers the first
    director.expire(6 * SECOND)
    assert [flow.client.port for flow in director.flows] == [4000]
    director.expire(51 * SECOND)
    assert len(director.flows) == 0


def test_the_end_of_a_flow_lets_go_of_its_template(net: Net) -> None:
    director = build_director(Given(net))
    dns = service(director, "dns")
    dns.persistence = Persistence(timeout=10 * SECOND, mask=32 if net.family == 4 else 128)
    dns.timeouts = replace(PROFILES["edge"], udp_unreplied=20 * SECOND)
    director.decide(parse(udp(net.to_vip(4000, 53))), 0)
    (template,) = director.persistence
    director.expire(15 * SECOND)
    assert (template.flows, len(director.persistence)) == (1, 1)  # its time is up, its flow lives
    director.expire(21 * SECOND)
    assert template.flows == 0
    director.expire(200 * SECOND)
    assert len(director.persistence) == 0


def test_connections_are_active_while_established_and_inactive_before_and_after(net: Net) -> None:
    director = build_director(Given(net))
    server = service(director, "web").servers[0]
    seen = []
    for packet in (
        tcp(net.to_vip(), "S"),
        tcp(net.from_server(), "SA"),
        tcp(net.to_vip(), "A"),
        tcp(net.to_vip(), "FA"),
    ):
        director.decide(parse(packet), 0)
        seen.append((server.active, server.inactive))
    assert seen == [(0, 1), (0, 1), (1, 0), (0, 1)]
    director.expire(10_000 * SECOND)
    assert (server.active, server.inactive) == (0, 0)
