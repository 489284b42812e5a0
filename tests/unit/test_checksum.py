# SPDX-License-Identifier: Apache-2.0
"""Checksums against the worked examples of the RFCs and a naive sum."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fullnat.core.checksum import checksum, difference, ones_sum, update


def naive_sum(data: bytes) -> int:
    """RFC 1071, section 4.1: add the words, then fold the carries."""
    if len(data) % 2:
        data += b"\0"
    total = sum(data[at] << 8 | data[at + 1] for at in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def test_the_example_of_rfc_1071() -> None:
    assert ones_sum(bytes.fromhex("0001f203f4f5f6f7")) == 0xDDF2


def test_the_example_of_rfc_1624() -> None:
    # Section 4: HC = 0xDD2F, m = 0x5555, m' = 0x3285 gives 0x0000, not 0xFFFF.
    assert update(0xDD2F, difference(b"\x55\x55", b"\x32\x85")) == 0x0000


def test_a_header_seen_on_the_wire() -> None:
    header = bytes.fromhex("45000073000040004011b861c0a80001c0a800c7")
    assert ones_sum(header) == 0xFFFF
    assert checksum(header[:10] + b"\0\0" + header[12:]) == 0xB861


@given(st.binary(max_size=200))
def test_the_sum_is_the_naive_one(data: bytes) -> None:
    assert ones_sum(data) == naive_sum(data)


@given(st.binary(max_size=50).filter(lambda part: len(part) % 2 == 0), st.binary(max_size=50))
def test_parts_sum_as_the_whole(head: bytes, tail: bytes) -> None:
    assert checksum(head, tail) == 0xFFFF - naive_sum(head + tail)


@given(st.binary(min_size=20, max_size=60), st.integers(0, 8), st.binary(min_size=4, max_size=4))
def test_an_update_equals_a_new_sum(data: bytes, place: int, new: bytes) -> None:
    at = place * 2
    changed = data[:at] + new + data[at + 4 :]
    if not any(changed) or not any(data):
        return  # only a buffer of zeros sums to zero; headers are never that
    assert update(checksum(data), difference(data[at : at + 4], new)) == checksum(changed)


@given(st.integers(0, 0xFFFF), st.binary(min_size=4, max_size=4), st.binary(min_size=4, max_size=4))
def test_an_update_can_be_undone(check: int, old: bytes, new: bytes) -> None:
    there = update(check, difference(old, new))
    back = update(there, difference(new, old))
    assert back % 0xFFFF == check % 0xFFFF
