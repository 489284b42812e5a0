# SPDX-License-Identifier: Apache-2.0
"""The beginning of the report: all peers at a glance, and where the engines are behind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.markdown import ratio_text, table
from bench.metrics import HEADLINES, METRICS, Metric
from bench.results import Results
from bench.stats import Spread, ratios, spread
from bench.subjects import Family, Subject


def summarize(results: Results, subjects: Sequence[Subject], baseline: str | None) -> list[str]:
    """Return a table of the headline figures, a column a peer; no line when none was measured."""
    names = [name for name in HEADLINES if name in results.values]
    shown = [s for s in subjects if any(_has_cell(results, name, s.name) for name in names)]
    if not names or not shown:
        return []
    rows = [
        [_named(name), *(_cell(results, name, subject.name, baseline) for subject in shown)] for name in names
    ]
    compared = f", in brackets their ratios to `{baseline}`" if baseline else ""
    return [
        "## Summary",
        "",
        f"Medians{compared}; n/a: not for this peer; -: not measured."
        " Higher is better where nothing else is said.",
        "",
        *table(["", *(f"`{s.name}`" for s in shown)], rows),
        "",
        "![the same as a plot](plot.png)",
        "",
        "More of it: [by size of frame, number of flows, percentile, number of streams](detail.png).",
        "",
    ]


def _named(name: str) -> str:
    metric = METRICS[name]
    lower = ", lower is better" if metric.lower_is_better else ""
    return f"{HEADLINES[name]}, {metric.unit}{lower}"


def _has_cell(results: Results, metric: str, peer: str) -> bool:
    return bool(results.of(metric, peer)) or (metric, peer) in results.not_applicable


def _cell(results: Results, metric: str, peer: str, baseline: str | None) -> str:
    found = spread(results.of(metric, peer).values())
    if found is None:
        return "n/a" if (metric, peer) in results.not_applicable else "-"
    text = METRICS[metric].text(found.median)
    if (metric, peer) in results.generator_bound:
        text = f"≥ {text}"
    compared = against(results, metric, peer, baseline) if baseline and peer != baseline else None
    return f"{text} ({compared.median:.2f})" if compared else text


def against(results: Results, metric: str, peer: str, baseline: str) -> Spread | None:
    """Return the ratios of the rounds, None when there is none."""
    return spread(ratios(results.of(metric, peer), results.of(metric, baseline)))


def find_behind(
    results: Results, subjects: Sequence[Subject]
) -> Iterator[tuple[str, Metric, dict[str, Spread]]]:
    """Yield by engine and headline figure the ratios to the baselines that do better."""
    engines = [s.name for s in subjects if s.family is Family.FULLNAT]
    others = [s.name for s in subjects if s.baseline]
    for engine in reversed(engines):  # the fastest is the last of the peers, and what a reader will run
        for metric in (METRICS[name] for name in HEADLINES):
            found = {name: against(results, metric.name, engine, name) for name in others}
            worse = {name: ratio for name, ratio in found.items() if ratio and metric.is_behind(ratio.median)}
            if worse:
                yield engine, metric, worse


def tell_behind(results: Results, subjects: Sequence[Subject]) -> list[str]:
    """Return the section on it; no line when no engine can be compared with anybody."""
    engines = [s.name for s in subjects if s.family is Family.FULLNAT]
    others = [s.name for s in subjects if s.baseline]
    if not any(against(results, m, e, o) for m in HEADLINES for e in engines for o in others):
        return []
    found = list(find_behind(results, subjects))
    title = ["## Where fullnat is behind", ""]
    if not found:
        return [*title, "In no headline figure is the median ratio of an engine to a baseline behind.", ""]
    shown = [name for name in others if any(name in worse for _, _, worse in found)]
    rows = [
        [
            f"`{engine}`",
            _named(metric.name),
            *(ratio_text(worse[name]) if name in worse else "-" for name in shown),
        ]
        for engine, metric, worse in found
    ]
    return [
        *title,
        "Every headline figure in which an engine's median ratio to a baseline is on the wrong side of 1;"
        " -: it is not. Where the extremes lie on both sides, this run cannot tell.",
        "",
        *table(["engine", "figure", *(f"÷ {name}" for name in shown)], rows, words=2),
        "",
    ]
