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
    routed = {ip_address(route["dst"]) for route in _find_routes(wanted)}
    return [address for address in wanted if address not in routed]


def find_devices_towards(addresses: Iterable[IPAddress]) -> set[str]:
    """Return the devices that packets to *addresses* leave by."""
    return {name for route in _find_routes(addresses) for name in _devices(route)}


def find_default_devices(families: Iterable[int]) -> set[str]:
    """Return the devices of the default routes of *families*."""
    outputs = (run_program(["ip", "-j", f"-{family}", "route", "show", "default"]) for family in families)
    return {name for output in outputs for route in _entries(output) for name in _devices(route)}


def _find_routes(addresses: Iterable[IPAddress]) -> list[dict[str, Any]]:
    """Return the route that each of *addresses* has; none for one that has none."""
    commands = "".join(f"route get {address}\n" for address in dict.fromkeys(addresses))
    if not commands:
        return []
    # -force: go on after an address without a route, for which nothing is printed.
    return list(_entries(run_tolerant(["ip", "-j", "-force", "-batch", "-"], commands).stdout))


def _entries(output: str) -> Iterator[dict[str, Any]]:
    """Yield the objects of the JSON arrays that ip prints, one array for each command."""
    decoder = json.JSONDecoder()
    position = 0
    while (position := output.find("[", position)) >= 0:
        array, position = decoder.raw_decode(output, position)
        yield from array
