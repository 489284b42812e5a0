# SPDX-License-Identifier: Apache-2.0
"""The virtual machine of the lab: what runs in it, what comes out, and that nothing is left of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import guest
from wait import wait_until

LAB = Path(__file__).resolve().parents[2] / "netns-lab" / "lab.py"
BOOT_SECONDS = 120  # it takes a tenth of that when nothing else runs

needs_guest = pytest.mark.requires("guest")

# Devices and rules here need modules that nobody has loaded.
SCRIPT = """\
uname -r
pwd
ipvsadm -A -t 203.0.113.10:80 -s wlc && ipvsadm -Ln
ip link add probe0 type veth peer name probe1
ip link add link probe0 name probe0.5 type vlan id 5 && echo a VLAN
iptables -A INPUT -m ipvs --ipvs -j ACCEPT && echo a rule
echo what stays >{shared}/file
echo what goes >file
echo a complaint >&2
exit 7
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a machine keeps its files while it runs, and nothing else is."""
    (tmp_path / "machine").mkdir()
    return tmp_path / "machine"


@pytest.fixture
def machine(folder: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start `lab.py vm run ARGUMENTS`."""

    def start(*arguments: str, **options: Any) -> subprocess.Popen[str]:
        environment = {**os.environ, "TMPDIR": str(folder), **options.pop("environment", {})}
        line = [sys.executable, str(LAB), "vm", "run", *arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(line, stdout=pipe, stderr=pipe, text=True, env=environment, **options)

    return start


def left_of(folder: Path) -> list[str]:
    """The files and processes of a machine that has *folder*."""
    lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    processes = [line.decode(errors="replace") for line in lines if f"path={folder}".encode() in line]
    return [*map(str, folder.iterdir()), *processes]


@needs_guest
def test_a_command_runs_on_debians_kernel(
    machine: Callable[..., subprocess.Popen[str]], folder: Path, tmp_path: Path
) -> None:
    kernel = guest.Kernel.cached()
    assert kernel
    (tmp_path / "shared").mkdir()
    here = Path(__file__).parent
    script = SCRIPT.format(shared=tmp_path / "shared")
    running = machine("--share", str(tmp_path / "shared"), "sh", "-c", script, cwd=here)
    output, complaint = running.communicate(timeout=BOOT_SECONDS)
    lines = output.splitlines()
    assert complaint == ""
    assert lines[:3] == [kernel.version, str(here), "IP Virtual Server version 1.2.1 (size=4096)"]
    assert "TCP  203.0.113.10:80 wlc" in lines
    assert lines[-3:] == ["a VLAN", "a rule", "a complaint"]
    assert running.returncode == 7
    assert (tmp_path / "shared" / "file").read_text() == "what stays\n"
    assert not (here / "file").exists()
    assert left_of(folder) == []


@needs_guest
def test_a_machine_that_dies_is_one_line(machine: Callable[..., subprocess.Popen[str]], folder: Path) -> None:
    running = machine("sh", "-c", "echo c >/proc/sysrq-trigger")
    output, complaint = running.communicate(timeout=BOOT_SECONDS)
    assert output == ""
    assert complaint.startswith("lab: the guest died: ")
    assert "Kernel panic" in complaint
    assert complaint.count("\n") == 1
    assert running.returncode == 1
    assert left_of(folder) == []


@needs_guest
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_machine_that_is_interrupted_is_gone(
    machine: Callable[..., subprocess.Popen[str]], folder: Path, number: signal.Signals
) -> None:
    running = machine("sleep", "600")
    wait_until(lambda: list(folder.glob("*/console")), 30, "the machine started")
    running.send_signal(number)
    assert running.communicate(timeout=30) == ("", "")
    assert running.returncode == 128 + number
    assert left_of(folder) == []


def test_what_is_not_installed_is_one_line(
    machine: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    running = machine("true", environment={"PATH": str(tmp_path)})
    output, complaint = running.communicate(timeout=30)
    assert output == ""
    assert complaint.startswith("lab: the guest needs: apt-get install ")
    assert "qemu-system-x86" in complaint
    assert complaint.count("\n") == 1
    assert running.returncode == 1
