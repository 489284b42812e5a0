# SPDX-License-Identifier: Apache-2.0
"""TCP as the middle of the path sees it: a state per flow, and from it the idle timeout.

    SYN_SENT --SYN+ACK--> SYN_RECEIVED --ACK--> ESTABLISHED --FIN--> CLIENT_FIN | SERVER_FIN
                                                                --FIN of the other--> CLOSING
    any --RST--> CLIENT_RESET | SERVER_RESET

Rules.
  1. Every packet of a known flow is forwarded, whatever its flags: endpoints judge segments, the
     state only decides how long silence is tolerated.  RFC 7857, section 2 has the same machine.
  2. One FIN keeps the established timeout: a half-closed connection may still carry a long answer.
  3. A RST may be forged.  Who sent it and goes on talking was not its author, and the flow is
     established again (RFC 7857, section 2.2); what the other side had in flight changes nothing.
  4. A new SYN reopens a flow that is closing or reset; the director does that, not this table.
"""

from __future__ import annotations

from enum import IntEnum

from fullnat.core.addr import TCP
from fullnat.core.packet import ACK, SYN
from fullnat.core.timeouts import Timeouts


class TcpState(IntEnum):
    """Where a connection stands."""

    SYN_SENT = 0
    SYN_RECEIVED = 1
    ESTABLISHED = 2
    CLIENT_FIN = 3
    SERVER_FIN = 4
    CLOSING = 5
    CLIENT_RESET = 6
    SERVER_RESET = 7


REOPENABLE = frozenset({TcpState.CLOSING, TcpState.CLIENT_RESET, TcpState.SERVER_RESET})

_SS, _SR, _ES, _CF, _SF, _CL, _CR, _RR = TcpState

# Columns: what the client sent, then what the server sent.
_TRANSITIONS: tuple[tuple[TcpState, ...], ...] = (
    # client: ACK  FIN  SYN  RST | server: ACK  FIN  SYN  RST
    (_SS, _SS, _SS, _CR, _SS, _SS, _SR, _RR),  # SYN_SENT
    (_ES, _CF, _SR, _CR, _SR, _SF, _SR, _RR),  # SYN_RECEIVED
    (_ES, _CF, _ES, _CR, _ES, _SF, _ES, _RR),  # ESTABLISHED
    (_CF, _CF, _CF, _CR, _CF, _CL, _CF, _RR),  # CLIENT_FIN
    (_SF, _CL, _SF, _CR, _SF, _SF, _SF, _RR),  # SERVER_FIN
    (_CL, _CL, _CL, _CL, _CL, _CL, _CL, _CL),  # CLOSING
    (_ES, _CF, _CR, _CR, _CR, _CR, _CR, _RR),  # CLIENT_RESET
    (_RR, _RR, _RR, _CR, _ES, _SF, _RR, _RR),  # SERVER_RESET
)

# FIN, SYN and RST are the three low bits of the flags; the strongest decides.
_COLUMN = (0, 1, 2, 2, 3, 3, 3, 3)


def next_state(state: int, flags: int, inbound: bool) -> TcpState:
    """Return the state after a segment with *flags* from the client (*inbound*) or the server."""
    return _TRANSITIONS[state][_COLUMN[flags & 7] + (0 if inbound else 4)]


def is_opening_syn(flags: int) -> bool:
    """Whether a segment asks for a new connection: SYN, and neither ACK, RST nor FIN."""
    return flags & (SYN | ACK | 5) == SYN


def state_timeout(state: int, timeouts: Timeouts) -> int:
    """Return the idle timeout in *state*, nanoseconds."""
    if state in (TcpState.ESTABLISHED, TcpState.CLIENT_FIN, TcpState.SERVER_FIN):
        return timeouts.tcp_established
    if state in (TcpState.SYN_SENT, TcpState.SYN_RECEIVED):
        return timeouts.tcp_opening
    if state == TcpState.CLOSING:
        return timeouts.tcp_closing
    return timeouts.tcp_reset


class UdpState(IntEnum):
    """Whether a UDP flow was answered yet."""

    UNREPLIED = 0
    REPLIED = 1


def state_name(protocol: int, state: int) -> str:
    """Return the *state* of a flow of *protocol* in one word."""
    return TcpState(state).name if protocol == TCP else UdpState(state).name
