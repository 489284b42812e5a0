# SPDX-License-Identifier: Apache-2.0
"""Routes as this host knows them: the MTU towards each prefix, and whether an address has one.

An MTU is the route's own if it has one, else that of the device it leaves by.  Of several devices
(multipath) the smallest counts.  Only the main table is read: what packets marked or from certain
sources would take by other tables cannot be told from the destination alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

from fullnat.core.addr import IPAddress
from fullnat.host.programs import run_program, run_tolerant

RouteMtu = tuple[IPv4Network | IPv6Network, int]

_DEFAULT = {4: "0.0.0.0/0", 6: "::/0"}


def read_route_mtus() -> list[RouteMtu]:
    """Return the MTU of every route of the main table, both families; the preferred route first."""
    links = run_program(["ip", "-j", "link", "show"])
    return [
        route
        for family in (4, 6)
        for route in parse_route_mtus(links, run_program(["ip", "-j", f"-{family}", "route", "show"]), family)
    ]


def parse_route_mtus(links: str, routes: str, family: int) -> list[RouteMtu]:
    """Return the MTUs in the output of `ip -j link show` and `ip -j route show` of one *family*."""
    devices: dict[str, int] = {entry["ifname"]: entry["mtu"] for entry in _entries(links)}
    found = []
    for entry in _entries(routes):
        mtu = _own_mtu(entry) or min(
            (devices[name] for name in _devices(entry) if name in devices), default=None
        )
        if mtu is not None:
            destination = _DEFAULT[family] if entry["dst"] == "default" else entry["dst"]
            found.append((ip_network(destination), mtu))
    return found


def _own_mtu(route: dict[str, Any]) -> int | None:
    return next((metric["mtu"] for metric in route.get("metrics", []) if "mtu" in metric), None)


def _devices(route: dict[str, Any]) -> list[str]:
    """The devices *route* leaves by: none for an unreachable one, several for multipath."""
    return [hop["dev"] for hop in (route, *route.get("nexthops", [])) if "dev" in hop]


def find_unrouted(addresses: Iterable[IPAddress]) -> list[IPAddress]:
    """Return those of *addresses* that no route leads to."""
    wanted = list(addresses)
    if not wanted:
        return []
    # -force: go on after an address without a route, for which nothing is printed.
    commands = "".join(f"route get {address}\n" for address in wanted)
    output = run_tolerant(["ip", "-j", "-force", "-batch", "-"], commands).stdout
    routed = {ip_address(entry["dst"]) for entry in _entries(output)}
    return [address for address in wanted if address not in routed]


def _entries(output: str) -> Iterator[dict[str, Any]]:
    """Yield the objects of the JSON arrays that ip prints, one array for each command."""
    decoder = json.JSONDecoder()
    position = 0
    while (position := output.find("[", position)) >= 0:
        array, position = decoder.raw_decode(output, position)
        yield from array
