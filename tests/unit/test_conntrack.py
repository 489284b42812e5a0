# SPDX-License-Identifier: Apache-2.0
"""Connections as ctnetlink is told of them, and read back; test_fallback.py has what the kernel says."""

from __future__ import annotations

import struct

import pytest

from fullnat.core.addr import TCP, UDP, parse_endpoint
from fullnat.host import conntrack, netlink
from fullnat.host.conntrack import Connection

MARK = 1 << 26

CONNECTIONS = {
    "tcp4": Connection(
        TCP,
        parse_endpoint("203.0.113.100:4000"),
        parse_endpoint("203.0.113.10:80"),
        parse_endpoint("198.19.0.1:5000"),
        parse_endpoint("198.19.0.11:8080"),
        timeout=900,
    ),
    "udp6": Connection(
        UDP,
        parse_endpoint("[2001:db8:1::100]:4000"),
        parse_endpoint("[2001:db8:1::10]:53"),
        parse_endpoint("[2001:db8:2::1]:5000"),
        parse_endpoint("[2001:db8:2::11]:5353"),
        timeout=0,
    ),
}


def entry_of(connection: Connection) -> dict[int, bytes]:
    """The attributes of the one message that makes *connection*; it is whole, and aligned."""
    message = conntrack._entry(connection, MARK)
    assert struct.unpack_from("=I", message) == (len(message),)
    assert len(message) % 4 == 0
    ((kind, _, _, body),) = netlink.messages(message)
    assert kind == conntrack._NEW_ENTRY
    assert body[0] == conntrack._FAMILIES[connection.client.family]
    return netlink.netfilter_attributes(body)


@pytest.mark.parametrize("name", CONNECTIONS)
def test_both_tuples_are_as_the_client_sees_them(name: str) -> None:
    connection = CONNECTIONS[name]
    attributes = entry_of(connection)
    assert conntrack._destination(attributes[conntrack._ORIG]) == connection.virtual
    assert conntrack._destination(attributes[conntrack._REPLY]) == connection.client


@pytest.mark.parametrize("name", CONNECTIONS)
def test_both_translations_name_one_address_and_one_port(name: str) -> None:
    connection = CONNECTIONS[name]
    attributes = entry_of(connection)
    for kind, end in ((conntrack._NAT_SRC, connection.local), (conntrack._NAT_DST, connection.server)):
        nat = netlink.attributes(attributes[kind])
        low, high = conntrack._NAT_IP[end.family]
        assert nat[low] == nat[high] == end.address.packed
        ports = netlink.attributes(nat[conntrack._NAT_PORTS])
        assert set(ports.values()) == {end.packed_port}
        assert len(ports) == 2


@pytest.mark.parametrize(("name", "seconds"), [("tcp4", 900), ("udp6", 1)])
def test_it_is_marked_and_lives_for_a_second_at_least(name: str, seconds: int) -> None:
    attributes = entry_of(CONNECTIONS[name])
    assert attributes[conntrack._MARK] == struct.pack("!I", MARK)
    assert attributes[conntrack._TIMEOUT] == struct.pack("!I", seconds)


def test_only_tcp_has_a_state_established_and_unchecked() -> None:
    tcp, udp = entry_of(CONNECTIONS["tcp4"]), entry_of(CONNECTIONS["udp6"])
    assert conntrack._PROTOCOL_INFO not in udp
    info = netlink.attributes(tcp[conntrack._PROTOCOL_INFO])
    state = netlink.attributes(info[conntrack._TCP_INFO])
    assert state[conntrack._TCP_STATE] == b"\x03"
    assert [state[flags] for flags in conntrack._TCP_FLAGS] == [b"\x08\x08"] * 2
