# SPDX-License-Identifier: Apache-2.0
"""The status page in a browser: what people see, and what nobody may make it do."""

from __future__ import annotations

import asyncio
import json

import pytest

from fullnat.web.server import PageServer
from tests.web.browser import Browser
from tests.web.fake import FakeInstance
from tests.web.shown import Shown, cell, shown, until

pytestmark = [pytest.mark.requires("chromium"), pytest.mark.usefixtures("runner")]

WEB_2 = ("web", "198.19.0.12:8080")
DOWN = ("down", "L4CON", "connection refused")
MARKUP = "<img src=x onerror=alert(1)>"

# Timers that are still to fire, so that a test sees that a page has none.
COUNT_TIMERS = """
    window.timers = new Set();
    const {setTimeout: set, clearTimeout: clear} = window;
    window.setTimeout = (call, wait) => {
      const timer = set(() => { timers.delete(timer); call(); }, wait);
      timers.add(timer);
      return timer;
    };
    window.clearTimeout = (timer) => { timers.delete(timer); clear(timer); };
"""

HIDE = """
    Object.defineProperty(document, "hidden", {get: () => %s, configurable: true}),
    document.dispatchEvent(new Event("visibilitychange"))
"""

# The least contrast of a text with what is behind it, over all elements that match.
CONTRAST = """
((selector) => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const channels = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  const light = (colour) => [...channels(colour)].slice(0, 3)
    .map((part) => part / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const colour = getComputedStyle(node).backgroundColor;
      if (channels(colour)[3] === 255) return colour;
    }
    return "white";
  };
  return Math.min(...[...document.querySelectorAll(selector)].map((node) => {
    const [one, two] = [light(getComputedStyle(node).color), light(behind(node))];
    return (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
  }));
})
"""


async def test_services_and_servers_are_shown(browser: Browser) -> None:
    async with shown(browser) as page:
        await page.open()
        fake = page.fake
        assert await page.services() == [row["name"] for row in fake.services]
        await page.tab.wait("document.querySelectorAll('[data-server]').length >= 3")
        assert (await page.servers())[:3] == ["198.19.0.11:8080", "198.19.0.12:8080", "198.19.0.13:8080"]
        assert await page.tab.evaluate(cell("198.19.0.12:8080", "Weight")) == "2"
        assert await page.tab.evaluate(cell("198.19.0.12:8080", "Check")) == "L7OK 200"
        assert await page.tab.evaluate(cell("198.19.0.12:8080", "State")) == "UP"
        text = (await page.tab.evaluate("document.body.innerText")).replace("\xa0", " ")
        for words in ("engine ebpf", "up 1 d", "fallback iptables", "version 0.1.0", "of 15", "all up"):
            assert words in text
        assert await page.tab.evaluate("document.title") == "main – fullnat"


async def test_rates_and_charts_come_with_the_second_answer(browser: Browser) -> None:
    async with shown(browser) as page:
        await page.open()
        await page.tab.wait(f"{cell('198.19.0.11:8080', 'Conn/s')} !== '–'")
        await page.tab.wait("document.querySelectorAll('.chart .line[d*=L]').length === 5")
        said = "document.querySelector('.chart svg').getAttribute('aria-label')"
        assert await page.tab.wait(f"/^Connections.s: now [0-9.]+; at most [0-9.]+$/.test({said})")
        await page.tab.evaluate("document.getElementById('charted').selectedIndex = 2")
        await page.tab.evaluate("document.getElementById('charted').dispatchEvent(new Event('change'))")
        assert await page.tab.evaluate("document.getElementById('charted').value") == "tcp://203.0.113.11:443"


async def test_ports_drops_and_events_are_shown(browser: Browser) -> None:
    async with shown(browser) as page:
        page.fake.reasons["no_flow"]["count"] = 41
        page.fake.tell("FN1001", "ready", services=4)
        await page.open()
        await page.tab.wait("document.querySelectorAll('#ports meter').length === 6")
        await page.tab.wait("document.querySelector('[data-reason=no_flow]')")
        assert not await page.tab.evaluate("!!document.querySelector('[data-reason=flow_opened]')")
        await page.tab.wait("document.querySelector('#events li .words').innerText === 'services 4'")


