# SPDX-License-Identifier: Apache-2.0
"""Small parts of the host: local ports, routes, programs, privileges, what a kernel lacks."""

from __future__ import annotations

import json
from ipaddress import ip_network
from pathlib import Path

import pytest

from fullnat.core.addr import PortRange
from fullnat.host.errors import HostError
from fullnat.host.features import explain_failure
from fullnat.host.ports import default_port_range, read_ip_local_port_range
from fullnat.host.privileges import find_missing_capabilities
from fullnat.host.programs import ProgramError, concrete_program, find_program, run_program
from fullnat.host.routes import parse_route_mtus


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        ((32768, 60999), (1024, 32767)),
        ((1024, 30000), (30001, 65535)),
        ((10000, 65535), (1024, 9999)),
        ((1, 50000), (50001, 65535)),
        ((2000, 64559), (1024, 1999)),  # as large as the other side: the lower
        ((100, 500), (1024, 65535)),
    ],
)
def test_local_ports_are_the_larger_side_the_host_leaves(
    taken: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert default_port_range(PortRange(*taken)) == PortRange(*expected)


def test_a_host_that_takes_every_port_is_told_what_to_do() -> None:
    with pytest.raises(HostError, match="ip_local_port_range is 1024-65535 and leaves no local port"):
        default_port_range(PortRange(1024, 65535))


def test_the_hosts_own_ports_are_read(tmp_path: Path) -> None:
    (tmp_path / "net/ipv4").mkdir(parents=True)
    (tmp_path / "net/ipv4/ip_local_port_range").write_text("32768\t60999\n")
    assert read_ip_local_port_range(tmp_path) == PortRange(32768, 60999)


LINKS = json.dumps(
    [{"ifname": "eth0", "mtu": 1500}, {"ifname": "eth1", "mtu": 9000}, {"ifname": "tun0", "mtu": 1400}]
)


def test_route_mtus_are_the_routes_own_or_the_devices() -> None:
    routes = [
        {
            "dst": "default",
            "gateway": "198.18.0.254",
            "dev": "eth0",
            "metrics": [{"window": 9}, {"mtu": 1280}],
        },
        {"dst": "198.19.0.0/16", "dev": "eth1"},
        {"dst": "198.18.0.9", "dev": "tun0", "metrics": [{"advmss": 500}]},
        {"dst": "198.51.100.0/24", "nexthops": [{"dev": "eth1"}, {"dev": "tun0"}]},
        {"type": "unreachable", "dst": "203.0.113.0/24"},
        {"dst": "192.0.2.0/24", "dev": "gone"},
    ]
    assert parse_route_mtus(LINKS, json.dumps(routes), 4) == [
        (ip_network("0.0.0.0/0"), 1280),
        (ip_network("198.19.0.0/16"), 9000),
        (ip_network("198.18.0.9/32"), 1400),
        (ip_network("198.51.100.0/24"), 1400),
    ]


def test_the_ipv6_default_route_is_an_ipv6_prefix() -> None:
    routes = json.dumps([{"dst": "default", "dev": "eth0"}])
    assert parse_route_mtus(LINKS, routes, 6) == [(ip_network("::/0"), 1500)]


@pytest.mark.parametrize("routes", ["", "[]", "[]\n"])
def test_no_routes_are_no_mtus(routes: str) -> None:
    assert parse_route_mtus(LINKS, routes, 4) == []


@pytest.mark.parametrize(
    ("program", "package"),
    [
        ("ipset", "ipset"),
        ("ip6tables-restore", "iptables"),
        ("mount", "mount"),
        ("tc", "iproute2"),
        ("nft", "nftables"),
    ],
)
def test_a_missing_program_is_named_with_its_package(
    monkeypatch: pytest.MonkeyPatch, program: str, package: str
) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path: None)
    with pytest.raises(HostError, match=rf"^program {program} is missing: apt-get install {package}$"):
        find_program(program)


def test_what_a_program_says_becomes_one_line() -> None:
    script = "echo '# Warning: x' >&2; echo '  first' >&2; echo >&2; echo second >&2; exit 3"
    with pytest.raises(ProgramError) as failure:
        run_program(["sh", "-c", script])
    assert str(failure.value) == "sh failed (3): first; second"
    assert failure.value.message == "first; second"


def test_input_goes_in_and_output_comes_back() -> None:
    assert run_program(["cat"], "a\nb\n") == "a\nb\n"


def executable(path: Path, script: str = "exit 0") -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_the_flavour_behind_an_alternative_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executable(tmp_path / "xtables-nft-multi")
    (tmp_path / "iptables-nft-restore").symlink_to("xtables-nft-multi")
    (tmp_path / "alternative").mkdir()
    (tmp_path / "alternative/iptables-restore").symlink_to(tmp_path / "iptables-nft-restore")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/iptables-restore").symlink_to(tmp_path / "alternative/iptables-restore")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert concrete_program("iptables-restore") == str(tmp_path / "iptables-nft-restore")


@pytest.mark.parametrize(
    ("effective", "missing"),
    [
        ("000001ffffffffff", []),
        ("0000000000003000", []),
        ("0000000000001000", ["CAP_NET_RAW"]),
        ("0000000000000000", ["CAP_NET_ADMIN", "CAP_NET_RAW"]),
    ],
)
def test_missing_capabilities_are_found(effective: str, missing: list[str]) -> None:
    status = f"Name:\tpython\nCapPrm:\t000001ffffffffff\nCapEff:\t{effective}\n"
    assert find_missing_capabilities(status) == missing


def explain(restore: Path, family: int = 4) -> str:
    error = ProgramError("iptables-restore", 1, "line 7 failed")
    explained = explain_failure(
        error,
        family,
        tables=("raw", "filter"),
        restore=[str(restore)],
        chain="probe",
        ipset="fn-main.v4.lips",
    )
    return str(explained)


def test_what_the_kernel_lacks_is_named(tmp_path: Path) -> None:
    restore = executable(tmp_path / "restore", "! grep -q -e NFQUEUE -e 'match-set fn-main.v4.lips'")
    assert explain(restore) == (
        "the kernel lacks what the rules need: modprobe -a xt_set xt_NFQUEUE "
        "(CONFIG_NETFILTER_XT_SET, CONFIG_NETFILTER_XT_TARGET_NFQUEUE)"
    )


def test_fragments_of_ipv6_need_a_match_of_their_own(tmp_path: Path) -> None:
    restore = executable(tmp_path / "restore", "! grep -q -e '-m frag'")
    assert "modprobe -a ip6t_frag (CONFIG_IP6_NF_MATCH_FRAG)" in explain(restore, 6)
    assert explain(restore, 4) == "iptables-restore failed (1): line 7 failed"


def test_a_missing_table_hides_what_would_be_in_it(tmp_path: Path) -> None:
    restore = executable(tmp_path / "restore", "! grep -q '^[*]raw'")
    assert explain(restore) == (
        "the kernel lacks what the rules need: modprobe -a iptable_raw (CONFIG_IP_NF_RAW)"
    )


def test_probing_cleans_up_after_itself(tmp_path: Path) -> None:
    log = tmp_path / "log"
    explain(executable(tmp_path / "restore", f"cat >> {log}"))
    text = log.read_text()
    assert text.count(":probe - [0:0]") == text.count("-X probe") == 8
