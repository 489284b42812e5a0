# SPDX-License-Identifier: Apache-2.0
"""How netfilter picks a server: by turns or by chance, rule after rule.

A rule sees only what those before it did not take.  So with n servers of the same share the first
takes one in n, the second one in n - 1 of the rest, and the last all that come to it; with weights,
each its own part of the weights that are left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fullnat.kernel.service import KernelServer, KernelService

_BY_TURNS = "rr"
_FIRST = ("fo", "ovf")  # the server of the highest weight; ovf goes on to the next one by connections


@dataclass(frozen=True, slots=True)
class Share:
    """What one server takes of the packets that come to its rule: 1 of *of* by turns, or *part* by chance."""

    server: KernelServer
    of: int = 0  # 0: by chance
    part: float = 1.0

    @property
    def match(self) -> str:
        """The match of iptables; empty when it takes all."""
        if self.of > 1:
            return f"-m statistic --mode nth --every {self.of} --packet 0"
        return f"-m statistic --mode random --probability {self.part:.11f}" if self.part < 1 else ""


def shares(service: KernelService) -> list[Share]:
    """Return what each server that takes new connections takes, in the order of their rules."""
    servers = [server for server in service.servers if server.weight > 0]
    if service.scheduler in _FIRST:
        return [Share(server) for server in sorted(servers, key=lambda one: -one.weight)[:1]]
    if service.scheduler == _BY_TURNS:
        return [Share(server, of=len(servers) - at) for at, server in enumerate(servers)]
    return _by_weight(servers)


def _by_weight(servers: Sequence[KernelServer]) -> list[Share]:
    left = sum(server.weight for server in servers)
    found = []
    for server in servers:
        found.append(Share(server, part=server.weight / left))
        left -= server.weight
    return found


def differences(service: KernelService) -> list[str]:
    """Return what netfilter does otherwise than the config says, a clause each."""
    found = []
    if service.scheduler in _FIRST[1:]:
        found.append(f"scheduler {service.scheduler} never leaves the first server")
    elif service.scheduler not in (_BY_TURNS, _FIRST[0], "random"):
        found.append(f"scheduler {service.scheduler} becomes chance, in proportion to weights")
    if any(server.upper for server in service.servers):
        found.append("connection thresholds are not kept")
    if service.one_packet:
        found.append("datagrams of one client stay on one server while conntrack remembers it")
    return found
