# SPDX-License-Identifier: Apache-2.0
"""The picture of a run: a bar for each peer's median, a dot for every round."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median

import matplotlib as mpl

from bench.metrics import METRICS
from bench.results import Results

mpl.use("Agg")
mpl.rcParams["svg.hashsalt"] = "fullnat"  # the same run draws the same file

from matplotlib import pyplot  # noqa: E402  a backend must be chosen first


def draw(results: Results, peers: Sequence[str], folder: Path) -> None:
    """Write plot.png and plot.svg."""
    metrics = [METRICS[name] for name in METRICS if name in results.values]
    height = 1.0 + 0.45 * len(peers)
    figure, axes = pyplot.subplots(len(metrics), 1, figsize=(8, height * len(metrics)), squeeze=False)
    for axis, metric in zip(axes[:, 0], metrics, strict=True):
        for place, peer in enumerate(peers):
            values = [value / metric.divisor for value in results.of(metric.name, peer).values()]
            if values:
                axis.barh(place, median(values), height=0.6, color="#9bb8d3")
                axis.plot(values, [place] * len(values), "o", color="#1f3b57", markersize=4, clip_on=False)
        axis.set_yticks(range(len(peers)), peers)
        axis.invert_yaxis()
        axis.set_xlim(left=0)
        axis.set_xlabel(metric.unit)
        axis.set_title(metric.title, loc="left", fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(folder / "plot.png", dpi=120)
    figure.savefig(folder / "plot.svg", metadata={"Date": None})
    pyplot.close(figure)
