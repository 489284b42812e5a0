# SPDX-License-Identifier: Apache-2.0
"""Host on a real kernel: set up whole or not at all, and put back as it was."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from fullnat.host.errors import HostError, MissingPrivilegeError
from fullnat.host.host import Host
from namespace import inside, ip, write_sysctls
from tests.netns.host.conftest import Broken
from tests.netns.host.tools import (
    OTHER,
    PLAN,
    add_foreign,
    in_child,
    own_rules,
    run,
    state_of,
    sysctl,
)


@pytest.mark.usefixtures("flavour")
def test_restore_leaves_the_host_as_it_was(director: str, start: Callable[..., Host]) -> None:
    add_foreign(director)
    before = state_of(director)
    host = start()
    assert host.verify() == []
    during = state_of(director)
    assert all(during[part] != before[part] for part in before)
    host.restore()
    assert state_of(director) == before
    host.restore()
    assert state_of(director) == before


@pytest.mark.usefixtures("flavour")
def test_everything_is_set_up(director: str, start: Callable[..., Host]) -> None:
    add_foreign(director)
    start()
    assert sysctl("ipv4/ip_forward") == sysctl("ipv6/conf/all/forwarding") == "1"
    assert sysctl("ipv4/conf/all/accept_local") == "1"
    assert sysctl("ipv4/conf/eth0/rp_filter") == "2"
    assert sysctl("ipv4/conf/eth0/send_redirects") == sysctl("ipv4/conf/all/send_redirects") == "0"
    assert (sysctl("ipv6/conf/eth0/accept_ra"), sysctl("ipv6/conf/eth1/accept_ra")) == ("0", "2")
    addresses = run(director, "ip", "-o", "addr")
    assert "eth0    inet 198.18.0.10/32" in addresses
    assert "eth1    inet 198.19.0.2/32" in addresses
    assert "lo    inet 192.0.2.1/32" in addresses
    assert "eth0    inet6 2001:db8:1::10/128" in addresses
    assert "203.0.113.10" not in addresses
    assert "add fn-main.v4.pings 203.0.113.10\n" in run(director, "ipset", "save", "fn-main.v4.pings")
    for program in ("iptables-save", "ip6tables-save"):
        rules = run(director, program).splitlines()
        first = {
            hook: next(line for line in rules if line.startswith(f"-A {hook} "))
            for hook in ("PREROUTING", "FORWARD")
        }
        assert first["PREROUTING"].endswith("-j FULLNAT-main")
        assert first["FORWARD"].endswith("-j FULLNAT-main.pass")
        assert any(line.endswith("-j FULLNAT-main.guard") for line in rules)
        assert any("-j KEEP" in line for line in rules)


def test_a_host_that_forwards_already_gets_no_guard(director: str, start: Callable[..., Host]) -> None:
    write_sysctls(director, [("net/ipv4/ip_forward", 1)])
    start()
    assert not any("guard" in rule for rule in own_rules(director))
    assert any("guard" in rule for rule in own_rules(director, "ip6tables-save"))


def test_setting_up_takes_few_processes(start: Callable[..., Host], monkeypatch: pytest.MonkeyPatch) -> None:
    """Some 4 ms each: the budget is half a second."""
    count = []
    really_run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda *args, **more: count.append(1) or really_run(*args, **more))
    start()
    assert len(count) <= 16


@pytest.mark.usefixtures("flavour")
def test_an_ipset_of_someone_else_is_not_taken(director: str, start: Callable[..., Host]) -> None:
    add_foreign(director)
    run(director, "ipset", "create", "fn-main.v6.lips", "hash:ip", "family", "inet6")
    before = state_of(director)
    with pytest.raises(
        HostError, match=r"^ipset fn-main\.v6\.lips exists and is not fullnat's: ipset destroy"
    ):
        start()
    assert state_of(director) == before


@pytest.mark.usefixtures("flavour")
def test_a_chain_of_someone_else_is_not_taken(director: str, start: Callable[..., Host]) -> None:
    add_foreign(director)
    run(director, "iptables", "-t", "raw", "-N", "FULLNAT-main")
    run(director, "iptables", "-t", "raw", "-A", "FULLNAT-main", "-j", "RETURN")
    before = state_of(director)
    with pytest.raises(HostError, match="holds a rule that is not: '-A FULLNAT-main -j RETURN'"):
        start()
    assert state_of(director) == before


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (("ipset", "fn-main.v6.rips"), r"^ipset failed \(3\): no fn-main\.v6\.rips here$"),
        (("iptables-restore", "NFQUEUE"), r"modprobe -a xt_NFQUEUE \(CONFIG_NETFILTER_XT_TARGET_NFQUEUE\)$"),
        (("ip6tables-restore", "-m frag"), r"modprobe -a ip6t_frag \(CONFIG_IP6_NF_MATCH_FRAG\)$"),
        (("ip6tables-restore", "*filter"), r"modprobe -a ip6table_filter \(CONFIG_IP6_NF_FILTER\)$"),
        (("ip", "addr add 192.0.2.1/32"), r"^ip failed \(3\): no addr add 192\.0\.2\.1/32 here$"),
    ],
)
def test_a_failure_in_the_middle_undoes_what_was_done(
    director: str, start: Callable[..., Host], broken: Broken, failure: tuple[str, str], message: str
) -> None:
    add_foreign(director)
    before = state_of(director)
    with broken(*failure), pytest.raises(HostError, match=message):
        start()
    assert state_of(director) == before


def test_a_device_without_ipv6_undoes_everything(director: str, start: Callable[..., Host]) -> None:
    add_foreign(director)
    write_sysctls(director, [("net/ipv6/conf/lo/disable_ipv6", 1)])
    before = state_of(director)
    with pytest.raises(HostError, match="IPv6 is disabled on this device"):
        start(replace(PLAN, lips=(*PLAN.lips, ip_address("2001:db8:9::1"))))
    assert state_of(director) == before


def test_addresses_are_not_added_when_that_is_forbidden(director: str, start: Callable[..., Host]) -> None:
    add_foreign(director)
    before = state_of(director)
    with pytest.raises(HostError, match=r"ip addr add 198\.18\.0\.10/32 dev eth0; ip addr add"):
        start(replace(PLAN, add_addresses=False))
    assert state_of(director) == before


def test_without_privileges_nothing_is_claimed(director: str, tmp_path: Path) -> None:
    def claim_as_nobody() -> None:
        os.setgid(65534)
        os.setuid(65534)
        with pytest.raises(
            MissingPrivilegeError, match=r"^CAP_NET_ADMIN and CAP_NET_RAW missing: run fullnat as root$"
        ):
            Host(PLAN, tmp_path / "state").claim()

    with inside(director):
        assert in_child(claim_as_nobody) == 0
    assert not (tmp_path / "state").exists()


def test_a_vip_without_any_route_turns_rp_filter_off(director: str, start: Callable[..., Host]) -> None:
    ip("route", "del", "default", namespace=director)
    start()
    assert sysctl("ipv4/conf/eth0/rp_filter") == "0"


def test_a_dry_run_changes_nothing_and_tells_all(director: str, tmp_path: Path) -> None:
    with inside(director):
        before = state_of(director)
        text = Host(PLAN, tmp_path / "state").render_text()
        assert state_of(director) == before
    for line in (
        "# ipset restore",
        "add fn-main.v4.services 198.18.0.10,tcp:80",
        "# iptables-restore --noflush",
        "# ip6tables-restore --noflush",
        "net.ipv4.ip_forward = 1  # now 0",
        "ip addr add 198.18.0.10/32 dev eth0",
    ):
        assert f"{line}\n" in text
    assert not (tmp_path / "state").exists()


def test_each_step_needs_the_one_before(start: Callable[..., Host], tmp_path: Path) -> None:
    host = Host(PLAN, tmp_path / "state")
    host.restore()
    with pytest.raises(RuntimeError):
        host.set_up()
    with pytest.raises(RuntimeError):
        host.verify()
    with pytest.raises(ValueError):
        start().update(OTHER)
