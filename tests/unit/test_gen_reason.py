# SPDX-License-Identifier: Apache-2.0
"""The files generated from the reason table."""

from __future__ import annotations

from pathlib import Path

import pytest

from fullnat.core.reason import Reason
from tools import gen_reason


def test_committed_files_match() -> None:
    assert gen_reason.differing(gen_reason.ROOT) == []


def test_a_changed_and_a_missing_file_differ(tmp_path: Path) -> None:
    header, document = gen_reason.build()
    (tmp_path / header).parent.mkdir(parents=True)
    (tmp_path / header).write_text(gen_reason.build_header().replace("TRUNCATED", "CUT"), encoding="utf-8")
    assert gen_reason.differing(tmp_path) == [header, document]


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_is_told(reason: Reason) -> None:
    row = f"| `{reason.name.lower()}` | {reason.verdict.value} | {reason.sentence} |"
    assert row in gen_reason.build_document().splitlines()
    assert f"\t[FN_REASON_{reason.name}] = FN_VERDICT_{reason.verdict.name}," in gen_reason.build_header()
