# SPDX-License-Identifier: Apache-2.0
"""One answer for all who ask within a moment: ten open pages cost the instance what one costs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]

CLOCK_HEADER = "Fullnat-Clock"  # when the answer was made, monotonic seconds: rates are computed with it
_MOMENT = 0.5  # seconds; half of what lies between two requests of one page


class Shared:
    """An answer that is made anew when the one before is older than a moment."""

    def __init__(self, answer: Answer) -> None:
        """*answer* does not depend on the request, and is no stream."""
        self._answer = answer
        self._making = asyncio.Lock()
        self._made = float("-inf")
        self._kept = web.Response()

    async def get(self, request: web.Request) -> web.Response:
        """Return the kept answer, or a new one."""
        loop = asyncio.get_running_loop()
        async with self._making:
            if loop.time() - self._made > _MOMENT:
                made = await self._answer(request)
                if not isinstance(made, web.Response):
                    raise TypeError(f"{request.path}: a stream cannot be shared")
                self._kept, self._made = made, loop.time()
        kept = self._kept
        return web.Response(
            body=kept.body,
            status=kept.status,
            headers={"Content-Type": kept.headers["Content-Type"], CLOCK_HEADER: f"{self._made:.3f}"},
        )