async def test_a_fallen_server_is_shown_within_two_seconds(browser: Browser) -> None:
    async with shown(browser) as page:
        await page.open()
        await page.tab.wait("document.querySelector('[data-server]')")
        begun = asyncio.get_running_loop().time()
        page.fake.set_health(*WEB_2, *DOWN)
        await page.tab.wait(f"{cell(WEB_2[1], 'State')} === 'DOWN'")
        assert asyncio.get_running_loop().time() - begun < 2
        assert await page.tab.evaluate(cell(WEB_2[1], "Check")) == "L4CON connection refused"
        assert await page.tab.evaluate(cell(WEB_2[1], "Weight")) == "0 of 2"
        await page.tab.wait("document.querySelector('[data-service=web] .pill').innerText === 'PARTLY'")
        event = await page.tab.wait("document.querySelector('#events li').innerText")
        assert "server-down" in event
        assert "198.19.0.12:8080" in event
        page.fake.set_health(*WEB_2, "up", "L7OK", "200")
        await page.tab.wait(f"{cell(WEB_2[1], 'State')} === 'UP'")


async def test_a_drain_shows_what_is_left(browser: Browser) -> None:
    async with shown(browser) as page:
        page.fake.find(*WEB_2)["active"] = 40
        page.fake.drain(*WEB_2, deadline=90.0)
        await page.open()
        state = await page.tab.wait(f"/left/.test({cell(WEB_2[1], 'State')}) && {cell(WEB_2[1], 'State')}")
        assert state.startswith("DRAIN\n")
        assert "left, 1\xa0m" in state


async def test_a_pool_that_steps_in_is_named(browser: Browser) -> None:
    async with shown(browser) as page:
        for last in (11, 12, 13):
            page.fake.set_health("api", f"198.19.1.{last}:8080", *DOWN)
        await page.open()
        head = "document.querySelector('[data-service=api] .line-of-service').innerText"
        text = await page.tab.wait(f"{head}.includes('BACKUP') && {head}")
        assert "backup" in text
        assert await page.tab.evaluate("document.title") == "(1) main – fullnat"


async def test_a_refused_reload_is_told(browser: Browser) -> None:
    async with shown(browser) as page:
        page.fake.reload = {"successes": 1, "failures": 1, "last": 1795286000.0, "error": f"line 3: {MARKUP}"}
        await page.open()
        await page.tab.wait("document.getElementById('reload').innerText.includes('line 3: <img')")


async def test_the_filter_finds_services_and_servers(browser: Browser) -> None:
    async with shown(browser) as page:
        await page.open()
        await page.type("mail")
        assert await page.services() == ["mail"]
        await page.type("198.19.0.12")
        await page.tab.wait("document.querySelectorAll('[data-server]').length === 1")
        assert (await page.services(), await page.servers()) == (["web"], ["198.19.0.12:8080"])
        assert "1 of 4 services, with 1 servers" in await page.tab.evaluate("document.body.innerText")
        await page.type("nowhere")
        assert await page.services() == []
        await page.type(" ")
        assert len(await page.services()) == 4


async def test_up_servers_can_be_hidden_and_the_choice_is_in_the_address(browser: Browser) -> None:
    async with shown(browser) as page:
        page.fake.set_health(*WEB_2, *DOWN)
        await page.open()
        await page.click("#hide-up")
        await page.tab.wait("document.querySelectorAll('[data-server]').length === 1")
        assert (await page.services(), await page.servers()) == (["web"], [WEB_2[1]])
        assert await page.tab.evaluate("location.hash") == "#up=0"
        await page.tab.call("Page.reload")
        await page.tab.wait("document.querySelectorAll('[data-server]').length === 1")
        assert await page.services() == ["web"]


async def test_the_worst_can_come_first(browser: Browser) -> None:
    async with shown(browser) as page:
        page.fake.set_health("login", "198.19.3.12:8080", *DOWN)
        await page.open("#sort=state")
        assert (await page.services())[0] == "login"
        await page.tab.wait("document.querySelector('[data-server]').dataset.server === '198.19.3.12:8080'")


