# SPDX-License-Identifier: Apache-2.0
"""What others change while an instance runs, and what its own configuration changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address

import pytest

from fullnat.core.addr import TCP, PortRange, parse_endpoint
from fullnat.host.errors import HostError
from fullnat.host.host import Host
from namespace import ip, write_sysctls
from tests.netns.host.conftest import Broken
from tests.netns.host.tools import (
    OTHER,
    add_foreign,
    normal,
    own_rules,
    run,
    state_of,
    sysctl,
)


@pytest.mark.usefixtures("flavour")
@pytest.mark.parametrize(
    ("damage", "finding"),
    [
        (("iptables", "-t", "raw", "-F"), "iptables: 18 of 24 rules are gone"),
        (("ip6tables", "-t", "raw", "-D", "OUTPUT", "1"), "ip6tables: 1 of 24 rules are gone"),
        (("iptables", "-F", "FORWARD"), "iptables: 2 of 24 rules are gone"),
        (("iptables", "-t", "raw", "-A", "OUTPUT", "-j", "FULLNAT-main"), "iptables: our rules are doubled"),
        (("ipset", "del", "fn-main.v4.lips", "192.0.2.1"), "ipset fn-main.v4.lips differs in 1 of 2 entries"),
        (("ipset", "flush", "fn-main.v6.services"), "ipset fn-main.v6.services differs in 1 of 1 entries"),
        (("ip", "addr", "del", "198.18.0.10/32", "dev", "eth0"), "198.18.0.10 is gone from eth0"),
        (("sysctl", "-qw", "net.ipv4.ip_forward=0"), "net.ipv4.ip_forward is 0, not 1"),
        (("sysctl", "-qw", "net.ipv4.conf.eth0.rp_filter=1"), "net.ipv4.conf.eth0.rp_filter is 1, not 2"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_what_others_change_is_found_and_repaired(
    director: str, start: Callable[..., Host], damage: tuple[str, ...], finding: str
) -> None:
    before = state_of(director)["sysctl"]
    host = start()
    during = state_of(director)
    run(director, *damage)
    findings = host.verify()
    assert len(findings) == 1
    assert findings[0].startswith(finding)
    assert host.repair() == findings
    assert host.verify() == host.repair() == []
    assert normal(state_of(director)) == normal(during)
    host.restore()
    assert state_of(director)["sysctl"] == before


def test_a_set_that_was_destroyed_with_all_rules_comes_back(
    director: str, start: Callable[..., Host]
) -> None:
    host = start()
    for program in ("iptables", "ip6tables"):
        run(director, program, "-t", "raw", "-F")
    run(director, "ipset", "destroy")
    assert "ipset fn-main.v4.services is gone" in host.verify()
    host.repair()
    assert host.verify() == []


def test_a_device_that_appears_later_is_covered(director: str, start: Callable[..., Host]) -> None:
    write_sysctls(director, [("net/ipv4/conf/default/rp_filter", 1)])
    host = start()
    ip("link", "add", "eth2", "type", "veth", "peer", "name", "late", namespace=director)
    assert sysctl("ipv4/conf/eth2/forwarding") == "1"
    assert sysctl("ipv4/conf/eth2/rp_filter") == "2"
    assert sysctl("ipv4/conf/eth2/send_redirects") == "0"
    assert sysctl("ipv6/conf/eth2/accept_ra") == "2"
    assert host.verify() == []


def test_a_lost_default_route_is_found_at_the_next_check(director: str, start: Callable[..., Host]) -> None:
    host = start()
    ip("route", "del", "default", namespace=director)
    assert host.verify() == ["net.ipv4.conf.eth0.rp_filter is 2, not 0"]
    host.repair()
    host.restore()
    assert sysctl("ipv4/conf/eth0/rp_filter") == "1"


@pytest.mark.usefixtures("flavour")
def test_services_come_and_go_without_touching_what_stays(director: str, start: Callable[..., Host]) -> None:
    add_foreign(director)
    before = state_of(director)
    host = start(OTHER)
    chains = [line for line in own_rules(director) if "other.nfq" in line]
    grown = replace(
        OTHER,
        services=(
            *OTHER.services,
            (TCP, parse_endpoint("198.18.0.20:443")),
            (TCP, parse_endpoint("[2001:db8:1::20]:443")),
        ),
        servers=(*OTHER.servers, (TCP, parse_endpoint("[2001:db8:2::12]:443"))),
        lips=(*OTHER.lips, ip_address("2001:db8:2::3")),
    )
    host.update(grown)
    assert host.verify() == []
    assert [line for line in own_rules(director) if "other.nfq" in line] == chains
    assert "198.18.0.20/32" in run(director, "ip", "addr")
    assert len(own_rules(director, "ip6tables-save")) == 24
    assert sysctl("ipv6/conf/all/forwarding") == "1"
    host.update(replace(OTHER, port_range=PortRange(2000, 3000)))
    assert host.verify() == []
    assert any("--dport 2000:3000" in rule for rule in own_rules(director))
    assert "198.18.0.20" not in run(director, "ip", "addr")
    assert own_rules(director, "ip6tables-save") == []
    assert "fn-other.v6" not in run(director, "ipset", "list", "-n")
    host.restore()
    assert state_of(director) == before


def test_an_update_that_fails_leaves_the_old_plan_in_force(
    director: str, start: Callable[..., Host], broken: Broken
) -> None:
    host = start(OTHER)
    during = state_of(director)
    grown = replace(OTHER, services=(*OTHER.services, (TCP, parse_endpoint("198.18.0.20:443"))))
    with broken("ip", "addr add 198.18.0.20/32"), pytest.raises(HostError, match="no addr add"):
        host.update(grown)
    assert host.verify() == []
    assert normal(state_of(director)) == normal(during)
    assert host.plan == OTHER
