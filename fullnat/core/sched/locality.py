# SPDX-License-Identifier: Apache-2.0
"""What lblc and lblcr share: wlc order, crowding, and a table keyed by virtual address.

The key is the address the client asked for.  A service of one address has one entry, so that lblc
sends everything to one server until it is crowded, and then everything to another; it becomes useful
when one service covers several addresses, say the sites of a farm of caches.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

from fullnat.core.addr import IPAddress
from fullnat.core.sched.wlc import WeightedLeastConnection
from fullnat.core.service import RealServer
from fullnat.core.timeouts import SECOND

EXPIRATION = 24 * 60 * 60 * SECOND  # the kernel's DEFAULT_EXPIRATION
MAX_ENTRIES = 16 * 1024  # the kernel collects beyond 16 for each of 1024 buckets

T = TypeVar("T")


class AddressTable(Generic[T]):
    """Values by address, bounded, each kept for EXPIRATION after its last use.

    Every use moves an entry to the end, so the first is both the one to expire and the one to give up.
    """

    def __init__(self) -> None:
        self._entries: OrderedDict[IPAddress, tuple[T, int]] = OrderedDict()  # value, last use

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[T]:
        return (value for value, _ in self._entries.values())

    def use(self, address: IPAddress, now: int) -> T | None:
        """Return the value of *address* and note its use."""
        self._expire(now)
        if address not in self._entries:
            return None
        value, _ = self._entries[address]
        self.put(address, value, now)
        return value

    def put(self, address: IPAddress, value: T, now: int) -> None:
        """Set the value of *address*; the least recently used goes when there are too many."""
        self._entries[address] = (value, now)
        self._entries.move_to_end(address)
        if len(self._entries) > MAX_ENTRIES:
            self._entries.popitem(last=False)

    def _expire(self, now: int) -> None:
        while self._entries:
            _, last_use = next(iter(self._entries.values()))
            if now - last_use < EXPIRATION:
                return
            self._entries.popitem(last=False)


class LocalityScheduler(WeightedLeastConnection):
    """wlc that also knows whether a server is crowded while another has room."""

    def __init__(self, *, seed: int = 0, flags: frozenset[str] = frozenset()) -> None:
        super().__init__(seed=seed, flags=flags)
        self._roomy: set[RealServer] = set()

    def attach(self, servers: Sequence[RealServer]) -> None:
        """Note which of *servers* have room."""
        super().attach(servers)
        self._roomy = {server for server in servers if _has_room(server)}

    def server_changed(self, server: RealServer) -> None:
        """Note whether *server* has room."""
        super().server_changed(server)
        if _has_room(server) and self.is_attached(server):
            self._roomy.add(server)
        else:
            self._roomy.discard(server)

    def is_crowded(self, server: RealServer) -> bool:
        """Whether *server* has more active flows than weight while another has fewer than half."""
        return server.active > server.weight and bool(self._roomy)


def _has_room(server: RealServer) -> bool:
    return server.active * 2 < server.weight
