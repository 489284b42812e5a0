# SPDX-License-Identifier: Apache-2.0
"""dh, destination hashing: by the virtual address the client asked for; weights do not matter.

Meant for a farm of caches behind one service that covers many addresses.  A service of one address
has one hash, hence one server, and no other when that one is out.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, islice

from fullnat.core.sched.base import Request
from fullnat.core.sched.hashing import hash_endpoint
from fullnat.core.sched.table import TableScheduler
from fullnat.core.service import RealServer

BUCKETS = 256


class DestinationHashing(TableScheduler):
    """256 buckets, dealt to the servers in turn."""

    name = "dh"

    def build(self, servers: Sequence[RealServer], weights: Sequence[int]) -> list[RealServer]:
        """Return the buckets, one server after the other."""
        return list(islice(cycle(servers), BUCKETS))

    def hash_request(self, request: Request) -> int:
        """Return the hash of the virtual address."""
        return hash_endpoint(request.virtual.address, 0)
