# SPDX-License-Identifier: Apache-2.0
"""The pulse of an engine: once a second its flows expire, and the service manager hears that packets pass.

It waits for nothing else that the daemon does: a program that takes long is no reason for the watchdog
to end a director that serves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from fullnat.control.notify import Notifier, QueueLook, Watchdog
from fullnat.datapath.base import Datapath
from fullnat.datapath.queue_table import read_rows

PERIOD = 1.0  # seconds


class Pulse:
    """Beats for *engine*, whose packets come through *queues*."""

    def __init__(
        self, engine: Datapath, queues: Collection[int], notifier: Notifier, clock: Callable[[], int]
    ) -> None:
        self._engine = engine
        self._queues = queues
        self._notifier = notifier
        self._clock = clock
        self._watchdog = Watchdog()

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            await asyncio.sleep(PERIOD)
            await self.beat()

    async def beat(self) -> None:
        """Have flows expire, which takes the packets' lock; then say that packets pass, if they do."""
        await self._engine.expire(self._clock())
        looks = [
            QueueLook.of(row.number, row.waiting, row.queue_dropped, row.user_dropped, row.sequence)
            for row in read_rows(self._queues)
        ]
        if self._watchdog.find_hung(looks, self._engine.statistics().fragments_held) is None:
            self._notifier.alive()
