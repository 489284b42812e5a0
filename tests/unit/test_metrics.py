# SPDX-License-Identifier: Apache-2.0
"""Metrics: what is written is read back as Prometheus does, and says what is so."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from fullnat.control.exposition import Family, render
from fullnat.control.metrics import render_metrics
from fullnat.control.snapshot import ports, services
from fullnat.core.reason import Reason, Verdict
from fullnat.core.service import Admin, Health
from fullnat.core.timeouts import SECOND
from tests.instances import ONE, SPARE, TWO, Run, talk
from tests.packets import tcp
from tests.vectors.case import V4

Labels = frozenset[tuple[str, str]]
Samples = dict[tuple[str, Labels], float]

_NAME = "[a-zA-Z_:][a-zA-Z0-9_:]*"
_SAMPLE = re.compile(rf"({_NAME})(?:\{{(.*)\}})? (\S+)")
_PAIR = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\n"])*)"(?:,|$)')
_UNESCAPED = {"\\\\": "\\", "\\n": "\n", '\\"': '"'}


def parse(text: str) -> tuple[dict[str, str], Samples]:
    """Return the type of each family and all samples of *text*; it must keep every rule of the format."""
    kinds: dict[str, str] = {}
    samples: Samples = {}
    family = ""
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# HELP "):
            family = line.split(" ")[2]
            assert family not in kinds, f"{family} comes twice"
        elif line.startswith("# TYPE "):
            _, _, name, kinds[family] = line.split(" ")
            assert name == family
        else:
            matched = _SAMPLE.fullmatch(line)
            assert matched, line
            assert matched[1] == family in kinds
            key = family, frozenset(pairs(matched[2] or ""))
            assert key not in samples, f"{key} comes twice"
            samples[key] = float(matched[3])
    return kinds, samples


def pairs(text: str) -> Iterator[tuple[str, str]]:
    place = 0
    while place < len(text):
        matched = _PAIR.match(text, place)
        assert matched, text[place:]
        yield matched[1], re.sub(r"\\.", lambda found: _UNESCAPED[found[0]], matched[2])
        place = matched.end()


def labelled(**labels: str) -> Labels:
    return frozenset(labels.items())


def metrics_of(run: Run) -> tuple[dict[str, str], Samples]:
    run.engine.refresh()
    return parse(
        render_metrics(
            run.instance.status(),
            services(run.roster.services),
            run.instance.server_rows(),
            ports(run.engine.ports(run.now)),
            run.engine.statistics(),
        )
    )


@pytest.fixture(params=["python", pytest.param("native", marks=pytest.mark.requires("native"))])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """An instance with one established connection."""
    made = Run(tmp_path, engine=request.param)
    connect(made, 4000)
    return made


def connect(run: Run, cport: int) -> None:
    run.send(tcp(V4.to_vip(cport), "S"))
    run.send(tcp(V4.from_server(), "SA"))
    run.send(tcp(V4.to_vip(cport), "A"))


def test_a_family_is_written_as_the_format_has_it() -> None:
    family = Family("fullnat_x_total", "counter", "Two\nlines, and a \\")
    family.add(3, service='we"b', path="a\\b\nc")
    family.add(0.1)
    assert render([family]) == (
        "# HELP fullnat_x_total Two\\nlines, and a \\\\\n"
        "# TYPE fullnat_x_total counter\n"
        'fullnat_x_total{service="we\\"b",path="a\\\\b\\nc"} 3\n'
        "fullnat_x_total 0.1\n"
    )


@pytest.mark.parametrize("text", ["", "plain", '"', "\\", "\n", '\\"\n\\n', "a,b={}", "ünï", "}"])
def test_any_label_is_read_back(text: str) -> None:
    family = Family("x", "gauge", "X")
    family.add(1, label=text, other="y")
    assert parse(render([family]))[1] == {("x", labelled(label=text, other="y")): 1.0}


@pytest.mark.parametrize("value", [0, 10**18, 0.1, 1e-9, 1.5e300, math.inf])
def test_any_number_is_read_back(value: float) -> None:
    family = Family("x", "gauge", "X", [({}, value)])
    assert parse(render([family]))[1] == {("x", frozenset()): float(value)}


def test_a_family_without_samples_is_not_there() -> None:
    assert render([Family("x", "gauge", "X")]) == ""


def test_names_say_what_they_are(run: Run) -> None:
    kinds, samples = metrics_of(run)
    assert set(kinds.values()) == {"counter", "gauge"}
    for name, kind in kinds.items():
        assert name.startswith(("fullnat_", "process_"))
        assert name.endswith("_total") == (kind == "counter"), name
        assert not name.endswith(("_ms", "_ns")), "base units only"
    assert all(math.isfinite(value) for value in samples.values())


def test_they_say_what_is_so(run: Run) -> None:
    served, one, two = run.served(), run.server(ONE), run.server(TWO)
    run.roster.set_admin(served, one, Admin.QUIESCED, 0)
    run.roster.set_health(served, two, Health.DOWN, 0)
    _, samples = metrics_of(run)
    web, first = {"service": "web"}, {"service": "web", "pool": "main", "server": ONE}
    second, spare = first | {"server": TWO}, {"service": "web", "pool": "site-b", "server": SPARE}
    expected: list[tuple[str, Mapping[str, str], float]] = [
        ("fullnat_service_flows", web | {"state": "active"}, 1),
        ("fullnat_service_flows", web | {"state": "inactive"}, 0),
        ("fullnat_service_flows_total", web, 1),
        ("fullnat_service_packets_total", web | {"direction": "in"}, 2),
        ("fullnat_service_bytes_total", web | {"direction": "out"}, 40),
        ("fullnat_service_pool_serves", web | {"pool": "main"}, 0),
        ("fullnat_service_pool_serves", web | {"pool": "site-b"}, 1),
        ("fullnat_service_pool_quorum", web | {"pool": "main"}, 0),
        ("fullnat_service_servers_available", web, 1),
        ("fullnat_server_flows", first | {"state": "active"}, 1),
        ("fullnat_server_flows_total", first, 1),
        ("fullnat_server_bytes_total", first | {"direction": "in"}, 80),
        ("fullnat_server_weight", first, 0),
        ("fullnat_server_weight", spare, 1),
        ("fullnat_server_up", first, 1),
        ("fullnat_server_up", second, 0),
        ("fullnat_server_admin_state", first | {"state": "drain"}, 1),
        ("fullnat_server_admin_state", first | {"state": "enabled"}, 0),
        ("fullnat_snat_ports_in_use", {"local": "198.19.0.1", "protocol": "tcp"}, 1),
        ("fullnat_snat_ports_fullest_ratio", {"local": "198.19.0.1", "protocol": "tcp"}, 1),
        ("fullnat_flow_table_entries", {}, 1),
        ("fullnat_flow_table_capacity", {}, 100),
        ("fullnat_packets_total", {"reason": "flow_opened", "verdict": "forward"}, 1),
        ("fullnat_packets_total", {"reason": "flow_inbound", "verdict": "forward"}, 1),
        ("fullnat_snat_port_exhausted_total", {}, 0),
        ("fullnat_queue_received_total", {}, samples["fullnat_queue_received_total", frozenset()]),
        ("fullnat_up_seconds", {}, 12.5),
        ("fullnat_config_last_reload_successful", {}, 1),
        ("fullnat_config_last_reload_success_timestamp_seconds", {}, 1_795_200_000),
    ]
    for name, labels, value in expected:
        assert samples[name, labelled(**labels)] == value, (name, labels)


def test_every_reason_is_counted_and_every_drop_again(run: Run) -> None:
    _, samples = metrics_of(run)
    told = {dict(labels)["reason"] for name, labels in samples if name == "fullnat_packets_total"}
    drops = {dict(labels)["reason"] for name, labels in samples if name == "fullnat_drops_total"}
    assert told == {reason.name.lower() for reason in Reason}
    assert drops == {reason.name.lower() for reason in Reason if reason.verdict is Verdict.DROP}


def test_clients_make_no_series(run: Run) -> None:
    _, before = metrics_of(run)
    for cport in range(4001, 4003):
        connect(run, cport)
        run.send(tcp(V4.to_vip(cport + 100, client=V4.other_client), "S"))
    run.send(b"\x45\x00")
    _, after = metrics_of(run)
    assert after.keys() == before.keys()
    assert after != before
    assert not any(V4.client in value for _, labels in after for _, value in labels)


def test_a_check_has_its_series_and_one_code(tmp_path: Path) -> None:
    run = Run(tmp_path)
    row = run.instance.server_rows()[0]
    check = {"code": "L4CON", "duration": 0.25, "checks": 9, "failures": 3, "transitions": 1}

    def found(**changed: Any) -> Samples:
        rows = [row | {"check": check | changed}]
        text = render_metrics(run.instance.status(), [], rows, [], run.engine.statistics())
        return {key: value for key, value in parse(text)[1].items() if "_check" in key[0]}

    labels = {"service": "web", "pool": "main", "server": ONE}
    assert found() == {
        ("fullnat_server_check_status", labelled(**labels, code="L4CON")): 1,
        ("fullnat_server_check_duration_seconds", labelled(**labels)): 0.25,
        ("fullnat_server_checks_total", labelled(**labels)): 9,
        ("fullnat_server_check_failures_total", labelled(**labels)): 3,
        ("fullnat_server_check_transitions_total", labelled(**labels)): 1,
    }
    assert len(found(code="L4OK")) == 5


def test_a_refused_reload_is_seen(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.instance.reloads.failures, run.instance.reloads.error = 1, "no"
    _, samples = metrics_of(run)
    assert samples["fullnat_config_last_reload_successful", frozenset()] == 0
    assert samples["fullnat_config_reload_failures_total", frozenset()] == 1


def test_the_fullest_server_is_the_one_that_counts(tmp_path: Path) -> None:
    run = Run(tmp_path)
    common = {"protocol": "tcp", "local": "198.19.0.1", "capacity": 10}
    rows = [
        common | {"server": ONE, "in_use": 2, "resting": 1},
        common | {"server": TWO, "in_use": 1, "resting": 8},
        common | {"server": SPARE, "in_use": 0, "resting": 0, "capacity": 0},
    ]
    text = render_metrics(run.instance.status(), [], [], rows, run.engine.statistics())
    place = labelled(local="198.19.0.1", protocol="tcp")
    assert parse(text)[1]["fullnat_snat_ports_in_use", place] == 3
    assert parse(text)[1]["fullnat_snat_ports_fullest_ratio", place] == 0.9


def test_prometheus_is_told_which_format_it_is(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.now = SECOND

    async def conversation(client: Any) -> tuple[int, str, str]:
        async with client.session.get("http://fullnat/metrics") as answer:
            return answer.status, answer.headers["Content-Type"], await answer.text()

    status, content_type, text = talk(run, conversation)
    assert (status, content_type) == (HTTPStatus.OK, "text/plain; version=0.0.4; charset=utf-8")
    kinds, samples = parse(text)
    assert "fullnat_build_info" in kinds
    assert samples["process_open_fds", frozenset()] > 0
    assert samples["process_resident_memory_bytes", frozenset()] > 1 << 20
