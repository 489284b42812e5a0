# SPDX-License-Identifier: Apache-2.0
"""Who may do what on the control socket, by the peer credentials the kernel gives (unix(7), SO_PEERCRED).

root and the user the instance runs as are admins.  Others have the highest role of which the
configuration names them, or a group they are in; who is in none of the lists may do nothing.
"""

from __future__ import annotations

import grp
import os
import pwd
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum

from fullnat.control.config.model import ApiConfig

_CREDENTIALS = struct.Struct("iII")  # struct ucred: pid, uid, gid


class Role(IntEnum):
    """What one may do; each may do what those before it may."""

    NOBODY = 0
    VIEWER = 1  # read
    OPERATOR = 2  # change the state of servers
    ADMIN = 3  # change what is served, and stop it


@dataclass(frozen=True, slots=True)
class Peer:
    """The process at the other end, as it was when it connected."""

    pid: int
    uid: int
    gid: int


def peer_of(connection: socket.socket) -> Peer:
    """Return who is at the other end of a unix socket."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return Peer(*_CREDENTIALS.unpack(raw))


@dataclass(frozen=True, slots=True)
class Access:
    """Who has which role: names of users, and of groups with an @ before them."""

    names: dict[Role, tuple[str, ...]] = field(default_factory=dict)

    @property
    def is_shared(self) -> bool:
        """Whether anybody but root and the owner may come."""
        return any(self.names.values())

    def role_of(self, peer: Peer) -> Role:
        """Return what *peer* may do."""
        if peer.uid in (0, os.geteuid()):
            return Role.ADMIN
        held = [role for role, names in self.names.items() if _is_named(peer, names)]
        return max(held, default=Role.NOBODY)


def _is_named(peer: Peer, names: Iterable[str]) -> bool:
    try:
        user = pwd.getpwuid(peer.uid).pw_name
        groups = {grp.getgrgid(gid).gr_name for gid in os.getgrouplist(user, peer.gid) if _has_name(gid)}
    except KeyError:
        return False  # a user without a name is in no list
    return any(name[1:] in groups if name.startswith("@") else name == user for name in names)


def _has_name(gid: int) -> bool:
    try:
        grp.getgrgid(gid)
    except KeyError:
        return False
    return True


def access_of(config: ApiConfig) -> Access:
    """Return who has which role by *config*."""
    return Access({Role.VIEWER: config.viewers, Role.OPERATOR: config.operators, Role.ADMIN: config.admins})


def find_unknown(names: Iterable[str]) -> str:
    """Return the first of *names* that this host does not know; empty when it knows all."""
    for name in names:
        try:
            grp.getgrnam(name[1:]) if name.startswith("@") else pwd.getpwnam(name)
        except KeyError:
            return name
    return ""
