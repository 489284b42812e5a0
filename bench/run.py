#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measure the peers against each other, round by round, and write a report.

    .venv/bin/python bench/run.py [--quick]
    .venv/bin/python bench/run.py --replot bench/results/...

Each round gives every peer one turn at every figure; the peer that begins changes from round to
round.  A turn has a lab of its own, so nothing a peer leaves behind (conntrack entries, TIME-WAIT
sockets, resting ports) meets the next.  docs/bench.md says how each figure is taken.
"""

from __future__ import annotations

import argparse
import dataclasses
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
from bench.plan import DIRECTOR_CPU, GENERATOR_CPU, PLANS, Plan  # noqa: E402
from bench.progress import Display  # noqa: E402
from bench.report import judge  # noqa: E402
from bench.results import Results  # noqa: E402
from bench.run_files import read_run, render_run, write_run  # noqa: E402
from bench.turns import Selection, Turn, find_obstacles, plan_turns  # noqa: E402

EXIT_FAILURE, EXIT_PERMISSION = 1, 5


def main(argv: Sequence[str]) -> int:
    """Run the bench; return the exit code."""
    options = _parse(argv)
    try:
        if options.replot:
            _render(options.replot, options.baseline)
        else:
            if os.geteuid() != 0:
                return _complain("needs root, for network namespaces", EXIT_PERMISSION)
            _run(options, argv)
    except (BenchError, TimeoutError) as error:
        return _complain(str(error), EXIT_FAILURE)
    except KeyboardInterrupt:
        return _complain("interrupted; nothing was written", 130)
    return 0


def _run(options: argparse.Namespace, argv: Sequence[str]) -> None:
    signal.signal(signal.SIGTERM, _leave)
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    selection = Selection(options.figures, options.peers, options.quick)
    results = Results(not_run=_check(selection))
    # The bench itself stays off the director's core, even when it looks something up during a trial.
    os.sched_setaffinity(0, {GENERATOR_CPU})
    _measure(results, selection, _effort(options), PLANS[options.family])
    environment = describe(argv)
    write_run(options.out, results, [peer.name for peer in selection.involved()], environment)
    _render(options.out, options.baseline)


def _render(folder: Path, baseline: str | None) -> None:
    """Write report and plots of the run that is kept in *folder*, and say what became of the targets."""
    _need_matplotlib()
    run = read_run(folder)
    render_run(folder, run, baseline)
    for target in TARGETS:
        _say(str(judge(run.results, target)))
    print(folder / "report.md")


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/run.py", description="Measure fullnat against its peers.")
    parser.add_argument("--quick", action="store_true", help="one short round, under five minutes in all")
    parser.add_argument("--rounds", type=_positive, metavar="N", help="instead of the effort's own number")
    parser.add_argument("--peers", type=_names(PEERS), help=f"of {','.join(PEERS)}")
    parser.add_argument("--figures", type=_names(FIGURES), help=f"of {','.join(FIGURES)}")
    parser.add_argument("--family", type=int, choices=sorted(PLANS), default=4, help="IP version")
    parser.add_argument(
        "--baseline", choices=list(PEERS), metavar="PEER", help="in summary and plots; default: iptables"
    )
    parser.add_argument(
        "--replot", type=Path, metavar="DIR", help="measure nothing: make report and plots of a run again"
    )
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
    _need_matplotlib()
    build_programs()
    remove_stale_labs()
    return not_run


def _need_matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise BenchError("matplotlib is not installed beside this python: make setup") from error


def _measure(results: Results, selection: Selection, effort: Effort, plan: Plan) -> None:
    turns = plan_turns(selection, effort.rounds, results.not_run)
    results.not_applicable |= find_obstacles(selection, results.not_run)
    if not turns:
        raise BenchError("none of these peers has any of these figures")
    usual = {name: figure.seconds for name, figure in FIGURES.items()}
    with Display([turn.figure for turn in turns], usual) as display:
        for place, turn in enumerate(turns, 1):
            where = f"{place:3}/{len(turns)}  round {turn.round + 1}  {turn.figure:9}  {turn.peer.name:12}"
            display.begin(where)
            begun = time.monotonic()
            values = _take(turn, results, effort, plan)
            seconds = time.monotonic() - begun
            display.end(f"{where}  {_tell(values)}  in {seconds:.0f} s", seconds)


def _take(turn: Turn, results: Results, effort: Effort, plan: Plan) -> Mapping[str, float]:
    """Return what came of a turn, which *results* has then too."""
    busy = busy_now()
    with Lab(plan) as lab:
        cell = Cell(lab, turn.peer(lab), effort, results, turn.round, busy)
        values = FIGURES[turn.figure].measure(cell)
    for name, value in values.items():
        results.add_value(name, turn.peer.name, turn.round, value)
    return values


def _tell(values: Mapping[str, float]) -> str:
    """Return the values with their units, and by their names where there are several."""
    several = len(values) > 1
    return ", ".join(
        f"{name} {METRICS[name].labelled(value)}" if several else METRICS[name].labelled(value)
        for name, value in values.items()
    )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _complain(reason: str, code: int) -> int:
    _say(f"bench: {reason}")
    return code


def _leave(number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + number)  # unwinds through the lab, which cleans up


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
