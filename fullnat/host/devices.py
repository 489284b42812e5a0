# SPDX-License-Identifier: Apache-2.0
"""The devices that packets of ours come in by, and how each of them receives.

Which.  Those towards the real servers, those that carry or cover a VIP or a LIP, and those of the
default routes; never lo.  Of a bond, a bridge or a VLAN it is the devices below, because packets
come up through those.

How.  Through NAPI, which polls in softirq or, with `threaded`, in a kernel thread; or through the
backlog of a CPU, which RPS (`rps_cpus`) can make another than the one the packet came up on.  A veth
with GRO on has NAPI, yet bypasses it for what a peer with TSO on sends it; its packets surely pass
through NAPI only with a native XDP program attached, which takes TSO from the peer (kernel:
drivers/net/veth.c, veth_xmit).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fullnat.core.addr import IPAddress
from fullnat.host.addresses import Interface, read_interfaces
from fullnat.host.napi import read_napi_indexes
from fullnat.host.plan import HostPlan
from fullnat.host.programs import run_program
from fullnat.host.routes import find_default_devices, find_devices_towards
from fullnat.host.sysfs import SysFs

_SENDS_ONLY = ("dummy",)  # kinds of device that nothing is ever received by
_XDP_NATIVE = 1  # XDP_ATTACHED_DRV, linux/if_link.h


@dataclass(frozen=True, slots=True)
class LinkKind:
    """What `ip -d link` knows of a device."""

    kind: str  # "" for hardware
    has_native_xdp: bool


@dataclass(frozen=True, slots=True)
class Device:
    """How one device receives."""

    name: str
    index: int
    threaded: str | None  # None: the kernel has no threaded NAPI (before 5.12)
    rps_cpus: Mapping[str, str]  # receive queue -> mask; empty: the kernel has no RPS
    has_napi: bool | None  # None: it cannot be told
    is_napi_certain: bool  # whether what has NAPI receives everything through it

    @property
    def has_backlog(self) -> bool:
        """Whether packets may come in by the backlog."""
        return not (self.has_napi and self.is_napi_certain)

    @property
    def has_softirq_napi(self) -> bool:
        """Whether NAPI polls in softirq; 1 is threaded, 2 threaded and busy."""
        return bool(self.has_napi) and self.threaded == "0"

    @property
    def has_rps(self) -> bool:
        """Whether somebody has spread the backlog."""
        return any(mask_of(text) for text in self.rps_cpus.values())


def mask_of(text: str) -> int:
    """Return a CPU mask as the kernel writes it, groups of 32 bits: 00000001,ffffffff."""
    return int(text.replace(",", ""), 16)


def read_devices(tree: SysFs, names: Iterable[str]) -> list[Device]:
    """Return how each of *names* receives; those that are gone are left out."""
    kinds = parse_kinds(run_program(["ip", "-j", "-d", "link", "show"]))
    napi = read_napi_indexes()
    devices = (_read_device(tree, name, kinds[name], napi) for name in names if name in kinds)
    return [device for device in devices if device is not None]


def _read_device(tree: SysFs, name: str, kind: LinkKind, napi: Collection[int] | None) -> Device | None:
    index = tree.read(f"{name}/ifindex")
    if index is None:
        return None
    masks = {queue: tree.read(f"{name}/queues/{queue}/rps_cpus") for queue in tree.receive_queues(name)}
    return Device(
        name=name,
        index=int(index),
        threaded=tree.read(f"{name}/threaded"),
        rps_cpus={queue: mask for queue, mask in masks.items() if mask is not None},
        has_napi=int(index) in napi if napi is not None else tree.takes(f"{name}/threaded"),
        is_napi_certain=kind.kind != "veth" or kind.has_native_xdp,
    )


def parse_kinds(output: str) -> dict[str, LinkKind]:
    """Return the kinds of the devices in the output of `ip -j -d link show`, without those that only send."""
    kinds = {entry["ifname"]: _parse_kind(entry) for entry in json.loads(output) if entry}
    return {name: kind for name, kind in kinds.items() if kind.kind not in _SENDS_ONLY}


def _parse_kind(entry: dict[str, Any]) -> LinkKind:
    programs = entry.get("xdp", {}).get("attached", [])
    return LinkKind(
        kind=entry.get("linkinfo", {}).get("info_kind", ""),
        has_native_xdp=any(program["mode"] == _XDP_NATIVE for program in programs),
    )


def read_used_devices(plan: HostPlan, tree: SysFs) -> list[Device]:
    """Return the devices that packets of *plan* come in by."""
    interfaces = read_interfaces()
    towards = find_devices_towards(endpoint.address for _, endpoint in plan.servers)
    names = towards | find_default_devices(plan.families) | holders([*plan.vips, *plan.lips], interfaces)
    return read_devices(tree, receivers(names, interfaces, tree))


def read_all_devices(tree: SysFs) -> list[Device]:
    """Return every device that may receive packets of others."""
    interfaces = read_interfaces()
    return read_devices(tree, receivers((interface.name for interface in interfaces), interfaces, tree))


def holders(addresses: Collection[IPAddress], interfaces: Iterable[Interface]) -> set[str]:
    """Return the interfaces that have one of *addresses*, or are connected to a network with one."""
    return {
        interface.name
        for interface in interfaces
        for address in addresses
        if any(own.ip == address for own in interface.addresses)
        or any(
            connected.version == address.version and address in connected.network
            for connected in interface.connected
        )
    }


def receivers(names: Iterable[str], interfaces: Sequence[Interface], tree: SysFs) -> list[str]:
    """Return the devices that packets for *names* come up through: those that are up, except lo."""
    usable = {interface.name for interface in interfaces if interface.is_up and not interface.is_loopback}
    found: set[str] = set()
    seen: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        below = tree.lowers(name)
        waiting += below
        if not below and name in usable:
            found.add(name)
    return sorted(found)
