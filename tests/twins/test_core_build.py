# SPDX-License-Identifier: Apache-2.0
"""How the C core is built: freestanding, each header alone, and under the sanitizers."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.fuzz.mutate import corpus
from tests.twins.core import HEADERS, HERE, compile_c
from tests.vectors.case import NETS
from tests.vectors.rows import all_cases

INPUTS = 300_000


@pytest.mark.requires("gcc")
def test_freestanding(tmp_path: Path) -> None:
    library = tmp_path / "core.o"
    compile_c(library, "-ffreestanding", "-nostdlib", "-c", HERE / "core_library.c")
    symbols = subprocess.run(["nm", "-u", library], capture_output=True, text=True, check=True).stdout
    assert set(symbols.split()) - {"U"} <= {"memcpy", "memset"}


@pytest.mark.requires("gcc")
@pytest.mark.parametrize("header", sorted(path.name for path in HEADERS.glob("*.h")))
def test_header_includes_what_it_uses(tmp_path: Path, header: str) -> None:
    source = tmp_path / "alone.c"
    source.write_text(f'#include "{header}"\n#include "{header}"\n', encoding="utf-8")
    compile_c(tmp_path / "alone.o", "-ffreestanding", "-c", source)


def test_every_header_has_a_twin() -> None:
    twins = {path.stem for path in (HEADERS.parent.parent / "core").glob("*.py")}
    assert {path.stem for path in HEADERS.glob("*.h")} - twins == {"bytes"}


@pytest.mark.requires("gcc", "asan")
def test_mutated_packets_under_sanitizers(tmp_path: Path) -> None:
    seeds = [packet for net in NETS for packet in corpus(net)]
    seeds.append(
        bytes((0x46, 0, 0, 24, 0, 0, 0, 0, 64, 17, *bytes(10), 1, 1, 1, 7))
    )  # an option without a length
    seeds += [step.packet for case in all_cases() for step in case.steps][: 256 - len(seeds)]
    seed_file = tmp_path / "seeds"
    seed_file.write_bytes(b"".join(len(packet).to_bytes(2, "big") + packet for packet in seeds))
    program = tmp_path / "core_fuzz"
    sanitizers = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover")
    compile_c(program, *sanitizers, HERE / "core_fuzz.c", HERE / "core_library.c")
    done = subprocess.run(
        [program, seed_file, str(INPUTS)], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    reached = [int(number) for number in done.stdout.split()]  # keys, fragments, relayed, answered
    assert min(reached) >= 1000, reached
