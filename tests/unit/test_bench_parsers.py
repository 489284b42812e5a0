# SPDX-License-Identifier: Apache-2.0
"""What the bench reads from other programs and writes for them."""

from __future__ import annotations

import json
import sys
import tomllib
from ipaddress import ip_address, ip_network

import pytest

from bench.bpf import parse_inner_maps, parse_map_bytes, parse_map_id, parse_outer_maps
from bench.errors import BenchError
from bench.figures import cpu, latency
from bench.figures.bulk import parse_iperf3
from bench.figures.flows import CLIENTS, MANY, SPARE, Weight
from bench.figures.http import Wrk, parse_wrk
from bench.figures.latency import Latency, parse_latency
from bench.figures.udp import parse_counters, sink_rules
from bench.host import CoreTimes, CpuTimes
from bench.peers import PEERS, haproxy
from bench.peers.fullnat import Fullnat, checked_servers, configuration, first_complaint, parse_resident
from bench.plan import IPV4, IPV6, PLANS, Plan, Sources
from bench.results import Results

WRK = """Running 2s test @ http://203.0.113.10:80/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     3.41ms    1.20ms  20.14ms   91.02%
    Req/Sec    17.93k   512.00    18.60k    70.00%
  35720 requests in 2.00s, 5.21MB read
{errors}Requests/sec:  17858.21
Transfer/sec:      2.60MB
"""


def test_wrk_without_errors() -> None:
    assert parse_wrk(WRK.format(errors="")) == Wrk(17858.21, 0)


def test_wrk_counts_broken_connections_and_bad_answers() -> None:
    errors = (
        "  Socket errors: connect 1, read 20, write 300, timeout 4000\n  Non-2xx or 3xx responses: 50000\n"
    )
    assert parse_wrk(WRK.format(errors=errors)) == Wrk(17858.21, 54321)


def test_wrk_that_died_is_an_error() -> None:
    with pytest.raises(BenchError, match="no rate"):
        parse_wrk("unable to connect to 203.0.113.10:80 Connection refused\n")


def test_latencies_are_in_nanoseconds_by_percentile() -> None:
    line = (
        '{"asked": 5000, "unanswered": 2, "rate": 2500.0,'
        ' "p50": 120000, "p90": 190000, "p99": 430000, "p99.9": 2500000, "late": 51000}\n'
    )
    assert parse_latency(line) == Latency(
        asked=5000,
        unanswered=2,
        nanoseconds={"p50": 120e3, "p90": 190e3, "p99": 430e3, "p99.9": 2.5e6},
        late=51e3,
    )


def test_the_loads_of_latency_are_shares_of_what_plain_forwarding_first_carried() -> None:
    results = Results()
    results.add_value("keepalive", "iptables", 0, 90_000.0)
    assert latency.choose_carried(results) == latency.FIXED_CARRIED
    results.add_value("keepalive", "plain", 0, 100_000.0)
    results.add_value("keepalive", "plain", 1, 60_000.0)
    assert latency.choose_carried(results) == 100_000


def test_the_rate_of_cpu_is_half_of_what_the_slowest_first_carried() -> None:
    results = Results()
    assert cpu.choose_rate(results) == cpu.FIXED_RATE
    for turn, (plain, python, dead) in enumerate([(700e3, 80e3, 0.0), (500e3, 60e3, 10e3)]):
        results.add_value("pps", "plain", turn, plain)
        results.add_value("pps", "python", turn, python)
        results.add_value("pps", "native", turn, dead)  # what carried nothing does not count
    assert cpu.choose_rate(results) == 40e3


def test_iperf3_is_judged_by_what_arrived() -> None:
    report = '{"end": {"sum_sent": {"bits_per_second": 2e9}, "sum_received": {"bits_per_second": 1.5e9}}}'
    assert parse_iperf3(report) == 1.5e9
    with pytest.raises(BenchError, match="unable to connect"):
        parse_iperf3('{"end": {}, "error": "unable to connect to server"}')


def test_counters_of_nft() -> None:
    text = """{"nftables": [{"metainfo": {"version": "1.0.6", "json_schema_version": 1}},
      {"counter": {"family": "netdev", "name": "arrived", "table": "sink", "packets": 70, "bytes": 3220}},
      {"counter": {"family": "netdev", "name": "strays", "table": "sink", "packets": 0, "bytes": 0}}]}"""
    assert parse_counters(text) == {"arrived": 70, "strays": 0}


