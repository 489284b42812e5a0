# SPDX-License-Identifier: Apache-2.0
"""Who is measured at what: by default, as the command line says, and where a peer cannot."""

from __future__ import annotations

from collections import Counter

import pytest

from bench.figures import FIGURES
from bench.metrics import METRICS, TARGETS
from bench.peers import PEERS
from bench.turns import Selection, find_obstacles, plan_turns


def order(selection: Selection, rounds: int = 1, **not_run: str) -> list[tuple[str, str]]:
    return [(turn.figure, turn.peer.name) for turn in plan_turns(selection, rounds, not_run)]


def test_by_default_each_figure_has_the_peers_it_is_about() -> None:
    peers: dict[str, list[str]] = {}
    for figure, peer in order(Selection()):
        peers.setdefault(figure, []).append(peer)
    assert peers == {
        "pps": ["plain", "iptables", "nft", "python", "native", "ebpf"],
        "saturated": ["plain", "iptables", "nft", "ebpf"],
        "cps": ["plain", "iptables", "nft", "haproxy", "nginx", "python", "native", "ebpf"],
        "keepalive": ["plain", "iptables", "nft", "haproxy", "nginx", "python", "native", "ebpf"],
        "latency": ["plain", "iptables", "nft", "haproxy", "nginx", "native", "ebpf"],
        "bulk": ["plain", "iptables", "nft", "haproxy", "nginx", "python", "native", "ebpf"],
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


def test_the_load_of_latency_is_known_before_its_first_turn() -> None:
    turns = order(Selection())
    assert turns.index(("keepalive", "plain")) < min(
        place for place, (figure, _) in enumerate(turns) if figure == "latency"
    )


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
