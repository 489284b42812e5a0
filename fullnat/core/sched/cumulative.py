# SPDX-License-Identifier: Apache-2.0
"""Cumulative weights: find whose share of the total a number falls in, while weights change.

Theory.  A Fenwick tree: node i holds the sum of the (i & -i) weights that end with the i-th, so a
prefix sum, and the search for one, take one step a bit of the position.
Source: Fenwick, "A new data structure for cumulative frequency tables", SP&E 24(3), 1994.
"""

from __future__ import annotations

from collections.abc import Iterable


class CumulativeWeights:
    """Weights by position, laid end to end on the line 0..total-1."""

    __slots__ = ("_sums", "_top_bit", "_weights", "total")

    def __init__(self, weights: Iterable[int] = ()) -> None:
        self._weights = list(weights)
        self.total = sum(self._weights)
        self._sums = [0, *self._weights]  # counted from 1
        size = len(self._sums)
        for node in range(1, size):
            parent = node + (node & -node)
            if parent < size:
                self._sums[parent] += self._sums[node]
        self._top_bit = (1 << (size - 1).bit_length()) >> 1

    def set(self, position: int, weight: int) -> None:
        """Give *position* a new weight."""
        change = weight - self._weights[position]
        if not change:
            return
        self._weights[position] = weight
        self.total += change
        node = position + 1
        while node < len(self._sums):
            self._sums[node] += change
            node += node & -node

    def find(self, point: int) -> int:
        """Return the position whose share holds *point*, 0 <= point < total."""
        position = 0
        step = self._top_bit
        while step:
            node = position + step
            if node < len(self._sums) and self._sums[node] <= point:
                position = node
                point -= self._sums[node]
            step //= 2
        return position