@pytest.mark.parametrize(
    ("plan", "sources", "line"),
    [
        (
            IPV4,
            Sources("198.18.0.2", "198.18.0.2"),
            "ip saddr 198.18.0.2 ip daddr 198.19.0.11 udp dport 9000",
        ),
        (
            IPV6,
            Sources("2001:db8:2::100", "2001:db8:2::10f"),
            "ip6 saddr 2001:db8:2::100-2001:db8:2::10f ip6 daddr 2001:db8:2::11 udp dport 9000",
        ),
    ],
)
def test_the_sink_counts_the_expected_sources_only(plan: Plan, sources: Sources, line: str) -> None:
    assert f'{line} counter name "arrived" drop' in sink_rules(plan, sources)


@pytest.mark.parametrize("plan", [IPV4, IPV6])
def test_lips_are_a_range_without_a_gap(plan: Plan) -> None:
    sources = Sources(plan.lips[0], plan.lips[-1])
    assert all(lip in sources for lip in plan.lips)
    assert plan.inside not in sources
    assert plan.server not in sources


def test_shares_of_cpu_time() -> None:
    before = CpuTimes.parse("cpu  100 0 50 800 50 0 10 0 0 0\ncpu0 1 2 3\n")
    after = CpuTimes.parse("cpu  130 0 60 840 50 0 10 20 0 0\ncpu0 1 2 3\n")
    assert after.steal_since(before) == pytest.approx(0.2)
    assert after.busy_since(before) == pytest.approx(0.6)
    assert before.busy_since(before) == 0.0


def test_time_used_of_a_core_is_what_it_was_not_idle() -> None:
    stat = "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 1 1 1 1 1 1 1 1 0 0\ncpu1 {} 0 7 {} {} 3 40 {} 5 0\nintr 1\n"
    before = CoreTimes.parse(stat.format(10, 1000, 20, 5), 1, 50.0, 100)
    # Of 4 s it was idle for 2.5 s, waited for a disk for 0.3 s, and was elsewhere for 0.2 s.
    after = CoreTimes.parse(stat.format(10, 1250, 50, 25), 1, 54.0, 100)
    assert after.since(before) == (4.0, pytest.approx(1.0))


@pytest.mark.parametrize("family", sorted(PLANS))
def test_the_configuration_for_fullnat_is_toml_and_serves_every_port(family: int) -> None:
    plan = PLANS[family]
    config = tomllib.loads(configuration(plan, {"datapath": "native", "tune": True}, 1_010_000))
    assert config["engine"] == {"datapath": "native", "tune": True}
    assert config["limits"] == {"flows": 1_010_000}
    assert config["snat"]["addresses"] == [f"{plan.lips[0]}-{plan.lips[-1]}"]
    vip, server = plan.bracketed(plan.vip), plan.bracketed(plan.server)
    assert [(s["listen"], s["server"][0]["address"]) for s in config["service"]] == [
        (f"udp://{vip}:9000", f"{server}:9000"),
        (f"tcp://{vip}:80", f"{server}:80"),
        (f"tcp://{vip}:5201", f"{server}:5201"),
    ]


@pytest.mark.parametrize("family", sorted(PLANS))
def test_servers_that_are_checked_come_with_the_configuration(family: int) -> None:
    plan = PLANS[family]
    text = configuration(plan, {"datapath": "ebpf"})
    assert text + checked_servers(plan, 0) == text
    service = tomllib.loads(text + checked_servers(plan, 300))["service"][-1]
    assert service["health"] == {"type": "http", "interval": "1s", "port": 80}
    assert len({server["address"] for server in service["server"]}) == 300


def test_limits_are_the_programs_own_unless_a_figure_needs_others() -> None:
    assert "limits" not in tomllib.loads(configuration(PLANS[4], {"datapath": "python"}))


@pytest.mark.parametrize("plan", [IPV4, IPV6])
def test_haproxy_serves_tcp_from_every_lip(plan: Plan) -> None:
    blocks = haproxy.configuration(plan).split("listen ")[1:]
    assert [block.splitlines()[1].strip() for block in blocks] == [
        f"bind {plan.bracketed(plan.vip)}:80",
        f"bind {plan.bracketed(plan.vip)}:5201",
    ]
    for block, port in zip(blocks, (80, 5201), strict=True):
        servers = [line.split()[2:] for line in block.splitlines() if line.startswith("  server")]
        assert servers == [
            [f"{plan.bracketed(plan.server)}:{port}", "source", plan.bracketed(lip)] for lip in plan.lips
        ]


def test_a_refused_configuration_is_told_without_the_file() -> None:
    warning = "/tmp/x/fullnat.toml:9: warning: timeouts.udp: found 60\n"
    complaint = '/tmp/x/fullnat.toml:4: engine.datapath: found "native", which is not part of this version\n'
    assert (
        first_complaint(warning + complaint)
        == 'engine.datapath: found "native", which is not part of this version'
    )
    assert first_complaint("") == "`fullnat check` refuses its configuration"


