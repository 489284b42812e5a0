# SPDX-License-Identifier: Apache-2.0
"""The check of the import arrow can fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.layers import is_allowed, violations


def test_every_import_follows_the_arrow() -> None:
    assert violations() == []


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("fullnat.core.director", "time"),
        ("fullnat.core.director", "random"),
        ("fullnat.core.flow", "fullnat.datapath.base"),
        ("fullnat.core.sched.rr", "fullnat.control.config"),
        ("fullnat.datapath.nfqueue", "fullnat.host.rawsock"),
        ("fullnat.datapath.nfqueue", "fullnat.datapath.native"),
        ("fullnat.host.host", "fullnat.control.config"),
        ("fullnat.control.api", "fullnat.datapath.nfqueue"),
        ("fullnat.cli", "fullnat.datapath.nfqueue"),
    ],
)
def test_what_the_arrow_forbids_is_found(module: str, imported: str) -> None:
    assert not is_allowed(module, imported)


def test_a_bad_import_in_a_file_is_reported_with_its_line(tmp_path: Path) -> None:
    package = tmp_path / "fullnat" / "core"
    package.mkdir(parents=True)
    (package / "clock.py").write_text('"""Bad."""\n\nimport time\n')
    assert violations(tmp_path) == ["fullnat/core/clock.py:3: fullnat.core.clock may not import time"]
