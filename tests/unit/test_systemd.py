# SPDX-License-Identifier: Apache-2.0
"""The units: systemd takes them, what they name is there, and the two say the same."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fullnat.cli.common import NOT_PERMITTED, UNUSABLE, WARNINGS
from fullnat.host.privileges import find_missing_capabilities

UNITS = Path(__file__).resolve().parent.parent.parent / "packaging" / "systemd"
PROGRAM = Path(sys.executable).with_name("fullnat")
EXPOSURE = 4.0  # of 10, by systemd's own count: root with few capabilities on a read-only system
WRONG_USAGE = 2

needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze here")


def settings(unit: str) -> dict[str, list[str]]:
    """Return the values of each setting of *unit*, in order."""
    found: dict[str, list[str]] = {}
    for line in (UNITS / unit).read_text(encoding="utf-8").splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


@pytest.fixture
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A unit as it is installed, with a program that is there and without pages that are not yet."""
    text = (UNITS / request.param).read_text(encoding="utf-8")
    text = re.sub(r"^Documentation=.*\n", "", text, flags=re.MULTILINE)
    path = tmp_path / request.param.replace("@", "@main")
    path.write_text(text.replace("ExecStart=fullnat", f"ExecStart={PROGRAM}"), encoding="utf-8")
    return path


each_unit = pytest.mark.parametrize("unit", ["fullnat.service", "fullnat@.service"], indirect=True)


@needs_systemd
@each_unit
def test_systemd_takes_it(unit: Path) -> None:
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    mine = [line for line in done.stderr.splitlines() if "fullnat" in line]
    assert (mine, done.returncode) == ([], 0), done.stderr


@needs_systemd
@each_unit
def test_it_is_as_closed_as_it_can_be(unit: Path) -> None:
    threshold = str(round(EXPOSURE * 10))
    argv = ["systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={threshold}", unit]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr


def test_the_instances_are_as_the_single_one() -> None:
    def comparable(name: str) -> dict[str, list[str]]:
        found = settings(name)
        del found["Description"]
        return {
            key: [value.replace("/fullnat/%i.toml", "/fullnat/fullnat.toml") for value in values]
            for key, values in found.items()
        }

    assert comparable("fullnat@.service") == comparable("fullnat.service")


def test_it_has_the_capabilities_that_are_asked_for() -> None:
    (bounding,) = settings("fullnat.service")["CapabilityBoundingSet"]
    assert set(find_missing_capabilities("CapEff:\t0\n")) <= set(bounding.split())


def test_what_does_not_get_better_by_itself_is_not_tried_again() -> None:
    (statuses,) = settings("fullnat.service")["RestartPreventExitStatus"]
    assert {int(status) for status in statuses.split()} == {WRONG_USAGE, UNUSABLE, NOT_PERMITTED}


@pytest.mark.parametrize(("status", "taken"), [(0, True), (WARNINGS, True), (UNUSABLE, False)])
def test_a_reload_begins_with_a_look_at_the_file(tmp_path: Path, status: int, taken: bool) -> None:
    check, hangup = settings("fullnat.service")["ExecReload"]
    assert hangup == "kill -HUP $MAINPID"
    fake = tmp_path / "fullnat"
    fake.write_text(f'#!/bin/sh\ntest "$*" = "check /etc/fullnat/fullnat.toml" && exit {status}\nexit 9\n')
    fake.chmod(0o755)
    command = check.replace("$$", "$")  # as systemd hands it on
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    assert (subprocess.run(["sh", "-c", command], env=path, check=False).returncode == 0) is taken
