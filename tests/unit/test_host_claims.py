# SPDX-License-Identifier: Apache-2.0
"""Which claims of two instances in one network namespace collide, and what the operator reads."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from fullnat.core.addr import TCP, UDP, PortRange, parse_endpoint
from fullnat.host.claims import Claims, find_conflict, make_claims
from fullnat.host.errors import HostError
from fullnat.host.plan import HostPlan
from fullnat.kernel.service import Forward, Fwmark, KernelService

PLAN = HostPlan(
    instance="main",
    queue=1080,
    mark=0x4000000,
    services=((TCP, parse_endpoint("203.0.113.10:80")), (UDP, parse_endpoint("[2001:db8::10]:53"))),
    servers=((TCP, parse_endpoint("198.19.0.11:8080")),),
    lips=(ip_address("198.19.0.1"), ip_address("2001:db8:1::1")),
    port_range=PortRange(1024, 32767),
)
MINE = make_claims(PLAN, pid=7)
OTHER = Claims(
    instance="other",
    pid=42,
    queue=1081,
    mark=0x4000000,
    services=("udp://203.0.113.10:80", "tcp://203.0.113.10:81"),
    lips=("198.19.0.2",),
    ports=(1024, 32767),
    addresses=("203.0.113.10", "198.19.0.2"),
    families=(4,),
)


def test_claims_are_read_off_the_plan() -> None:
    expected = Claims(
        instance="main",
        pid=7,
        queue=1080,
        mark=0x4000000,
        services=("tcp://203.0.113.10:80", "udp://[2001:db8::10]:53"),
        lips=("198.19.0.1", "2001:db8:1::1"),
        ports=(1024, 32767),
        addresses=("203.0.113.10", "2001:db8::10", "198.19.0.1", "2001:db8:1::1"),
        families=(4, 6),
    )
    assert expected == MINE


def test_what_ipvs_serves_is_claimed_as_well() -> None:
    listens = (parse_endpoint("[2001:db8::30]:80"), TCP), (Fwmark(7), 0), (Fwmark(7, 6), 0)
    beside = tuple(
        KernelService(listen, protocol, "rr", (), forward=Forward.DR) for listen, protocol in listens
    )
    claims = make_claims(replace(PLAN, services=PLAN.services[:1], kernel_services=beside), pid=7)
    assert claims.services[1:] == ("tcp://[2001:db8::30]:80", "fwmark://7", "fwmark6://7")
    assert claims.addresses[:2] == ("203.0.113.10", "2001:db8::30")
    assert claims.families == (4, 6)


def test_claims_survive_the_lock_file() -> None:
    assert Claims.from_json(MINE.to_json()) == MINE


@pytest.mark.parametrize("text", ["", "7", "[]", "{}", '{"pid": 7}'])
def test_a_lock_file_of_something_else_is_no_claim(text: str) -> None:
    with pytest.raises((ValueError, AttributeError)):
        Claims.from_json(text)


def test_one_address_may_serve_two_instances_by_port_and_protocol() -> None:
    assert find_conflict(MINE, [OTHER]) is None


def test_a_lip_may_be_shared_by_port_range() -> None:
    assert find_conflict(MINE, [replace(OTHER, lips=MINE.lips, ports=(40000, 50000))]) is None


@pytest.mark.parametrize(
    ("difference", "line"),
    [
        (
            {"services": ("tcp://203.0.113.10:80",)},
            "tcp://203.0.113.10:80 is served by instance other (pid 42) already: "
            "stop it, or take the service out of one",
        ),
        (
            {"lips": ("198.19.0.1",), "ports": (32767, 40000)},
            "instance other (pid 42) has ports 32767-40000 of 198.19.0.1: "
            "give one of the two another LIP or range",
        ),
        (
            {"queue": 1080},
            "queue 1080 is taken by instance other (pid 42): give one of the two another number",
        ),
        (
            {"mark": 0x8000000},
            "instance other (pid 42) marks packets with 0x8000000: all instances of a host share one mark",
        ),
    ],
)
def test_a_conflict_names_who_has_it_and_the_remedy(difference: dict[str, object], line: str) -> None:
    assert find_conflict(MINE, [replace(OTHER, **difference)]) == line  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", "fifteen-letters", "two words", "a.b", "a/b", "é"])
def test_an_instance_name_that_no_chain_could_have_is_refused(name: str) -> None:
    with pytest.raises(HostError, match="an instance is named by 1 to 14 letters"):
        replace(PLAN, instance=name)


@pytest.mark.parametrize("mark", [0, 3, 1 << 32])
def test_a_mark_is_one_bit(mark: int) -> None:
    with pytest.raises(HostError, match="a mark is one bit of 32"):
        replace(PLAN, mark=mark)
