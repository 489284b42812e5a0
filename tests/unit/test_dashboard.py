# SPDX-License-Identifier: Apache-2.0
"""Dashboard, alert rules and documentation name the metrics that there are, all of them and no others."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fullnat.control.metrics import render_metrics
from fullnat.datapath.base import Statistics
from fullnat.datapath.ebpf import PASSES
from tests.instances import Run
from tests.unit.test_metrics import parse
from tools import gen_dashboard

DOCUMENT = gen_dashboard.ROOT / "docs" / "metrics.md"
RULES = gen_dashboard.ROOT / "packaging" / "prometheus" / "fullnat.rules.yml"
CHECK = {"code": "L7OK", "duration": 0.1, "checks": 9, "failures": 3, "transitions": 1}
PORTS = {"protocol": "tcp", "local": "198.19.0.1", "in_use": 1, "resting": 1, "capacity": 9}
# What an engine counts of itself: struct fn_engine_statistics, and the program of engine ebpf.
OF_ENGINES = (
    *("batches", "truncated", "refused_verdicts", "lost_verdicts", "upcalls"),
    *(f"passed_{why}" for why in PASSES),
    *("flows_adopted", "flows_ended_by_adoption"),
)

_METRIC = re.compile(r"\b(?:fullnat|process)_[a-z0-9_]+\b")
_ROW = re.compile(r"\| `((?:fullnat|process)_\w+)` \| (\w+) \|(.*?)\|(.*)\|")


@pytest.fixture
def exposition(tmp_path: Path) -> str:
    """What is exposed by an instance that has one of everything."""
    run = Run(tmp_path)
    statistics: Statistics = run.engine.statistics()
    statistics.of_engine |= dict.fromkeys(OF_ENGINES, 1)
    rows = [row | {"check": CHECK} for row in run.instance.server_rows()]
    services = [
        {"name": "web", "serving": "main", "available": 2, "active": 1, "inactive": 0, "connections": 1}
        | {"packets_in": 1, "packets_out": 1, "bytes_in": 1, "bytes_out": 1}
        | {"pools": [{"name": "main", "has_quorum": True}]}
    ]
    return render_metrics(run.instance.status(), services, rows, [PORTS], statistics)


@pytest.fixture
def metrics(exposition: str) -> dict[str, tuple[str, set[str]]]:
    """Type and labels of every metric."""
    kinds, samples = parse(exposition)
    return {
        name: (kind, {label for key, labels in samples if key == name for label, _ in labels})
        for name, kind in kinds.items()
    }


def documented() -> dict[str, tuple[str, str]]:
    """Type and third column of every metric in the documentation."""
    rows = _ROW.findall(DOCUMENT.read_text(encoding="utf-8").replace("\\|", "!"))
    found = {name: (kind, labels) for name, kind, labels, _ in rows}
    assert len(found) == len(rows), "one comes twice"
    return found


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = gen_dashboard.build()["panels"]
    return found


def expressions() -> Iterator[str]:
    for panel in panels():
        yield from (target["expr"] for target in panel.get("targets", ()))


def test_every_metric_is_documented_with_its_type_and_labels(
    metrics: dict[str, tuple[str, set[str]]],
) -> None:
    told = documented()
    assert told.keys() == metrics.keys()
    for name, (kind, labels) in metrics.items():
        assert told[name][0] == kind, name
        if not name.startswith("fullnat_engine_"):
            assert set(re.findall(r"`(\w+)", told[name][1])) == labels, name


def test_the_dashboard_is_current() -> None:
    assert gen_dashboard.FILE.read_text(encoding="utf-8") == gen_dashboard.text()


def test_the_dashboard_asks_for_metrics_that_there_are(metrics: dict[str, tuple[str, set[str]]]) -> None:
    asked = {name for expression in expressions() for name in _METRIC.findall(expression)}
    assert asked - metrics.keys() == set()


def test_the_dashboard_shows_every_metric(metrics: dict[str, tuple[str, set[str]]]) -> None:
    asked = {name for expression in expressions() for name in _METRIC.findall(expression)}
    unseen = {name for name in metrics.keys() - asked if not name.startswith("fullnat_engine_")}
    assert unseen == {"process_start_time_seconds"}  # of use to alerts only


def test_a_counter_is_never_shown_as_it_is(metrics: dict[str, tuple[str, set[str]]]) -> None:
    for expression in expressions():
        for name in _METRIC.findall(expression):
            if metrics[name][0] == "counter":
                assert re.search(rf"(?:rate|increase)\({name}\{{", expression), expression


@pytest.mark.parametrize("expression", [*expressions()])
def test_labels_in_the_dashboard_are_those_of_the_metric(
    expression: str, metrics: dict[str, tuple[str, set[str]]]
) -> None:
    matched = re.findall(rf"({_METRIC.pattern})\{{([^}}]*)\}}", expression)
    assert matched
    labels = {"instance", "job"}.union(*(metrics[name][1] for name, _ in matched))
    for name, text in matched:
        assert set(re.findall(r"(\w+)[!=]", text)) <= metrics[name][1] | {"instance"}
    for text in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression):
        assert set(text.split(", ")) <= labels


def test_every_line_has_a_name_made_of_labels_it_has(metrics: dict[str, tuple[str, set[str]]]) -> None:
    for panel in panels():
        for target in panel.get("targets", ()):
            by = re.search(r"sum by \(([^)]*)\)", target["expr"])
            name = _METRIC.findall(target["expr"])[0]
            labels = set(by[1].split(", ")) if by else metrics[name][1] | {"instance"}
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= labels, target


def test_panels_do_not_overlap_and_have_their_own_ids() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        own = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not own & cells, panel["title"]
        assert place["x"] + place["w"] <= 24
        cells |= own
    assert len({panel["id"] for panel in panels()}) == len(panels())


def test_the_dashboard_has_a_lasting_address_and_its_variables() -> None:
    dashboard = json.loads(gen_dashboard.text())
    assert dashboard["uid"] == "fullnat"
    assert [one["name"] for one in dashboard["templating"]["list"]] == ["datasource", "instance", "service"]
    rows = [panel["title"] for panel in dashboard["panels"] if panel["type"] == "row"]
    assert rows == ["Traffic", "Servers", "SNAT", "Drops", "Health", "Engine"]
    assert [row for row in rows if row.lower() not in DOCUMENT.read_text().lower()] == []


def test_alerts_ask_for_metrics_that_there_are(metrics: dict[str, tuple[str, set[str]]]) -> None:
    lines = re.findall(r"^ +expr: (.*)$", RULES.read_text(encoding="utf-8"), re.MULTILINE)
    asked = {name for line in lines for name in _METRIC.findall(line)}
    assert asked - metrics.keys() == set()
    assert len(lines) >= 7


def test_every_alert_is_documented_and_tried() -> None:
    alerts = re.findall(r"- alert: (\w+)", RULES.read_text(encoding="utf-8"))
    tried = RULES.with_suffix(".test.yml").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(Fullnat\w+)` \|", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE) == alerts
    for alert in alerts:
        assert re.search(rf"alertname: {alert}\n +exp_alerts:\n +- exp_labels", tried), f"{alert} never fires"
        assert re.search(rf"alertname: {alert}\n +exp_alerts: \[\]", tried), f"{alert} always fires"


def test_the_generator_writes_and_checks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gen_dashboard, "ROOT", tmp_path)
    monkeypatch.setattr(gen_dashboard, "FILE", tmp_path / "grafana" / "fullnat.json")
    monkeypatch.setattr("sys.argv", ["gen_dashboard", "--check"])
    assert gen_dashboard.main() == 1
    assert "run `make gen`" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["gen_dashboard"])
    assert gen_dashboard.main() == 0
    monkeypatch.setattr("sys.argv", ["gen_dashboard", "--check"])
    assert gen_dashboard.main() == 0
