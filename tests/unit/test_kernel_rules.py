# SPDX-License-Identifier: Apache-2.0
"""The scripts of `fullnat render`, whole, against golden/; and what must hold of any of them."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fullnat.control.config import Config, load_config
from fullnat.control.render import TOOLS, render
from fullnat.core.addr import TCP, UDP, Endpoint, PortRange, parse_endpoint
from fullnat.host.errors import HostError
from fullnat.kernel import iptables, nft
from fullnat.kernel.needs import needs
from fullnat.kernel.service import (
    Forward,
    Fwmark,
    KernelPersistence,
    KernelServer,
    KernelService,
    LocalPool,
)

GOLDEN = Path(__file__).parent / "golden"
PORTS = PortRange(1024, 32767)
MARK = 1 << 26
SCRIPTS = {"iptables": "render.iptables.sh", "ipvsadm": "render.ipvsadm.sh", "nft": "render.nft"}

addresses = st.lists(st.integers(1, 40), min_size=1, max_size=12, unique=True).map(
    lambda hosts: [ip_address(f"198.19.0.{host}") for host in hosts]
)


@pytest.fixture(scope="module")
def config() -> Config:
    """Both families and protocols, schedulers, weights, persistence, local addresses in two ranges."""
    return load_config(GOLDEN / "render.toml")


def service(*weights: int, scheduler: str = "wrr", family: int = 4, mask: int | None = None) -> KernelService:
    """One with a server of each weight."""
    vip, rip = {4: ("203.0.113.10", "198.19.0.{}"), 6: ("[2001:db8::10]", "[2001:db8:2::{}]")}[family]
    return KernelService(
        parse_endpoint(f"{vip}:80"),
        TCP,
        scheduler,
        tuple(
            KernelServer(parse_endpoint(f"{rip.format(at)}:8080"), weight)
            for at, weight in enumerate(weights, 11)
        ),
        persistence=None if mask is None else KernelPersistence(60, mask),
    )


def pool(*addresses: str) -> LocalPool:
    """The local addresses, with PORTS."""
    return LocalPool(tuple(map(ip_address, addresses)), PORTS)


# Whole scripts.


@pytest.mark.parametrize("tool", TOOLS)
def test_a_script_is_the_golden_one(config: Config, tool: str) -> None:
    assert config.snat.ports is not None
    assert render(config, tool, config.snat.ports) == (GOLDEN / SCRIPTS[tool]).read_text()


@pytest.mark.parametrize("tool", ["iptables", "ipvsadm"])
def test_a_script_without_services_is_one_too(config: Config, tool: str) -> None:
    text = render(replace(config, services=()), tool, PORTS)
    subprocess.run(["sh", "-n"], input=text, text=True, check=True)
    assert "EOF\nEOF" not in text.replace("wanted=$(cat <<'EOF'\nEOF", "").replace("<<'EOF'\nEOF", "")


@pytest.mark.parametrize(
    ("tool", "line"),
    [
        ("iptables", "have ip6tables "),
        ("ipvsadm", "have ip6tables "),
        ("nft", "delete table ip6 fullnat_web_1\n"),
    ],
)
def test_a_family_without_services_is_taken_out(config: Config, tool: str, line: str) -> None:
    """An earlier config may have had it."""
    only = replace(config, services=tuple(one for one in config.services if one.listen.family == 4))
    text = render(only, tool, PORTS)
    assert f"\n{line}" in text
    assert "2001:db8" not in text


KERNEL_SERVICES = """
[[service]]
listen = "tcp://203.0.113.20:80"
forward = "dr"
server = [{ address = "198.19.0.11" }]
[[service]]
listen = "fwmark6://7"
server = [{ address = "[2001:db8:2::11]" }]
"""


@pytest.fixture
def mixed(tmp_path: Path) -> Config:
    """The same, and services that IPVS alone can have."""
    path = tmp_path / "mixed.toml"
    path.write_text((GOLDEN / "render.toml").read_text() + KERNEL_SERVICES)
    return load_config(path)


def test_ipvsadm_has_every_service(mixed: Config) -> None:
    lines = render(mixed, "ipvsadm", PORTS).splitlines()
    for line in (
        "-A -t 203.0.113.20:80 -s wlc",
        "-a -t 203.0.113.20:80 -r 198.19.0.11:80 -g -w 1 -x 0 -y 0",
        "-A -f 7 -6 -s wlc",
        "-a -f 7 -6 -r [2001:db8:2::11]:0 -m -w 1 -x 0 -y 0",
    ):
        assert line in lines
    golden = (GOLDEN / SCRIPTS["ipvsadm"]).read_text().replace("render.toml", "mixed.toml").splitlines()
    assert set(golden) <= set(lines)


@pytest.mark.parametrize("tool", ["iptables", "nft"])
def test_other_tools_say_which_service_they_cannot_have(mixed: Config, tool: str) -> None:
    with pytest.raises(
        HostError, match=f"^{tool} cannot have tcp://203.0.113.20:80, .*: fullnat render ipvsadm$"
    ):
        render(mixed, tool, PORTS)


@pytest.mark.parametrize("tool", TOOLS)
def test_no_name_of_a_file_ends_a_comment(config: Config, tool: str) -> None:
    _, *lines = render(replace(config, path=Path("a\nreboot\n")), tool, PORTS).splitlines()
    head = lines[: next(number for number, line in enumerate(lines) if not line.startswith("#"))]
    assert "# reboot" in head
    assert "reboot" not in lines


# What must hold of any.


@pytest.mark.parametrize("family", [4, 6])
def test_chains_of_the_longest_instance_are_no_longer_than_iptables_takes(family: int) -> None:
    services = [service(*[1] * 20, family=family) for _ in range(200)]
    rules = iptables.full_nat_rules("twelve-chars", services, pool("198.19.0.1", "2001:db8::1"), family, MARK)
    names = [name for chains in rules.chains.values() for name in chains]
    assert len(names) == 200 * 21 + 3
    assert max(map(len, names)) <= 28


def test_clients_are_remembered_by_server_and_mask_not_by_place() -> None:
    """A list of `recent` outlives rules that are replaced in one step: it must stay its server's."""

    def lists(one: KernelService) -> dict[str, str]:
        rules = iptables.full_nat_rules("main", [one], pool("198.19.0.1"), 4, MARK).chains["nat"]
        return {
            target: name
            for chain in rules.values()
            for name in re.findall(r"--name (\S+) .* --set ", "\n".join(chain))
            for target in re.findall(r"--to-destination (\S+)", "\n".join(chain))
        }

    both = service(1, 1, mask=24)
    turned = replace(both, servers=both.servers[::-1])
    assert len(set(lists(both).values())) == 2
    assert lists(both) == lists(turned)
    assert not set(lists(both).values()) & set(lists(service(1, 1, mask=25)).values())


