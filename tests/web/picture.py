# SPDX-License-Identifier: Apache-2.0
"""Take the picture of the status page that the documentation shows; five minutes, for its charts.

python -m tests.web.picture docs/status-page.png
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from PIL import Image

from fullnat.web.server import PageServer
from tests.web.browser import run_browser
from tests.web.fake import FakeInstance

_WIDTH = 1280
_MINUTES = 5


async def _take(path: Path) -> None:
    fake = FakeInstance(services=4)
    fake.tell("FN1001", "ready", services=4)
    server = PageServer(fake.application(), "127.0.0.1", 0)
    await server.start()
    async with run_browser() as browser, browser.tab() as tab:
        await tab.resize(_WIDTH, 1000)
        await tab.open(f"http://127.0.0.1:{server.port}/")
        await tab.wait("document.querySelector('[data-server]')")
        await asyncio.sleep(_MINUTES * 60 - 40)
        fake.set_health("web", "198.19.0.12:8080", "down", "L4CON", "connection refused")
        await asyncio.sleep(32)
        fake.drain("mail", "198.19.2.13:8080", deadline=120.0)
        await asyncio.sleep(8)
        await tab.resize(_WIDTH, await tab.evaluate("document.body.scrollHeight"))
        await asyncio.sleep(2)
        await tab.picture(path)
        Image.open(path).convert("RGB").quantize(128).save(path, optimize=True)  # a third of its size
    fake.close()
    await server.stop()


if __name__ == "__main__":
    asyncio.run(_take(Path(sys.argv[1])))
