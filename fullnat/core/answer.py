# SPDX-License-Identifier: Apache-2.0
"""What fullnat says itself: resets, unreachables and echo replies, so many a second and no more.

A packet that would be answered is decided the same when the limit is reached, with the same reason
and counter; it only goes unanswered.  So a flood is not doubled by us, and is still seen.
"""

from __future__ import annotations

from fullnat.core import icmp
from fullnat.core.addr import TCP
from fullnat.core.flow import Decision
from fullnat.core.limit import TokenBucket
from fullnat.core.packet import PacketView
from fullnat.core.reason import Reason, Verdict

RATE, BURST = 1000, 200  # answers; RFC 1812, section 4.3.2.8 asks for a limit and leaves the number

# Refusals that pass by themselves: a client told softly tries again (RFC 6888, REQ-11).
_SOFT = frozenset({Reason.TABLE_FULL, Reason.NO_LOCAL_PORT})


class Answers:
    """Decides packets that end in an answer of ours."""

    def __init__(self) -> None:
        self.suppressed = 0  # answers not given because of the limit
        self._limit = TokenBucket(RATE, BURST)

    def refuse(self, view: PacketView, reason: Reason, now: int, *, is_due: bool = False) -> Decision:
        """Return the decision that refuses *view* for *reason*, whose verdict is REPLY.

        An answer that *is_due* is given whatever the limit says: we ended what the packet is part of.
        """
        if not is_due and not self._admit(now):
            return Decision(Verdict.REPLY, reason)
        if reason in _SOFT:
            reply = icmp.build_unreachable(view, icmp.HOST_UNREACHABLE[view.family])
        elif view.protocol == TCP:
            reply = icmp.build_reset(view)
        else:
            reply = icmp.build_unreachable(view, icmp.PORT_UNREACHABLE[view.family])
        return Decision(Verdict.REPLY, reason, reply=reply)

    def echo(self, view: PacketView, now: int) -> Decision:
        """Return the decision that answers the ping *view*."""
        reply = icmp.build_echo_reply(view) if self._admit(now) else None
        return Decision(Verdict.REPLY, Reason.ECHO_ANSWERED, reply=reply)

    def _admit(self, now: int) -> bool:
        admitted = self._limit.admit(now)
        self.suppressed += not admitted
        return admitted