async def test_services_open_and_close(browser: Browser) -> None:
    opener = "document.querySelector('[data-service=web] .opener')"
    rows = "[...document.querySelectorAll('[data-server]')].filter(x => x.checkVisibility()).length"
    async with shown(browser, FakeInstance(2, 2)) as page:
        await page.open()
        assert await page.tab.wait(f"{rows} === 6")
        await page.tab.evaluate(f"{opener}.focus()")
        for kind in ("keyDown", "keyUp"):
            await page.tab.call("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", text="\r")
        await page.tab.wait(f"{opener}.getAttribute('aria-expanded') === 'false' && {rows} === 4")
        await page.click("#collapse")
        assert await page.tab.wait(f"{rows} === 0")
        await page.click("#expand")
        assert await page.tab.wait(f"{rows} === 6")


async def test_names_and_words_stay_text(browser: Browser) -> None:
    fake = FakeInstance()
    fake.rename(0, MARKUP)
    fake.servers[0]["check"]["detail"] = MARKUP
    fake.servers[0]["address"] = MARKUP
    fake.reasons[MARKUP] = {"count": 7, "verdict": "drop", "meaning": MARKUP}
    fake.tell("FN2002", "server-down", detail=MARKUP)
    async with shown(browser, fake) as page:
        await page.open()
        await page.tab.wait(
            "document.querySelector('#events li') && document.querySelector('#drops tbody tr')"
        )
        assert (await page.services())[0] == MARKUP
        text = await page.tab.evaluate("document.body.innerText")
        assert text.count(MARKUP) >= 5
        assert await page.tab.evaluate("document.images.length") == 1  # the page's own
        assert await page.tab.evaluate("document.querySelectorAll('[onerror]').length") == 0


@pytest.mark.parametrize("width", [360, 768, 1280])
async def test_nothing_is_wider_than_the_screen(browser: Browser, width: int) -> None:
    fake = FakeInstance()
    fake.rename(0, "n" * 64)
    fake.services[0]["address"] = "tcp://[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535"
    fake.servers[0]["address"] = "[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535"
    fake.servers[0]["check"]["detail"] = "d" * 200
    fake.tell("FN2002", "server-down", detail="e" * 200)
    async with shown(browser, fake) as page:
        await page.tab.resize(width, 740, phone=width < 500)
        await page.open()
        await page.click("#expand")
        await page.scroll_to("[data-service]")
        await page.tab.wait("document.querySelectorAll('[data-server]').length")
        await page.tab.wait("document.querySelector('#events li')")
        assert await page.tab.evaluate("document.documentElement.scrollWidth") == width


async def test_a_table_is_cards_on_a_phone_and_still_a_table_to_a_reader(browser: Browser) -> None:
    async with shown(browser) as page:
        await page.tab.resize(360, 740, phone=True)
        await page.open()
        assert await page.servers() == []
        await page.click("[data-service=web] .opener")
        await page.scroll_to("[data-service=web]")
        await page.tab.wait("document.querySelector('[data-server]')")
        row = "document.querySelector('[data-server]')"
        assert await page.tab.evaluate(f"getComputedStyle({row}).display") == "grid"
        label = f"getComputedStyle({row}.querySelector('[data-label=Active]'), '::before').content"
        assert await page.tab.evaluate(label) == '"Active"'
        tree = await page.tab.call("Accessibility.getFullAXTree")
        roles = [node["role"]["value"] for node in tree["nodes"] if not node["ignored"]]
        assert {"table", "row", "cell", "rowheader"} <= set(roles)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_text_can_be_read(browser: Browser, scheme: str) -> None:
    fake = FakeInstance()
    fake.set_health(*WEB_2, *DOWN)
    fake.drain("mail", "198.19.2.12:8080", 90.0)
    fake.find("login", "198.19.3.12:8080")["admin"] = "disabled"
    async with shown(browser, fake) as page:
        await page.tab.resize(1280, 2000)
        await page.tab.prefer(scheme)
        await page.open()
        await page.tab.wait("document.querySelectorAll('#events .pill').length === 2")
        await page.tab.wait("document.querySelectorAll('[data-server] .pill').length === 15")
        for selector in (
            ".pill",
            ".quiet",
            ".facts",
            ".detail",
            ".key b",
            ".tick",
            "th",
            "td",
            ".tag",
        ):
            assert await page.tab.evaluate(f"{CONTRAST}({json.dumps(selector)})") >= 4.5, selector


