# SPDX-License-Identifier: Apache-2.0
"""The Internet checksum: the sum of RFC 1071 and the incremental update of RFC 1624.

All functions work on numbers and bytes in network order and know nothing of headers.

Theory.  One's complement addition of 16-bit words is addition modulo 0xffff in which 0 is written
as 0xffff (unless every word is 0).  Because 2**16 = 1 modulo 0xffff, a whole buffer read as one
big integer has the same remainder as the sum of its words, and the interpreter computes that in C.
"""

from __future__ import annotations


def ones_sum(data: bytes) -> int:
    """Return the one's complement sum of the 16-bit words of *data* (zero-padded to even)."""
    number = int.from_bytes(data, "big")
    if len(data) & 1:
        number <<= 8
    return number % 0xFFFF or (0xFFFF if number else 0)


def checksum(*parts: bytes) -> int:
    """Return the checksum of the parts laid end to end; all but the last must be of even length."""
    total = sum(map(ones_sum, parts))
    total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - ((total & 0xFFFF) + (total >> 16))


def difference(old: bytes, new: bytes) -> int:
    """Return what replacing *old* by *new* adds to a one's complement sum: 0..0xfffe."""
    return (int.from_bytes(new, "big") - int.from_bytes(old, "big")) % 0xFFFF


def update(check: int, delta: int) -> int:
    """Return *check* after a change whose difference() is *delta* (RFC 1624, equation 3).

    A wrong checksum stays wrong by the same amount: the receiver, not we, must notice it.
    """
    total = (check ^ 0xFFFF) + delta
    return (total & 0xFFFF) + (total >> 16) ^ 0xFFFF
