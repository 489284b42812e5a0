# SPDX-License-Identifier: Apache-2.0
"""Malformed packets through the packet core in C, built with the sanitizers.

    python -m tests.fuzz.core [COUNT [SEED]]

Prints how many inputs reached which part; a report of a sanitizer ends the run and is printed.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from tests.fuzz.mutate import corpus
from tests.twins.core import HERE, compile_c
from tests.vectors.case import NETS
from tests.vectors.rows import all_cases

_SANITIZERS = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover")
_SEEDS_MAX = 256
# IPv4 with an option that gives no length.
_SHORT_OPTION = bytes((0x46, 0, 0, 24, 0, 0, 0, 0, 64, 17, *bytes(10), 1, 1, 1, 7))


class Reached(NamedTuple):
    """How many inputs got so far."""

    keys: int
    fragments: int
    relayed: int
    answered: int


def run(directory: Path, count: int, seed: int = 1) -> Reached:
    """Build in *directory*, run *count* mutated packets, and return what they reached."""
    seeds = [packet for net in NETS for packet in corpus(net)]
    seeds.append(_SHORT_OPTION)
    seeds += [step.packet for case in all_cases() for step in case.steps][: _SEEDS_MAX - len(seeds)]
    seed_file = directory / "seeds"
    seed_file.write_bytes(b"".join(len(packet).to_bytes(2, "big") + packet for packet in seeds))
    program = directory / "core_fuzz"
    compile_c(program, *_SANITIZERS, HERE / "core_fuzz.c", HERE / "core_library.c")
    done = subprocess.run(
        [program, seed_file, str(count), str(seed)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise AssertionError(done.stderr)
    return Reached(*map(int, done.stdout.split()))


def main() -> None:
    """Run from the command line."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        reached = run(Path(directory), count, seed)
    took = time.monotonic() - started
    print(f"{count} packets through the C core, seed {seed}, {took:.1f} s: no report; {reached}")


if __name__ == "__main__":
    main()