async def test_a_hidden_page_asks_for_nothing(browser: Browser) -> None:
    async with shown(browser) as page:
        await page.tab.call("Page.addScriptToEvaluateOnNewDocument", source=COUNT_TIMERS)
        await page.open()
        await until(lambda: page.fake.listeners == 1)
        looks = "performance.getEntriesByType('resource').filter((entry) => /stats$/.test(entry.name)).length"
        before = await page.tab.evaluate(looks)
        await page.tab.evaluate(f"document.getElementById('banner-retry').click(), {HIDE % 'true'}")
        await until(lambda: page.fake.listeners == 0)
        await page.tab.wait(f"{looks} > {before}")  # the look that was under way
        await page.tab.evaluate("fetch('v1/status').then((answer) => answer.text())")
        assert await page.tab.evaluate("timers.size") == 0
        await page.tab.evaluate(HIDE % "false")
        await until(lambda: page.fake.listeners == 1)
        await page.tab.wait("timers.size > 0")


async def test_an_instance_that_is_gone_and_comes_back(browser: Browser) -> None:
    async with shown(browser) as page:
        for name in ("first", "second"):
            page.fake.tell("FN1001", "ready", name=name)
        await page.open()
        await page.tab.wait("document.querySelectorAll('#events li').length === 2")
        page.fake.close()
        port = page.server.port
        await page.server.stop()
        await page.tab.wait("!document.getElementById('banner').hidden")
        text = await page.tab.evaluate("document.getElementById('banner').innerText")
        assert text.startswith("Disconnected: the instance does not answer")
        assert "shown is how it was at" in text
        assert await page.tab.evaluate(cell(WEB_2[1], "State")) == "UP"

        fresh = FakeInstance(3, 2)
        fresh.begun += 3600
        fresh.tell("FN1001", "ready", services=3)
        page.fake, page.server = fresh, PageServer(fresh.application(), "127.0.0.1", port)
        await page.server.start()
        await page.tab.wait("document.getElementById('banner').hidden")
        assert await page.services() == ["web", "api", "mail"]
        await page.tab.wait("document.querySelector('#events li .words').innerText === 'services 3'")
        await page.tab.wait(f"{cell('198.19.0.11:8080', 'Conn/s')} !== '–'")
        assert "-" not in await page.tab.evaluate(cell("198.19.0.11:8080", "Conn/s"))
        page.tab.complaints = [text for text in page.tab.complaints if "ERR_CONNECTION_REFUSED" not in text]
        page.tab.complaints = [text for text in page.tab.complaints if "ERR_INCOMPLETE_CHUNKED" not in text]


async def test_two_hundred_services_with_twenty_servers_each(browser: Browser) -> None:
    async with shown(browser, FakeInstance(200, 20)) as page:
        await page.open()
        paints: dict[str, float] = await page.tab.wait(
            "performance.getEntriesByName('first-contentful-paint').length && "
            "Object.fromEntries(performance.getEntriesByType('paint').map(x => [x.name, x.startTime]))"
        )
        assert paints["first-contentful-paint"] < 1000
        assert await page.tab.evaluate("document.querySelectorAll('article').length") == 200
        drawn = "[...document.querySelectorAll('.service .name')].filter((node) => node.textContent).length"
        assert 5 < await page.tab.wait(drawn) < 60
        assert await page.servers() == []

        await page.click("#expand")
        await page.tab.wait("document.querySelector('[data-server]')")
        assert len(await page.servers()) < 400
        assert await script_time(page, updates=4) < 0.05
        await page.scroll_to("[data-service=service-140]")
        await page.tab.wait("document.querySelector('[data-service=service-140] [data-server]')")


async def script_time(page: Shown, updates: int) -> float:
    """Return the seconds of scripting for one update."""

    def asked() -> int:
        return sum(url.endswith("/v1/stats") for url in page.tab.requested)

    first, before = asked(), await metrics(page)
    async with asyncio.timeout(60):
        while asked() < first + updates:
            await asyncio.sleep(0.01)
    return ((await metrics(page))["ScriptDuration"] - before["ScriptDuration"]) / updates


async def metrics(page: Shown) -> dict[str, float]:
    found = await page.tab.call("Performance.getMetrics")
    return {metric["name"]: metric["value"] for metric in found["metrics"]}
