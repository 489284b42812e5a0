# SPDX-License-Identifier: Apache-2.0
"""Ending the flows of a server while others go on, with both ends of each told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fullnat.core.farewell import farewell
from fullnat.core.service import RealServer
from fullnat.datapath.base import Datapath


class Farewells:
    """Ends flows of servers, of each one at a time."""

    def __init__(self, engine: Datapath, send: Callable[[bytes], object]) -> None:
        """*send* sends a whole packet."""
        self._engine = engine
        self._send = send
        self._under_way: set[asyncio.Task[None]] = set()

    async def end(self, server: RealServer) -> int:
        """End the flows of *server*; return how many there were, when all ends are told."""
        ended = 0
        async for records in self._engine.end_flows(server):
            ended += len(records)
            for record in records:
                for packet in farewell(record):
                    self._send(packet)
        return ended

    def begin(self, server: RealServer, then: Callable[[int], None]) -> None:
        """End them without waiting; *then* hears how many there were."""

        async def end() -> None:
            then(await self.end(server))

        task = asyncio.create_task(end(), name=f"farewell {server.endpoint}")
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def close(self) -> None:
        """Wait for what is under way."""
        await asyncio.gather(*self._under_way, return_exceptions=True)
