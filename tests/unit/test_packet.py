# SPDX-License-Identifier: Apache-2.0
"""Views: the fields that rows do not show, and keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fullnat.core.addr import TCP, UDP, parse_endpoint
from fullnat.core.packet import (
    build_key,
    key_addresses,
    key_destination,
    key_endpoints,
    parse,
    reverse_key,
)
from tests.packets import fragments, tcp, udp

PATHS = ("203.0.113.100:4000 > 203.0.113.10:80", "[2001:db8:1::100]:4000 > [2001:db8:1::10]:80")


@pytest.mark.parametrize("path", PATHS)
def test_a_view_of_tcp(path: str) -> None:
    view = parse(tcp(path, "PA", payload=b"GET /", options=(("MSS", 1460),)))
    assert (view.protocol, view.payload, view.malformed, view.fragment) == (TCP, b"GET /", None, None)
    assert [str(end) for end in key_endpoints(view.key)] == path.split(" > ")


@pytest.mark.parametrize("path", PATHS)
def test_a_view_of_udp(path: str) -> None:
    view = parse(udp(path, b"question"))
    assert (view.protocol, view.payload, view.flags) == (UDP, b"question", 0)
    source, destination = key_endpoints(view.key)
    assert (view.saddr, view.daddr) == (source.address.packed, destination.address.packed)


@pytest.mark.parametrize(
    ("size", "df", "divisible"), [(1000, True, False), (1000, False, True), (500, False, False)]
)
def test_only_long_ipv4_datagrams_without_df_are_divisible(size: int, df: bool, divisible: bool) -> None:
    assert parse(udp(PATHS[0], b"x" * size, df=df)).divisible is divisible


@pytest.mark.parametrize("path", PATHS)
def test_fragments_of_one_datagram_share_its_name_and_others_do_not(path: str) -> None:
    ours = [parse(piece).fragment for piece in fragments(udp(path, b"x" * 3000), 1000, 5)]
    other = parse(fragments(udp(path, b"x" * 3000), 1000, 6)[0]).fragment
    assert [(part.offset, part.more) for part in ours if part] == [
        (0, True),
        (1000, True),
        (2000, True),
        (3000, False),
    ]
    assert len({part.datagram for part in ours if part}) == 1
    assert other is not None
    assert ours[0] is not None
    assert other.datagram != ours[0].datagram


@pytest.mark.parametrize("path", PATHS)
def test_keys_are_what_the_packet_says(path: str) -> None:
    source, destination = (parse_endpoint(end) for end in path.split(" > "))
    key = build_key(source, destination)
    assert parse(tcp(path)).key == key
    assert reverse_key(key) == build_key(destination, source)
    assert key_addresses(key) == source.address.packed + destination.address.packed
    assert key_destination(key) == destination.address.packed + destination.packed_port


@given(st.binary(max_size=120))
def test_parse_never_raises_and_explains_itself(data: bytes) -> None:
    view = parse(data)
    if view.malformed is not None:
        assert view.key == b""
    if view.key:
        assert len(view.key) in (12, 36)
        assert len(view.data) >= view.l4 + 8
