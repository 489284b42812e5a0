# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium, driven over the DevTools protocol: as much of it as the tests need."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import re
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse

# Nothing but what a test asks for goes over the network, and no host but this one can be asked.
_OPTIONS = """
    --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --hide-scrollbars --mute-audio
    --no-first-run --disable-extensions --disable-sync --disable-default-apps --disable-component-update
    --disable-background-networking --disable-client-side-phishing-detection --no-pings
    --disable-domain-reliability --metrics-recording-only --remote-debugging-port=0
"""
_RESOLVE_NOTHING = "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"
_PATIENCE = 30.0  # seconds until something that does not happen is a failure

Message = dict[str, Any]

# Settles as soon as the expression holds, looked at whenever the page could have been drawn.
_WAIT = """
new Promise((found) => {
  const look = () => {
    let value = null;
    try { value = (%s); } catch (error) { if (!(error instanceof TypeError)) throw error; }
    value ? found(value) : setTimeout(look, 10);
  };
  look();
})
"""


class Tab:
    """One page, with everything it asked for and complained about."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session
        self.requested: list[str] = []  # addresses
        self.complaints: list[str] = []  # of the console: errors, warnings, exceptions, policy violations

    async def call(self, method: str, **parameters: Any) -> Message:
        """Call a method of the protocol."""
        return await self._browser.call(method, self._session, **parameters)

    async def open(self, address: str) -> None:
        """Go to *address*."""
        await self.call("Page.navigate", url=address)

    async def evaluate(self, expression: str) -> Any:
        """Return what *expression* is in the page, a promise's value if it is one."""
        answer = await self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            raise AssertionError(f"{expression}: {answer['exceptionDetails']['exception']}")
        return answer["result"].get("value")

    async def wait(self, expression: str) -> Any:
        """Wait until *expression* is true in the page, and return its value."""
        try:
            async with asyncio.timeout(_PATIENCE):
                return await self.evaluate(_WAIT % expression)
        except TimeoutError:
            text = await self.evaluate("document.body.innerText")
            raise AssertionError(
                f"not within {_PATIENCE:.0f} s: {expression}; the page:\n{text[:2000]}"
            ) from None

    async def resize(self, width: int, height: int, phone: bool = False) -> None:
        """Have a screen of another size."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=phone,
        )

    async def prefer(self, scheme: str) -> None:
        """Prefer `dark` or `light`."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        await self.call("Emulation.setEmulatedMedia", features=features)

    async def picture(self, path: Path) -> None:
        """Write what is on the screen as PNG."""
        answer = await self.call("Page.captureScreenshot")
        path.write_bytes(base64.b64decode(answer["data"]))

    def note(self, method: str, parameters: Message) -> None:
        """Take down what the browser tells of it."""
        if method == "Network.requestWillBeSent":
            self.requested.append(parameters["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(str(parameters["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and parameters["type"] in {"error", "warning", "assert"}:
            self.complaints.append(str(parameters["args"]))
        elif method == "Log.entryAdded" and parameters["entry"]["level"] in {"error", "warning"}:
            self.complaints.append(str(parameters["entry"]))


class Browser:
    """A running Chromium."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Message]] = {}
        self._tabs: dict[str, Tab] = {}

    async def call(self, method: str, session: str | None = None, **parameters: Any) -> Message:
        """Call a method of the protocol, and return its result."""
        number = next(self._numbers)
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        message: Message = {"id": number, "method": method, "params": parameters}
        await self._socket.send_json(message if session is None else message | {"sessionId": session})
        return await answer

    @asynccontextmanager
    async def tab(self) -> AsyncIterator[Tab]:
        """Open a tab that shares nothing with others."""
        context = (await self.call("Target.createBrowserContext"))["browserContextId"]
        created = await self.call("Target.createTarget", url="about:blank", browserContextId=context)
        attached = await self.call("Target.attachToTarget", targetId=created["targetId"], flatten=True)
        tab = self._tabs[attached["sessionId"]] = Tab(self, attached["sessionId"])
        for domain in ("Page", "Runtime", "Network", "Log", "Performance"):
            await tab.call(f"{domain}.enable")
        try:
            yield tab
        finally:
            await self.call("Target.disposeBrowserContext", browserContextId=context)

    async def listen(self) -> None:
        """Take in what the browser sends, until it is gone."""
        async for raw in self._socket:
            message = json.loads(raw.data)
            if "id" in message:
                answer = self._answers.pop(message["id"])
                if answer.cancelled():
                    continue
                if "error" in message:
                    answer.set_exception(RuntimeError(message["error"]["message"]))
                else:
                    answer.set_result(message["result"])
            elif tab := self._tabs.get(message.get("sessionId", "")):
                tab.note(message["method"], message["params"])


@asynccontextmanager
async def run_browser() -> AsyncIterator[Browser]:
    """Run Chromium with a profile of its own, which is gone afterwards."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            "chromium",
            *_OPTIONS.split(),
            _RESOLVE_NOTHING,
            f"--user-data-dir={profile}",
            stderr=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            env={**os.environ, "HOME": profile},
        )
        try:
            address = await _find_address(process)
            async with ClientSession() as session, session.ws_connect(address, max_msg_size=0) as socket:
                browser = Browser(socket)
                listening = asyncio.create_task(browser.listen())
                yield browser
                with contextlib.suppress(ConnectionError):
                    await browser.call("Browser.close")
                await listening
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.communicate()


async def _find_address(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    said = b""
    async with asyncio.timeout(_PATIENCE):
        while line := await process.stderr.readline():
            said += line
            if match := re.search(rb"DevTools listening on (ws://\S+)", line):
                return match[1].decode()
    raise RuntimeError(f"chromium did not start: {said.decode(errors='replace')}")
