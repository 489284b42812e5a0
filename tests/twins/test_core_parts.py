# SPDX-License-Identifier: Apache-2.0
"""Checksums, the TCP table and the reason table: the C core against the Python core."""

from __future__ import annotations

from dataclasses import fields

from hypothesis import given
from hypothesis import strategies as st

from fullnat.core import checksum as twin
from fullnat.core.reason import Reason, Verdict
from fullnat.core.tcp import REOPENABLE, TcpState, is_opening_syn, next_state, state_timeout
from fullnat.core.timeouts import Timeouts
from tests.twins.core import Core

_WORDS = st.lists(
    st.sampled_from((0, 1, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF)) | st.integers(0, 0xFFFF), max_size=40
)
_EVEN = _WORDS.map(lambda words: b"".join(word.to_bytes(2, "big") for word in words))
_ANY = st.builds(bytes.__add__, _EVEN, st.binary(max_size=1))


@given(data=_ANY)
def test_ones_sum(core: Core, data: bytes) -> None:
    assert core.library.core_ones_sum(data, len(data)) == twin.ones_sum(data)


def test_ones_sum_of_the_largest_packet(core: Core) -> None:
    for data in (b"\xff" * 65535, b"\0" * 65535, b"\xff\xfe" * 32767):
        assert core.library.core_ones_sum(data, len(data)) == twin.ones_sum(data)


@given(head=_EVEN, tail=_ANY)
def test_checksum(core: Core, head: bytes, tail: bytes) -> None:
    assert core.library.core_checksum(head, len(head), tail, len(tail)) == twin.checksum(head, tail)


@given(old=_EVEN, new=_EVEN)
def test_difference(core: Core, old: bytes, new: bytes) -> None:
    size = min(len(old), len(new))
    delta = core.library.core_difference(old[:size], new[:size], size)
    assert delta == twin.difference(old[:size], new[:size])


@given(check=st.integers(0, 0xFFFF), delta=st.integers(0, 0xFFFE))
def test_update(core: Core, check: int, delta: int) -> None:
    assert core.library.core_update(check, delta) == twin.update(check, delta)


def test_update_of_every_checksum(core: Core) -> None:
    for check in range(65536):
        for delta in (0, 1, 0x8000, 0xFFFE, 0xFFFF - check if check else 0):
            assert core.library.core_update(check, delta) == twin.update(check, delta)


def test_tcp_table(core: Core) -> None:
    for state in TcpState:
        for flags in range(256):
            for inbound in (True, False):
                assert core.library.core_next_state(state, flags, inbound) == next_state(
                    state, flags, inbound
                )


def test_tcp_predicates(core: Core) -> None:
    assert [core.library.core_is_opening_syn(flags) for flags in range(256)] == [
        is_opening_syn(flags) for flags in range(256)
    ]
    assert {state for state in TcpState if core.library.core_is_reopenable(state)} == REOPENABLE


def test_tcp_timeouts(core: Core) -> None:
    numbered = Timeouts(*range(len(fields(Timeouts))))  # each timeout is its place
    assert [core.library.core_state_timeout(state) for state in TcpState] == [
        state_timeout(state, numbered) for state in TcpState
    ]


def test_reason_table(core: Core) -> None:
    assert core.library.core_reasons() == len(Reason)
    assert [list(Verdict)[core.library.core_reason_verdict(reason)] for reason in Reason] == [
        reason.verdict for reason in Reason
    ]
