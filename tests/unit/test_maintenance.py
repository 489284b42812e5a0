# SPDX-License-Identifier: Apache-2.0
"""Maintenance files: which servers their names mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from fullnat.control.maintenance import Maintenance, read_maintenance
from fullnat.core.addr import parse_endpoint


@pytest.mark.parametrize(
    ("name", "meant", "not_meant"),
    [
        ("198.19.0.11:80", ["198.19.0.11:80"], ["198.19.0.11:81", "198.19.0.12:80"]),
        ("198.19.0.11", ["198.19.0.11:80", "198.19.0.11:443"], ["198.19.0.12:80"]),
        ("[2001:db8::11]:80", ["[2001:db8::11]:80"], ["[2001:db8::11]:81"]),
        ("2001:db8::11", ["[2001:db8::11]:80", "[2001:db8::11]:81"], ["[2001:db8::12]:80"]),
        ("[2001:db8::11]", ["[2001:db8::11]:80"], ["[2001:db8::12]:80"]),
        ("2001:DB8:0::11", ["[2001:db8::11]:80"], []),
    ],
)
def test_a_name_means_a_server_or_all_at_an_address(
    name: str, meant: list[str], not_meant: list[str]
) -> None:
    files = Maintenance([name])
    assert all(parse_endpoint(server) in files for server in meant)
    assert not any(parse_endpoint(server) in files for server in not_meant)


@pytest.mark.parametrize(
    "name",
    ["", "README", ".198.19.0.11", "198.19.0.11~", "198.19.0.11:", "198.19.0.11:http", "198.19.0.11:99999",
     "198.19.0", "web", "[", "[]", "198.19.0.11:80.swp", "\udcff", "0", "198.19.0.011"],
)  # fmt: skip
def test_any_other_name_is_none_of_ours_and_hides_no_other(name: str) -> None:
    files = Maintenance([name, "198.19.0.12"])
    assert parse_endpoint("198.19.0.11:80") not in files
    assert parse_endpoint("198.19.0.12:80") in files


def test_what_a_directory_has_counts_whatever_it_is(tmp_path: Path) -> None:
    (tmp_path / "198.19.0.11:80").touch()
    (tmp_path / "198.19.0.12").symlink_to("nowhere")
    (tmp_path / "198.19.0.13").mkdir()
    files = read_maintenance(tmp_path)
    assert all(parse_endpoint(f"198.19.0.{number}:80") in files for number in (11, 12, 13))
    (tmp_path / "198.19.0.11:80").unlink()
    assert parse_endpoint("198.19.0.11:80") not in read_maintenance(tmp_path)


def test_without_a_directory_nobody_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for directory in (None, tmp_path / "absent", file):
        assert parse_endpoint("198.19.0.11:80") not in read_maintenance(directory)
