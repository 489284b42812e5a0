# SPDX-License-Identifier: Apache-2.0
"""The kernel's memory behind a process: the maps it has open, and the maps that are in these.

bpftool has what the kernel says each map takes (bytes_memlock), which is exact from Linux 6.4 on; kernels
before reckon keys in that arrays do not have.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.namespace import run

_OF_MAPS = {"array_of_maps", "hash_of_maps"}


def read_map_bytes(pid: int) -> int:
    """Return the bytes of all maps that process *pid* has open or finds in those."""
    shown = run(["bpftool", "-j", "map", "show"])
    opened = set(_open_maps(pid))
    inside = {
        number
        for outer in opened & parse_outer_maps(shown)
        for number in parse_inner_maps(run(["bpftool", "-j", "map", "dump", "id", str(outer)]))
    }
    sizes = parse_map_bytes(shown)
    return sum(sizes.get(number, 0) for number in opened | inside)


def _open_maps(pid: int) -> Iterator[int]:
    for info in Path(f"/proc/{pid}/fdinfo").iterdir():
        number = parse_map_id(info.read_text(encoding="ascii", errors="replace"))
        if number is not None:
            yield number


def parse_map_id(fdinfo: str) -> int | None:
    """Return the map that a descriptor stands for, None when it is none."""
    found = re.search(r"^map_id:\s*(\d+)$", fdinfo, re.MULTILINE)
    return int(found[1]) if found else None


def parse_map_bytes(shown: str) -> dict[int, int]:
    """Return the bytes of each map in `bpftool -j map show`."""
    return {entry["id"]: int(entry.get("bytes_memlock", 0)) for entry in json.loads(shown)}


def parse_outer_maps(shown: str) -> set[int]:
    """Return the maps in `bpftool -j map show` that have maps in them."""
    return {entry["id"] for entry in json.loads(shown) if entry.get("type") in _OF_MAPS}


def parse_inner_maps(dumped: str) -> set[int]:
    """Return the maps in `bpftool -j map dump` of a map of maps; an empty place has no list of bytes."""
    values = (entry.get("value") for entry in json.loads(dumped))
    return {
        int.from_bytes((int(byte, 16) for byte in value), sys.byteorder)
        for value in values
        if isinstance(value, list)
    }
