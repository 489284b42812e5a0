# SPDX-License-Identifier: Apache-2.0
"""What Prometheus itself says of alert rules and metrics; that they belong together: test_dashboard.py."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.unit.test_dashboard import RULES, exposition

__all__ = ["exposition"]  # a fixture

pytestmark = pytest.mark.requires("promtool")


def promtool(*arguments: str, **options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False, **options)


def test_the_rules_are_rules() -> None:
    done = promtool("check", "rules", str(RULES))
    assert (done.returncode, done.stderr) == (0, "")


def test_each_alert_fires_when_it_is_to_and_only_then() -> None:
    done = promtool("test", "rules", str(RULES.with_suffix(".test.yml")))
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_rule_that_is_wrong_would_be_seen(tmp_path: Path) -> None:
    wrong = RULES.read_text(encoding="utf-8").replace("[10m]) > 3", "[10m]) > 300")
    (tmp_path / RULES.name).write_text(wrong, encoding="utf-8")
    shutil.copy(RULES.with_suffix(".test.yml"), tmp_path)
    assert promtool("test", "rules", str(tmp_path / "fullnat.rules.test.yml")).returncode != 0


def test_names_and_types_are_as_prometheus_wants_them(exposition: str) -> None:
    done = promtool("check", "metrics", input=exposition)
    assert (done.returncode, done.stderr) == (0, "")
