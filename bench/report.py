# SPDX-License-Identifier: Apache-2.0
"""report.md: one table a metric, ratios inside the round, targets, and how to repeat the run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench.metrics import METRICS, Metric, Target
from bench.results import Results
from bench.stats import Spread, ratios, spread

QUIET = 0.10  # share of CPU time that others may use


@dataclass(frozen=True, slots=True)
class Subject:
    """What the report says about a peer besides its figures."""

    name: str
    title: str
    baseline: bool


def render(
    results: Results,
    subjects: Sequence[Subject],
    targets: Iterable[Target],
    environment: Mapping[str, object],
) -> str:
    """Return the report."""
    parts = [_head(environment), _targets(results, targets), _legend(subjects)]
    parts += [_section(results, subjects, METRICS[name]) for name in METRICS if name in results.values]
    parts.append(_notes(results))
    return "\n".join(part for part in parts if part)


def judge(results: Results, target: Target) -> tuple[bool | None, str]:
    """Return whether the median ratio reaches the target (None: not measured) and the sentence."""
    found = spread(ratios(results.of(target.metric, target.peer), results.of(target.metric, target.baseline)))
    wanted = f"{target.metric}: {target.peer} / {target.baseline} at least {target.ratio:g}"
    if found is None:
        return None, f"{wanted}: **not measured**"
    met = found.median >= target.ratio
    return met, f"{wanted}: **{'met' if met else 'missed'}**, {_ratio(found)} in {_rounds(found.count)}"


def _head(environment: Mapping[str, object]) -> str:
    return f"""# Bench report

{environment["cpu"]}, {environment["cpus"]} CPUs, {environment["kernel"]}, commit {environment["commit"]}.
Repeat it with

    {environment["command"]}

Every trial is in `raw.csv`, the rest of the environment in `env.json`, how it is measured in `docs/bench.md`.
Each value is the median of the rounds with the lowest and the highest in brackets.
A ratio is formed inside each round, then the median and the extremes of these ratios are taken.
"""


def _targets(results: Results, targets: Iterable[Target]) -> str:
    return "\n".join(["## Targets", "", *(f"* {judge(results, target)[1]}" for target in targets), ""])


def _legend(subjects: Sequence[Subject]) -> str:
    return "\n".join(["## Peers", "", *(f"* `{subject.name}`: {subject.title}" for subject in subjects), ""])


def _section(results: Results, subjects: Sequence[Subject], metric: Metric) -> str:
    present = [s for s in subjects if results.of(metric.name, s.name)]
    baselines = [s for s in present if s.baseline]
    head = ["peer", metric.unit, *(f"÷ {s.name}" for s in baselines), "rounds"]
    lines = [
        f"## {metric.title} (`{metric.name}`)",
        "",
        _line(head),
        _line(["---"] + ["---:"] * (len(head) - 1)),
    ]
    for subject in present:
        values = results.of(metric.name, subject.name)
        found = spread(values.values())
        assert found is not None  # present
        at_least = "≥ " if (metric.name, subject.name) in results.generator_bound else ""
        row = [f"`{subject.name}`", at_least + _value(metric, found)]
        row += ["1" if s is subject else _against(values, results.of(metric.name, s.name)) for s in baselines]
        lines.append(_line([*row, str(found.count)]))
    return "\n".join([*lines, ""])


def _notes(results: Results) -> str:
    notes = [
        f"* `{metric}`, `{peer}`: {count} failed connections or answers over all rounds."
        for (metric, peer), count in sorted(results.errors().items())
    ]
    if results.generator_bound:
        notes.append(
            "* ≥: in at least one round the generator could not offer more; the peer may carry more."
        )
    busy = spread(row.busy_before for row in results.rows if row.busy_before is not None)
    steal = spread(row.steal for row in results.rows if row.steal is not None)
    if busy:
        quiet = "" if busy.high <= QUIET else " The host was not quiet: repeat the run before quoting it."
        shares = f"median {busy.median:.0%}, at most {busy.high:.0%}"
        notes.append(f"* CPU time others used just before a turn: {shares}.{quiet}")
    if steal:
        notes.append(
            f"* CPU time the hypervisor took in a trial: median {steal.median:.1%}, at most {steal.high:.1%}."
        )
    return "\n".join(["## Notes", "", *notes, ""]) if notes else ""


def _against(values: Mapping[int, float], baseline: Mapping[int, float]) -> str:
    found = spread(ratios(values, baseline))
    return _ratio(found) if found else "-"


def _ratio(found: Spread) -> str:
    return f"{found.median:.3f} ({found.low:.3f} to {found.high:.3f})"


def _value(metric: Metric, found: Spread) -> str:
    return f"{metric.text(found.median)} ({metric.text(found.low)} to {metric.text(found.high)})"


def _rounds(count: int) -> str:
    return f"{count} round" if count == 1 else f"{count} rounds"


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
