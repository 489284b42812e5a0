# SPDX-License-Identifier: Apache-2.0
"""detail: how figures depend on size of frame, number of flows and streams, percentile and servers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from bench.metrics import METRICS
from bench.picks_table import collect_picks
from bench.plot_style import INK, QUIET_INK, RULE, colours, head, marker, save, title
from bench.results import Results
from bench.stats import spread
from bench.subjects import Subject


@dataclass(frozen=True, slots=True)
class Panel:
    """A line a peer over some metrics of one unit, or with one metric a bar a peer."""

    title: str
    metrics: Mapping[str, str]  # label on the axis by metric
    x: str  # what the labels are
    logarithmic: bool = False


_PERCENTILES = {"p50": "50 %", "p90": "90 %", "p99": "99 %", "p99.9": "99.9 %"}

PANELS = (
    Panel(
        "No-loss packets by size of frame",
        {"pps": "64", "pps-512": "512", "pps-1518": "1518"},
        "bytes on an Ethernet",
    ),
    Panel(
        "No-loss packets by number of flows",
        {"pps": "1 000", "pps-100k": "100 000", "pps-1m": "1 000 000"},
        "flows",
    ),
    Panel("Goodput at three times the no-loss rate", {"overload": ""}, ""),
    Panel(
        "Request latency, a fifth of plain's load",
        {f"latency-low-{name}": label for name, label in _PERCENTILES.items()},
        "of the requests take at most",
        logarithmic=True,
    ),
    Panel(
        "Request latency, half of plain's load",
        {f"latency-{name}": label for name, label in _PERCENTILES.items()},
        "of the requests take at most",
        logarithmic=True,
    ),
    Panel("Memory a flow, of a million", {"memory": ""}, ""),
    Panel("TCP streams, client to server", {"bulk-up": "1", "bulk-up-8": "8"}, "streams"),
    Panel("TCP streams, server to client", {"bulk-down": "1", "bulk-down-8": "8"}, "streams"),
)
COLUMNS, ROWS = 3, 3
SIZE = (13.2, 12.2)  # inches


def draw_detail(results: Results, subjects: Sequence[Subject], where: str, folder: Path) -> None:
    """Write detail.png and detail.svg."""
    figure = Figure(figsize=SIZE)
    grid = figure.subplots(ROWS, COLUMNS)
    for axes, panel in zip(grid.flat, PANELS, strict=False):
        _draw_panel(axes, panel, results, subjects)
    _draw_picks(grid.flat[-1], results)
    figure.tight_layout(rect=(0, 0.045, 1, 1 - 0.72 / SIZE[1]), h_pad=2.2, w_pad=2.0)
    head(figure, "fullnat and its peers, in detail", f"Medians of the rounds. {where}")
    _draw_legend(figure, [s for s in subjects if any(s.name in found for found in results.values.values())])
    save(figure, folder, "detail")


def _draw_panel(axes: Axes, panel: Panel, results: Results, subjects: Sequence[Subject]) -> None:
    first = METRICS[next(iter(panel.metrics))]
    direction = "lower is better" if first.lower_is_better else "higher is better"
    title(axes, panel.title, f"{first.unit} · {direction}")
    drawn = [s for s in subjects if any(results.of(metric, s.name) for metric in panel.metrics)]
    if not drawn:
        _say_empty(axes)
    elif len(panel.metrics) == 1:
        _draw_bars(axes, first.name, results, drawn)
    else:
        _draw_lines(axes, panel, results, drawn)
        _name_absent(axes, panel, results, subjects)


def _draw_lines(axes: Axes, panel: Panel, results: Results, subjects: Sequence[Subject]) -> None:
    shades = colours(subjects)
    for subject in subjects:
        points = []
        for place, metric in enumerate(panel.metrics):
            if found := spread(results.of(metric, subject.name).values()):
                points.append((place, found.median / METRICS[metric].divisor))
        axes.plot(
            [place for place, _ in points],
            [value for _, value in points],
            color=shades[subject.name],
            marker=marker(subject),
            markersize=5,
            linewidth=1.8,
            clip_on=False,
        )
    axes.set_xticks(range(len(panel.metrics)), list(panel.metrics.values()))
    axes.set_xlim(-0.15, len(panel.metrics) - 0.85)
    axes.set_xlabel(panel.x, fontsize=8, color=QUIET_INK)
    axes.grid(axis="y", color=RULE, linewidth=0.8)
    if panel.logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}".replace(",", " ")))
    else:
        axes.set_ylim(bottom=0)


def _draw_bars(axes: Axes, metric: str, results: Results, subjects: Sequence[Subject]) -> None:
    shades = colours(subjects)
    for place, subject in enumerate(subjects):
        found = spread(results.of(metric, subject.name).values())
        assert found is not None  # drawn
        value, divisor = METRICS[metric].text(found.median), METRICS[metric].divisor
        axes.barh(place, found.median / divisor, height=0.5, color=shades[subject.name])
        if found.high > found.low:
            axes.plot([found.low / divisor, found.high / divisor], [place, place], color=INK, linewidth=1.1)
        axes.text(found.high / divisor, place, f"  {value}", va="center", fontsize=8, color=INK)
    axes.set_yticks(range(len(subjects)), [s.name for s in subjects])
    axes.set_ylim(len(subjects) - 0.3, -0.7)
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.18)
    axes.set_xlim(left=0)
    axes.grid(axis="x", color=RULE, linewidth=0.8)


def _name_absent(axes: Axes, panel: Panel, results: Results, subjects: Sequence[Subject]) -> None:
    """Say who has none of it, or not all."""
    excused = {peer for metric, peer in results.not_applicable if metric in panel.metrics}
    if absent := [s.name for s in subjects if s.name in excused]:
        words = f"n/a: {', '.join(absent)}"
        text = axes.text(1, 1.0, words, transform=axes.transAxes, va="bottom", ha="right", color=QUIET_INK)
        text.set_fontsize(8)


def _draw_picks(axes: Axes, results: Results) -> None:
    """Draw what engine native, or else the first there is, takes for a pick: a line a scheduler."""
    by_peer = collect_picks(results)
    peer = "native" if "native" in by_peer else next(iter(by_peer), None)
    title(axes, f"A pick by number of servers{f', {peer}' if peer else ''}", "ns · lower is better")
    if peer is None:
        _say_empty(axes)
        return
    sizes = sorted({size for by_size in by_peer[peer].values() for size in by_size})
    ends = {}
    for scheduler, by_size in by_peer[peer].items():
        values = [median(by_size[size]) for size in sizes]
        axes.plot(range(len(sizes)), values, color="#4fa75a", marker="o", markersize=3, linewidth=1.2)
        ends[scheduler] = values[-1]
    axes.set_xticks(range(len(sizes)), [f"{size}" for size in sizes])
    axes.set_xlabel("servers", fontsize=8, color=QUIET_INK)
    axes.set_xlim(-0.1, len(sizes) - 0.7)
    axes.set_ylim(0, max(ends.values()) * 1.15)
    axes.grid(axis="y", color=RULE, linewidth=0.8)
    top = axes.get_ylim()[1]
    for scheduler, height in spread_labels(ends, top / 19, top * 0.98).items():
        axes.text(len(sizes) - 0.94, height, scheduler, va="center", fontsize=8, color=INK)


def spread_labels(wanted: Mapping[str, float], step: float, top: float) -> dict[str, float]:
    """Return heights at least *step* apart and at most *top*, in the order of those wanted and near them."""
    labels = sorted(wanted, key=lambda label: (wanted[label], label))
    heights: list[float] = []
    for label in labels:
        heights.append(max(wanted[label], heights[-1] + step) if heights else wanted[label])
    for place in reversed(range(len(heights))):
        heights[place] = min(heights[place], top - step * (len(heights) - 1 - place))
    return dict(zip(labels, heights, strict=True))


def _say_empty(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    words = axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color=QUIET_INK)
    words.set_fontstyle("italic")


def _draw_legend(figure: Figure, subjects: Sequence[Subject]) -> None:
    shades = colours(subjects)
    handles = [
        Line2D([], [], color=shades[s.name], marker=marker(s), markersize=6, linewidth=2, label=s.name)
        for s in subjects
    ]
    figure.legend(handles=handles, loc="lower center", ncols=max(1, len(handles)), frameon=False, fontsize=9)
