# SPDX-License-Identifier: Apache-2.0
"""report.md: a summary, targets, one table a metric with ratios inside the round, how to repeat the run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench.markdown import ratio_text, table, value_text
from bench.metrics import METRICS, Metric, Target
from bench.picks_table import tabulate_picks
from bench.results import Results
from bench.stats import ratios, spread
from bench.subjects import Subject
from bench.summary import summarize, tell_behind

QUIET = 0.10  # share of CPU time that others may use


@dataclass(frozen=True, slots=True)
class Judgement:
    """What became of a target."""

    quantity: str
    against: str
    wanted: str
    found: str
    verdict: str  # met, missed, or not measured

    def __str__(self) -> str:
        divided = f" / {self.against}" if self.against else ""
        found = f", {self.found}" if self.found else ""
        return f"{self.quantity}{divided} {self.wanted}: {self.verdict}{found}"


def render(
    results: Results,
    subjects: Sequence[Subject],
    targets: Iterable[Target],
    environment: Mapping[str, object],
    baseline: str | None = None,
) -> str:
    """Return the report; its summary has ratios to *baseline*."""
    parts = [_head(environment), *_lines(summarize(results, subjects, baseline))]
    parts += [*_lines(tell_behind(results, subjects)), _targets(results, targets), _legend(results, subjects)]
    parts += [_section(results, subjects, METRICS[name]) for name in METRICS if name in results.values]
    parts += [*_lines(tabulate_picks(results, subjects)), _notes(results)]
    return "\n".join(part for part in parts if part)


def _lines(lines: Sequence[str]) -> list[str]:
    return ["\n".join(lines)] if lines else []


def judge(results: Results, target: Target) -> Judgement:
    """Return how the median stands to the target."""
    metric, against = METRICS[target.quantity.metric], target.against
    values = results.of(target.quantity.metric, target.quantity.peer)
    if against is None:
        found, wanted = spread(values.values()), f"{target.bound:g} {metric.unit}"
        text = value_text(metric, found) if found else ""
    else:
        found, wanted = spread(ratios(values, results.of(against.metric, against.peer))), f"{target.bound:g}"
        text = ratio_text(found) if found else ""
    if found is None:
        verdict = "not measured"
    else:
        verdict = "met" if target.is_met_by(found.median / (1 if against else metric.divisor)) else "missed"
        text += f" in {_rounds(found.count)}"
    return Judgement(
        f"{target.quantity.peer} {target.quantity.metric}",
        _against_text(target),
        f"{'at most' if target.at_most else 'at least'} {wanted}",
        text,
        verdict,
    )


def _against_text(target: Target) -> str:
    against = target.against
    if against is None:
        return ""
    return against.peer if against.metric == target.quantity.metric else f"{against.peer} {against.metric}"


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
    judged = [judge(results, target) for target in targets]
    rows = [[j.quantity, j.against or "-", j.wanted, j.found or "-", f"**{j.verdict}**"] for j in judged]
    head = ["figure", "against", "wanted", "found", ""]
    return "\n".join(["## Targets", "", *table(head, rows, words=len(head)), ""])


def _legend(results: Results, subjects: Sequence[Subject]) -> str:
    lines = [
        f"* `{subject.name}`: {subject.title}" + _excuse(results.not_run.get(subject.name))
        for subject in subjects
    ]
    return "\n".join(["## Peers", "", *lines, ""])


def _excuse(reason: str | None) -> str:
    return f"; not run here: {reason}" if reason else ""


def _section(results: Results, subjects: Sequence[Subject], metric: Metric) -> str:
    present = [s for s in subjects if results.of(metric.name, s.name)]
    baselines = [s for s in present if s.baseline]
    head = ["peer", metric.unit, *(f"÷ {s.name}" for s in baselines), "rounds"]
    rows = []
    for subject in present:
        values = results.of(metric.name, subject.name)
        found = spread(values.values())
        assert found is not None  # present
        at_least = "≥ " if (metric.name, subject.name) in results.generator_bound else ""
        row = [f"`{subject.name}`", at_least + value_text(metric, found)]
        row += ["1" if s is subject else _against(values, results.of(metric.name, s.name)) for s in baselines]
        rows.append([*row, str(found.count)])
    for subject in subjects:
        if (metric.name, subject.name) in results.not_applicable:
            rows.append([f"`{subject.name}`", "n/a", *("-" for _ in baselines), "-"])
    lower = ["Lower is better; a ratio above 1 is behind.", ""] if metric.lower_is_better else []
    return "\n".join([f"## {metric.title} (`{metric.name}`)", "", *lower, *table(head, rows), ""])


def _notes(results: Results) -> str:
    notes = [
        f"* `{metric}`, `{peer}`: {count} failed connections or answers over all rounds."
        for (metric, peer), count in sorted(results.errors().items())
    ]
    notes += [
        f"* `{metric}`, `{peer}`: n/a, it {reason}."
        for (metric, peer), reason in sorted(results.not_applicable.items())
    ]
    notes += [f"* {remark}" for remark in results.remarks]
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
    return ratio_text(found) if found else "-"


def _rounds(count: int) -> str:
    return f"{count} round" if count == 1 else f"{count} rounds"
