# SPDX-License-Identifier: Apache-2.0
"""A view of /sys in which /sys/class/net shows the network namespace of the calling thread.

A mounted sysfs shows the devices of the namespace it was mounted from.  `ip netns exec` mounts a
fresh one, `nsenter --net` does not: there /sys shows devices, and takes writes to devices, that
belong to somebody else.  So a sysfs is mounted for ourselves, and attached nowhere: fsmount(2)
returns it as a directory descriptor.  No path leads to it, nobody else sees it, and it goes when the
descriptor is closed or the process dies.

Where that is refused (no CAP_SYS_ADMIN), /sys is as good if it shows the same devices as netlink.

Refused.  A helper process in a mount namespace of its own: it would have to be talked to, and to be
          outlived.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fullnat.host.errors import HostError
from fullnat.host.programs import run_program

Link = tuple[str, int, str]  # name, ifindex, Ethernet address: ip and /sys write those of tunnels differently

_ARPHRD_ETHER = "1"  # linux/if_arp.h

# linux/mount.h, since Linux 5.2; system calls added after 423 have one number on (nearly) all machines.
_SYS_FSOPEN, _SYS_FSCONFIG, _SYS_FSMOUNT = 430, 431, 432
_FSOPEN_CLOEXEC = _FSMOUNT_CLOEXEC = 1
_FSCONFIG_CMD_CREATE = 6
_NOSUID_NODEV_NOEXEC = 2 | 4 | 8  # MOUNT_ATTR_*

_GONE = (errno.ENOENT, errno.ENODEV)


class SysFs:
    """A tree as the kernel shows it at /sys, of the namespace whose devices we mean."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._devices = root / "class/net"

    def names(self) -> list[str]:
        """Return the devices there are."""
        return sorted(path.name for path in self._devices.iterdir() if path.is_dir())

    def links(self) -> set[Link]:
        """Return every device with what tells it from its namesakes."""
        return {self._link(name) for name in self.names()}

    def find_name(self, index: int) -> str | None:
        """Return what the device with ifindex *index* is called now, or None when it is gone."""
        return next((name for name in self.names() if self.read(f"{name}/ifindex") == str(index)), None)

    def lowers(self, name: str) -> list[str]:
        """Return the devices that packets of device *name* come through: of a bond, a VLAN, a bridge."""
        return sorted(path.name.removeprefix("lower_") for path in (self._devices / name).glob("lower_*"))

    def receive_queues(self, name: str) -> list[str]:
        """Return the receive queues of device *name*: rx-0, ..."""
        queues = (path.name for path in (self._devices / name / "queues").glob("rx-*"))
        return sorted(queues, key=lambda queue: int(queue.removeprefix("rx-")))

    def read(self, key: str) -> str | None:
        """Return the value of device attribute *key*, eth0/threaded, or None when there is none."""
        return self._read(self._devices / key)

    def read_cpus(self, name: str) -> frozenset[int]:
        """Return one of the kernel's lists of CPUs: online, isolated, nohz_full."""
        return parse_cpu_list(self._read(self._root / "devices/system/cpu" / name) or "")

    def write(self, key: str, value: str) -> bool:
        """Set device attribute *key*; False when it is gone, or not for this device as it is now."""
        try:
            (self._devices / key).write_text(value)
        except OSError as error:
            if error.errno in (*_GONE, errno.EOPNOTSUPP):
                return False
            raise HostError(
                f"cannot set /sys/class/net/{key} = {value}: {error.strerror}; "
                "let this process write /sys, or set [engine] tune = false"
            ) from None
        return True

    def takes(self, key: str) -> bool | None:
        """Whether *key* takes the value that it has; None when this process may not ask.

        For `threaded`: the kernel refuses any value while the device has no NAPI.
        """
        value = self.read(key)
        if value is None:
            return False
        try:
            (self._devices / key).write_text(value)
        except OSError as error:
            return False if error.errno == errno.EOPNOTSUPP else None
        return True

    def _link(self, name: str) -> Link:
        is_ethernet = self.read(f"{name}/type") == _ARPHRD_ETHER
        address = self.read(f"{name}/address") if is_ethernet else None
        return name, int(self.read(f"{name}/ifindex") or 0), address or ""

    @staticmethod
    def _read(path: Path) -> str | None:
        try:
            return path.read_text().strip()
        except OSError:
            return None


@contextmanager
def open_sysfs() -> Iterator[SysFs]:
    """Yield the /sys of this thread's network namespace; HostError when it cannot be had."""
    with ExitStack() as stack:
        try:
            descriptor = _mount_sysfs()
        except OSError as error:
            tree = require_own(SysFs(Path("/sys")), read_links(), str(error.strerror))
        else:
            stack.callback(os.close, descriptor)
            tree = SysFs(Path(f"/proc/self/fd/{descriptor}"))
        yield tree


def require_own(tree: SysFs, links: set[Link], refusal: str) -> SysFs:
    """Return *tree* if it shows *links*, the devices of our namespace; HostError otherwise."""
    try:
        is_own = tree.links() == links
    except OSError:
        is_own = False
    if not is_own:
        raise HostError(
            "/sys shows another network namespace than this process is in, and mounting one that shows this "
            f"one is refused ({refusal}): enter with `ip netns exec`, or run as root with CAP_SYS_ADMIN"
        )
    return tree


def read_links() -> set[Link]:
    """Return the devices of this network namespace as netlink has them."""
    return parse_links(run_program(["ip", "-j", "link", "show"]))


def parse_links(output: str) -> set[Link]:
    """Return the devices in the output of `ip -j link show`."""
    return {
        (entry["ifname"], entry["ifindex"], entry["address"] if entry["link_type"] == "ether" else "")
        for entry in json.loads(output)
        if entry
    }


def parse_cpu_list(text: str) -> frozenset[int]:
    """Return the CPUs in a list like 0-3,6; where a feature is off the kernel may write (null)."""
    cpus: set[int] = set()
    for part in text.strip().split(","):
        low, _, high = part.partition("-")
        if low.isdigit():
            cpus.update(range(int(low), int(high or low) + 1))
    return frozenset(cpus)


def _mount_sysfs() -> int:
    """Return the root directory of a sysfs of this thread's network namespace, attached nowhere."""
    context = _system_call(_SYS_FSOPEN, b"sysfs", _FSOPEN_CLOEXEC)
    try:
        _system_call(_SYS_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0)
        return _system_call(_SYS_FSMOUNT, context, _FSMOUNT_CLOEXEC, _NOSUID_NODEV_NOEXEC)
    finally:
        os.close(context)


def _system_call(number: int, *arguments: int | bytes | None) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    result: int = libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
