# SPDX-License-Identifier: Apache-2.0
"""Whoever dies, and whoever else runs: the host ends up as it was."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from fullnat.host.claims import Claims
from fullnat.host.errors import InstanceConflictError
from fullnat.host.host import Host
from fullnat.host.journal import Journal
from fullnat.host.steering import InstalledSteering
from namespace import delete, inside, ip
from tests.netns.host.tools import (
    OTHER,
    PLAN,
    add_foreign,
    in_child,
    kill_myself,
    own_rules,
    run,
    state_of,
    sysctl,
)
from wait import wait_until


@pytest.mark.usefixtures("flavour")
def test_what_a_killed_process_left_is_undone_by_the_next(director: str, start: Callable[..., Host]) -> None:
    add_foreign(director)
    before = state_of(director)

    def live_and_die() -> None:
        start()
        kill_myself()

    assert in_child(live_and_die) == signal.SIGKILL
    assert state_of(director) != before
    host = start()
    rules = own_rules(director)
    assert len(rules) == len(set(rules)) == 24
    assert host.verify() == []
    host.restore()
    assert state_of(director) == before


def test_killed_at_any_change_it_is_undone(
    director: str, start: Callable[..., Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    add_foreign(director)
    before = state_of(director)
    append = Journal.append
    records = []
    monkeypatch.setattr(
        Journal, "append", lambda self, change: records.append(change) or append(self, change)
    )
    start().restore()
    assert {change.kind for change in records} == {"steering", "sysctl", "address"}
    for last in range(len(records)):

        def append_and_die(self: Journal, change: object, last: int = last) -> None:
            append(self, change)  # type: ignore[arg-type]
            if change == records[last]:
                kill_myself()

        monkeypatch.setattr(Journal, "append", append_and_die)
        assert in_child(start) == signal.SIGKILL
        monkeypatch.setattr(Journal, "append", append)
        start().restore()
        assert state_of(director) == before


def test_killed_while_restoring_the_next_goes_on(
    director: str, start: Callable[..., Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    add_foreign(director)
    before = state_of(director)
    for step in ("undo_additions", "undo_setting", "remove_steering"):

        def live_and_die_in(step: str = step) -> None:
            host = start()
            module = "fullnat.host.undo"
            monkeypatch.setattr(f"{module}.{step}", lambda *args: kill_myself())
            host.restore()

        assert in_child(live_and_die_in) == signal.SIGKILL
        start().restore()
        assert state_of(director) == before


@pytest.mark.usefixtures("flavour")
def test_rules_whose_journal_is_lost_are_replaced(
    director: str, start: Callable[..., Host], tmp_path: Path
) -> None:
    add_foreign(director)
    before = state_of(director)
    assert in_child(lambda: (start(), kill_myself())) == signal.SIGKILL
    for path in (tmp_path / "state").iterdir():
        path.unlink()
    host = start()
    rules = own_rules(director)
    assert len(rules) == len(set(rules)) == 22  # it forwarded when it started: no guard
    host.restore()
    after = state_of(director)
    assert {part: after[part] for part in ("iptables-save", "ip6tables-save", "ipset")} == {
        part: before[part] for part in ("iptables-save", "ip6tables-save", "ipset")
    }


def test_a_second_process_is_refused_and_told_who_runs(director: str, start: Callable[..., Host]) -> None:
    host = start()
    during = state_of(director)

    def second() -> None:
        with pytest.raises(
            InstanceConflictError, match=f"instance main already runs as pid {os.getppid()} in this"
        ):
            start()

    assert in_child(second) == 0
    assert state_of(director) == during
    host.restore()


def test_the_same_instance_may_run_in_another_namespace(director: str, start: Callable[..., Host]) -> None:
    start()
    elsewhere = f"{director}-2"
    ip("netns", "add", elsewhere)
    try:
        with inside(elsewhere):
            start(replace(PLAN, lips=(ip_address("192.0.2.1"),))).restore()
    finally:
        delete(elsewhere)


def test_a_service_of_another_instance_is_refused(director: str, start: Callable[..., Host]) -> None:
    start()
    during = state_of(director)
    clash = replace(OTHER, services=PLAN.services[:1])
    with pytest.raises(
        InstanceConflictError, match=r"^tcp://198\.18\.0\.10:80 is served by instance main \(pid \d+\)"
    ):
        start(clash)
    assert state_of(director) == during
    host = start(OTHER)
    with pytest.raises(InstanceConflictError, match="is served by instance main"):
        host.update(clash)
    assert host.verify() == []


def test_instances_know_of_each_other(start: Callable[..., Host]) -> None:
    host = start()
    start(OTHER)
    assert [claims.services for claims in host.others()] == [("tcp://198.18.0.10:443",)]
    assert isinstance(host.others()[0], Claims)


@pytest.mark.parametrize("first_goes_first", [True, False])
def test_what_two_instances_need_stays_until_both_are_gone(
    director: str, start: Callable[..., Host], first_goes_first: bool
) -> None:
    add_foreign(director)
    before = state_of(director)
    hosts = [start(), start(OTHER)]
    leaves, stays = hosts if first_goes_first else reversed(hosts)
    leaves.restore()
    assert stays.verify() == []
    assert sysctl("ipv4/ip_forward") == "1"
    assert sysctl("ipv6/conf/all/forwarding") == ("0" if first_goes_first else "1")  # OTHER is IPv4 only
    assert "198.18.0.10/32" in run(director, "ip", "addr", "show", "eth0")
    assert sum("guard" in rule for rule in own_rules(director)) == 2  # one chain, one jump
    stays.restore()
    assert state_of(director) == before


def test_what_another_dead_instance_left_is_undone_too(director: str, start: Callable[..., Host]) -> None:
    add_foreign(director)
    before = state_of(director)

    def live_and_die() -> None:
        start(OTHER)
        kill_myself()

    assert in_child(live_and_die) == signal.SIGKILL
    host = start()
    assert not any("FULLNAT-other" in rule for rule in own_rules(director))
    host.restore()
    assert state_of(director) == before


def test_a_dead_instance_leaves_what_a_living_one_needs(director: str, start: Callable[..., Host]) -> None:
    add_foreign(director)
    before = state_of(director)

    def live_and_die() -> None:
        start(OTHER)
        kill_myself()

    assert in_child(live_and_die) == signal.SIGKILL  # it turned forwarding on
    third = start(replace(OTHER, instance="third"))
    third.restore()
    assert state_of(director) == before

    living = start(OTHER)
    assert in_child(lambda: (start(), kill_myself())) == signal.SIGKILL
    start(replace(PLAN, queue=1082)).restore()
    assert living.verify() == []
    living.restore()
    assert state_of(director) == before


def test_two_at_once_do_not_meet(
    director: str, start: Callable[..., Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one sets up, the other waits; then both are there."""
    add_foreign(director)
    before = state_of(director)
    reached, go_on = os.pipe(), os.pipe()
    install = InstalledSteering.install

    def slow_install(*args: object) -> InstalledSteering:
        os.write(reached[1], b"x")
        os.read(go_on[0], 1)
        return install(*args)  # type: ignore[arg-type]

    first = os.fork()
    if first == 0:
        monkeypatch.setattr(InstalledSteering, "install", slow_install)
        host = start()
        os.write(reached[1], b"x")
        os.read(go_on[0], 1)
        host.restore()
        os._exit(0)
    os.read(reached[0], 1)
    second = os.fork()
    if second == 0:
        start(OTHER)
        os.write(reached[1], b"x")
        os.read(go_on[0], 1)
        kill_myself()
    wait_until(
        lambda: "flock" in Path(f"/proc/{second}/wchan").read_text() or is_blocked_in_flock(second), 5.0
    )
    assert own_rules(director) == []
    os.write(go_on[1], b"x")
    os.read(reached[0], 1)
    os.read(reached[0], 1)
    assert len(own_rules(director)) == 48
    os.write(go_on[1], b"xx")
    assert os.waitpid(first, 0)[1] == 0
    assert os.waitpid(second, 0)[1] == signal.SIGKILL
    start().restore()
    assert state_of(director) == before


def is_blocked_in_flock(pid: int) -> bool:
    """System call 73 on x86_64, 32 on aarch64."""
    return Path(f"/proc/{pid}/syscall").read_text().split()[0] in ("73", "32")
