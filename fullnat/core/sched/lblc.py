# SPDX-License-Identifier: Apache-2.0
"""lblc, locality-based least connection: one server a virtual address, until it is crowded.

The first flow to an address picks as wlc; the next follow it.  When its server is out, or crowded
while another has room, wlc picks a new one.  See locality.py for what the key means.
The kernel keeps using a remembered server that passed its upper threshold; this does not.
"""

from __future__ import annotations

from fullnat.core.sched.base import Request
from fullnat.core.sched.locality import AddressTable, LocalityScheduler
from fullnat.core.service import RealServer


class LocalityLeastConnection(LocalityScheduler):
    """The server remembered for the virtual address, else the wlc one."""

    name = "lblc"

    def __init__(self, *, seed: int = 0, flags: frozenset[str] = frozenset()) -> None:
        super().__init__(seed=seed, flags=flags)
        self._remembered: AddressTable[RealServer] = AddressTable()

    def schedule(self, request: Request) -> RealServer | None:
        """Return the server of this virtual address."""
        address, now = request.virtual.address, request.now
        server = self._remembered.use(address, now)
        if server is not None and self._is_good(server):
            return server
        server = super().schedule(request)
        if server is not None:
            self._remembered.put(address, server, now)
        return server

    def _is_good(self, server: RealServer) -> bool:
        return self.is_attached(server) and server.is_available and not self.is_crowded(server)
