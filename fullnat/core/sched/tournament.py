# SPDX-License-Identifier: Apache-2.0
r"""Tournament tree: the least of n keys, while keys change one at a time.

Theory.  A complete binary tree over the positions; each inner node holds the winner of its two
children, the one with the smaller key, the left one on a tie.  The root therefore names the first
position with the least key, which is how IPVS breaks ties (first in the list wins).

       2            winner of all: position 2, key 1
     /   \
    0     2
   / \   / \
  0   1 2   3       positions
  3   5 1   1       keys

Cost.  least() is one read; set() and next_at_most() visit at most 2 nodes a level, 20 at 1000
servers.  There is no worst case behind an average, no garbage and nothing to rebuild.

Refused.  heapq with lazy deletion: stale entries, and now and then a pick that pays for cleaning.
          A sorted list: cannot answer "the next one after p", which wrr asks.
"""

from __future__ import annotations

from collections.abc import Iterable

_ABSENT = 1 << 128  # above every key


class Tournament:
    """Keys by position; position 0 wins ties."""

    __slots__ = ("_keys", "_size", "_winners")

    def __init__(self, keys: Iterable[int | None] = ()) -> None:
        leaves = [_ABSENT if key is None else key for key in keys]
        size = 1
        while size < len(leaves):
            size *= 2
        self._size = size
        self._keys = leaves + [_ABSENT] * (size - len(leaves))
        self._winners = [0] * size + list(range(size))  # node i has children 2i and 2i+1
        for node in range(size - 1, 0, -1):
            self._winners[node] = self._play(node)

    def _play(self, node: int) -> int:
        left, right = self._winners[2 * node], self._winners[2 * node + 1]
        return left if self._keys[left] <= self._keys[right] else right

    def set(self, position: int, key: int | None) -> None:
        """Give *position* a new key; None takes it out."""
        self._keys[position] = _ABSENT if key is None else key
        node = (self._size + position) // 2
        while node:
            winner = self._play(node)
            if winner == self._winners[node] and winner != position:
                return  # another position won before and wins still: nothing changes further up
            self._winners[node] = winner
            node //= 2

    def least(self) -> int | None:
        """Return the first position with the least key, or None when there is no key."""
        winner = self._winners[1]
        return winner if self._keys[winner] < _ABSENT else None

    def least_key(self) -> int | None:
        """Return the least key, or None when there is none."""
        key = self._keys[self._winners[1]]
        return key if key < _ABSENT else None

    def next_at_most(self, after: int, bound: int) -> int | None:
        """Return the first position behind *after* whose key is at most *bound*."""
        keys, winners = self._keys, self._winners
        if after + 1 >= self._size:
            return None
        node = self._size + after + 1
        while keys[winners[node]] > bound:
            while node % 2:  # a right child: all its parent covers has been seen
                node //= 2
            if not node:
                return None
            node += 1
        while node < self._size:
            node = 2 * node if keys[winners[2 * node]] <= bound else 2 * node + 1
        return node - self._size
