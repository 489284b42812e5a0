# SPDX-License-Identifier: Apache-2.0
"""A file of each format that uses all of it: what becomes of it, to the letter.

The sources are in golden/import/, beside each the config file it becomes and the notes on it.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from fullnat.importers import FORMATS, Imported, convert

GOLDEN = Path(__file__).parent / "golden" / "import"
SOURCES = {
    "keepalived": "keepalived.conf",
    "ldirectord": "ldirectord.cf",
    "ipvsadm": "ipvsadm.save",
    "haproxy": "haproxy.cfg",
}
CONF_D = """\
virtual_server 203.0.113.12 25 {
    real_server 198.19.0.61 25 { smtp_alert
    }
}
"""


def include(pattern: str, path: str) -> list[tuple[str, str]]:
    assert path == "keepalived.conf"
    return [("conf.d/one.conf", CONF_D)] if pattern == "conf.d/*.conf" else []


def imported(source: str, **options: object) -> Imported:
    name = SOURCES[source]
    text = (GOLDEN / name).read_text(encoding="utf-8")
    return convert(source, text, name, include=include, config_id="lb1", **options)  # type: ignore[arg-type]


def test_every_format_has_a_file() -> None:
    assert tuple(SOURCES) == FORMATS


@pytest.mark.parametrize("source", FORMATS)
def test_a_file_becomes_this_config(source: str) -> None:
    got = imported(source)
    assert got.text == (GOLDEN / f"{source}.toml").read_text(encoding="utf-8")
    assert got.services == len(tomllib.loads(got.text)["service"])


@pytest.mark.parametrize("source", FORMATS)
def test_a_file_has_these_notes(source: str) -> None:
    notes = "".join(f"{note}\n" for note in imported(source).notes)
    assert notes == (GOLDEN / f"{source}.notes").read_text(encoding="utf-8")


@pytest.mark.parametrize("source", ["keepalived", "ldirectord", "ipvsadm"])
def test_forwarding_can_stay_as_it_was(source: str) -> None:
    services = tomllib.loads(imported(source, keep_forwarding=True).text)["service"]
    kept = {service.get("forward", "fullnat") for service in services}
    assert {"nat", "dr"} <= kept
    assert not any("forwarding" in note.what for note in imported(source, keep_forwarding=True).notes)


@pytest.mark.parametrize("source", FORMATS)
def test_given_local_addresses_stand_in_place_of_those_found(source: str) -> None:
    got = imported(source, local_addresses=["198.51.100.1", "2001:db8:9::1"])
    assert tomllib.loads(got.text)["snat"]["addresses"] == ["198.51.100.1", "2001:db8:9::1"]
    assert not any("local addresses" in note.what for note in got.notes)
