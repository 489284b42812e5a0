# SPDX-License-Identifier: Apache-2.0
"""The bounds of the fragment table, and identifications that would have collided."""

from __future__ import annotations

import pytest

from fullnat.core.fragment import LIFETIME
from fullnat.core.packet import parse
from fullnat.core.reason import Reason
from fullnat.core.timeouts import SECOND
from tests.packets import fragments, identification, udp
from tests.vectors.case import NETS, Given, Net
from tests.vectors.directors import build_director


def _pieces(net: Net, ident: int, client: str = "", size: int = 1000) -> list[bytes]:
    return fragments(udp(net.to_vip(vport=53, client=client), b"x" * 2000), size, ident)


@pytest.mark.parametrize("net", NETS, ids=lambda net: f"v{net.family}")
def test_held_fragments_are_dropped_when_the_first_never_comes(net: Net) -> None:
    director = build_director(Given(net))
    held = director.decide(parse(_pieces(net, 1)[1]), 0)
    assert held.reason is Reason.FRAGMENT_HELD
    assert director.expire(LIFETIME - 1) == ()
    (dropped,) = director.expire(LIFETIME)
    assert (dropped.token, dropped.decision.reason) == (held.token, Reason.FRAGMENT_TIMEOUT)
    assert director.counters[Reason.FRAGMENT_TIMEOUT] == 1
    assert (len(director.fragments), director.fragments.held) == (0, 0)


@pytest.mark.parametrize("net", NETS, ids=lambda net: f"v{net.family}")
def test_a_flood_of_fragments_is_bounded_and_leaves_whole_packets_alone(net: Net) -> None:
    director = build_director(Given(net))
    reasons = [director.decide(parse(_pieces(net, ident)[1]), 0).reason for ident in range(30)]
    assert reasons == [Reason.FRAGMENT_HELD] * 10 + [Reason.FRAGMENT_LIMIT] * 20
    assert director.decide(parse(_pieces(net, 99)[0]), 0).reason is Reason.FRAGMENT_LIMIT
    assert director.decide(parse(udp(net.to_vip(4001, 53))), 0).reason is Reason.FLOW_OPENED
    director.expire(LIFETIME)
    assert director.decide(parse(_pieces(net, 99)[0]), LIFETIME).reason is Reason.FLOW_INBOUND


@pytest.mark.parametrize("net", NETS, ids=lambda net: f"v{net.family}")
def test_one_datagram_may_not_hold_too_many(net: Net) -> None:
    director = build_director(Given(net))
    piece = parse(_pieces(net, 1)[1])
    reasons = [director.decide(piece, 0).reason for _ in range(66)]
    assert reasons.count(Reason.FRAGMENT_HELD) == 64
    assert reasons[-1] is Reason.FRAGMENT_LIMIT


@pytest.mark.parametrize("net", NETS, ids=lambda net: f"v{net.family}")
def test_datagrams_of_two_clients_with_one_identification_leave_with_two(net: Net) -> None:
    director = build_director(Given(net, servers=2))
    sent = [_pieces(net, 77, client) for client in (net.client, net.other_client)]
    idents: list[set[int]] = []
    for pieces in zip(*sent, strict=True):  # interleaved, as they would arrive
        out = []
        for piece in pieces:
            view = parse(piece)
            rewrite = director.decide(view, SECOND).rewrite
            assert rewrite is not None
            out.append(identification(rewrite.apply(view)))
        idents.append(set(out))
    assert len(idents[0]) == 2
    assert all(pair == idents[0] for pair in idents)


@pytest.mark.parametrize("net", NETS, ids=lambda net: f"v{net.family}")
def test_fragments_of_a_one_packet_service_follow_their_first(net: Net) -> None:
    director = build_director(Given(net, one_packet=True))
    reasons = [director.decide(parse(piece), 0).reason for piece in _pieces(net, 5)]
    assert reasons == [Reason.FLOW_OPENED, Reason.FRAGMENT_FORWARDED, Reason.FRAGMENT_FORWARDED]


@pytest.mark.parametrize("net", NETS, ids=lambda net: f"v{net.family}")
def test_every_fragment_counts_for_its_server_whenever_it_came(net: Net) -> None:
    director = build_director(Given(net))
    pieces = _pieces(net, 5)
    for piece in (pieces[2], pieces[0], pieces[1]):
        director.decide(parse(piece), 0)
    (flow,) = director.flows
    assert (flow.inbound.packets, flow.inbound.bytes) == (3, sum(map(len, pieces)))
    assert (flow.server.packets_in, flow.server.bytes_in) == (3, sum(map(len, pieces)))
