# SPDX-License-Identifier: Apache-2.0
"""The plots and the folder of a run: what is drawn, the same bytes each time, and read as it was written."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.metrics import HEADLINES, METRICS
from bench.plot import LONGEST, find_bars
from bench.plot_detail import PANELS, spread_labels
from bench.results import Results, Row
from bench.run_files import read_run, render_run, write_run
from bench.stats import Spread
from bench.subjects import find_subjects

PEERS = ["plain", "iptables", "haproxy", "native", "ebpf"]
ENVIRONMENT: dict[str, object] = {
    "cpu": "A CPU",
    "cpus": 2,
    "kernel": "Linux 6.1",
    "commit": "abc",
    "command": ".venv/bin/python bench/run.py",
}


@pytest.fixture
def results() -> Results:
    results = Results(not_run={"nft": "missing nft"})
    for turn, factor in enumerate([1.0, 0.8, 1.1]):
        for metric in METRICS:
            for place, peer in enumerate(PEERS):
                if peer == "haproxy" and metric.startswith("pps"):
                    continue
                results.add_value(metric, peer, turn, 1000.0 * (place + 1) * factor**place)
        results.rows += [Row(turn, "pick", "native", f"rr {size}", value=size + 20.0) for size in (10, 1000)]
    results.not_applicable["pps", "haproxy"] = "does not carry UDP"
    results.generator_bound.add(("pps", "plain"))
    results.remark("one remark.")
    results.remark("one remark.")
    return results


def test_a_bar_is_the_median_of_ratios_and_says_the_median_of_values(results: Results) -> None:
    subjects = find_subjects(PEERS)
    bars = find_bars(results, subjects, METRICS["pps"], "iptables")
    assert list(bars) == ["plain", "iptables", "native", "ebpf"]  # n/a is no bar
    assert bars["iptables"].ratio == Spread(1.0, 1.0, 1.0, 3)
    assert bars["iptables"].text == "2.0"
    assert bars["plain"].text == "≥ 1.0  0.50×"
    # 4000 and 2000 times 1, 0.8^3 and 0.8, 1.1^3 and 1.1
    assert bars["native"].ratio.median == pytest.approx(2.0)
    assert bars["native"].ratio.low == pytest.approx(2 * 0.64)
    assert bars["native"].text == "4.0  2.00×"


def test_a_bar_that_would_dwarf_the_others_is_cut() -> None:
    results = Results()
    results.add_value("latency-low-p99", "iptables", 0, 100e3)
    results.add_value("latency-low-p99", "ebpf", 0, 100e3 * LONGEST)
    results.add_value("latency-low-p99", "native", 0, 101e3 * LONGEST)
    bars = find_bars(results, find_subjects(PEERS), METRICS["latency-low-p99"], "iptables")
    assert [name for name, bar in bars.items() if bar.is_cut] == ["native"]


@pytest.mark.parametrize("baseline", [None, "haproxy"])
def test_without_the_baselines_value_the_best_is_one(results: Results, baseline: str | None) -> None:
    bars = find_bars(results, find_subjects(PEERS), METRICS["pps"], baseline)
    assert bars["ebpf"].ratio.median == 1.0
    assert bars["ebpf"].text == "5.0"
    assert bars["plain"].ratio.median == pytest.approx(0.2)


def test_panels_are_about_metrics_of_one_unit_and_direction() -> None:
    for panel in PANELS:
        metrics = [METRICS[name] for name in panel.metrics]
        assert len({(metric.unit, metric.lower_is_better) for metric in metrics}) == 1


@pytest.mark.parametrize("heights", [[0, 0, 0, 0], [90, 95, 99, 100], [1, 50, 51, 100], [7]])
def test_labels_keep_their_order_and_distance_and_stay_inside(heights: list[float]) -> None:
    placed = spread_labels({f"label{number}": height for number, height in enumerate(heights)}, 5, 100)
    found = list(placed.values())
    assert list(placed) == [f"label{number}" for number in range(len(heights))]
    assert all(upper - lower >= 5 for lower, upper in pairwise(found))
    assert max(found) <= 100


def test_a_run_is_read_as_it_was_written(results: Results, tmp_path: Path) -> None:
    results.rows.append(Row(1, "pps", "plain", "search", asked_pps=2e6, sent=10, received=9, steal=0.0))
    write_run(tmp_path / "new", results, PEERS, ENVIRONMENT)
    run = read_run(tmp_path / "new")
    for metric, by_peer in results.values.items():
        for peer, by_round in by_peer.items():
            assert run.results.of(metric, peer) == pytest.approx(by_round, abs=1e-6)
    assert run.results.notes() == results.notes()
    assert run.results.remarks == ["one remark."]
    assert Row(1, "pps", "plain", "search", asked_pps=2e6, sent=10, received=9, steal=0.0) in run.results.rows
    assert [subject.name for subject in run.subjects] == PEERS
    write_run(tmp_path / "again", run.results, PEERS, ENVIRONMENT)
    assert (tmp_path / "again" / "env.json").read_bytes() == (tmp_path / "new" / "env.json").read_bytes()


def test_the_same_run_makes_the_same_bytes(results: Results, tmp_path: Path) -> None:
    made = []
    for name in ("one", "other"):
        folder = tmp_path / name
        write_run(folder, results, PEERS, ENVIRONMENT)
        render_run(folder, read_run(folder), None)
        made.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert made[0] == made[1]
    assert sorted(made[0]) == [
        *("detail.png", "detail.svg", "env.json", "plot.png", "plot.svg"),
        *("raw.csv", "report.md"),
    ]
    picture = made[0]["plot.svg"].decode()
    for words in (*HEADLINES.values(), *PEERS, "n/a", "lower is better", "ratio to iptables"):
        assert f">{words}" in picture or f"{words}<" in picture
    assert "n/a: haproxy" in made[0]["detail.svg"].decode()


def test_a_run_of_few_figures_has_both_plots(tmp_path: Path) -> None:
    results = Results()
    results.add_value("memory", "native", 0, 160.0)  # no headline, no baseline
    write_run(tmp_path, results, ["native"], ENVIRONMENT)
    render_run(tmp_path, read_run(tmp_path), None)
    assert "Memory a flow" in (tmp_path / "plot.svg").read_text()
    assert (tmp_path / "detail.png").stat().st_size


def test_what_is_no_run_of_this_bench_is_refused_in_a_line(results: Results, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="not the folder of a run"):
        read_run(tmp_path)
    write_run(tmp_path, results, PEERS, ENVIRONMENT)
    raw = (tmp_path / "raw.csv").read_text()
    (tmp_path / "raw.csv").write_text(raw.replace("outcome", "run"))
    with pytest.raises(BenchError, match="no row says `outcome`: an older bench wrote it"):
        read_run(tmp_path)
    (tmp_path / "raw.csv").write_text(raw.replace("round,", "turn,", 1))
    with pytest.raises(BenchError, match="the columns are not those of this bench"):
        read_run(tmp_path)
    (tmp_path / "raw.csv").write_text(raw)
    (tmp_path / "env.json").write_text(json.dumps(ENVIRONMENT))
    with pytest.raises(BenchError, match="says nothing of the run"):
        read_run(tmp_path)
