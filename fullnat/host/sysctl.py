# SPDX-License-Identifier: Apache-2.0
"""Kernel parameters that full NAT needs: planned from a snapshot, written, read back, put back.

What is needed, and why (kernel: net/ipv4/fib_frontend.c, net/ipv4/devinet.c, net/ipv6/addrconf.c):

  ip_forward = 1         a rewritten packet is forwarded like any other.
  all.accept_local = 1   after the rewrite a packet from outside carries LIP or VIP as its source, an
                         address of this host; without this it is a martian and silently dropped.
                         The kernel ORs `all` with the device, so `all` alone does it.
  rp_filter: 1 -> 2      strict filtering drops the same packets; loose asks only for some route to
                         the source.  A VIP that is on no interface and that no route leads to fails
                         even that, so then 0.  The kernel takes max(all, device).
  send_redirects = 0     in a one-armed setup each packet leaves where it came in.  ORed as well.
  vs.conntrack = 1       where IPVS translates: netfilter lets its connections pass, and gives those
                         of full NAT their source.  The parameter comes with the module.
  IPv6 all.forwarding    as ip_forward.  A forwarding host ignores router advertisements, and
  and accept_ra: 1 -> 2  turning forwarding on throws its learned default routes away, unless
                         accept_ra is 2: that comes first.

`default` is treated as one more device: it is what a device that appears later starts from.

Writing ip_forward resets conf.*.forwarding and all.accept_redirects, IPv6 forwarding its own
conf.*.forwarding; those values are remembered with the change (Setting.also) and put back after it.

A value that someone else has set since is theirs and stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from fullnat.host.errors import HostError
from fullnat.kernel import snat

Snapshot = Mapping[str, str]  # key as a path below /proc/sys -> value

IP_FORWARD = {4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding"}

_READ_ONCE = ("net/ipv4/ip_forward", *snat.SYSCTLS)
_READ_PER_DEVICE = {
    "net/ipv4/conf": ("forwarding", "accept_redirects", "accept_local", "rp_filter", "send_redirects"),
    "net/ipv6/conf": ("forwarding", "accept_ra"),
}


@dataclass(frozen=True, slots=True)
class Setting:
    """One parameter to write, with what it takes to undo it."""

    key: str
    old: str
    new: str
    also: Mapping[str, str] = field(default_factory=dict)  # parameters the kernel resets with it

    def __str__(self) -> str:
        return f"{sysctl_name(self.key)} = {self.new}"

    def to_json(self) -> dict[str, Any]:
        """Return the setting as JSON values."""
        return {"key": self.key, "old": self.old, "new": self.new, "also": dict(self.also)}

    @classmethod
    def from_json(cls, detail: dict[str, Any]) -> Setting:
        """Return the setting that to_json() wrote."""
        return cls(detail["key"], detail["old"], detail["new"], detail["also"])


class Kernel(Protocol):
    """Where parameters are read and written."""

    def read(self, key: str) -> str | None:
        """Return the value, or None when there is no such parameter (any more)."""

    def write(self, key: str, value: str) -> None:
        """Set the value; a parameter that is gone is no error."""


class ProcSys:
    """The kernel's parameters of the network namespace this process is in."""

    def __init__(self, root: Path = Path("/proc/sys")) -> None:
        self._root = root

    def read(self, key: str) -> str | None:
        """Return the value, or None when there is no such parameter (any more)."""
        try:
            return (self._root / key).read_text().strip()
        except OSError:
            return None

    def write(self, key: str, value: str) -> None:
        """Set the value; a parameter that is gone, as when its device is, is no error."""
        try:
            (self._root / key).write_text(value)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise HostError(
                f"cannot set {sysctl_name(key)} = {value}: {error.strerror}; set it on the host, "
                "or let this process write /proc/sys"
            ) from None

    def snapshot(self) -> dict[str, str]:
        """Return every parameter that plan() looks at; without those of IPv6 where that is off."""
        keys = list(_READ_ONCE)
        for directory, names in _READ_PER_DEVICE.items():
            root = self._root / directory
            if root.is_dir():
                keys += [f"{directory}/{device.name}/{name}" for device in root.iterdir() for name in names]
        values = ((key, self.read(key)) for key in keys)
        return {key: value for key, value in values if value is not None}


def sysctl_name(key: str) -> str:
    """Return *key* as sysctl(8) writes it; there a dot of a device's name becomes a slash."""
    return key.translate(str.maketrans("/.", "./"))


