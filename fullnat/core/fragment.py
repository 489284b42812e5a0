# SPDX-License-Identifier: Apache-2.0
"""Fragments: only the first of a datagram has ports, the others follow its decision.

The first fragment is decided like a whole packet; what came of it is kept under (addresses,
protocol, identification) and applied to the rest.  A fragment that overtakes the first is held:
the engine keeps the packet, this table a token for it, and the decision of the first releases it.

Nothing is reassembled, so a datagram costs the same memory whatever its size, and the fragments
leave as they came.  All in a datagram get one new identification (ident.py).

Rules.
  1. A record lives LIFETIME from its first packet on, no matter what follows: enough for a
     datagram to arrive, and too short to collect (RFC 6146 allows down to 2 s).
  2. Bounded: so many datagrams, so many packets held in all and for one datagram.  Beyond that
     fragments are dropped, and only fragments suffer (RFC 4787, REQ-14a).
"""

from __future__ import annotations

from collections import OrderedDict

from fullnat.core.flow import Decision, Half, Release
from fullnat.core.packet import PacketView
from fullnat.core.reason import Reason, Verdict
from fullnat.core.rewrite import Identify
from fullnat.core.service import RealServer
from fullnat.core.timeouts import SECOND

LIFETIME = 5 * SECOND
_HELD_PER_DATAGRAM = 64  # a datagram of 64 KiB in fragments of 1 KiB

_TIMED_OUT = Decision(Verdict.DROP, Reason.FRAGMENT_TIMEOUT)
_REFUSED = Decision(Verdict.DROP, Reason.FRAGMENT_LIMIT)
_NOT_FORWARDED = Decision(Verdict.DROP, Reason.FRAGMENT_DROPPED)


class _Datagram:
    __slots__ = ("deadline", "decision", "held")

    def __init__(self, deadline: int) -> None:
        self.deadline = deadline
        self.decision: Decision | None = None  # for later fragments, once the first has come
        self.held: list[tuple[int, int]] = []  # token, size


class FragmentTable:
    """Datagrams of which fragments came lately."""

    def __init__(self, limit: int, held_limit: int = 512) -> None:
        self._limit = limit
        self._held_limit = held_limit
        self._datagrams: OrderedDict[bytes, _Datagram] = OrderedDict()
        self._held = 0
        self._next_token = 0

    def __len__(self) -> int:
        return len(self._datagrams)

    @property
    def held(self) -> int:
        """Packets held now."""
        return self._held

    def decide_later(self, view: PacketView, now: int) -> Decision:
        """Return the decision for a fragment that is not the first."""
        assert view.fragment is not None
        datagram = self._find(view.fragment.datagram, now)
        if datagram is None:
            return _REFUSED
        if datagram.decision is not None:
            return datagram.decision
        if self._held >= self._held_limit or len(datagram.held) >= _HELD_PER_DATAGRAM:
            return _REFUSED
        token = self._next_token
        self._next_token += 1
        datagram.held.append((token, len(view.data)))
        self._held += 1
        return Decision(Verdict.HOLD, Reason.FRAGMENT_HELD, token=token)

    def forward(
        self, view: PacketView, half: Half, identification: int, now: int
    ) -> tuple[Release, ...] | None:
        """Have the rest of the datagram of *view* forwarded in *half*, as its first is.

        Returns the packets that this releases, None when the table is full.
        """
        later = Identify(half.rewrite, identification, first=False)
        return self._settle(view, Decision(Verdict.FORWARD, Reason.FRAGMENT_FORWARDED, later, half), now)

    def settle(self, view: PacketView, decision: Decision, now: int) -> tuple[Release, ...] | None:
        """Have the rest of a datagram whose first was not forwarded share its *decision*."""
        if decision.verdict is not Verdict.PASS:
            decision = _NOT_FORWARDED
        return self._settle(view, decision, now)

    def _settle(self, view: PacketView, later: Decision, now: int) -> tuple[Release, ...] | None:
        assert view.fragment is not None
        datagram = self._find(view.fragment.datagram, now)
        if datagram is None:
            return None
        datagram.decision = later
        released = tuple(Release(token, size, later) for token, size in datagram.held)
        self._held -= len(datagram.held)
        datagram.held = []
        return released

    def forget_server(self, server: RealServer) -> None:
        """Forward no more fragments in flows of *server*; looks at all datagrams."""
        for datagram in self._datagrams.values():
            half = datagram.decision.half if datagram.decision else None
            if half is not None and half.flow.server is server:
                datagram.decision = _NOT_FORWARDED

    def _find(self, key: bytes, now: int) -> _Datagram | None:
        """Return the record of *key*, made now if there is room."""
        datagram = self._datagrams.get(key)
        if datagram is None:
            if len(self._datagrams) >= self._limit:
                return None
            datagram = self._datagrams[key] = _Datagram(now + LIFETIME)
        return datagram

    def expire(self, now: int) -> tuple[Release, ...]:
        """Forget old datagrams; return the packets still held for them, to be dropped."""
        dropped: list[Release] = []
        while self._datagrams:
            key, datagram = next(iter(self._datagrams.items()))
            if datagram.deadline > now:
                break
            del self._datagrams[key]
            self._held -= len(datagram.held)
            dropped += [Release(token, size, _TIMED_OUT) for token, size in datagram.held]
        return tuple(dropped)
