# SPDX-License-Identifier: Apache-2.0
"""A stock node_exporter reads our files as it reads the kernel's: its numbers are ours, with traffic."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from balancer import Balancer
from lab import Lab
from tests.netns.conversations import connect, tell
from tests.netns.streams import ECHO, echo_config, start_echo
from tests.netns.traffic import get, wait_until

pytestmark = pytest.mark.requires("nfqueue", "ipset", "iptables", "curl", "node_exporter")

PORT = 9101
_SAMPLE = re.compile(r"^(node_ipvs_\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_TOTALS = {
    "connections": "node_ipvs_connections_total",
    "packets_in": "node_ipvs_incoming_packets_total",
    "packets_out": "node_ipvs_outgoing_packets_total",
    "bytes_in": "node_ipvs_incoming_bytes_total",
    "bytes_out": "node_ipvs_outgoing_bytes_total",
}
_GAUGES = {
    "active": "node_ipvs_backend_connections_active",
    "inactive": "node_ipvs_backend_connections_inactive",
    "effective_weight": "node_ipvs_backend_weight",
}

Scrape = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def datapath() -> str:
    """Whatever runs."""
    return "auto"


@contextmanager
def node_exporter(lab: Lab, folder: Path) -> Iterator[None]:
    """Run one on the director that knows of IPVS only, and that from *folder*."""
    process = lab.popen(
        "director",
        [
            "prometheus-node-exporter",
            f"--path.procfs={folder}",
            "--collector.disable-defaults",
            "--collector.ipvs",
            f"--web.listen-address=127.0.0.1:{PORT}",
        ],
    )
    try:
        wait_until(lambda: scrape(lab), 10, "node_exporter")
        yield
    finally:
        process.terminate()
        process.wait()


def scrape(lab: Lab) -> Scrape:
    """What node_exporter exposes about IPVS, by name and labels."""
    text = lab.run("director", ["curl", "--silent", f"http://127.0.0.1:{PORT}/metrics"], check=False).stdout
    found = {}
    for name, labels, value in _SAMPLE.findall(text):
        found[name, frozenset(re.findall(r'(\w+)="([^"]*)"', labels))] = float(value)
    return found


def expected(services: list[dict[str, Any]], servers: list[dict[str, Any]]) -> Scrape:
    """What it ought to expose, of what `fullnat show` has."""
    want: Scrape = {
        (metric, frozenset()): float(sum(row[key] for row in servers)) for key, metric in _TOTALS.items()
    }
    listens = {row["name"]: row for row in services}
    for row in servers:
        service = listens[row["service"]]
        labels = dict(
            zip(
                ("local_address", "local_port", "remote_address", "remote_port"),
                (*_split(service["listen"]), *_split(row["address"])),
                strict=True,
            )
        )
        labels |= {"proto": service["protocol"].upper(), "local_mark": ""}
        for key, metric in _GAUGES.items():
            want[metric, frozenset(labels.items())] = float(row[key])
    return want


def _split(endpoint: str) -> tuple[str, str]:
    address, _, port = endpoint.rpartition(":")
    return address.strip("[]"), port


def test_its_numbers_are_ours(lab: Lab, balancer: Callable[..., Balancer]) -> None:
    folder = lab.directory / "proc"
    start_echo(lab)
    running = balancer(f'{echo_config(lab)}\n[metrics]\nprocfs = "{folder}"\n')
    with node_exporter(lab, folder):
        vips = lab.vips4[0], lab.vips6[0]
        with connect(lab, "client", vips[0], ECHO) as one, connect(lab, "client", vips[1], ECHO) as two:
            for talk in (one, two, one):
                tell(talk, "hello")
            running.command("set", "tcp7-v4", f"{lab.servers4[2]}:{ECHO}", "--weight", "7")

            def are_equal() -> bool:
                return scrape(lab) == expected(running.show("services"), running.show("servers"))

            wait_until(are_equal, 30, "numbers that are equal")
        assert scrape(lab)["node_ipvs_connections_total", frozenset()] == 2
    assert running.stop() == 0
    assert not folder.exists()


def test_totals_outlive_a_server(lab: Lab, balancer: Callable[..., Balancer]) -> None:
    folder = lab.directory / "proc"
    metrics = f'\n[metrics]\nprocfs = "{folder}"\n'
    running = balancer(lab.config(families=(4,)) + metrics)
    assert get(lab, lab.vips4[0], 6).count == 6

    def counted() -> int:
        lines = (folder / "net" / "ip_vs_stats").read_text().splitlines()
        return int(lines[2].split()[0], 16)

    wait_until(lambda: counted() == 6, 15, "six connections")
    running.command("ipvsadm", "-d", "-t", f"{lab.vips4[0]}:80", "-r", f"{lab.servers4[0]}:80")
    assert get(lab, lab.vips4[0], 2).count == 2
    wait_until(lambda: counted() == 8, 15, "eight, with the two of the server that has left")
