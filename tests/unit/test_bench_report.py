# SPDX-License-Identifier: Apache-2.0
"""report.md and raw.csv of a run made by hand, and what must never stand in them."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import pytest

from bench.environment import command_line, cpu_model, describe, memory_mib
from bench.errors import BenchError
from bench.metrics import HEADLINES, METRICS, TARGETS, Quantity, Target
from bench.peers import PEERS
from bench.report import judge, render
from bench.results import Results, Row, write_csv
from bench.subjects import Family, Subject, choose_baseline, find_subjects

SUBJECTS = [
    Subject("plain", "plain forwarding", True, Family.KERNEL, 0),
    Subject("iptables", "kernel full NAT", True, Family.KERNEL, 1),
    Subject("python", "engine python", False, Family.FULLNAT, 0),
]
HAPROXY = Subject("haproxy", "a proxy", True, Family.PROXY, 0)
PYTHON, IPTABLES = Quantity("pps", "python"), Quantity("pps", "iptables")
TARGET = Target(PYTHON, 0.08, IPTABLES)
ENVIRONMENT: dict[str, object] = {
    "cpu": "A CPU",
    "cpus": 2,
    "kernel": "Linux 6.1",
    "commit": "abc",
    "command": ".venv/bin/python bench/run.py",
}


@pytest.fixture
def results() -> Results:
    results = Results()
    for turn, (plain, iptables, python) in enumerate(
        [(800e3, 500e3, 50e3), (400e3, 200e3, 16e3), (600e3, 400e3, 48e3)]
    ):
        results.add_value("pps", "plain", turn, plain)
        results.add_value("pps", "iptables", turn, iptables)
        results.add_value("pps", "python", turn, python)
    results.add_value("cps", "plain", 0, 17_000.0)
    results.generator_bound.add(("pps", "plain"))
    return results


def section(report: str, title: str) -> list[str]:
    after = report.split(f"## {title}")[1].split("\n## ", maxsplit=1)[0]
    return [line for line in after.splitlines()[1:] if line]


def test_a_table_has_medians_extremes_and_ratios_of_each_round(results: Results) -> None:
    report = render(results, SUBJECTS, [TARGET], ENVIRONMENT)
    assert section(report, "No-loss packets, frames of 64 bytes") == [
        "| peer | kpps | ÷ plain | ÷ iptables | rounds |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| `plain` | ≥ 600.0 (400.0 to 800.0) | 1 | 1.600 (1.500 to 2.000) | 3 |",
        "| `iptables` | 400.0 (200.0 to 500.0) | 0.625 (0.500 to 0.667) | 1 | 3 |",
        "| `python` | 48.0 (16.0 to 50.0) | 0.062 (0.040 to 0.080) | 0.100 (0.080 to 0.120) | 3 |",
    ]


def test_peers_and_metrics_that_were_not_measured_are_left_out(results: Results) -> None:
    report = render(results, SUBJECTS, [TARGET], ENVIRONMENT)
    assert section(report, "HTTP, a connection a request")[2:] == [
        "| `plain` | 17000 (17000 to 17000) | 1 | 1 |"
    ]
    assert "Gbit/s" not in report


@pytest.mark.parametrize(("ratio", "verdict"), [(0.08, "met"), (0.1, "met"), (0.101, "missed")])
def test_a_target_is_judged_by_the_median_ratio(results: Results, ratio: float, verdict: str) -> None:
    judged = judge(results, Target(PYTHON, ratio, IPTABLES))
    assert judged.verdict == verdict
    assert str(judged) == (
        f"python pps / iptables at least {ratio:g}: {verdict}, 0.100 (0.080 to 0.120) in 3 rounds"
    )


def test_a_target_that_was_not_measured_is_neither_met_nor_missed(results: Results) -> None:
    judged = judge(results, Target(Quantity("cps", "python"), 0.1, Quantity("cps", "iptables")))
    assert str(judged) == "python cps / iptables at least 0.1: not measured"


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (Target(Quantity("memory", "native"), 256, at_most=True), "at most 256 bytes: met, 250 (240 to 260)"),
        (Target(Quantity("memory", "native"), 249, at_most=True), "at most 249 bytes: missed, 250"),
        (Target(Quantity("pps", "plain"), 600), "at least 600 kpps: met, 600.0 (400.0 to 800.0)"),
        (Target(Quantity("pps", "plain"), 601), "at least 601 kpps: missed"),
        (
            Target(PYTHON, 0.1, Quantity("cps", "python")),
            "python pps / python cps at least 0.1: met, 4.800 (4.800 to 4.800) in 1 round",
        ),
    ],
)
def test_a_target_may_be_absolute_or_against_another_metric(
    results: Results, target: Target, words: str
) -> None:
    for turn, size in enumerate([240.0, 260.0, 250.0]):
        results.add_value("memory", "native", turn, size)
    results.add_value("cps", "python", 2, 10e3)
    assert words in str(judge(results, target))


def test_the_targets_stand_in_one_table(results: Results) -> None:
    memory = Target(Quantity("memory", "native"), 256, at_most=True)
    assert section(render(results, SUBJECTS, [TARGET, memory], ENVIRONMENT), "Targets") == [
        "| figure | against | wanted | found |  |",
        "| --- | --- | --- | --- | --- |",
        "| python pps | iptables | at least 0.08 | 0.100 (0.080 to 0.120) in 3 rounds | **met** |",
        "| native memory | - | at most 256 bytes | - | **not measured** |",
    ]


def test_a_ratio_may_have_an_upper_bound() -> None:
    results = Results()
    for turn, (plain, ebpf) in enumerate([(100e3, 105e3), (200e3, 230e3), (100e3, 108e3)]):
        results.add_value("latency-p99", "plain", turn, plain)
        results.add_value("latency-p99", "ebpf", turn, ebpf)
    ours, plains = Quantity("latency-p99", "ebpf"), Quantity("latency-p99", "plain")
    found = "1.080 (1.050 to 1.150) in 3 rounds"
    assert str(judge(results, Target(ours, 1.1, plains, at_most=True))) == (
        f"ebpf latency-p99 / plain at most 1.1: met, {found}"
    )
    assert judge(results, Target(ours, 1.07, plains, at_most=True)).verdict == "missed"


def test_the_summary_has_the_headline_figures_of_all_peers_and_ratios_to_the_baseline(
    results: Results,
) -> None:
    results.not_applicable["pps", "haproxy"] = "does not carry UDP"
    for turn, (iptables, python) in enumerate([(3.0, 12.0), (2.0, 9.0)]):
        results.add_value("cpu", "iptables", turn, iptables)
        results.add_value("cpu", "python", turn, python)
    report = render(results, [*SUBJECTS, HAPROXY], [TARGET], ENVIRONMENT, "iptables")
    assert section(report, "Summary")[1:6] == [
        "|  | `plain` | `iptables` | `python` | `haproxy` |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| No-loss small packets, kpps | ≥ 600.0 (1.60) | 400.0 | 48.0 (0.10) | n/a |",
        "| HTTP, new connections, connections/s | 17000 | - | - | - |",
        "| CPU time a packet, s/million packets, lower is better | - | 2.500 | 10.500 (4.25) | - |",
    ]
    titles = [line for line in report.splitlines() if line.startswith("## ")]
    assert titles[:3] == ["## Summary", "## Where fullnat is behind", "## Targets"]


def test_where_an_engine_is_behind_stands_in_a_table_whichever_way_is_better(results: Results) -> None:
    ebpf = Subject("ebpf", "engine ebpf", False, Family.FULLNAT, 3)
    for turn, (iptables, ebpfs) in enumerate([(3.0, 3.3), (2.0, 1.9), (2.0, 2.1)]):
        results.add_value("cpu", "iptables", turn, iptables)
        results.add_value("cpu", "ebpf", turn, ebpfs)
        results.add_value("pps", "ebpf", turn, 700e3)
    report = render(results, [*SUBJECTS, ebpf], [TARGET], ENVIRONMENT)
    assert section(report, "Where fullnat is behind")[1:] == [
        "| engine | figure | ÷ plain | ÷ iptables |",
        "| --- | --- | ---: | ---: |",
        "| `ebpf` | CPU time a packet, s/million packets, lower is better | - | 1.050 (0.950 to 1.100) |",
        "| `python` | No-loss small packets, kpps | 0.062 (0.040 to 0.080) | 0.100 (0.080 to 0.120) |",
    ]


def test_an_engine_that_leads_everywhere_is_behind_nowhere_and_one_without_rivals_says_nothing() -> None:
    results = Results()
    results.add_value("pps", "python", 0, 2.0)
    assert "behind" not in render(results, SUBJECTS, [], ENVIRONMENT)
    results.add_value("pps", "plain", 0, 1.0)
    assert section(render(results, SUBJECTS, [], ENVIRONMENT), "Where fullnat is behind") == [
        "In no headline figure is the median ratio of an engine to a baseline behind."
    ]


def test_headlines_are_metrics() -> None:
    assert set(HEADLINES) <= set(METRICS)


def test_the_baseline_is_kernel_nat_where_it_was_measured_unless_one_is_asked_for(results: Results) -> None:
    subjects = find_subjects(["plain", "haproxy", "ebpf"])
    assert choose_baseline(results, SUBJECTS) == "iptables"
    assert choose_baseline(results, SUBJECTS, "plain") == "plain"
    with pytest.raises(BenchError, match="--baseline haproxy: not measured in this run"):
        choose_baseline(results, SUBJECTS, "haproxy")
    others = Results()
    others.add_value("cps", "haproxy", 0, 1.0)
    assert choose_baseline(others, subjects) == "haproxy"
    assert choose_baseline(Results(), subjects) is None


def test_subjects_know_their_kin() -> None:
    assert [(s.family, s.place) for s in find_subjects(["iptables", "nginx", "ebpf"])] == [
        (Family.KERNEL, 1),
        (Family.PROXY, 1),
        (Family.FULLNAT, 3),
    ]
    with pytest.raises(BenchError, match="no peer pound; there are plain, "):
        find_subjects(["plain", "pound"])


def test_picks_a_second_stand_by_scheduler_and_number_of_servers() -> None:
    results = Results()
    for turn, nanoseconds in enumerate([20.0, 40.0, 25.0]):
        results.rows.append(Row(turn, "pick", "native", "rr 10", value=nanoseconds))
        results.rows.append(Row(turn, "pick", "native", "rr 1000", value=2 * nanoseconds))
    results.rows.append(Row(0, "pick", "python", "wlc 10", value=20_000.0))
    results.add_value("pick", "native", 0, 2.0)
    report = render(results, find_subjects(["python", "native"]), [], ENVIRONMENT)
    assert section(report, "Picks a second by scheduler and number of servers")[1:] == [
        "| scheduler | `python`, 10 | `native`, 10 | `native`, 1000 |",
        "| --- | ---: | ---: | ---: |",
        "| `wlc` | 50 | - | - |",
        "| `rr` | - | 40000 | 20000 |",
    ]


def test_targets_are_about_metrics_and_peers_that_exist() -> None:
    for target in TARGETS:
        for quantity in (target.quantity, target.against or target.quantity):
            assert quantity.metric in METRICS
            assert quantity.peer in PEERS


def test_a_peer_that_cannot_have_a_figure_is_in_its_table_and_one_that_cannot_run_says_why(
    results: Results,
) -> None:
    results.not_applicable["pps", "haproxy"] = "does not carry UDP"
    results.not_run["native"] = "was not built"
    native = Subject("native", "engine native", False, Family.FULLNAT, 1)
    subjects = [*SUBJECTS, HAPROXY, native]
    report = render(results, subjects, [TARGET], ENVIRONMENT)
    assert section(report, "No-loss packets, frames of 64 bytes")[-1] == "| `haproxy` | n/a | - | - | - |"
    assert section(report, "Peers")[-2:] == [
        "* `haproxy`: a proxy",
        "* `native`: engine native; not run here: was not built",
    ]
    assert section(report, "Notes")[0] == "* `pps`, `haproxy`: n/a, it does not carry UDP."


def test_notes_tell_errors_and_a_busy_host(results: Results) -> None:
    results.rows += [
        Row(0, "cps", "python", "run", errors=3, steal=0.001, busy_before=0.02),
        Row(1, "cps", "python", "run", errors=4, steal=0.02, busy_before=0.4),
        Row(1, "cps", "plain", "run", errors=0, steal=0.0, busy_before=0.0),
    ]
    results.remarks.append("something about one trial.")
    notes = section(render(results, SUBJECTS, [TARGET], ENVIRONMENT), "Notes")
    assert notes == [
        "* `cps`, `python`: 7 failed connections or answers over all rounds.",
        "* something about one trial.",
        "* ≥: in at least one round the generator could not offer more; the peer may carry more.",
        "* CPU time others used just before a turn: median 2%, at most 40%."
        " The host was not quiet: repeat the run before quoting it.",
        "* CPU time the hypervisor took in a trial: median 0.1%, at most 2.0%.",
    ]


def test_raw_csv_has_a_line_a_trial_and_empty_cells_for_what_is_not_known(tmp_path: Path) -> None:
    rows = [
        Row(
            0,
            "pps",
            "plain",
            "search",
            asked_pps=2e6,
            sent=10,
            prompt=8,
            received=9,
            refused=1,
            stalls=0,
        ),
        Row(1, "cps", "python", "run", value=7100.25, errors=0),
    ]
    write_csv(tmp_path / "raw.csv", rows)
    assert (tmp_path / "raw.csv").read_text().splitlines() == [
        "round,metric,peer,step,asked_pps,sent,prompt,received,refused,stalls,seconds,value,errors,steal,busy_before",
        "0,pps,plain,search,2000000.0,10,8,9,1,0,,,,,",
        "1,cps,python,run,,,,,,,,7100.25,0,,",
    ]


@pytest.mark.parametrize(
    "argv",
    [
        ["--quick", "--out", "/somewhere/private", "--rounds", "3"],
        ["--quick", "--out=/somewhere/private", "--rounds", "3"],
        ["--quick", "--rounds", "3", "--out", "--out"],
    ],
)
def test_the_command_to_repeat_names_no_folder(argv: list[str]) -> None:
    assert command_line(argv) == ".venv/bin/python bench/run.py --quick --rounds 3"


def test_the_environment_names_neither_the_machine_nor_a_folder() -> None:
    text = json.dumps(describe([]))
    assert str(Path(__file__).parents[2]) not in text
    # A host called "vm" or "linux" would be found in honest words.
    assert len(platform.node()) < 6 or platform.node() not in text


def test_cpu_and_memory_are_read_from_proc() -> None:
    assert (
        cpu_model("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nmodel name\t: Other\n")
        == "Some CPU @ 2 GHz"
    )
    assert cpu_model("processor : 0\n") == platform.machine()
    assert memory_mib("MemTotal:       24681472 kB\nMemFree: 1 kB\n") == 24103
