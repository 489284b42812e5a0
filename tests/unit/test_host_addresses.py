# SPDX-License-Identifier: Apache-2.0
"""Where a VIP or a LIP has to be added, planned from the output of `ip -j addr show`."""

from __future__ import annotations

import json
from ipaddress import ip_address

import pytest

from fullnat.host.addresses import (
    Addition,
    is_on_host,
    parse_interfaces,
    plan_additions,
    refuse_additions,
)
from fullnat.host.errors import HostError


def entry(index: int, name: str, *addresses: str, flags: tuple[str, ...] = ("UP",)) -> dict[str, object]:
    infos = []
    for text in addresses:
        local, _, peer = text.partition(" peer ")
        address, _, length = (peer or local).partition("/")
        info = {"family": "inet", "local": local.partition("/")[0], "prefixlen": int(length)}
        infos.append(info | ({"address": address} if peer else {}))
    return {"ifindex": index, "ifname": name, "flags": list(flags), "addr_info": infos}


HOST = parse_interfaces(
    json.dumps(
        [
            entry(1, "lo", "127.0.0.1/8", "::1/128", "198.18.200.1/24", flags=("LOOPBACK", "UP")),
            entry(2, "eth0", "203.0.113.1/24", "2001:db8::1/64"),
            entry(3, "eth1", "198.19.0.1/16"),
            entry(4, "eth2", "198.19.4.1/24"),
            entry(5, "down0", "198.18.5.1/24", flags=("BROADCAST",)),
            entry(6, "ppp0", "198.18.6.1 peer 198.18.7.1/24"),
            {},  # what ip prints for an interface it was told to leave out
        ]
    )
)


def plan(vips: str = "", lips: str = "") -> list[str]:
    additions = plan_additions(HOST, map(ip_address, vips.split()), map(ip_address, lips.split()))
    return [str(addition) for addition in additions]


@pytest.mark.parametrize("address", ["203.0.113.1", "2001:db8::1", "198.18.5.1", "198.18.6.1"])
def test_an_address_on_any_interface_is_left_alone(address: str) -> None:
    assert plan(vips=address, lips=address) == []


def test_an_address_of_a_connected_network_goes_on_its_interface() -> None:
    assert plan(vips="203.0.113.10", lips="198.19.0.2") == [
        "203.0.113.10/32 dev eth0",
        "198.19.0.2/32 dev eth1",
    ]


def test_the_longest_connected_prefix_wins() -> None:
    assert plan(lips="198.19.4.2") == ["198.19.4.2/32 dev eth2"]


def test_ipv6_is_added_deprecated_and_at_once() -> None:
    assert plan(vips="2001:db8::10") == ["2001:db8::10/128 dev eth0 nodad preferred_lft 0"]


def test_the_network_of_a_point_to_point_link_is_around_its_peer() -> None:
    assert plan(vips="198.18.7.9") == ["198.18.7.9/32 dev ppp0"]
    assert plan(vips="198.18.6.9") == []


def test_an_interface_that_is_down_counts_for_nothing_new() -> None:
    assert plan(vips="198.18.5.9") == []
    assert plan(lips="198.18.5.9") == ["198.18.5.9/32 dev lo"]


def test_elsewhere_a_lip_goes_on_lo_and_a_vip_nowhere() -> None:
    assert plan(vips="192.0.2.10 2001:db8:9::10", lips="192.0.2.1 2001:db8:9::1") == [
        "192.0.2.1/32 dev lo",
        "2001:db8:9::1/128 dev lo nodad preferred_lft 0",
    ]


def test_an_address_that_is_both_is_added_once() -> None:
    assert plan(vips="203.0.113.10 192.0.2.1", lips="203.0.113.10 192.0.2.1") == [
        "203.0.113.10/32 dev eth0",
        "192.0.2.1/32 dev lo",
    ]


def test_a_prefix_on_lo_makes_all_of_its_addresses_local() -> None:
    assert is_on_host(ip_address("198.18.200.77"), HOST)
    assert not is_on_host(ip_address("203.0.113.77"), HOST)
    assert not is_on_host(ip_address("2001:db8::77"), HOST)


def test_addresses_that_may_not_be_added_are_named_with_the_remedy() -> None:
    additions = plan_additions(HOST, [ip_address("203.0.113.10")], [ip_address("192.0.2.1")])
    with pytest.raises(HostError) as refusal:
        refuse_additions(additions)
    assert str(refusal.value) == (
        "203.0.113.10, 192.0.2.1: on no interface, and fullnat is not to add addresses: "
        "ip addr add 203.0.113.10/32 dev eth0; ip addr add 192.0.2.1/32 dev lo"
    )
    refuse_additions([])


def test_additions_survive_the_journal() -> None:
    addition = Addition(ip_address("2001:db8::10"), "eth0", 2)
    assert Addition.from_json(json.loads(json.dumps(addition.to_json()))) == addition