@given(addresses)
def test_local_addresses_are_used_alike(found: list[object]) -> None:
    """Each range in proportion to its size, whichever rule it is in."""
    left, covered = 1.0, 0
    for text, match in iptables.sources_of(found):  # type: ignore[arg-type]
        first, _, last = text.partition("-")
        size = int(ip_address(last or first)) - int(ip_address(first)) + 1
        chance = re.fullmatch(r" -m statistic --mode random --probability (\S+)", match)
        part = float(chance[1]) if chance else 1.0
        assert left * part * len(found) == pytest.approx(size, rel=1e-6)
        left *= 1 - part
        covered += size
    assert covered == len(found)
    assert left == 0


@given(st.lists(st.integers(0, 9), min_size=2, max_size=6), st.sampled_from(["rr", "wrr"]))
def test_a_map_of_nft_has_each_number_once_and_each_server_by_weight(
    weights: list[int], scheduler: str
) -> None:
    one = service(*weights, scheduler=scheduler)
    text = nft.script("main", [one], pool("198.19.0.1"), 4, MARK)
    taking = {server.endpoint: server.weight for server in one.servers if server.weight}
    expected = dict.fromkeys(taking, 1) if scheduler == "rr" else taking
    entries = [line for line in text.splitlines() if "dnat" in line]
    assert len(entries) == (2 if taking else 0)
    if len(taking) < 2:
        assert all(line.endswith(f"dnat ip to {endpoint}") for line in entries for endpoint in taking)
        return
    (size,) = re.findall(r"mod (\d+) map", entries[0])
    numbers: Counter[int] = Counter()
    held: Counter[Endpoint] = Counter()
    for low, high, address, port in re.findall(r"(\d+)(?:-(\d+))? : (\S+) \. (\d+)", entries[0]):
        span = range(int(low), int(high or low) + 1)
        numbers.update(span)
        held[Endpoint(ip_address(address), int(port))] += len(span)
    assert numbers == dict.fromkeys(range(int(size)), 1)
    assert held == expected


