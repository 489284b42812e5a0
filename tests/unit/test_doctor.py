# SPDX-License-Identifier: Apache-2.0
"""The doctor's checks, each on facts that are right and on facts that are not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from fullnat.cli import commands
from fullnat.control import doctor
from fullnat.core.addr import TCP, PortRange, parse_endpoint
from fullnat.host.addresses import parse_interfaces
from fullnat.host.claims import make_claims
from fullnat.host.devices import Device
from fullnat.host.errors import HostError
from fullnat.host.facts import Facts, find_missing_programs, parse_queues, read_martians
from fullnat.host.findings import (
    Finding,
    Level,
    QueueRow,
    Unknown,
    check_devices,
    check_fallback,
    check_firewall,
    check_kernel,
    check_martians,
    check_native,
    check_ports,
    check_programs,
    check_queues,
    check_realtime,
    check_services,
    check_sysctls,
)
from fullnat.host.firewall import ClosedChain, parse_ruleset, parse_saved
from fullnat.host.ipvs import find_unserved
from fullnat.kernel.service import Forward, Fwmark, KernelServer, KernelService

MARK = 0x4000000
FINE_SYSCTLS = {
    "net/ipv4/ip_forward": "1",
    "net/ipv4/conf/all/forwarding": "1",
    "net/ipv4/conf/all/accept_redirects": "0",
    "net/ipv4/conf/all/accept_local": "1",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/eth0/rp_filter": "2",
    "net/ipv4/conf/eth0/send_redirects": "1",  # not vital
    "net/ipv6/conf/all/forwarding": "1",
}
TUNED = Device("eth0", 2, "1", {"rx-0": "0"}, has_napi=True, is_napi_certain=True)
PLAN = doctor.plan_in_general(has_ipv6=True)
FINE = Facts(
    missing_programs=[],
    trial="",
    ip_local_ports=PortRange(32768, 60999),
    sysctls=FINE_SYSCTLS,
    is_sysctl_writable=True,
    martians=(7, 7),
    chains=[],
    devices=[TUNED],
    spread={0},
    cpus=2,
    rt_runtime_us=950000,
    realtime_refusal="",
    queues=[QueueRow(1080, 0, 0)],
)


def levels(findings: list[Finding]) -> list[Level]:
    return [finding.level for finding in findings]


def only(findings: list[Finding]) -> Finding:
    (finding,) = findings
    return finding


def text(findings: list[Finding]) -> str:
    return str(only(findings))


# Programs, kernel, extension, ports.


def test_missing_programs_are_named_with_their_package() -> None:
    assert text(check_programs(["program ipset is missing: apt-get install ipset"])) == (
        "problem  programs: program ipset is missing; apt-get install ipset"
    )
    assert levels(check_programs([])) == [Level.OK]


def test_missing_programs_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path: None if "6" in name else f"/usr/sbin/{name}")
    assert find_missing_programs([4]) == []
    assert [sentence.split()[1] for sentence in find_missing_programs([4, 6])] == [
        "ip6tables-save",
        "ip6tables-restore",
    ]


def test_a_kernel_without_the_rules_is_named() -> None:
    assert text(check_kernel("the kernel lacks what the rules need: modprobe -a xt_set")) == (
        "problem  kernel: the kernel lacks what the rules need; modprobe -a xt_set"
    )
    assert levels(check_kernel("")) == [Level.OK]
    assert text(check_kernel(Unknown("that takes root"))) == "note     kernel: not looked at: that takes root"


@pytest.mark.parametrize(
    ("failure", "wanted", "level"),
    [("", True, Level.OK), ("no such module", False, Level.NOTE), ("no such module", True, Level.PROBLEM)],
)
def test_the_extension_is_a_problem_only_where_it_is_asked_for(
    failure: str, wanted: bool, level: Level
) -> None:
    assert levels(check_native(failure, wanted=wanted)) == [level]


def test_why_a_module_cannot_be_imported_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "torn_extension.py").write_text("raise ImportError('undefined symbol:\\n  fn_flow_find')")
    assert doctor.import_failure("torn_extension") == "undefined symbol: fn_flow_find"
    assert doctor.import_failure("no_extension_of_this_name") == "No module named 'no_extension_of_this_name'"
    assert doctor.import_failure("json") == ""


@pytest.mark.parametrize(
    ("wanted", "taken", "level", "words"),
    [
        (None, (32768, 60999), Level.OK, "1024-32767"),
        ((61000, 65535), (32768, 60999), Level.OK, "61000-65535"),
        ((1024, 40000), (32768, 60999), Level.PROBLEM, "leave ports out to have 1024-32767"),
        (None, (1024, 65535), Level.PROBLEM, "leaves no local port for fullnat; sysctl"),
    ],
)
def test_local_ports_must_not_be_the_hosts(
    wanted: tuple[int, int] | None, taken: tuple[int, int], level: Level, words: str
) -> None:
    finding = only(check_ports(wanted and PortRange(*wanted), PortRange(*taken)))
    assert finding.level is level
    assert words in str(finding)


# Sysctls and martians.


@pytest.mark.parametrize(
    ("key", "value", "needed"),
    [
        ("net/ipv4/ip_forward", "0", "1"),
        ("net/ipv4/conf/all/accept_local", "0", "1"),
        ("net/ipv4/conf/eth0/rp_filter", "1", "2"),
        ("net/ipv6/conf/all/forwarding", "0", "1"),
    ],
)
def test_a_sysctl_that_loses_packets_is_fullnats_to_set_if_it_can(key: str, value: str, needed: str) -> None:
    snapshot = FINE_SYSCTLS | {key: value}
    name = key.replace("/", ".")
    noted = only(check_sysctls(snapshot, (4, 6), is_writable=True))
    assert (noted.subject, noted.level, noted.message) == (
        name,
        Level.NOTE,
        f"is {value}, has to be {needed}",
    )
    problem = only(check_sysctls(snapshot, (4, 6), is_writable=False))
    assert (problem.level, problem.remedy) == (Level.PROBLEM, f"on the host: sysctl {name}={needed}")


def test_sysctls_that_let_full_nat_pass_are_fine() -> None:
    assert levels(check_sysctls(FINE_SYSCTLS, (4, 6), is_writable=False)) == [Level.OK]


def test_a_host_without_ipv6_is_a_problem_only_for_ipv6() -> None:
    without = {key: value for key, value in FINE_SYSCTLS.items() if "ipv6" not in key}
    assert levels(check_sysctls(without, (4,), is_writable=True)) == [Level.OK]
    assert "boot without ipv6.disable=1" in text(check_sysctls(without, (4, 6), is_writable=True))


def test_growing_martians_are_a_problem() -> None:
    assert "problem  martians: 3 packets dropped" in text(check_martians(7, 10))
    assert "7 since boot" in text(check_martians(7, 7))
    assert levels(check_martians(7, 7)) == [Level.OK]


def test_the_counter_is_summed_over_the_cpus(tmp_path: Path) -> None:
    table = tmp_path / "rt_cache"
    table.write_text(
        "entries  in_martian_dst in_martian_src out_hit\n" + "00000005 00000001 0000000f 2\n" * 2
    )
    assert read_martians(table) == 30
    assert read_martians(tmp_path / "none") == 0


# Firewalls of others.


def nft_chain(
    family: str = "inet", table: str = "fw", name: str = "pass", **changes: object
) -> dict[str, object]:
    base = {"type": "filter", "hook": "forward", "prio": 0, "policy": "drop"}
    return {"chain": {"family": family, "table": table, "name": name, "handle": 1} | base | changes}


def nft_accept(mark: int = MARK, chain: str = "pass", *more: object) -> dict[str, object]:
    match = {"match": {"op": "==", "left": {"&": [{"meta": {"key": "mark"}}, mark]}, "right": mark}}
    counter = {"counter": {"packets": 0, "bytes": 0}}
    return {
        "rule": {
            "family": "inet",
            "table": "fw",
            "chain": chain,
            "expr": [match, *more, counter, {"accept": None}],
        }
    }


def closed(
    *objects: dict[str, object], families: tuple[int, ...] = (4, 6), legacy: bool = False
) -> list[str]:
    output = json.dumps({"nftables": [{"metainfo": {}}, *objects]})
    chains = parse_ruleset(output, families, MARK, with_iptables=legacy)
    assert {chain.program for chain in chains} <= {"nft"}
    return [chain.place for chain in chains]


def test_a_chain_of_nft_that_drops_by_policy_is_closed() -> None:
    assert closed(nft_chain()) == ["inet fw pass"]
    assert closed(nft_chain("ip6"), families=(4, 6)) == ["ip6 fw pass"]


@pytest.mark.parametrize(
    "chain",
    [
        nft_chain(policy="accept"),
        nft_chain(hook="input"),
        nft_chain("ip6"),
        nft_chain("bridge"),
        {"chain": {"family": "inet", "table": "fw", "name": "jumped_to", "handle": 2}},
    ],
)
def test_other_chains_of_nft_are_not(chain: dict[str, object]) -> None:
    assert closed(chain, families=(4,)) == []


def test_only_a_rule_for_all_of_our_packets_opens_a_chain() -> None:
    assert closed(nft_chain(), nft_accept()) == []
    assert closed(nft_chain(), nft_accept(mark=1)) == ["inet fw pass"]
    assert closed(nft_chain(), nft_accept(MARK, "elsewhere")) == ["inet fw pass"]
    tcp_only = {"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": "tcp"}}
    assert closed(nft_chain(), nft_accept(MARK, "pass", tcp_only)) == ["inet fw pass"]


def test_forward_of_iptables_counts_when_ours_is_in_the_other_flavour() -> None:
    forward = nft_chain("ip", "filter", "FORWARD")
    assert closed(forward) == []
    assert closed(forward, legacy=True) == ["ip filter FORWARD"]


@pytest.mark.parametrize(
    ("saved", "count"),
    [
        (":FORWARD DROP [0:0]\n", 1),
        (":FORWARD ACCEPT [0:0]\n-A FORWARD -j DROP\n", 0),
        (":FORWARD DROP [0:0]\n-A FORWARD -m mark --mark 0x4000000/0x4000000 -j ACCEPT\n", 0),
        (":FORWARD DROP [0:0]\n-A FORWARD -m mark --mark 0x40000000/0x40000000 -j ACCEPT\n", 1),
        (":FORWARD DROP [0:0]\n-A FORWARD -m mark --mark 0x4000000/0x4000000 -j LOG\n", 1),
        ("", 0),
    ],
)
def test_forward_of_the_other_iptables_is_read(saved: str, count: int) -> None:
    assert parse_saved(f"*filter\n{saved}COMMIT\n", "iptables-legacy", MARK) == (
        [ClosedChain("iptables-legacy", "FORWARD")] * count
    )


def test_a_closed_chain_comes_with_the_rule_that_opens_it() -> None:
    finding = only(check_firewall([ClosedChain("nft", "inet fw pass")], MARK))
    assert finding.level is Level.PROBLEM
    assert finding.remedy == "nft insert rule inet fw pass meta mark and 0x4000000 == 0x4000000 accept"
    finding = only(check_firewall([ClosedChain("ip6tables-legacy", "FORWARD")], MARK))
    assert finding.remedy == "ip6tables-legacy -I FORWARD -m mark --mark 0x4000000/0x4000000 -j ACCEPT"
    assert levels(check_firewall([], MARK)) == [Level.OK]
    assert "nft is not installed" in text(check_firewall(Unknown("nft is not installed"), MARK))


# Devices.


def devices(
    device: Device, *, spread: tuple[int, ...] = (0,), cpus: int = 2, tune: bool = False
) -> list[Finding]:
    return check_devices([device], spread, cpus=cpus, tune=tune)


def test_a_tuned_device_is_fine() -> None:
    assert text(devices(TUNED)) == "ok       eth0: its NAPI runs in a thread"
    spread = replace(TUNED, has_napi=False, rps_cpus={"rx-0": "1"})
    assert text(devices(spread)) == "ok       eth0: RPS spreads its packets"


def test_napi_in_softirq_is_a_problem_with_its_remedy() -> None:
    finding = only(devices(replace(TUNED, threaded="0")))
    assert finding.level is Level.PROBLEM
    assert "polls in softirq" in finding.message
    assert finding.remedy == "[engine] tune = true, or echo 1 > /sys/class/net/eth0/threaded"


def test_a_backlog_on_one_of_two_cpus_is_a_problem_with_its_remedy() -> None:
    finding = only(devices(replace(TUNED, has_napi=False)))
    assert finding.level is Level.PROBLEM
    assert "no NAPI, no RPS" in finding.message
    assert finding.remedy == "[engine] tune = true, or echo 1 > /sys/class/net/eth0/queues/rx-0/rps_cpus"


def test_what_tune_will_set_is_no_problem() -> None:
    for device in (replace(TUNED, threaded="0"), replace(TUNED, has_napi=False)):
        finding = only(devices(device, tune=True))
        assert (finding.level, "fullnat run sets it" in finding.remedy) == (Level.NOTE, True)


def test_where_no_cpu_is_left_to_receive_the_remedy_is_another() -> None:
    plain = replace(TUNED, has_napi=False)
    finding = only(devices(plain, spread=(), cpus=4))
    assert (finding.level, finding.remedy) == (Level.PROBLEM, "[engine] workers = 3")
    finding = only(devices(plain, spread=(), cpus=1))
    assert finding.level is Level.NOTE
    assert "thread_backlog_napi" in finding.remedy


def test_what_cannot_be_told_of_devices_is_said() -> None:
    assert "only root may ask" in text(devices(replace(TUNED, has_napi=None)))
    unknown = check_devices(Unknown("/sys shows another namespace"), (), cpus=2, tune=True)
    assert "/sys shows another namespace" in text(unknown)
    assert levels(check_devices([], (0,), cpus=2, tune=True)) == [Level.NOTE]


# Real time and queues.


@pytest.mark.parametrize(("tune", "level"), [(True, Level.PROBLEM), (False, Level.NOTE)])
def test_fifo_must_be_permitted_and_throttled(tune: bool, level: Level) -> None:
    unthrottled = only(check_realtime(-1, "", tune=tune))
    assert (unthrottled.level, unthrottled.remedy) == (level, "sysctl kernel.sched_rt_runtime_us=950000")
    refused = only(check_realtime(950000, "Operation not permitted", tune=tune))
    assert refused.level is level
    assert "Operation not permitted" in refused.message


def test_real_time_is_fine_by_default() -> None:
    assert levels(check_realtime(950000, "", tune=True)) == [Level.OK]
    assert levels(check_realtime(None, Unknown("that takes root"), tune=True)) == [Level.NOTE]


def test_drops_of_a_running_instances_queue_are_told() -> None:
    full = only(check_queues([QueueRow(1080, 12, 0)]))
    assert (full.subject, full.level) == ("queue 1080", Level.PROBLEM)
    assert full.message.startswith("12 packets dropped since the start because it was full")
    assert len(check_queues([QueueRow(1080, 12, 3), QueueRow(1081, 0, 0)])) == 3
    assert levels(check_queues([QueueRow(1080, 0, 0)])) == [Level.OK]
    assert "no instance runs" in text(check_queues([]))


def test_only_queues_of_instances_are_looked_at() -> None:
    table = "  7  100  0 2 65531  1  2  10  1\n 1080  101 0 2 65531 3 4 10 1\n 1081 102 0 2 65531 5 6 10 1\n"
    claims = make_claims(replace(PLAN, queue=1080, workers=2), 1)
    assert parse_queues(table, [claims]) == [QueueRow(1080, 3, 4), QueueRow(1081, 5, 6)]
    assert parse_queues(table, [replace(claims, queues=1)]) == [QueueRow(1080, 3, 4)]


# All of it.


def test_a_healthy_host_has_no_problem() -> None:
    findings = doctor.diagnose(FINE, PLAN, None)
    assert levels(findings) == [Level.OK] * 9
    assert not doctor.has_problem(findings)


@pytest.mark.parametrize(
    ("refusal", "wanted", "level"),
    [
        ("", True, Level.OK),
        ("the kernel has no IPVS: modprobe ip_vs (CONFIG_IP_VS)", False, Level.NOTE),
        ("the kernel has no IPVS: modprobe ip_vs (CONFIG_IP_VS)", True, Level.PROBLEM),
    ],
)
def test_a_fallback_that_cannot_be_had_matters_where_it_is_wanted(
    refusal: str, wanted: bool, level: Level
) -> None:
    (finding,) = check_fallback("ipvs", refusal, wanted=wanted)
    assert (finding.subject, finding.level) == ("fallback ipvs", level)
    assert bool(refusal) == ("modprobe ip_vs" in finding.remedy)


INTERFACES = parse_interfaces(
    json.dumps(
        [
            {
                "ifindex": 2,
                "ifname": "eth1",
                "flags": ["UP"],
                "addr_info": [
                    {"local": "198.19.0.1", "prefixlen": 24},
                    {"local": "2001:db8:2::1", "prefixlen": 64},
                ],
            }
        ]
    )
)
NAT = KernelService(
    parse_endpoint("198.18.9.9:80"),
    TCP,
    "rr",
    (KernelServer(parse_endpoint("198.18.7.7:80")), KernelServer(parse_endpoint("198.19.0.11:80"))),
    forward=Forward.NAT,
)


def test_without_ipvs_its_services_are_a_problem() -> None:
    assert levels(check_services("")) == [Level.OK]
    (finding,) = check_services("fwmark://7: the kernel has no IPVS: modprobe ip_vs (CONFIG_IP_VS)")
    assert (finding.level, finding.remedy) == (Level.PROBLEM, "modprobe ip_vs (CONFIG_IP_VS)")
    assert "fwmark://7" in finding.message
    assert levels(check_services(Unknown("that takes root"))) == [Level.NOTE]


def test_an_address_that_ipvs_cannot_serve_is_a_problem_with_its_remedy() -> None:
    plan = replace(PLAN, services=(), kernel_services=(NAT,))
    (finding,) = check_services(find_unserved(plan, plan.kernel_services, INTERFACES))
    assert finding.remedy == "ip addr add 198.18.9.9/32 dev lo"
    here = replace(NAT, listen=parse_endpoint("198.19.0.10:80"))  # will be added where its network is
    marked = replace(NAT, listen=Fwmark(7), protocol=0)
    assert find_unserved(replace(plan, kernel_services=(here, marked)), (here, marked), INTERFACES) == ""


def test_the_director_is_where_it_meets_the_servers() -> None:
    assert {family: str(at) for family, at in doctor.find_directors([NAT], INTERFACES).items()} == {
        4: "198.19.0.1"
    }


@pytest.mark.parametrize(
    ("refusal", "levels_of_it"),
    [("", ["ok", "note"]), ("the kernel has no IPVS: modprobe ip_vs (CONFIG_IP_VS)", ["problem", "note"])],
)
def test_a_config_says_what_its_servers_need(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, refusal: str, levels_of_it: list[str]
) -> None:
    monkeypatch.setattr(doctor, "read_facts", lambda plan, every_device: FINE)
    monkeypatch.setattr(doctor, "read_interfaces", lambda: INTERFACES)
    monkeypatch.setattr(doctor, "try_services", lambda services: refusal)
    path = tmp_path / "fullnat.toml"
    path.write_text(
        'version = 1\n[engine]\nfallback = "none"\n[snat]\naddresses = ["198.19.0.2"]\n'
        '[[service]]\nlisten = "fwmark://7"\nforward = "nat"\n[[service.server]]\naddress = "198.19.0.11"\n'
    )
    rows = json.loads(CliRunner().invoke(commands, ["doctor", "-c", str(path), "--json"]).output)
    found = [row for row in rows if row["subject"] in ("IPVS", "servers")]
    assert [row["level"] for row in found] == levels_of_it
    assert found[1]["message"].endswith("through the director: ip route replace default via 198.19.0.1")


@pytest.mark.parametrize(
    "sick",
    [
        {"missing_programs": ["program ip is missing: apt-get install iproute2"]},
        {"trial": "the kernel lacks NFQUEUE"},
        {"ip_local_ports": PortRange(1024, 65535)},
        {"sysctls": FINE_SYSCTLS | {"net/ipv4/ip_forward": "0"}, "is_sysctl_writable": False},
        {"martians": (7, 8)},
        {"chains": [ClosedChain("nft", "inet fw pass")]},
        {"devices": [replace(TUNED, threaded="0")]},
        {"queues": [QueueRow(1080, 1, 0)]},
    ],
    ids=lambda sick: next(iter(sick)),
)
def test_each_fact_reaches_its_check(sick: dict[str, object]) -> None:
    facts = replace(FINE, **sick)  # type: ignore[arg-type]
    assert doctor.has_problem(doctor.diagnose(facts, PLAN, None))


def test_without_a_config_ipv6_is_looked_at_where_there_is_any() -> None:
    assert doctor.plan_in_general(has_ipv6=True).families == (4, 6)
    assert doctor.plan_in_general(has_ipv6=False).families == (4,)


def test_real_time_is_a_problem_of_a_plan_that_tunes() -> None:
    facts = replace(FINE, rt_runtime_us=-1)
    assert not doctor.has_problem(doctor.diagnose(facts, PLAN, None))
    assert doctor.has_problem(doctor.diagnose(facts, replace(PLAN, tune=True), None))


@pytest.mark.parametrize(("facts", "status"), [(FINE, 0), (replace(FINE, trial="the kernel lacks it"), 1)])
def test_the_command_ends_with_the_verdict(
    monkeypatch: pytest.MonkeyPatch, facts: Facts, status: int
) -> None:
    monkeypatch.setattr(doctor, "read_facts", lambda plan, every_device: facts)
    said = CliRunner().invoke(commands, ["doctor"])
    assert said.exit_code == status
    assert len(said.output.splitlines()) == 13
    as_json = CliRunner().invoke(commands, ["doctor", "--json"])
    assert as_json.exit_code == status
    rows = json.loads(as_json.output)
    assert all(row.keys() == {"subject", "level", "message", "remedy"} for row in rows)
    assert ("problem" in {row["level"] for row in rows}) == bool(status)


def test_a_config_says_what_to_look_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []
    monkeypatch.setattr(
        doctor, "read_facts", lambda plan, every_device: asked.append((plan, every_device)) or FINE
    )
    path = tmp_path / "fullnat.toml"
    path.write_text(
        'version = 1\n[engine]\nqueue = 7\n[snat]\naddresses = ["198.19.0.2"]\nports = "1024-40000"\n'
        '[[service]]\nlisten = "tcp://198.18.0.10:80"\n[[service.server]]\naddress = "198.19.0.11:80"\n'
    )
    said = CliRunner().invoke(commands, ["doctor", "-c", str(path)])
    assert said.exit_code == 1
    assert "ports 1024-40000 overlap" in said.output
    ((plan, every_device),) = asked
    assert (plan.queue, plan.families, every_device) == (7, (4,), False)


def test_a_host_that_cannot_be_looked_at_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(plan: object, every_device: bool) -> Facts:
        raise HostError("program ip is missing: apt-get install iproute2")

    monkeypatch.setattr(doctor, "read_facts", fail)
    said = CliRunner().invoke(commands, ["doctor"])
    assert (said.exit_code, said.stderr) == (1, "fullnat: program ip is missing: apt-get install iproute2\n")