def plan_settings(
    snapshot: Snapshot, families: Iterable[int], *, unrouted_vip: bool = False, ipvs: bool = False
) -> list[Setting]:
    """Return what must be written for *families*, in this order; nothing that is right already.

    *unrouted_vip*: a virtual IPv4 address is on no interface and no route leads to it.  *ipvs*: its
    connections are to be known to conntrack.
    """
    settings: list[Setting] = []
    if 4 in families:
        settings += _plan_forwarding_v4(snapshot)
        settings += _plan_value(snapshot, ["net/ipv4/conf/all/accept_local"], "1")
        settings += _plan_rp_filter(snapshot, 0 if unrouted_vip else 2)
        settings += _plan_value(snapshot, _conf_keys(snapshot, "net/ipv4", "send_redirects"), "0")
    if 6 in families:
        settings += _plan_forwarding_v6(snapshot)
    if ipvs:
        for key, value in snat.SYSCTLS.items():
            settings += _plan_value({key: "0", **snapshot}, [key], value)
    return settings


def family_of(key: str) -> int:
    """Return the family, 4 or 6, that parameter *key* is about."""
    return 6 if key.startswith("net/ipv6/") else 4


def _plan_forwarding_v4(snapshot: Snapshot) -> list[Setting]:
    key = IP_FORWARD[4]
    if snapshot[key] == "1":
        return []
    resets = [*_conf_keys(snapshot, "net/ipv4", "forwarding"), "net/ipv4/conf/all/accept_redirects"]
    resets.remove("net/ipv4/conf/all/forwarding")  # another name of ip_forward
    return [Setting(key, snapshot[key], "1", {name: snapshot[name] for name in resets})]


def _plan_forwarding_v6(snapshot: Snapshot) -> list[Setting]:
    key = IP_FORWARD[6]
    if key not in snapshot:
        raise HostError(
            "a service has an IPv6 address, and this host has no IPv6: boot without ipv6.disable=1"
        )
    if snapshot[key] == "1":
        return []
    reset = {name: snapshot[name] for name in _conf_keys(snapshot, "net/ipv6", "forwarding") if name != key}
    keep_routes = [
        Setting(name, "1", "2")
        for name in _conf_keys(snapshot, "net/ipv6", "accept_ra")
        if snapshot[name] == "1" and "/all/" not in name  # the kernel never reads `all`
    ]
    return [*keep_routes, Setting(key, snapshot[key], "1", reset)]


def _plan_rp_filter(snapshot: Snapshot, target: int) -> list[Setting]:
    """Bring the effective value of each device, max(all, device), to one that lets replies pass.

    With *target* 2, a strict 1 becomes 2, by `all` where `all` is what makes it strict; 0 and 2
    stay.  With *target* 0, everything becomes 0.
    """
    keys = _conf_keys(snapshot, "net/ipv4", "rp_filter")
    if target == 0:
        return _plan_value(snapshot, keys, "0")
    everyone = "net/ipv4/conf/all/rp_filter"
    if snapshot.get(everyone) == "2":
        return []
    if snapshot.get(everyone) == "1":
        return [Setting(everyone, "1", "2")]
    return [Setting(key, "1", "2") for key in keys if snapshot[key] == "1"]


def _plan_value(snapshot: Snapshot, keys: Iterable[str], value: str) -> list[Setting]:
    return [Setting(key, snapshot[key], value) for key in keys if snapshot.get(key, value) != value]


def _conf_keys(snapshot: Snapshot, family: str, name: str) -> list[str]:
    prefix, suffix = f"{family}/conf/", f"/{name}"
    return sorted(key for key in snapshot if key.startswith(prefix) and key.endswith(suffix))


def apply_settings(settings: Iterable[Setting], kernel: Kernel, record: Callable[[Setting], None]) -> None:
    """Write *settings* in order, each handed to *record* first, and make sure that it sticks."""
    for setting in settings:
        record(setting)
        kernel.write(setting.key, setting.new)
        found = kernel.read(setting.key)
        if found not in (setting.new, None):
            raise HostError(f"{sysctl_name(setting.key)} was set to {setting.new} and still reads {found}")


def undo_setting(setting: Setting, kernel: Kernel) -> None:
    """Put *setting* back, unless someone else has changed it since.  Safe to repeat."""
    found = kernel.read(setting.key)
    if found == setting.new:
        kernel.write(setting.key, setting.old)
    elif found != setting.old:
        return
    # Also when the old value was found: whoever wrote it may have been killed right after.
    for key, value in setting.also.items():
        if kernel.read(key) not in (value, None):
            kernel.write(key, value)