def test_resident_memory_is_in_bytes() -> None:
    assert parse_resident("VmHWM:\t  900 kB\nVmRSS:\t  512 kB\nRssAnon:\t  300 kB\n") == 512 * 1024
    with pytest.raises(BenchError, match="has ended"):
        parse_resident("Name:\tfullnat\nState:\tZ (zombie)\n")


SHOWN_MAPS = """[
  {"id": 7, "type": "array", "name": "entries", "max_entries": 4194304, "bytes_memlock": 33558528},
  {"id": 8, "type": "array_of_maps", "name": "chunks4", "max_entries": 3, "bytes_memlock": 336},
  {"id": 260, "type": "array", "name": "fullnat_flows", "max_entries": 4096, "bytes_memlock": 528384}]"""


def test_maps_and_the_maps_in_them_are_told_apart() -> None:
    assert parse_map_bytes(SHOWN_MAPS) == {7: 33558528, 8: 336, 260: 528384}
    assert parse_outer_maps(SHOWN_MAPS) == {8}


def test_the_maps_in_a_map_are_numbers_byte_by_byte() -> None:
    number = [f"0x{byte:02x}" for byte in (260).to_bytes(4, sys.byteorder)]
    place = ["0x00", "0x00", "0x00", "0x00"]
    dumped = [{"key": place, "value": number}, {"key": place, "value": {"error": "No such file"}}]
    assert parse_inner_maps(json.dumps(dumped)) == {260}


def test_a_descriptor_is_a_map_or_none() -> None:
    assert parse_map_id("pos:\t0\nflags:\t02000002\nmap_type:\t2\nmemlock:\t336\nmap_id:\t260\n") == 260
    assert parse_map_id("pos:\t0\nflags:\t02000002\nprog_type:\t3\nprog_id:\t260\n") is None


def test_memory_a_flow_is_what_an_idle_instance_has_not() -> None:
    idle = Weight(resident=40_000_000, kernel=2_000_000)
    assert Weight(200_000_000, 164_000_000).per_flow(idle) == {"memory": 160, "kernel-memory": 162}
    assert Weight(200_000_000, None).per_flow(Weight(40_000_000, None)) == {"memory": 160}


@pytest.mark.parametrize("plan", [IPV4, IPV6])
def test_the_lips_have_ports_for_every_flow(plan: Plan) -> None:
    ports = 32768 - 1024 - 3  # those above 1023 outside ip_local_port_range, without the services'
    assert len(plan.lips) * ports > MANY + SPARE


@pytest.mark.parametrize("plan", [IPV4, IPV6])
def test_no_client_of_the_crowd_is_a_host_of_the_lab(plan: Plan) -> None:
    first = ip_address(plan.crowd)
    crowd = range(int(first), int(first) + CLIENTS)
    for host in (plan.client, plan.outside, plan.vip, plan.inside, plan.server, *plan.lips):
        assert int(ip_address(host)) not in crowd
    benchmarks = ip_network("198.18.0.0/16" if plan.family == 4 else "2001:db8::/32")
    assert all(type(first)(number) in benchmarks for number in (crowd[0], crowd[-1]))


def test_peers_are_known_by_their_names_and_engines_are_no_baselines() -> None:
    assert list(PEERS) == [
        "plain",
        "iptables",
        "nft",
        "ipvs",
        "ipvs-masq",
        "haproxy",
        "nginx",
        "python",
        "native",
        "native-tuned",
        "ebpf",
    ]
    assert [name for name, peer in PEERS.items() if peer.baseline] == [
        *("plain", "iptables", "ipvs", "ipvs-masq", "haproxy")
    ]
    assert [name for name, peer in PEERS.items() if "udp" not in peer.protocols] == ["haproxy", "nginx"]


def test_engines_differ_in_their_table() -> None:
    engines = {name: peer.engine_keys() for name, peer in PEERS.items() if issubclass(peer, Fullnat)}
    assert engines == {
        "python": {"datapath": "python"},
        "native": {"datapath": "native"},
        "native-tuned": {"datapath": "native", "tune": True},
        "ebpf": {"datapath": "ebpf"},
    }


def test_what_else_runs_on_the_core_does_not_count_as_the_cost_of_packets() -> None:
    quiet = cpu.Load(idle_share=0.02, passed=2.0, used=0.44, packets=200_000)
    assert cpu.cost([quiet]) == pytest.approx(2.0)
    before = cpu.Load(idle_share=0.30, passed=2.0, used=0.46, packets=200_000)  # somebody while it was idle
    during = cpu.Load(idle_share=0.03, passed=2.0, used=0.90, packets=200_000)  # and during the traffic
    assert cpu.cost([before, quiet, during]) == cpu.cost([quiet])
