# SPDX-License-Identifier: Apache-2.0
"""TCP flows that were ended on request: how long, how many, and who is answered."""

from __future__ import annotations

from ipaddress import ip_address

from fullnat.core.addr import TCP, Endpoint
from fullnat.core.ended import LIFETIME, EndedFlows
from fullnat.core.flow import Flow
from fullnat.core.packet import build_key
from fullnat.core.sched.base import Scheduler
from fullnat.core.service import RealServer, VirtualService
from fullnat.core.timeouts import PROFILES

SERVER = RealServer(Endpoint(ip_address("198.19.0.11"), 80))
SERVICE = VirtualService(
    "s", TCP, Endpoint(ip_address("203.0.113.10"), 80), Scheduler(), PROFILES["lvs"], [SERVER]
)


def flow_of(number: int) -> Flow:
    client, local = (
        Endpoint(ip_address(address), 1000 + number) for address in ("203.0.113.100", "198.19.0.1")
    )
    keys = build_key(client, SERVICE.listen), build_key(SERVER.endpoint, local)
    return Flow(SERVICE, SERVER, local, *keys, 0)


def test_the_first_packet_of_each_direction_is_told_apart() -> None:
    ended, flow = EndedFlows(), flow_of(0)
    ended.add(flow, 5)
    for key in (flow.inbound.key, flow.outbound.key):
        assert [ended.tell(key, 5), ended.tell(key, 6)] == [True, False]
    assert ended.tell(flow_of(1).inbound.key, 5) is None


def test_who_is_ended_again_is_told_again_and_for_as_long() -> None:
    ended, flow = EndedFlows(), flow_of(0)
    ended.add(flow, 0)
    assert ended.tell(flow.inbound.key, 1)
    ended.add(flow, 7)
    assert len(ended) == 2
    assert ended.tell(flow.inbound.key, LIFETIME) is True
    assert ended.tell(flow.inbound.key, LIFETIME + 7) is None


def test_flows_are_forgotten_in_their_order() -> None:
    ended = EndedFlows()
    for number in range(3):
        ended.add(flow_of(number), number)
    ended.expire(LIFETIME)
    assert len(ended) == 4
    ended.expire(LIFETIME + 2)
    assert len(ended) == 0


def test_beyond_the_limit_the_oldest_go() -> None:
    ended = EndedFlows(limit=4)
    for number in range(3):
        ended.add(flow_of(number), number)
    assert len(ended) == 4
    assert ended.tell(flow_of(0).inbound.key, 3) is None
    assert ended.tell(flow_of(1).inbound.key, 3) is True
