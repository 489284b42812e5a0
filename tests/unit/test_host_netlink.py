# SPDX-License-Identifier: Apache-2.0
"""Netlink messages, built and taken apart."""

from __future__ import annotations

import errno
import struct

import pytest

from fullnat.host import netlink
from fullnat.host.netlink import Message


def test_messages_of_a_datagram_are_told_apart() -> None:
    datagram = netlink.message(20, netlink.ACK, b"abcd", 7) + netlink.message(3, 0, b"\0\0\0\0")
    assert list(netlink.messages(datagram)) == [
        Message(20, netlink.REQUEST | netlink.ACK, 7, b"abcd"),
        Message(3, netlink.REQUEST, 0, b"\0\0\0\0"),
    ]
    assert list(netlink.messages(b"")) == []


def test_a_message_that_is_not_a_multiple_of_four_is_followed_by_the_next() -> None:
    odd = struct.pack("=IHHII", 19, 20, 2, 1, 0) + b"abc\0"
    assert [one.body for one in netlink.messages(odd + netlink.message(3, 0, b"last"))] == [b"abc", b"last"]


@pytest.mark.parametrize("value", [b"", b"a", b"abc", b"abcd", b"abcde"])
def test_attributes_are_aligned_and_found_again(value: bytes) -> None:
    packed = netlink.attribute(5, value) + netlink.attribute(6, b"next")
    assert len(packed) % 4 == 0
    assert netlink.attributes(packed) == {5: value, 6: b"next"}


def test_a_nest_is_found_by_its_number_alone() -> None:
    nested = netlink.attributes(netlink.nest(4, netlink.attribute(1, b"in")))
    assert netlink.attributes(nested[4]) == {1: b"in"}


@pytest.mark.parametrize(
    ("broken", "found"), [(b"\0\0", {}), (b"\0\0\0\0\0\0", {0: b""}), (b"\3\0\1\0", {1: b""})]
)
def test_a_broken_length_ends_and_does_not_raise(broken: bytes, found: dict[int, bytes]) -> None:
    assert netlink.attributes(broken) == found


def test_an_acknowledgement_is_no_error() -> None:
    assert Message(netlink.ERROR, 0, 1, struct.pack("=i", 0)).error is None
    assert Message(netlink.DONE, 0, 1, struct.pack("=i", -errno.ENOENT)).error is None
    error = Message(netlink.ERROR, 0, 1, struct.pack("=i", -errno.ENOENT)).error
    assert error is not None
    assert error.errno == errno.ENOENT


def test_a_request_of_netfilter_says_its_family_and_resource() -> None:
    (message,) = netlink.messages(netlink.netfilter_message(16, 0, 10, b"\4\0\1\0", resource=10))
    assert message.body[:4] == b"\x0a\0\0\x0a"  # the resource is in network byte order
    assert netlink.netfilter_attributes(message.body) == {1: b""}
