# SPDX-License-Identifier: Apache-2.0
"""How the plots look: colours by family, and files that are the same bytes for the same run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from bench.subjects import Family, Subject

STYLE: dict[Any, Any] = {
    "svg.hashsalt": "fullnat",  # names of parts are random otherwise
    "svg.fonttype": "none",  # text stays text
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a8f98",
    "axes.axisbelow": True,
    "xtick.color": "#4a4f57",
    "ytick.color": "#4a4f57",
    "figure.dpi": 100,
    "savefig.facecolor": "white",
}
INK, QUIET_INK, RULE = "#1c1f24", "#6b717b", "#e3e6ea"
_SHADES = {
    Family.KERNEL: ("#9aa3ad", "#1d4e89", "#5b93cf", "#0b2a52", "#8fb8e3"),
    Family.PROXY: ("#c1502e", "#eaa26f"),
    Family.FULLNAT: ("#9fd49a", "#4fa75a", "#b9c95a", "#12692f"),
}
_EMBLEMS = {Family.KERNEL: "#1d4e89", Family.PROXY: "#c1502e", Family.FULLNAT: "#12692f"}
_MARKERS = "osD^vPX"


def colours(subjects: Sequence[Subject]) -> dict[str, str]:
    """Return a shade of the family's colour for each peer, the same whoever else is shown."""
    return {s.name: _SHADES[s.family][s.place % len(_SHADES[s.family])] for s in subjects}


def marker(subject: Subject) -> str:
    """Return what tells the peer's line from others of its family."""
    return _MARKERS[subject.place % len(_MARKERS)]


def title(axes: Axes, words: str, small_print: str) -> None:
    """Write the title of a panel, and below it unit and direction."""
    axes.text(0, 1.0, small_print, transform=axes.transAxes, va="bottom", color=QUIET_INK, fontsize=8)
    axes.set_title(words, loc="left", fontsize=10, fontweight="bold", color=INK, pad=17)


def head(figure: Figure, words: str, small_print: str) -> None:
    """Write the title of a plot in the room that tight_layout() left at its top."""
    height = figure.get_size_inches()[1]
    figure.text(0.012, 1 - 0.12 / height, words, va="top", fontsize=14, fontweight="bold", color=INK)
    figure.text(0.012, 1 - 0.42 / height, small_print, va="top", fontsize=9, color=QUIET_INK)


def name_families(figure: Figure, subjects: Sequence[Subject]) -> None:
    """Say, at the right of the title, which colours are whose."""
    present = [family for family in Family if any(s.family is family for s in subjects)]
    patches = [Patch(color=_EMBLEMS[family], label=family.value) for family in present]
    figure.legend(handles=patches, loc="upper right", ncols=len(patches), frameon=False, fontsize=9)


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write both formats, without the date."""
    figure.savefig(folder / f"{name}.png", dpi=110, metadata={"Software": None})
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})
