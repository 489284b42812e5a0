# SPDX-License-Identifier: Apache-2.0
"""The folder of a run: raw.csv and env.json are the run, report.md and the plots are made from them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from bench.metrics import TARGETS
from bench.report import render
from bench.results import Results, read_csv, write_csv
from bench.subjects import Subject, choose_baseline, find_subjects


@dataclass(frozen=True, slots=True)
class Run:
    """What the two files say."""

    results: Results
    subjects: Sequence[Subject]
    environment: Mapping[str, Any]


def write_run(
    folder: Path, results: Results, peers: Sequence[str], environment: Mapping[str, object]
) -> None:
    """Write raw.csv and env.json."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {**environment, "run": {"peers": list(peers), **results.notes()}}
    (folder / "env.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    write_csv(folder / "raw.csv", results.rows)


def read_run(folder: Path) -> Run:
    """Return what write_run() wrote; BenchError when something else is there."""
    try:
        environment = json.loads((folder / "env.json").read_text(encoding="utf-8"))
        rows = read_csv(folder / "raw.csv")
    except (OSError, ValueError) as error:
        raise BenchError(f"{folder}: not the folder of a run: {error}") from error
    if "run" not in environment:
        raise BenchError(f"{folder / 'env.json'}: says nothing of the run: an older bench wrote it")
    said = environment["run"]
    return Run(Results.of_rows(rows, said), find_subjects(said["peers"]), environment)


def render_run(folder: Path, run: Run, baseline: str | None) -> None:
    """Write report.md, and the plots in both formats; ratios in them are to *baseline*."""
    from bench.plot import draw  # matplotlib takes a while; complaints should not

    chosen = choose_baseline(run.results, run.subjects, baseline)
    text = render(run.results, run.subjects, TARGETS, run.environment, chosen)
    (folder / "report.md").write_text(text, encoding="utf-8")
    said = run.environment
    where = f"{said['cpu']}, {said['cpus']} CPUs, {said['kernel']}, commit {said['commit']}."
    draw(run.results, run.subjects, chosen, where, folder)
