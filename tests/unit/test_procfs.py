# SPDX-License-Identifier: Apache-2.0
"""The files for readers of IPVS's: when they are there, what is in them, and what becomes of trouble."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from fullnat.control.procfs import INTERVAL, ProcFiles, Total
from fullnat.core.addr import parse_endpoint
from fullnat.core.service import RealServer
from fullnat.host.errors import HostError
from tests.instances import Run
from tests.packets import tcp
from tests.vectors.case import V4


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path, engine="python")


@pytest.fixture
def strict_umask() -> Iterator[None]:
    old = os.umask(0o077)
    yield
    os.umask(old)


def counted(folder: Path) -> int:
    """Connections of all time."""
    return int((folder / "net" / "ip_vs_stats").read_text().splitlines()[2].split()[0], 16)


@pytest.mark.usefixtures("strict_umask")
def test_the_files_are_there_while_it_runs_and_everybody_may_read_them(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "proc"
    with ProcFiles(folder, run.instance):
        text = (folder / "net" / "ip_vs").read_text()
        assert "TCP  CB00710A:0050 rr" in text
        assert "  -> C613000B:1F90      Masq    3      0          0" in text
        for path, mode in ((folder, 0o755), (folder / "net", 0o755), (folder / "net" / "ip_vs", 0o644)):
            assert stat.S_IMODE(path.stat().st_mode) == mode
        assert sorted(path.name for path in (folder / "net").iterdir()) == ["ip_vs", "ip_vs_stats"]
    assert not (tmp_path / "run").exists()


def test_a_folder_that_was_there_stays(run: Run, tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "other").touch()
    with ProcFiles(tmp_path, run.instance):
        pass
    assert [path.name for path in (tmp_path / "net").iterdir()] == ["other"]


def test_without_a_folder_there_is_nothing(run: Run, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    with ProcFiles(None, run.instance) as files:
        files.tick(10 * INTERVAL)
    assert sorted(tmp_path.iterdir()) == before


def test_they_are_written_anew_when_it_is_time(run: Run, tmp_path: Path) -> None:
    with ProcFiles(tmp_path, run.instance) as files:
        run.send(tcp(V4.to_vip(4000), "S"))
        files.tick(INTERVAL - 1)
        assert counted(tmp_path) == 0
        files.tick(INTERVAL)
        assert counted(tmp_path) == 1


def test_trouble_is_told_once_and_ends(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "net"
    with ProcFiles(tmp_path, run.instance) as files:
        for name in ("ip_vs", "ip_vs_stats"):
            (folder / name).unlink()
            (folder / name).mkdir()
        with pytest.raises(HostError, match=r"\[metrics\] procfs .*: Is a directory"):
            files.tick(INTERVAL)
        files.tick(2 * INTERVAL)
        for name in ("ip_vs", "ip_vs_stats"):
            (folder / name).rmdir()
        files.tick(3 * INTERVAL)
        assert counted(tmp_path) == 0
        (folder / "ip_vs").unlink()
        (folder / "ip_vs").mkdir()
        with pytest.raises(HostError):
            files.tick(4 * INTERVAL)
        (folder / "ip_vs").rmdir()


def test_a_start_that_cannot_have_the_folder_says_so(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HostError, match="Not a directory"):
        ProcFiles(tmp_path / "file" / "proc", run.instance).__enter__()


def test_a_total_keeps_what_left_servers_carried() -> None:
    one, two = (RealServer(parse_endpoint(f"198.19.0.{number}:80"), 1) for number in (1, 2))
    total = Total()
    one.connections, two.connections = 5, 7
    assert total.look([one, two])[0] == 12
    assert total.look([two])[0] == 12
    two.connections += 1
    assert total.look([two, RealServer(one.endpoint, 1)])[0] == 13
