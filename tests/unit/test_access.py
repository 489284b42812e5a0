# SPDX-License-Identifier: Apache-2.0
"""Who has which role, by user and group."""

from __future__ import annotations

import grp
import os
import pwd
import socket
from types import SimpleNamespace

import pytest

from fullnat.control.access import Access, Peer, Role, access_of, find_unknown, peer_of
from fullnat.control.config.model import ApiConfig

# Users by uid with their own group, and groups by gid with whom they have.
USERS = {0: ("root", 0), 1001: ("ann", 100), 1002: ("bob", 100), 1003: ("eve", 666)}
GROUPS = {0: ("root", []), 100: ("staff", []), 200: ("ops", ["ann"])}  # 666 has no name


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the host know USERS and GROUPS, and us be root."""

    def user(uid: int) -> SimpleNamespace:
        return SimpleNamespace(pw_name=USERS[uid][0])

    def group(gid: int) -> SimpleNamespace:
        return SimpleNamespace(gr_name=GROUPS[gid][0])

    def named_group(name: str) -> int:
        return {known: gid for gid, (known, _) in GROUPS.items()}[name]

    def groups_of(name: str, gid: int) -> list[int]:
        return [gid, *(number for number, (_, members) in GROUPS.items() if name in members)]

    monkeypatch.setattr(pwd, "getpwuid", user)
    monkeypatch.setattr(pwd, "getpwnam", lambda name: {user[0]: uid for uid, user in USERS.items()}[name])
    monkeypatch.setattr(grp, "getgrgid", group)
    monkeypatch.setattr(grp, "getgrnam", named_group)
    monkeypatch.setattr(os, "getgrouplist", groups_of)
    monkeypatch.setattr(os, "geteuid", lambda: 900)


def role(uid: int, gid: int | None = None, **names: tuple[str, ...]) -> Role:
    """Return what the user may do where [api] says *names*."""
    gid = USERS.get(uid, ("", uid))[1] if gid is None else gid
    return access_of(ApiConfig(**names)).role_of(Peer(1, uid, gid))


@pytest.mark.parametrize("uid", [0, 900])
def test_root_and_the_owner_may_everything(uid: int) -> None:
    assert role(uid) is Role.ADMIN


def test_others_may_nothing_unless_they_are_named() -> None:
    assert role(1001) is Role.NOBODY
    assert role(1001, viewers=("bob", "@ops2")) is Role.NOBODY


@pytest.mark.parametrize(
    ("key", "held"), [("viewers", Role.VIEWER), ("operators", Role.OPERATOR), ("admins", Role.ADMIN)]
)
@pytest.mark.parametrize("name", ["ann", "@staff", "@ops"])
def test_a_name_or_a_group_has_a_role(key: str, held: Role, name: str) -> None:
    assert role(1001, **{key: ("somebody", name)}) is held
    assert role(1003, **{key: (name,)}) is Role.NOBODY


def test_a_user_is_no_group_and_a_group_no_user() -> None:
    assert role(1001, viewers=("staff", "@ann")) is Role.NOBODY


def test_the_highest_role_counts() -> None:
    assert role(1001, viewers=("ann",), operators=("@ops",)) is Role.OPERATOR
    assert role(1001, viewers=("@staff",), admins=("ann",)) is Role.ADMIN
    assert role(1002, viewers=("@staff",), admins=("ann",)) is Role.VIEWER


def test_the_group_it_runs_as_counts_and_may_have_no_name() -> None:
    assert role(1002, gid=200, viewers=("@ops",)) is Role.VIEWER
    assert role(1003, viewers=("eve",)) is Role.VIEWER
    assert role(1003, viewers=("@666", "666")) is Role.NOBODY


@pytest.mark.parametrize("name", ["", "@", "4242", "@4242"])
def test_a_user_without_a_name_is_in_no_list(name: str) -> None:
    assert role(4242, viewers=(name,)) is Role.NOBODY


def test_each_role_may_what_those_before_it_may() -> None:
    assert list(Role) == sorted([Role.NOBODY, Role.VIEWER, Role.OPERATOR, Role.ADMIN])


def test_it_is_shared_when_anybody_is_named() -> None:
    assert not Access().is_shared
    assert not access_of(ApiConfig()).is_shared
    assert access_of(ApiConfig(operators=("ann",))).is_shared


def test_a_name_that_the_host_does_not_know_is_found() -> None:
    assert find_unknown(["ann", "@ops", "root"]) == ""
    assert find_unknown(["ann", "@opps", "zoe"]) == "@opps"
    assert find_unknown(["ops"]) == "ops"


def test_the_kernel_says_who_is_there() -> None:
    here, there = socket.socketpair()
    with here, there:
        assert peer_of(here) == Peer(os.getpid(), os.getuid(), os.getgid())
