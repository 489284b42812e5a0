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

from bench.build import TOOLS, build_generator, check_tools  # noqa: E402
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
from bench.stats import rotated  # noqa: E402

EXIT_FAILURE, EXIT_PERMISSION = 1, 5


def main(argv: Sequence[str]) -> int:
    """Run the bench; return the exit code."""
    options = _parse(argv)
    if os.geteuid() != 0:
        return _complain("needs root, for network namespaces", EXIT_PERMISSION)
    signal.signal(signal.SIGTERM, _leave)
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    peers = [PEERS[name] for name in options.peers]
    try:
        _check(peers)
        results = _measure(peers, options.figures, _effort(options), PLANS[options.family])
        _write(options.out, results, peers, describe(argv))
    except (BenchError, TimeoutError) as error:
        return _complain(str(error), EXIT_FAILURE)
    except KeyboardInterrupt:
        return _complain("interrupted; nothing was written", 130)
    return 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/run.py", description="Measure fullnat against its peers.")
    parser.add_argument("--quick", action="store_true", help="two short rounds, a few minutes in all")
    parser.add_argument("--rounds", type=_positive, metavar="N", help="instead of the effort's own number")
    parser.add_argument("--peers", type=_names(PEERS), default=list(PEERS), help=",".join(PEERS))
    parser.add_argument("--figures", type=_names(FIGURES), default=list(FIGURES), help=",".join(FIGURES))
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


def _check(peers: Sequence[type[Peer]]) -> None:
    """Raise BenchError for whatever would stop the run later."""
    tools = dict(TOOLS)
    for peer in peers:
        tools |= peer.tools
    check_tools(tools)
    for peer in peers:
        if missing := peer.missing():
            raise BenchError(f"{peer.name}: {missing}")
    if not {GENERATOR_CPU, DIRECTOR_CPU} <= os.sched_getaffinity(0):
        raise BenchError("needs CPUs 0 and 1: one for the director, one for everything else")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise BenchError("matplotlib is not installed beside this python: make setup") from error
    build_generator()
    remove_stale_labs()


def _measure(peers: Sequence[type[Peer]], figures: Sequence[str], effort: Effort, plan: Plan) -> Results:
    results = Results()
    turns = [
        (number, figure, peer)
        for number in range(effort.rounds)
        for figure in figures
        for peer in rotated(peers, number)
    ]
    for place, (number, figure, peer) in enumerate(turns, 1):
        started, busy = time.monotonic(), busy_now()
        with Lab(plan) as lab:
            subject = peer(lab)
            subject.start()
            values = FIGURES[figure](Cell(lab, subject, effort, results, number, busy))
        outcome = ", ".join(METRICS[name].labelled(value) for name, value in values.items())
        where = f"{place:3}/{len(turns)}  round {number + 1}  {figure:9}  {peer.name:8}"
        _say(f"{where}  {outcome}  in {time.monotonic() - started:.0f} s")
        for name, value in values.items():
            results.add_value(name, peer.name, number, value)
    return results


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
        _say(judge(results, target)[1].replace("**", ""))
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
