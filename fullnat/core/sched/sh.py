# SPDX-License-Identifier: Apache-2.0
"""sh, source hashing: a client address always goes to the same server.

256 buckets are dealt to the servers in list order, `weight` buckets at a time (at least one), again
and again until all are dealt.  Weights are therefore exact only if their sum divides 256, and with
more than 256 servers the last have none: use mh then.  A new server moves most clients; mh few.

Flags.  sh-port: the client port is hashed too, so that flows of one client spread.
        sh-fallback: a client whose server is out gets another, instead of none.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, cycle, islice, repeat

from fullnat.core.sched.base import Request
from fullnat.core.sched.hashing import hash_endpoint
from fullnat.core.sched.table import TableScheduler
from fullnat.core.service import RealServer

BUCKETS = 256


class SourceHashing(TableScheduler):
    """256 buckets, dealt to the servers by weight."""

    name = "sh"
    accepted_flags = frozenset({"sh-port", "sh-fallback"})

    def build(self, servers: Sequence[RealServer], weights: Sequence[int]) -> list[RealServer]:
        """Return the buckets, each server's in a run as long as its weight."""
        runs = (repeat(server, weight or 1) for server, weight in zip(servers, weights, strict=True))
        return list(islice(cycle(chain.from_iterable(runs)), BUCKETS))

    def hash_request(self, request: Request) -> int:
        """Return the hash of the client."""
        return hash_endpoint(request.client.address, request.client.port if self._has_port else 0)
