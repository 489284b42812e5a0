# SPDX-License-Identifier: Apache-2.0
"""Tables that iptables makes in nftables for its first rule, and leaves behind when the last is gone.

An empty table is not nothing: packets go through its chains, and an empty `nat` has the kernel track
every connection of the host.  No program takes one out only if it is empty: `nft delete table` takes
what is in it along.  The kernel can be asked to (NLM_F_NONREC, net/netfilter/nf_tables_api.c), all in
one transaction, so what somebody puts into it at the same moment stays.

Only at the very end: with a hook the kernel drops whatever waits in any queue of the network namespace
(nf_unregister_net_hook() in net/netfilter/core.c), so a table stays while any instance runs.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fullnat.host import netlink
from fullnat.host.errors import HostError

# linux/netfilter/nfnetlink.h, nf_tables.h; NFNL_SUBSYS_NFTABLES is 10.
_BATCH_BEGIN, _BATCH_END = 16, 17
_SUBSYSTEM = 10
_GET_TABLE, _DELETE_TABLE, _GET_CHAIN, _DELETE_CHAIN = (_SUBSYSTEM << 8 | kind for kind in (1, 2, 4, 5))
_TABLE_NAME = 1  # NFTA_TABLE_NAME
_CHAIN_TABLE, _CHAIN_NAME, _CHAIN_POLICY = 1, 3, 5  # NFTA_CHAIN_...
_ACCEPT = 1  # NF_ACCEPT
_FAMILIES = {4: 2, 6: 10}  # NFPROTO_IPV4, NFPROTO_IPV6
# Somebody uses it; somebody took it out; this kernel has no nftables.
_LEAVE_IT = (errno.EBUSY, errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP)

_DEADLINE_S = 5  # the kernel answers at once, or not at all


@dataclass(frozen=True, slots=True)
class Table:
    """A table of iptables as nftables has it."""

    family: int  # 4 or 6
    name: str

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"family": self.family, "table": self.name}

    @classmethod
    def from_json(cls, detail: dict[str, Any]) -> Table:
        """Return what to_json() wrote."""
        return cls(detail["family"], detail["table"])


def find_absent(tables: Iterable[Table]) -> list[Table]:
    """Return those of *tables* that nftables, where the kernel has it, has not."""
    with _asking() as kernel:
        return [table for table in tables if not _is_there(kernel, table)]


def remove_empty(tables: Iterable[Table]) -> None:
    """Take *tables* out; one that holds a rule, a chain of others or a policy but ACCEPT stays."""
    with _asking() as kernel:
        for table in tables:
            if not _is_there(kernel, table):
                continue
            chains = list(_chains(kernel, table))
            if all(policy == _ACCEPT for _, policy in chains):
                _remove(kernel, table, [name for name, _ in chains])


@contextmanager
def _asking() -> Iterator[socket.socket]:
    """Yield what the kernel is asked with; HostError when it does not answer, or refuses."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, netlink.NETFILTER) as kernel:
            kernel.settimeout(_DEADLINE_S)
            yield kernel
    except OSError as error:
        raise HostError(f"tables of nftables: {error.strerror or error}") from None


def _is_there(kernel: socket.socket, table: Table) -> bool:
    kernel.send(
        netlink.netfilter_message(_GET_TABLE, 0, _FAMILIES[table.family], _named(_TABLE_NAME, table.name))
    )
    (answer,) = netlink.messages(kernel.recv(netlink.LARGEST))
    return answer.error is None or answer.error.errno != errno.ENOENT


def _chains(kernel: socket.socket, table: Table) -> Iterator[tuple[bytes, int | None]]:
    """Yield the chains of *table*, each with its policy; only one at a hook has any."""
    kernel.send(netlink.netfilter_message(_GET_CHAIN, netlink.DUMP, _FAMILIES[table.family], b""))
    while True:
        for answer in netlink.messages(kernel.recv(netlink.LARGEST)):
            if answer.kind in (netlink.DONE, netlink.ERROR):
                return
            chain = netlink.netfilter_attributes(answer.body)
            if chain[_CHAIN_TABLE] == f"{table.name}\0".encode():
                policy = chain.get(_CHAIN_POLICY)
                yield chain[_CHAIN_NAME], None if policy is None else struct.unpack("!I", policy)[0]


def _remove(kernel: socket.socket, table: Table, chains: list[bytes]) -> None:
    """Take out *table* with *chains*, or nothing where more is in it."""
    family, name = _FAMILIES[table.family], _named(_TABLE_NAME, table.name)
    in_table = _named(_CHAIN_TABLE, table.name)
    steps = [(_DELETE_CHAIN, in_table + netlink.attribute(_CHAIN_NAME, chain)) for chain in chains]
    flags = netlink.ACK | netlink.NONREC
    kernel.send(
        netlink.netfilter_message(_BATCH_BEGIN, 0, 0, b"", resource=_SUBSYSTEM)
        + b"".join(
            netlink.netfilter_message(kind, flags, family, body)
            for kind, body in [*steps, (_DELETE_TABLE, name)]
        )
        + netlink.netfilter_message(_BATCH_END, 0, 0, b"", resource=_SUBSYSTEM)
    )
    for _ in range(len(steps) + 1):
        (answer,) = netlink.messages(kernel.recv(netlink.LARGEST))
        if answer.error is not None and answer.error.errno not in _LEAVE_IT:
            raise answer.error


def _named(kind: int, name: str) -> bytes:
    return netlink.attribute(kind, f"{name}\0".encode())
