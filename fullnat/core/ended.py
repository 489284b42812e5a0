# SPDX-License-Identifier: Apache-2.0
"""TCP flows that were ended on request, remembered for a moment so that both ends can be told.

      director --- probe, farewell.py ---> end that still believes in the connection
      director <--- its acknowledgment --- end
      director --- RST that fits ---> end

Theory.  Only the end itself knows the sequence number that a RST must have, and names it in whatever
it sends next.  A packet of a flow we ended is ours to answer even where the kernel behind us has
connections of the same service, or where no interface has the address it was sent to.

Rules.
  1. The first packet of each direction is answered in any case; further ones are answered as many
     a second as all else (answer.py), and go nowhere: they are not the host's either.
  2. Bounded: the oldest go first.  Who is forgotten is told like anybody whose flow is unknown.

Twin: csrc/native/ended.c.
"""

from __future__ import annotations

from collections import OrderedDict

from fullnat.core.flow import Flow
from fullnat.core.timeouts import SECOND

LIFETIME = 10 * SECOND  # a probe there, an acknowledgment back, and a client that retries
LIMIT = 1 << 18  # keys, two a flow


class _Ended:
    __slots__ = ("deadline", "is_told")

    def __init__(self, deadline: int) -> None:
        self.deadline = deadline
        self.is_told = False


class EndedFlows:
    """Keys of TCP flows that were ended lately, the oldest first.  *now* must not go back."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._keys: OrderedDict[bytes, _Ended] = OrderedDict()

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, flow: Flow, now: int) -> None:
        """Remember *flow*, which is TCP."""
        for key in (flow.inbound.key, flow.outbound.key):
            self._keys.pop(key, None)
            self._keys[key] = _Ended(now + LIFETIME)
            if len(self._keys) > self._limit:
                self._keys.popitem(last=False)

    def tell(self, key: bytes, now: int) -> bool | None:
        """Return whether a packet with *key* is the first to be answered; None: of no flow here."""
        ended = self._keys.get(key)
        if ended is None or ended.deadline <= now:
            return None
        is_first = not ended.is_told
        ended.is_told = True
        return is_first

    def expire(self, now: int) -> None:
        """Forget those whose time is up."""
        while self._keys:
            key, ended = next(iter(self._keys.items()))
            if ended.deadline > now:
                return
            del self._keys[key]
