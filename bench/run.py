#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measure the peers against each other, round by round, and write a report.

    .venv/bin/python bench/run.py [--quick]

Each round gives every peer one turn at every figure; the peer that begins changes from round to
round.  A turn has a lab of its own, so nothing a peer leaves behind (conntrack entries, TIME-WAIT
sockets, resting ports) meets the next.  docs/bench.md says how each figure is taken.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # run as a file, so that `make bench` needs no install of the bench

from bench.build import TOOLS, build_programs, check_tools, missing_tools  # noqa: E402
from bench.effort import FULL, QUICK, Effort  # noqa: E402
from bench.environment import describe  # noqa: E402
from bench.errors import BenchError  # noqa: E402
from bench.figures import FIGURES  # noqa: E402
from bench.figures.cell import Cell  # noqa: E402
from bench.host import busy_now  # noqa: E402
from bench.metrics import METRICS, TARGETS  # noqa: E402
from bench.ns import Lab, remove_stale_labs  # noqa: E402
from bench.peers import PEERS  # noqa: E402
from bench.peers.base import Peer  # noqa: E402
from bench.plan import DIRECTOR_CPU, GENERATOR_CPU, PLANS, Plan  # noqa: E402
from bench.report import Subject, judge, render  # noqa: E402
from bench.results import Results, write_csv  # noqa: E402
from bench.turns import Selection, find_obstacles, plan_turns  # noqa: E402

EXIT_FAILURE, EXIT_PERMISSION = 1, 5


def main(argv: Sequence[str]) -> int:
    """Run the bench; return the exit code."""
    options = _parse(argv)
    if os.geteuid() != 0:
        return _complain("needs root, for network namespaces", EXIT_PERMISSION)
    signal.signal(signal.SIGTERM, _leave)
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    selection = Selection(options.figures, options.peers)
    try:
        results = Results(not_run=_check(selection))
        # The bench itself stays off the director's core, even when it looks something up during a trial.
        os.sched_setaffinity(0, {GENERATOR_CPU})
        _measure(results, selection, _effort(options), PLANS[options.family])
        _write(options.out, results, selection.involved(), describe(argv))
    except (BenchError, TimeoutError) as error:
        return _complain(str(error), EXIT_FAILURE)
    except KeyboardInterrupt:
        return _complain("interrupted; nothing was written", 130)
    return 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/run.py", description="Measure fullnat against its peers.")
    parser.add_argument("--quick", action="store_true", help="one short round, a few minutes in all")
    parser.add_argument("--rounds", type=_positive, metavar="N", help="instead of the effort's own number")
    parser.add_argument("--peers", type=_names(PEERS), help=f"of {','.join(PEERS)}")
    parser.add_argument("--figures", type=_names(FIGURES), help=f"of {','.join(FIGURES)}")
    parser.add_argument("--family", type=int, choices=sorted(PLANS), default=4, help="IP version")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", default=_scratch(), help="default: results/scratch/..."
    )
    return parser.parse_args(argv)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more: {text}")
    return value


def _names(known: Mapping[str, object]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = text.split(",")
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"no {name!r}; there are {', '.join(known)}")
        return list(dict.fromkeys(names))

    return parse


def _scratch() -> Path:
    name = f"{time.strftime('%Y-%m-%d-%H%M%S')}-{platform.system().lower()}-{platform.release()}"
    return ROOT / "bench" / "results" / "scratch" / name


def _effort(options: argparse.Namespace) -> Effort:
    effort = QUICK if options.quick else FULL
    return dataclasses.replace(effort, rounds=options.rounds) if options.rounds else effort


def _check(selection: Selection) -> dict[str, str]:
    """Return why peers cannot run here; BenchError for whatever would stop the run later."""
    check_tools(TOOLS)
    not_run = {}
    for peer in selection.involved():
        if reason := missing_tools(peer.tools) or peer.missing():
            not_run[peer.name] = reason
            if selection.peers is not None:  # asked for by name
                raise BenchError(f"{peer.name}: {reason}")
            _say(f"{peer.name}: not run here: {reason}")
    if not {GENERATOR_CPU, DIRECTOR_CPU} <= os.sched_getaffinity(0):
        raise BenchError("needs CPUs 0 and 1: one for the director, one for everything else")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise BenchError("matplotlib is not installed beside this python: make setup") from error
    build_programs()
    remove_stale_labs()
    return not_run


def _measure(results: Results, selection: Selection, effort: Effort, plan: Plan) -> None:
    turns = plan_turns(selection, effort.rounds, results.not_run)
    results.not_applicable |= find_obstacles(selection, results.not_run)
    if not turns:
        raise BenchError("none of these peers has any of these figures")
    for place, turn in enumerate(turns, 1):
        started, busy = time.monotonic(), busy_now()
        with Lab(plan) as lab:
            cell = Cell(lab, turn.peer(lab), effort, results, turn.round, busy)
            values = FIGURES[turn.figure].measure(cell)
        outcome = ", ".join(METRICS[name].labelled(value) for name, value in values.items())
        where = f"{place:3}/{len(turns)}  round {turn.round + 1}  {turn.figure:9}  {turn.peer.name:12}"
        _say(f"{where}  {outcome}  in {time.monotonic() - started:.0f} s")
        for name, value in values.items():
            results.add_value(name, turn.peer.name, turn.round, value)


def _write(
    folder: Path, results: Results, peers: Sequence[type[Peer]], environment: dict[str, object]
) -> None:
    from bench.plot import draw  # matplotlib takes a while; complaints above should not

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "env.json").write_text(json.dumps(environment, indent=2) + "\n", encoding="utf-8")
    write_csv(folder / "raw.csv", results.rows)
    subjects = [Subject(peer.name, peer.title, peer.baseline) for peer in peers]
    (folder / "report.md").write_text(render(results, subjects, TARGETS, environment), encoding="utf-8")
    draw(results, [peer.name for peer in peers], folder)
    for target in TARGETS:
        _say(str(judge(results, target)))
    print(folder / "report.md")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _complain(reason: str, code: int) -> int:
    _say(f"bench: {reason}")
    return code


def _leave(number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + number)  # unwinds through the lab, which cleans up


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
