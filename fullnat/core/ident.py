# SPDX-License-Identifier: Apache-2.0
"""Identifications for datagrams that are, or may become, fragments.

One counter for each of a fixed number of address pairs, as hosts do: two datagrams between the
same addresses get the same number only after the whole range has passed between them (RFC 6864,
section 5.3.1), and what one pair sends says little about another.
"""

from __future__ import annotations

from fullnat.core.prng import SplitMix64

_COUNTERS = 2039  # prime, so that the remainder depends on every bit of the addresses


class Identifications:
    """Counters of datagrams, by source, destination and protocol."""

    __slots__ = ("_counters",)

    def __init__(self, seed: int) -> None:
        prng = SplitMix64(seed)
        self._counters = [prng.next() & 0xFFFFFFFF for _ in range(_COUNTERS)]

    def next(self, addresses: bytes, protocol: int) -> int:
        """Return the next identification between *addresses*: 32 bits, of which IPv4 takes the low 16."""
        index = (int.from_bytes(addresses, "big") + protocol) % _COUNTERS
        value = self._counters[index] = (self._counters[index] + 1) & 0xFFFFFFFF
        return value
