# SPDX-License-Identifier: Apache-2.0
"""The kernel's table of NFQUEUEs: who has which, how many packets wait, and what it dropped."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from fullnat.datapath.base import DatapathError, Unsupported

PATH = Path("/proc/thread-self/net/netfilter/nfnetlink_queue")


class QueueRow(NamedTuple):
    """One queue of this network namespace."""

    number: int
    owner: int  # netlink port; often the pid
    waiting: int  # packets without a verdict
    queue_dropped: int  # it was full
    user_dropped: int  # the owner's socket was
    sequence: int = 0  # the number of the last packet given to the owner


class Drops(NamedTuple):
    """What the kernel dropped before anyone saw it."""

    queue: int = 0
    user: int = 0


def require_free(queues: Collection[int]) -> None:
    """Raise DatapathError when the kernel has no queues, or one of *queues* is bound."""
    if not PATH.exists():
        raise Unsupported(
            "NFQUEUE", "the kernel lacks it: CONFIG_NETFILTER_NETLINK_QUEUE, module nfnetlink_queue"
        )
    for row in read_rows(queues):
        raise DatapathError(
            f"queue {row.number} is bound by another program (netlink port {row.owner}): "
            "set another [engine] queue"
        )


def read_rows(queues: Collection[int]) -> list[QueueRow]:
    """Return the rows of *queues*; one that is not bound has none."""
    # Columns: number, owner, waiting, copy mode, copy range, dropped twice, id sequence, 1.
    try:
        lines = PATH.read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return []
    rows = ([int(field) for field in line.split()] for line in lines)
    return [QueueRow(*row[:3], *row[5:8]) for row in rows if row[0] in queues]


def read_drops(queues: Collection[int]) -> Drops:
    """Return what was dropped at all of *queues*."""
    rows = read_rows(queues)
    return Drops(sum(row.queue_dropped for row in rows), sum(row.user_dropped for row in rows))
