# SPDX-License-Identifier: Apache-2.0
"""The reason table: every way a packet can end, with its verdict and one sentence.

A decision names exactly one reason and every reason has exactly one counter, so the counters sum
to the packets seen.  Engines map the verdict to their own world and never invent a reason.
"""

from __future__ import annotations

from enum import Enum, IntEnum


class Verdict(Enum):
    """What an engine does with the packet."""

    FORWARD = "forward"  # rewritten, sent on
    PASS = "pass"  # not ours: on its way untouched
    REPLY = "reply"  # dropped, and answered by us
    DROP = "drop"
    HOLD = "hold"  # kept until a later packet decides it


class Reason(IntEnum):
    """Why; the value is the index of its counter."""

    verdict: Verdict
    sentence: str

    def __new__(cls, verdict: Verdict, sentence: str) -> Reason:
        """Number the reasons in the order they are written."""
        member = int.__new__(cls, len(cls.__members__))
        member._value_ = len(cls.__members__)
        member.verdict = verdict
        member.sentence = sentence
        return member

    # Forwarded.
    FLOW_INBOUND = Verdict.FORWARD, "client to server, in a known flow"
    FLOW_OUTBOUND = Verdict.FORWARD, "server to client, in a known flow"
    FLOW_OPENED = Verdict.FORWARD, "first packet of a new flow"
    FLOW_REOPENED = Verdict.FORWARD, "new SYN on a flow that was closing"
    FRAGMENT_FORWARDED = Verdict.FORWARD, "later fragment of a forwarded datagram"
    ICMP_RELAYED = Verdict.FORWARD, "ICMP error about a flow, relayed to the end it concerns"

    # Not ours.
    NOT_SERVICE = Verdict.PASS, "no service at this address and port"
    NOT_TRANSLATED = Verdict.PASS, "neither TCP, UDP nor an ICMP message we answer for"
    NO_OUTBOUND_FLOW = Verdict.PASS, "from a server or another host to a local address, in no flow"
    ICMP_UNRELATED = Verdict.PASS, "ICMP error about a packet of no flow of ours"
    KERNEL_FLOW = Verdict.PASS, "TCP to a service, in no flow of ours: the kernel, our fallback, may have it"

    # Waiting.
    FRAGMENT_HELD = Verdict.HOLD, "fragment that came before the first of its datagram"

    # Answered.
    ECHO_ANSWERED = Verdict.REPLY, "ping of a virtual address that no interface has"
    NO_FLOW = Verdict.REPLY, "TCP to a service, not a SYN and in no known flow"
    FLOW_ENDED = Verdict.REPLY, "TCP of a flow that was ended on request a moment ago"
    NO_SERVER = Verdict.REPLY, "no real server may take the flow"
    NO_LOCAL_PORT = Verdict.REPLY, "every local port towards the chosen server is taken or resting"
    TABLE_FULL = Verdict.REPLY, "the flow table is at its limit"

    # Dropped.
    TRUNCATED = Verdict.DROP, "shorter than its headers say"
    BAD_HEADER = Verdict.DROP, "IP header with impossible fields"
    BAD_TRANSPORT = Verdict.DROP, "TCP, UDP or ICMP header with impossible fields"
    SOURCE_ROUTED = Verdict.DROP, "source-routed"
    MARTIAN_SOURCE = Verdict.DROP, "from an address nobody can be answered at"
    STRAY_RESET = Verdict.DROP, "RST to a service, in no known flow"
    OVERLOADED = Verdict.DROP, "would open a flow while the engine cannot keep up"
    SCHEDULER_FAILED = Verdict.DROP, "the scheduler raised an exception or returned a wrong server"
    FRAGMENT_TINY = Verdict.DROP, "first fragment too short for its transport header, or one that overlaps it"
    FRAGMENT_LIMIT = Verdict.DROP, "too many fragments held or datagrams tracked"
    FRAGMENT_TIMEOUT = Verdict.DROP, "held fragment whose first never came"
    FRAGMENT_DROPPED = Verdict.DROP, "later fragment of a datagram that was not forwarded"
    ICMP_INVALID = Verdict.DROP, "ICMP error with a wrong checksum, or of a kind nobody should act on"