@pytest.mark.parametrize(
    ("family", "mask", "hashed"),
    [
        (4, 32, "ip saddr"),
        (4, 31, "@nh,96,24"),
        (4, 24, "@nh,96,24"),
        (4, 20, "@nh,96,16"),
        (4, 4, "@nh,96,8"),
        (6, 128, "ip6 saddr"),
        (6, 64, "@nh,64,64"),
    ],
)
def test_nft_hashes_whole_bytes_of_a_clients_prefix(family: int, mask: int, hashed: str) -> None:
    one = service(1, 1, family=family, mask=mask)
    text = nft.script("main", [one], pool("198.19.0.1", "2001:db8::1"), family, MARK)
    assert f"jhash {hashed} mod 2 " in text


def test_what_is_otherwise_is_said() -> None:
    kept = service(1, 1, scheduler="rr", mask=20)
    assert iptables.differences(kept) == [
        "persistence remembers 100 clients a server (more: modprobe xt_recent ip_list_tot=N)"
    ]
    assert nft.differences(kept) == [
        "persistence is a hash of the client's /16, by weights, and ends when the servers change"
    ]
    for differences in (iptables.differences, nft.differences):
        assert differences(replace(kept, persistence=None)) == []


# What real servers need.


@pytest.mark.parametrize(
    ("family", "forward", "line"),
    [
        (
            4,
            Forward.NAT,
            "tcp://203.0.113.10:80: forward nat: each of 198.19.0.11, 198.19.0.12 needs its way to clients "
            "through the director: ip route replace default via 198.19.0.1",
        ),
        (
            4,
            Forward.DR,
            "tcp://203.0.113.10:80: forward dr: each of 198.19.0.11, 198.19.0.12 needs the VIP on lo "
            "(ip addr add 203.0.113.10/32 dev lo) and no ARP for it (net.ipv4.conf.all.arp_ignore=1, "
            "net.ipv4.conf.all.arp_announce=2), listening on port 80, on a link of the director's own",
        ),
        (
            4,
            Forward.TUN,
            "tcp://203.0.113.10:80: forward tun: each of 198.19.0.11, 198.19.0.12 needs the VIP on a tunnel "
            "device (modprobe ipip; ip link set tunl0 up; ip addr add 203.0.113.10/32 dev tunl0) and no ARP "
            "for it (net.ipv4.conf.all.arp_ignore=1, net.ipv4.conf.all.arp_announce=2), "
            "net.ipv4.conf.all.rp_filter=0, net.ipv4.conf.tunl0.rp_filter=0, listening on port 80",
        ),
        (
            6,
            Forward.NAT,
            "tcp://[2001:db8::10]:80: forward nat: each of 2001:db8:2::11, 2001:db8:2::12 needs its way to "
            "clients through the director: ip route replace default via the director",
        ),
        (
            6,
            Forward.DR,
            "tcp://[2001:db8::10]:80: forward dr: each of 2001:db8:2::11, 2001:db8:2::12 needs the VIP on lo "
            "(ip addr add 2001:db8::10/128 dev lo), listening on port 80, on a link of the director's own",
        ),
        (
            6,
            Forward.TUN,
            "tcp://[2001:db8::10]:80: forward tun: each of 2001:db8:2::11, 2001:db8:2::12 needs the VIP on a "
            "tunnel device (modprobe ip6_tunnel; ip link set ip6tnl0 up; ip addr add 2001:db8::10/128 dev "
            "ip6tnl0), listening on port 80",
        ),
    ],
)
def test_servers_need_what_the_forwarding_mode_does_not_do(family: int, forward: Forward, line: str) -> None:
    one = replace(service(1, 1, family=family), forward=forward)
    assert needs([one], {4: ip_address("198.19.0.1")}) == [line]


def test_servers_need_nothing_for_full_nat() -> None:
    assert needs([service(1), replace(service(1), protocol=UDP)], {}) == []


def test_a_mark_names_no_address_and_no_port() -> None:
    marked = replace(service(), listen=Fwmark(7), protocol=0, forward=Forward.DR)
    (line,) = needs([marked], {})
    assert line.startswith(
        "fwmark://7: forward dr: each of no server yet needs the VIP on lo (ip addr add VIP/32"
    )
    assert "listening" not in line
