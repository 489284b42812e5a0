# SPDX-License-Identifier: Apache-2.0
"""How the C core is built: freestanding, each header alone, and under the sanitizers."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.fuzz.core import run
from tests.twins.core import HEADERS, HERE, compile_c

INPUTS = 10_000_000  # half a minute


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
    assert {path.stem for path in HEADERS.glob("*.h")} - twins == {
        "bytes",
        "fastpath_maps",
        "flow_record",
        "hash",
    }


@pytest.mark.requires("gcc", "asan")
def test_mutated_packets_under_sanitizers(tmp_path: Path) -> None:
    assert min(run(tmp_path, INPUTS)) >= 1000
