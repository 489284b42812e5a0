# SPDX-License-Identifier: Apache-2.0
"""plot: the headline figures side by side, each peer a bar as long as its ratio to the baseline.

Ratios, because all panels then have one scale, on which 1 is the baseline: a reader sees at once who is
ahead and by how much.  The absolute medians stand at the bars' ends.  A bar that would dwarf the others is
cut, and says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.metrics import HEADLINES, METRICS, Metric
from bench.plot_detail import draw_detail
from bench.plot_style import INK, QUIET_INK, RULE, STYLE, colours, head, name_families, save, title
from bench.results import Results
from bench.stats import Spread, ratios, spread
from bench.subjects import Subject

COLUMNS = 3
LONGEST = 4.0  # times the baseline; longer bars are cut
ROOM = 1.55  # of the longest bar, for what stands at its end


@dataclass(frozen=True, slots=True)
class Bar:
    """One peer in one panel."""

    ratio: Spread
    text: str

    @property
    def is_cut(self) -> bool:
        """Whether there is more of it than is shown."""
        return self.ratio.median > LONGEST


def draw(
    results: Results, subjects: Sequence[Subject], baseline: str | None, where: str, folder: Path
) -> None:
    """Write plot and detail, each as PNG and SVG; *where* says what they were measured on."""
    with rc_context(STYLE):
        _draw_headlines(results, subjects, baseline, where, folder)
        draw_detail(results, subjects, where, folder)


def _draw_headlines(
    results: Results, subjects: Sequence[Subject], baseline: str | None, where: str, folder: Path
) -> None:
    names = [name for name in HEADLINES if name in results.values] or [next(iter(results.values))]
    shown = [s for s in subjects if any(results.of(name, s.name) for name in names)]
    columns = min(COLUMNS, len(names))
    rows = math.ceil(len(names) / columns)
    size = (1.2 + 4.0 * columns, 0.8 + rows * (0.95 + 0.24 * len(shown)))
    figure = Figure(figsize=size)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes, name in zip(grid.flat, names, strict=False):
        _draw_panel(axes, results, shown, METRICS[name], baseline)
    for axes in grid.flat[len(names) :]:
        axes.set_axis_off()
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.72 / size[1]), h_pad=1.4, w_pad=1.5)
    compared = f"ratio to {baseline}" if baseline else "compared with the best"
    head(
        figure,
        f"fullnat and its peers: {compared}",
        f"Bars: median of the rounds' ratios; whiskers: extremes; numbers: absolute medians. {where}",
    )
    name_families(figure, shown)
    save(figure, folder, "plot")


def _draw_panel(
    axes: Axes, results: Results, subjects: Sequence[Subject], metric: Metric, baseline: str | None
) -> None:
    bars = find_bars(results, subjects, metric, baseline)
    longest = max((min(LONGEST, bar.ratio.high) for bar in bars.values()), default=1.0)
    longest = max(longest, 1.0)
    shades = colours(subjects)
    axes.set_xlim(0, longest * ROOM)
    for place, subject in enumerate(subjects):
        if bar := bars.get(subject.name):
            _draw_bar(axes, place, bar, shades[subject.name], longest)
        else:
            absent = "n/a" if (metric.name, subject.name) in results.not_applicable else "not measured"
            axes.text(longest * 0.02, place, absent, va="center", fontsize=8, color=QUIET_INK, style="italic")
    axes.axvline(1, color=INK, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    axes.set_yticks(range(len(subjects)), [s.name for s in subjects])
    axes.set_ylim(len(subjects) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5]))
    axes.grid(axis="x", color=RULE, linewidth=0.8)
    direction = "lower is better" if metric.lower_is_better else "higher is better"
    title(axes, HEADLINES.get(metric.name, metric.title), f"{metric.unit} · {direction}")


def _draw_bar(axes: Axes, place: int, bar: Bar, colour: str, longest: float) -> None:
    length = min(max(bar.ratio.median, 0.0), LONGEST)
    axes.barh(place, length, height=0.68, color=colour, zorder=2)
    end = min(max(bar.ratio.high, 0.0), longest)
    if bar.ratio.high > bar.ratio.low and not bar.is_cut:
        whisker = [min(bar.ratio.low, longest), end], [place, place]
        axes.plot(*whisker, color="white", linewidth=3, zorder=3)  # to be seen on dark bars too
        axes.plot(*whisker, color=INK, linewidth=1.1, zorder=3)
    if bar.is_cut:
        axes.text(length, place, "▸", va="center", ha="left", color=colour, fontsize=12)
    gap = longest * (0.07 if bar.is_cut else 0.025)
    text = axes.text(max(end, length) + gap, place, bar.text, va="center", fontsize=8, color=INK)
    text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.8})


def find_bars(
    results: Results, subjects: Sequence[Subject], metric: Metric, baseline: str | None
) -> Mapping[str, Bar]:
    """Return the bars by peer: ratios to the baseline, or where it has no such value to the best median."""
    values = {s.name: results.of(metric.name, s.name) for s in subjects}
    measured = {name: by_round for name, by_round in values.items() if by_round}
    base = results.of(metric.name, baseline) if baseline else {}
    medians = {name: spread(by_round.values()) for name, by_round in measured.items()}
    best = max((found.median for found in medians.values() if found), default=0.0) or 1.0
    bars = {}
    for name, by_round in measured.items():
        found = spread(ratios(by_round, base)) if base else spread(v / best for v in by_round.values())
        middle = medians[name]
        if found is None or middle is None:
            continue
        at_least = "≥ " if (metric.name, name) in results.generator_bound else ""
        compared = f"  {found.median:.2f}×" if base and name != baseline else ""
        bars[name] = Bar(found, f"{at_least}{metric.text(middle.median)}{compared}")
    return bars
