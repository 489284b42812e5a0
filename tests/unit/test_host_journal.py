# SPDX-License-Identifier: Apache-2.0
"""The journal file: what is read back, after whatever end its writer met; locks; who is alive."""

from __future__ import annotations

import os
from ipaddress import ip_address
from pathlib import Path

import pytest

from fullnat.core.addr import TCP, PortRange, parse_endpoint
from fullnat.host.claims import make_claims
from fullnat.host.errors import HostError
from fullnat.host.journal import Change, Journal
from fullnat.host.lock import FileLock
from fullnat.host.plan import HostPlan
from fullnat.host.state import StateDirectory, network_namespace

FIRST = Change("sysctl", {"key": "net/ipv4/ip_forward", "also": {"a": "1"}})
SECOND = Change("address", {"address": "203.0.113.10"})
CLAIMS = make_claims(
    HostPlan(
        "main",
        1080,
        0x4000000,
        ((TCP, parse_endpoint("203.0.113.10:80")),),
        (),
        (ip_address("198.19.0.1"),),
        PortRange(1024, 32767),
    ),
    pid=7,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "main@1.journal"


def test_changes_are_read_back_in_order(path: Path) -> None:
    Journal(path, "boot").append(FIRST)
    Journal(path, "boot").append(SECOND)
    assert Journal(path, "boot").changes() == [FIRST, SECOND]


def test_no_file_is_an_empty_journal(path: Path) -> None:
    assert Journal(path, "boot").changes() == []
    Journal(path, "boot").clear()


def test_a_journal_of_an_earlier_boot_is_empty_and_begins_anew(path: Path) -> None:
    Journal(path, "yesterday").append(FIRST)
    today = Journal(path, "today")
    assert today.changes() == []
    today.append(SECOND)
    assert today.changes() == [SECOND]
    assert "yesterday" not in path.read_text()


def test_a_journal_cut_off_anywhere_has_the_changes_before_the_cut(path: Path) -> None:
    journal = Journal(path, "boot")
    journal.append(FIRST)
    whole_first = path.stat().st_size
    journal.append(SECOND)
    text = path.read_bytes()
    for size in range(len(text) + 1):
        path.write_bytes(text[:size])
        expected = [FIRST, SECOND][: (size >= whole_first) + (size >= len(text))]
        assert journal.changes() == expected
        journal.append(SECOND)
        assert journal.changes() == [*expected, SECOND]


def test_replacing_keeps_only_what_is_given(path: Path) -> None:
    journal = Journal(path, "boot")
    journal.append(FIRST)
    journal.append(SECOND)
    journal.replace([SECOND])
    assert journal.changes() == [SECOND]
    journal.replace([])
    assert list(path.parent.iterdir()) == []


def test_the_boot_is_this_one_unless_told(path: Path) -> None:
    Journal(path).append(FIRST)
    assert Path("/proc/sys/kernel/random/boot_id").read_text().strip() in path.read_text()


def test_a_lock_has_one_holder_and_leaves_no_file(path: Path) -> None:
    first, second = FileLock(path), FileLock(path)
    assert first.acquire()
    first.write("the first")
    assert not second.acquire()
    assert second.read() == "the first"
    assert (first.is_held, second.is_held) == (True, False)
    first.release()
    first.release()
    assert not path.exists()
    assert second.read() == ""
    assert second.acquire()
    second.release()


def test_only_the_holder_writes(path: Path) -> None:
    with pytest.raises(RuntimeError):
        FileLock(path).write("not mine")


def test_a_shorter_text_replaces_a_longer_one(path: Path) -> None:
    lock = FileLock(path)
    lock.acquire()
    lock.write("a long text")
    lock.write("short")
    assert lock.read() == "short"
    lock.release()


def test_a_lock_whose_file_was_removed_by_its_holder_is_not_taken(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between open and flock the holder let go: the file we hold then is no longer the one others open."""
    holder, waiter = FileLock(path), FileLock(path)
    assert holder.acquire()
    opened = os.open

    def open_and_let_go(*args: object, **options: object) -> int:
        fd = opened(*args, **options)  # type: ignore[arg-type]
        monkeypatch.setattr(os, "open", opened)
        holder.release()
        return fd

    monkeypatch.setattr(os, "open", open_and_let_go)
    assert waiter.acquire()
    assert path.exists()
    assert not FileLock(path).acquire()
    waiter.release()


def test_the_living_are_told_from_the_dead_and_from_other_namespaces(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path, "7")
    lock = state.lock("main")
    lock.acquire()
    lock.write(CLAIMS.to_json())
    state.lock("dead")._path.write_text(CLAIMS.to_json())
    state.journal("dead").append(FIRST)
    StateDirectory(tmp_path, "77").journal("elsewhere").append(FIRST)
    with state.exclusive():
        assert state.instances() == ["dead", "main"]
        assert state.live_claims(besides="none") == [CLAIMS]
        assert state.live_claims(besides="main") == []
    lock.release()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["dead@7.journal", "elsewhere@77.journal"]


def test_exclusive_keeps_others_out(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path, "7")
    with state.exclusive():
        assert not FileLock(tmp_path / "@7.lock").acquire()
    assert list(tmp_path.iterdir()) == []


def test_a_state_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HostError, match=r"^cannot make the state directory .*: Not a directory"):
        StateDirectory(tmp_path / "file" / "fullnat", "7").create()


def test_a_namespace_is_named_the_same_every_time() -> None:
    assert network_namespace() == network_namespace() != ""
