# SPDX-License-Identifier: Apache-2.0
"""A stand-in for an instance, the status page of it, and a tab that shows it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fullnat.web.server import PageServer
from tests.web.browser import Browser, Tab
from tests.web.fake import FakeInstance


class Shown:
    """A page that shows an instance."""

    def __init__(self, fake: FakeInstance, server: PageServer, tab: Tab) -> None:
        self.fake = fake
        self.server = server
        self.tab = tab
        self.address = f"http://127.0.0.1:{server.port}/"

    async def open(self, fragment: str = "") -> None:
        await self.tab.open(f"{self.address}{fragment}")
        await self.tab.wait("document.querySelector('[data-service]')")

    async def services(self) -> list[str]:
        """Name the services that are there, in their order."""
        return await self._names("service")

    async def servers(self) -> list[str]:
        """Name the servers that are drawn, in their order."""
        return await self._names("server")

    async def _names(self, kind: str) -> list[str]:
        found = await self.tab.evaluate(
            f"[...document.querySelectorAll('[data-{kind}]')].map((node) => node.dataset.{kind})"
        )
        return list(found)

    async def type(self, text: str) -> None:
        """Put *text* into the filter, as a person does."""
        await self.tab.evaluate("document.getElementById('query').focus()")
        await self.tab.evaluate("document.getElementById('query').select()")
        await self.tab.call("Input.insertText", text=text)

    async def scroll_to(self, selector: str) -> None:
        await self.tab.evaluate(f"document.querySelector({json.dumps(selector)}).scrollIntoView()")

    async def click(self, selector: str) -> None:
        await self.tab.evaluate(f"document.querySelector({json.dumps(selector)}).click()")


@asynccontextmanager
async def shown(browser: Browser, fake: FakeInstance | None = None) -> AsyncIterator[Shown]:
    """Serve *fake*, with a tab to look at it; afterwards see that the page had nothing to complain of."""
    fake = fake or FakeInstance()
    server = PageServer(fake.application(), "127.0.0.1", 0)
    await server.start()
    async with browser.tab() as tab:
        await tab.resize(1280, 900)
        page = Shown(fake, server, tab)
        try:
            yield page
            assert tab.complaints == []
            assert [url for url in tab.requested if not url.startswith(page.address)] == []
        finally:
            page.fake.close()
            await page.server.stop()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def cell(server: str, title: str) -> str:
    return f"""document.querySelector('[data-server="{server}"] [data-label="{title}"]').innerText"""
