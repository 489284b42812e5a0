# SPDX-License-Identifier: Apache-2.0
"""What differs between two configurations, in lines a person reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from fullnat.control.changes import duration_text, find_changes
from fullnat.control.config import Config, load_config
from fullnat.core.timeouts import SECOND

BASE = """
version = 1
[engine]
queue = 1080
[snat]
addresses = ["198.19.0.1"]
[[service]]
name = "web"
listen = "tcp://203.0.113.10:80"
scheduler = "wlc"
  [[service.server]]
  address = "198.19.0.11:80"
  [[service.server]]
  address = "198.19.0.12:80"
[[service]]
name = "dns"
listen = "udp://203.0.113.10:53"
  [[service.server]]
  address = "198.19.0.21:53"
"""


def load(folder: Path, text: str) -> Config:
    path = folder / "lb.toml"
    path.write_text(text)
    return load_config(path)


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ('scheduler = "wlc"', 'scheduler = "rr"', ["~ service web: scheduler wlc -> rr"]),
        ('name = "web"', 'name = "www"', ["~ service www: name web -> www"]),
        (
            'address = "198.19.0.12:80"',
            'address = "198.19.0.12:80"\n  weight = 3',
            ["~ service web, server 198.19.0.12:80: weight 1 -> 3"],
        ),
        (
            'address = "198.19.0.12:80"',
            'address = "198.19.0.13:80"',
            ["+ service web, server 198.19.0.13:80: weight 1", "- service web, server 198.19.0.12:80"],
        ),
        (
            'scheduler = "wlc"',
            'scheduler = "wlc"\nslow_start = "90s"',
            ["~ service web: slow_start 0s -> 90s"],
        ),
        (
            'scheduler = "wlc"',
            'scheduler = "wlc"\nhealth = { type = "tcp", interval = "5s" }',
            [
                "~ service web, server 198.19.0.11:80: health.type none -> tcp",
                "~ service web, server 198.19.0.11:80: health.interval none -> 5s",
            ],
        ),
        (
            'scheduler = "wlc"',
            'scheduler = "wlc"\npersistence = { timeout = "5m" }',
            ["~ service web: persistence.timeout none -> 5m", "~ service web: persistence.mask none -> 32"],
        ),
        (
            "udp://203.0.113.10:53",
            "udp://203.0.113.10:54",
            ["+ service dns udp://203.0.113.10:54: wlc, 1 server", "- service dns udp://203.0.113.10:53"],
        ),
        (
            'address = "198.19.0.21:53"',
            'address = "198.19.0.21:53"\n[[service.backup]]\n'
            '[[service.backup.server]]\naddress = "198.19.0.31:53"',
            ["+ service dns, pool backup1", "+ service dns, pool backup1, server 198.19.0.31:53: weight 1"],
        ),
    ],
)
def test_each_change_is_a_line(tmp_path: Path, old: str, new: str, lines: list[str]) -> None:
    changes = find_changes(load(tmp_path, BASE), load(tmp_path, BASE.replace(old, new)))
    assert changes.restart == ()
    assert list(changes.lines)[: len(lines)] == lines


def test_the_same_is_no_change(tmp_path: Path) -> None:
    changes = find_changes(load(tmp_path, BASE), load(tmp_path, BASE))
    assert (changes.lines, changes.restart) == ((), ())


def test_another_order_of_servers_is_told(tmp_path: Path) -> None:
    other = (
        BASE.replace("198.19.0.11:80", "X")
        .replace("198.19.0.12:80", "198.19.0.11:80")
        .replace("X", "198.19.0.12:80")
    )
    changes = find_changes(load(tmp_path, BASE), load(tmp_path, other))
    assert changes.lines == ("~ service web: its servers in another order",)


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("queue = 1080", "queue = 1090", "engine.queue 1080 -> 1090"),
        (
            '["198.19.0.1"]',
            '["198.19.0.1", "198.19.0.2"]',
            "snat.addresses 198.19.0.1 -> 198.19.0.1 198.19.0.2",
        ),
        ("version = 1", 'version = 1\ninstance = "b"', "instance main -> b"),
    ],
)
def test_what_takes_a_restart_is_named(tmp_path: Path, old: str, new: str, key: str) -> None:
    changes = find_changes(load(tmp_path, BASE), load(tmp_path, BASE.replace(old, new)))
    assert changes.restart == (key,)


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(0, "0s"), (SECOND, "1s"), (90 * SECOND, "90s"), (3600 * SECOND, "1h"), (SECOND // 2, "500ms")],
)
def test_durations_are_as_the_file_has_them(nanoseconds: int, text: str) -> None:
    assert duration_text(nanoseconds) == text
