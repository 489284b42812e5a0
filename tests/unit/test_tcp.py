# SPDX-License-Identifier: Apache-2.0
"""TCP lifetimes: conversations written as lines, and the table's edges."""

from __future__ import annotations

import pytest

from fullnat.core.packet import ACK, FIN, PSH, RST, SYN
from fullnat.core.tcp import REOPENABLE, TcpState, is_opening_syn, next_state, state_timeout
from fullnat.core.timeouts import PROFILES

FLAGS = {"S": SYN, "A": ACK, "F": FIN, "R": RST, "P": PSH}

# client ">" or server "<", then flags; the state reached after the line.
CONVERSATIONS = [
    (">S", "SYN_SENT"),
    (">S >S", "SYN_SENT"),
    (">S <SA", "SYN_RECEIVED"),
    (">S <SA >A", "ESTABLISHED"),
    (">S <SA >A >PA <A <PA >A", "ESTABLISHED"),
    (">S <S", "SYN_RECEIVED"),  # simultaneous open
    (">S <SA >A >FA <A", "CLIENT_FIN"),
    (">S <SA >A >FA <A <PA <PA", "CLIENT_FIN"),  # half-closed, and still answered
    (">S <SA >A >FA <FA >A", "CLOSING"),
    (">S <SA >A <FA >A >FA <A", "CLOSING"),
    (">S <SA >A <FA >PA", "SERVER_FIN"),
    (">S <RA", "SERVER_RESET"),
    (">S <SA >R", "CLIENT_RESET"),
    (">S <SA >A >R <PA <PA", "CLIENT_RESET"),  # in flight when the client gave up
    (">S <SA >A >R >PA", "ESTABLISHED"),  # the RST was not the client's
    (">S <SA >A <R >PA >A", "SERVER_RESET"),
    (">S <SA >A <R <PA", "ESTABLISHED"),
    (">S <SA >A >FA <FA >A >R", "CLOSING"),
    (">S <SA >A >S <A", "ESTABLISHED"),  # a rebooted client; the server challenges (RFC 5961)
    (">S <SA >A >S <A >R >S", "CLIENT_RESET"),  # and this last SYN the director reopens
]


@pytest.mark.parametrize(("lines", "state"), CONVERSATIONS)
def test_conversation(lines: str, state: str) -> None:
    at = TcpState.SYN_SENT
    for line in lines.split():
        flags = sum(FLAGS[letter] for letter in line[1:])
        at = next_state(at, flags, inbound=line[0] == ">")
    assert at.name == state


@pytest.mark.parametrize("state", TcpState)
def test_every_combination_of_flags_leads_somewhere(state: TcpState) -> None:
    for flags in range(256):
        assert next_state(state, flags, inbound=True) in TcpState
        assert next_state(state, flags, inbound=False) in TcpState


@pytest.mark.parametrize(
    ("flags", "opens"), [("S", True), ("SP", True), ("SA", False), ("SF", False), ("SR", False), ("A", False)]
)
def test_what_asks_for_a_connection(flags: str, opens: bool) -> None:
    assert is_opening_syn(sum(FLAGS[letter] for letter in flags)) is opens


@pytest.mark.parametrize("profile", PROFILES)
def test_each_kind_of_state_has_its_own_timeout(profile: str) -> None:
    timeouts = PROFILES[profile]
    seconds = {state.name: state_timeout(state, timeouts) // 10**9 for state in TcpState}
    assert seconds["SYN_SENT"] == seconds["SYN_RECEIVED"] == timeouts.tcp_opening // 10**9
    assert seconds["ESTABLISHED"] == seconds["CLIENT_FIN"] == seconds["SERVER_FIN"]
    assert seconds["CLOSING"] == timeouts.tcp_closing // 10**9
    assert seconds["CLIENT_RESET"] == seconds["SERVER_RESET"] == timeouts.tcp_reset // 10**9


def test_a_flow_is_reopened_only_when_both_ends_are_done_with_it() -> None:
    assert {state.name for state in REOPENABLE} == {"CLOSING", "CLIENT_RESET", "SERVER_RESET"}


def test_the_floors_of_the_rfcs_hold_in_their_profile() -> None:
    rfc = PROFILES["rfc"]
    assert rfc.tcp_established >= 7440 * 10**9  # RFC 5382, REQ-5
    assert min(rfc.tcp_opening, rfc.tcp_closing, rfc.tcp_reset) >= 240 * 10**9  # RFC 7857, section 2
    assert rfc.udp >= 300 * 10**9  # RFC 4787, REQ-5c
