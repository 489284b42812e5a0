# SPDX-License-Identifier: Apache-2.0
"""SplitMix64: the core's only source of arbitrary choices, a pure function of its seed.

Chosen over random.Random because its whole state is one integer and its step five operations, so
that an engine written in C takes the same decisions in the same order.
Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
"""

from __future__ import annotations

_MASK = 0xFFFF_FFFF_FFFF_FFFF


class SplitMix64:
    """A stream of 64-bit numbers that its seed determines."""

    __slots__ = ("_state",)

    def __init__(self, seed: int) -> None:
        self._state = seed & _MASK

    def next(self) -> int:
        """Return the next number, 0 to 2**64 - 1."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        z = self._state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        return z ^ (z >> 31)

    def below(self, bound: int) -> int:
        """Return a number in 0..bound-1; the bias of at most bound / 2**64 is of no account here."""
        return self.next() * bound >> 64
