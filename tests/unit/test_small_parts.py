# SPDX-License-Identifier: Apache-2.0
"""Addresses, the token bucket, path MTUs, identifications and the number stream."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from fullnat.core.addr import Endpoint, PortRange, parse_endpoint
from fullnat.core.ident import Identifications
from fullnat.core.limit import TokenBucket
from fullnat.core.mtu import DEFAULT_MTU, PathMtu, mss_of
from fullnat.core.prng import SplitMix64
from fullnat.core.timeouts import SECOND


@pytest.mark.parametrize("text", ["203.0.113.10:80", "[2001:db8::10]:65535"])
def test_an_endpoint_prints_as_it_was_written(text: str) -> None:
    assert str(parse_endpoint(text)) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("203.0.113.10", "no port"),
        ("203.0.113.10:", "a port is 1-65535"),
        ("203.0.113.10:0", "a port is 1-65535"),
        ("203.0.113.10:65536", "a port is 1-65535"),
        ("2001:db8::10:80", "in brackets"),
        ("[203.0.113.10]:80", "only an IPv6 address"),
        ("example.org:80", "does not appear to be"),
    ],
)
def test_what_is_no_endpoint_is_told_why(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_endpoint(text)


def test_port_ranges_include_both_ends() -> None:
    ports = PortRange(1024, 32767)
    assert len(ports) == 31744
    assert 1024 in ports
    assert 32767 in ports
    assert 1023 not in ports
    assert ports.overlaps(PortRange(32767, 40000))
    assert not ports.overlaps(PortRange(32768, 60999))


def test_a_bucket_admits_its_burst_then_its_rate() -> None:
    bucket = TokenBucket(rate=10, burst=5)
    assert [bucket.admit(SECOND) for _ in range(6)] == [True] * 5 + [False]
    assert not bucket.admit(SECOND + SECOND // 20)
    assert bucket.admit(SECOND + SECOND // 10)
    assert not bucket.admit(SECOND + SECOND // 10)
    assert sum(bucket.admit(100 * SECOND) for _ in range(100)) == 5


def test_the_longest_prefix_gives_the_mtu() -> None:
    path = PathMtu(
        [
            (ip_network("0.0.0.0/0"), 1400),
            (ip_network("198.19.0.0/24"), 9000),
            (ip_network("198.19.0.11/32"), 1280),
            (ip_network("198.19.0.11/32"), 500),
            (ip_network("2001:db8:2::/64"), 1420),
        ]
    )
    found = {text: path.find(ip_address(text).packed) for text in (
        "198.19.0.11", "198.19.0.12", "203.0.113.1", "2001:db8:2::1", "2001:db8:9::1",
    )}  # fmt: skip
    assert found == {
        "198.19.0.11": 1280,
        "198.19.0.12": 9000,
        "203.0.113.1": 1400,
        "2001:db8:2::1": 1420,
        "2001:db8:9::1": DEFAULT_MTU,
    }


def test_the_mss_leaves_room_for_the_headers() -> None:
    assert (mss_of(1500, 4), mss_of(1500, 6)) == (1460, 1440)


def test_an_identification_returns_only_after_all_others() -> None:
    ids = Identifications(seed=1)
    pair = Endpoint(ip_address("198.19.0.1"), 1).address.packed * 2
    seen = [ids.next(pair, 17) & 0xFFFF for _ in range(65536)]
    assert len(set(seen)) == 65536
    assert ids.next(pair, 17) & 0xFFFF == seen[0]


def test_the_stream_is_that_of_the_published_generator() -> None:
    # First outputs for seed 1234567, as widely published for SplitMix64.
    prng = SplitMix64(1234567)
    assert [prng.next() for _ in range(3)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]
    assert all(0 <= prng.below(10) < 10 for _ in range(100))
