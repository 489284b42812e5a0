# SPDX-License-Identifier: Apache-2.0
"""The modules of the page that only compute, each by itself."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.web.browser import Browser
from tests.web.shown import shown

pytestmark = [pytest.mark.requires("chromium"), pytest.mark.usefixtures("runner")]


async def in_module(browser: Browser, name: str, expression: str) -> Any:
    async with shown(browser) as page:
        await page.open()
        return await page.tab.evaluate(f"import('/{name}.js').then((module) => {expression})")


async def test_rates_are_differences_by_the_clock_of_the_instance(browser: Browser) -> None:
    rows = """((...numbers) => ({connections: numbers[0], packets_in: numbers[1], packets_out: numbers[2],
                                bytes_in: numbers[3], bytes_out: numbers[4]}))"""
    looks = f"""((row, meter) => [
        meter.observe(row(10, 10, 10, 10, 10), 100),
        meter.observe(row(20, 12, 11, 20, 30), 102),
        meter.observe(row(20, 12, 11, 20, 30), 102),
        meter.observe(row(0, 12, 11, 20, 30), 103),
        meter.observe(row(3, 12, 11, 20, 30), 104),
        meter.observe(row(9, 12, 11, 20, 30), 2),
    ].map((rates) => Object.values(rates)))({rows}, new module.Meter())"""
    unknown = [None] * 5
    assert await in_module(browser, "rates", looks) == [
        unknown,
        [5, 1, 0.5, 40, 80],
        [5, 1, 0.5, 40, 80],
        unknown,  # the instance began anew
        [3, 0, 0, 0, 0],
        unknown,  # the host did
    ]


async def test_a_history_keeps_the_last_minutes_and_breaks_at_gaps(browser: Browser) -> None:
    rates = "{connections: time, packetsIn: 0, packetsOut: 0, bitsIn: 0, bitsOut: 0}"
    fill = f"""((history) => {{
        for (let time = 1; time <= 1000; time += 1) if (time < 990 || time > 995) history.add(time, {rates});
        return history.points("connections", 987);
    }})(new module.History())"""
    found = await in_module(browser, "rates", fill)
    assert found == [*[[time, time] for time in (987, 988, 989)], None, *[[t, t] for t in range(996, 1001)]]


async def test_numbers_as_people_read_them(browser: Browser) -> None:
    cases = {
        "rate(null)": "–",
        "rate(0)": "0",
        "rate(0.25)": "0.3",
        "rate(7)": "7",
        "rate(12.34)": "12",
        "rate(999.6)": "1.00 k",
        "rate(12345)": "12.3 k",
        "bits(7890000)": "7.89 Mbit/s",
        "bits(0)": "0 bit/s",
        "count(812)": "812",
        "count(999999)": "999,999",
        "count(51234567)": "51.2 M",
        "tick(2500)": "2.5 k",
        "tick(200)": "200",
        "tick(1e6)": "1 M",
        "percent(0.0123)": "1.2 %",
        "percent(0.5)": "50 %",
        "duration(0.4)": "0 s",
        "duration(59.9)": "59 s",
        "duration(3600)": "1 h",
        "duration(93784)": "1 d 2 h",
        "duration(null)": "–",
    }
    calls = ", ".join(f"module.{call}" for call in cases)
    found = await in_module(browser, "format", f"[{calls}].map((text) => text.replaceAll('\\u00a0', ' '))")
    assert dict(zip(cases, found, strict=True)) == cases


async def test_every_state_has_its_word(browser: Browser) -> None:
    usual = {
        "admin": "enabled",
        "health": "up",
        "in_rotation": True,
        "overloaded": False,
        "effective_weight": 1,
        "check": {},
    }
    cases: list[tuple[str, dict[str, Any]]] = [
        ("UP", {}),
        ("DOWN", {"health": "down", "in_rotation": False}),
        ("DOWN", {"health": "down", "admin": "drain"}),
        ("DISABLED", {"health": "down", "admin": "disabled"}),
        ("DRAIN", {"admin": "drain", "effective_weight": 0}),
        ("FULL", {"overloaded": True}),
        ("STANDBY", {"in_rotation": False}),
        ("UP, WEIGHT 0", {"effective_weight": 0}),
        ("UNKNOWN", {"health": "unknown"}),
        ("NO CHECK", {"health": "unknown", "check": None}),
    ]
    rows = json.dumps([usual | changes for _, changes in cases])
    found = await in_module(browser, "states", f"{rows}.map((row) => module.stateOfServer(row).text)")
    assert found == [word for word, _ in cases]
