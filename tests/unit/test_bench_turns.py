# SPDX-License-Identifier: Apache-2.0
"""Who is measured at what: by default, as the command line says, and where a peer cannot."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from bench.figures import FIGURES, crowd
from bench.metrics import METRICS, TARGETS
from bench.peers import PEERS
from bench.turns import Selection, find_obstacles, plan_turns

KERNELS = ["plain", "iptables", "nft", "ipvs", "ipvs-masq"]


@pytest.fixture(autouse=True)
def _room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """This host's conntrack has room, whatever it has."""
    (tmp_path / "max").write_text("262144\n")
    monkeypatch.setattr(crowd, "_CONNTRACK_MAX", tmp_path / "max")


def order(selection: Selection, rounds: int = 1, **not_run: str) -> list[tuple[str, str]]:
    return [(turn.figure, turn.peer.name) for turn in plan_turns(selection, rounds, not_run)]


def test_by_default_each_figure_has_the_peers_it_is_about() -> None:
    peers: dict[str, list[str]] = {}
    for figure, peer in order(Selection()):
        peers.setdefault(figure, []).append(peer)
    assert peers == {
        "pps": [*KERNELS, "python", "native", "ebpf"],
        "sizes": [*KERNELS, "native", "ebpf"],
        "crowd": [*KERNELS, "native", "ebpf"],
        "saturated": [*KERNELS, "ebpf"],
        "cpu": [*KERNELS, "python", "native", "ebpf"],
        "cps": [*KERNELS, "haproxy", "nginx", "python", "native", "ebpf"],
        "keepalive": [*KERNELS, "haproxy", "nginx", "python", "native", "ebpf"],
        "latency": [*KERNELS, "haproxy", "nginx", "native", "ebpf"],
        "checked": ["native", "ebpf"],
        "bulk": [*KERNELS, "haproxy", "nginx", "python", "native", "ebpf"],
        "flows": ["native", "ebpf"],
        "overload": ["native", "native-tuned"],
        "picks": ["python", "native"] if not FIGURES["picks"].obstacle(PEERS["native"]) else ["python"],
    }


@pytest.mark.parametrize(
    ("selection", "turns"),
    [
        (
            Selection(figures=["flows", "overload"]),
            [("flows", "native"), ("flows", "ebpf"), ("overload", "native"), ("overload", "native-tuned")],
        ),
        (Selection(peers=["native-tuned"]), [("overload", "native-tuned")]),
        (Selection(["flows"], ["python"]), [("flows", "python")]),
        (
            Selection(["pps", "cps"], ["haproxy", "native-tuned"]),
            [("pps", "native-tuned"), ("cps", "haproxy"), ("cps", "native-tuned")],
        ),
        (Selection(["flows"], ["plain"]), []),
    ],
)
def test_what_is_named_is_measured_where_it_can_be(
    selection: Selection, turns: list[tuple[str, str]]
) -> None:
    assert order(selection) == turns


@pytest.mark.parametrize("quick", [False, True])
def test_what_a_load_is_a_share_of_is_known_before_the_first_turn_at_it(quick: bool) -> None:
    turns = order(Selection(quick=quick))

    def places(wanted: str) -> list[int]:
        return [place for place, (figure, _) in enumerate(turns) if figure == wanted]

    assert turns.index(("keepalive", "plain")) < min(places("latency"))
    assert max(places("pps")) < min(places("cpu"))


def test_a_quick_run_has_every_figure_and_one_peer_of_a_kind() -> None:
    turns = order(Selection(quick=True))
    assert {figure for figure, _ in turns} == set(FIGURES)
    assert {"nft", "ipvs-masq", "nginx", "python"}.isdisjoint(peer for _, peer in turns)
    assert {"plain", "iptables", "ipvs", "haproxy", "native", "ebpf"} <= {peer for _, peer in turns}


def test_who_is_named_is_measured_in_a_quick_run_too() -> None:
    assert order(Selection(peers=["nft"], figures=["pps"], quick=True)) == [("pps", "nft")]
    assert ("pps", "nft") in order(Selection(peers=["nft"], quick=True))


def test_kernel_nat_has_no_more_flows_than_conntrack_has_room_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    limit = tmp_path / "max"
    monkeypatch.setattr(crowd, "_CONNTRACK_MAX", limit)
    limit.write_text("65536\n")
    assert (
        crowd.obstacle(PEERS["iptables"])
        == "has room for 65536 connections only, the host's nf_conntrack_max"
    )
    assert [crowd.obstacle(PEERS[name]) for name in ("plain", "ebpf")] == [None, None]
    limit.write_text("110000\n")
    assert crowd.obstacle(PEERS["iptables"]) is None
    limit.unlink()
    assert crowd.obstacle(PEERS["iptables"]) is None


def test_nobody_is_always_first() -> None:
    turns = plan_turns(Selection(["cps"], ["plain", "iptables", "haproxy"]), 3, {})
    assert [(turn.round, turn.peer.name) for turn in turns] == [
        *((0, name) for name in ("plain", "iptables", "haproxy")),
        *((1, name) for name in ("iptables", "haproxy", "plain")),
        *((2, name) for name in ("haproxy", "plain", "iptables")),
    ]


def test_who_cannot_run_here_has_no_turn_and_no_reason_of_a_figure() -> None:
    selection = Selection(["pps", "cps"])
    assert Counter(peer for _, peer in order(selection, haproxy="missing"))["haproxy"] == 0
    assert ("pps", "haproxy") not in find_obstacles(selection, {"haproxy": "missing"})


def test_obstacles_are_told_for_every_metric_of_the_figure() -> None:
    assert find_obstacles(Selection(["pps", "overload"], ["haproxy", "iptables"]), {}) == {
        (metric, "haproxy"): "does not carry UDP" for metric in ("pps", "napi-pps", "goodput", "overload")
    }
    assert set(find_obstacles(Selection(["picks", "flows"], ["iptables"]), {}).values()) == {
        "is no engine of fullnat",
        "is no instance of fullnat that can be asked",
    }


def test_only_peers_of_the_selection_are_involved_in_the_order_of_the_list() -> None:
    assert [p.name for p in Selection(["overload", "picks"]).involved()] == [
        "python",
        "native",
        "native-tuned",
    ]


def test_every_metric_belongs_to_one_figure_and_every_target_is_measured_by_default() -> None:
    assert Counter(metric for figure in FIGURES.values() for metric in figure.metrics) == Counter(
        list(METRICS)
    )
    default = {
        (metric, peer) for figure in FIGURES.values() for metric in figure.metrics for peer in figure.peers
    }
    for target in TARGETS:
        for quantity in (target.quantity, target.against or target.quantity):
            assert (quantity.metric, quantity.peer) in default
