# SPDX-License-Identifier: Apache-2.0
"""Addresses that full NAT needs on this host: found, planned, added and taken off again.

Neighbours on a connected network ask for an address by ARP or neighbour discovery, and the kernel
answers for addresses it has; proxy ARP does not (it answers only for another device's network).

  address is on an interface          nothing to do, and it is never touched
  inside a connected network          added there, as /32 or /128
  LIP elsewhere                       added to lo: replies to it must be taken in
  VIP elsewhere                       nothing: a router sends it here, and steering catches it

An IPv6 address is added as deprecated (preferred_lft 0), or the host might choose it as the source
of its own connections, and without duplicate address detection, which would hold it back.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface, ip_address, ip_interface
from typing import Any

from fullnat.core.addr import IPAddress
from fullnat.host.errors import HostError
from fullnat.host.programs import run_program

IPNetwork = IPv4Interface | IPv6Interface  # an address with its prefix length


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface and the addresses on it."""

    index: int
    name: str
    is_up: bool
    is_loopback: bool
    addresses: tuple[IPNetwork, ...]
    connected: tuple[IPNetwork, ...]  # the same, but with the peer's where the link has one


@dataclass(frozen=True, slots=True)
class Addition:
    """One address to put on one interface."""

    address: IPAddress
    interface: str
    index: int

    def __str__(self) -> str:
        options = " nodad preferred_lft 0" if self.address.version == 6 else ""
        return f"{self.address}/{self.address.max_prefixlen} dev {self.interface}{options}"

    def to_json(self) -> dict[str, Any]:
        """Return the addition as JSON values."""
        return {"address": str(self.address), "interface": self.interface, "index": self.index}

    @classmethod
    def from_json(cls, detail: dict[str, Any]) -> Addition:
        """Return the addition that to_json() wrote."""
        return cls(ip_address(detail["address"]), detail["interface"], detail["index"])


def read_interfaces() -> list[Interface]:
    """Return the interfaces of this network namespace."""
    return parse_interfaces(run_program(["ip", "-j", "addr", "show"]))


def read_local_addresses() -> list[IPAddress]:
    """Return the addresses on the interfaces of this network namespace."""
    return [address.ip for interface in read_interfaces() for address in interface.addresses]


def parse_interfaces(output: str) -> list[Interface]:
    """Return the interfaces in the output of `ip -j addr show`."""
    return [_parse_interface(entry) for entry in json.loads(output) if entry]


def _parse_interface(entry: dict[str, Any]) -> Interface:
    infos = [info for info in entry.get("addr_info", []) if "local" in info]
    # On a point-to-point link "address" is the peer's, and the connected prefix is around that.
    peers = [(info.get("address", info["local"]), info["prefixlen"]) for info in infos]
    return Interface(
        index=entry["ifindex"],
        name=entry["ifname"],
        is_up="UP" in entry["flags"],
        is_loopback="LOOPBACK" in entry["flags"],
        addresses=tuple(ip_interface(f"{info['local']}/{info['prefixlen']}") for info in infos),
        connected=tuple(ip_interface(f"{address}/{length}") for address, length in peers),
    )


def is_on_host(address: IPAddress, interfaces: Iterable[Interface]) -> bool:
    """Whether the kernel takes packets to *address* in.

    A prefix on lo makes all of its IPv4 addresses local, not only the one that was written.
    """
    for interface in interfaces:
        for own in interface.addresses:
            if own.ip == address:
                return True
            if interface.is_loopback and isinstance(address, IPv4Address) and address in own.network:
                return True
    return False


def plan_additions(
    interfaces: Sequence[Interface], vips: Iterable[IPAddress], lips: Iterable[IPAddress]
) -> list[Addition]:
    """Return the addresses to add, each once, virtual ones first."""
    vips, lips = list(vips), list(lips)
    loopback = next((interface for interface in interfaces if interface.is_loopback), None)
    additions = []
    for address in dict.fromkeys([*vips, *lips]):
        if is_on_host(address, interfaces):
            continue
        place = _find_connected(address, interfaces)
        if place is None and address in lips:
            place = loopback
        if place is not None:
            additions.append(Addition(address, place.name, place.index))
    return additions


def find_absent(
    interfaces: Sequence[Interface], vips: Iterable[IPAddress], lips: Iterable[IPAddress]
) -> list[IPAddress]:
    """Return the virtual addresses that no interface has, nor will have once plan_additions() is done."""
    vips = list(vips)
    here = {addition.address for addition in plan_additions(interfaces, vips, lips)}
    return [vip for vip in vips if vip not in here and not is_on_host(vip, interfaces)]


def _find_connected(address: IPAddress, interfaces: Iterable[Interface]) -> Interface | None:
    """Return the interface whose connected network holds *address*; the longest prefix wins."""
    candidates = [
        (connected.network.prefixlen, interface)
        for interface in interfaces
        if interface.is_up and not interface.is_loopback
        for connected in interface.connected
        if connected.version == address.version and address in connected.network
    ]
    return max(candidates, key=lambda candidate: candidate[0])[1] if candidates else None


def refuse_additions(additions: Sequence[Addition]) -> None:
    """Raise HostError when there is something to add although fullnat may not."""
    if additions:
        missing = ", ".join(str(addition.address) for addition in additions)
        commands = "; ".join(f"ip addr add {addition}" for addition in additions)
        raise HostError(f"{missing}: on no interface, and fullnat is not to add addresses: {commands}")


def apply_additions(additions: Sequence[Addition]) -> None:
    """Add all of *additions*; HostError names the first that fails."""
    _run_batch([f"addr add {addition}" for addition in additions])


def undo_additions(additions: Iterable[Addition]) -> None:
    """Take *additions* off again, those that are still there.  Safe to repeat."""
    interfaces = {interface.index: interface for interface in read_interfaces()}
    commands = []
    for addition in additions:
        interface = interfaces.get(addition.index)
        own = ip_interface(addition.address)  # with the full prefix length, as it was added
        if interface is not None and own in interface.addresses:
            commands.append(f"addr del {own} dev {interface.name}")
    _run_batch(commands)


def _run_batch(commands: Sequence[str]) -> None:
    if commands:
        run_program(["ip", "-batch", "-"], "\n".join(commands) + "\n")
