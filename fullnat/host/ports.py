# SPDX-License-Identifier: Apache-2.0
"""Which local ports fullnat may take: those the host does not give to its own connections."""

from __future__ import annotations

from pathlib import Path

from fullnat.core.addr import PortRange
from fullnat.host.errors import HostError

_FIRST_UNPRIVILEGED = 1024
_LAST = 65535


def read_ip_local_port_range(proc_sys: Path = Path("/proc/sys")) -> PortRange:
    """Return net.ipv4.ip_local_port_range, which holds for IPv6 as well."""
    low, high = (proc_sys / "net/ipv4/ip_local_port_range").read_text().split()
    return PortRange(int(low), int(high))


def default_port_range(ip_local_port_range: PortRange) -> PortRange:
    """Return the larger free side of *ip_local_port_range* above the privileged ports."""
    below = PortRange(_FIRST_UNPRIVILEGED, min(ip_local_port_range.low - 1, _LAST))
    above = PortRange(max(ip_local_port_range.high + 1, _FIRST_UNPRIVILEGED), _LAST)
    sides = [side for side in (below, above) if side.low <= side.high]
    if not sides:
        raise HostError(
            f"net.ipv4.ip_local_port_range is {ip_local_port_range} and leaves no local port for fullnat: "
            "sysctl net.ipv4.ip_local_port_range='32768 60999'"
        )
    return max(sides, key=lambda side: side.high - side.low)


def other_ports(ports: PortRange) -> PortRange:
    """Return the larger side of *ports* above the privileged ones: for the kernel's own NAT.

    It may have ports the host uses itself, for conntrack knows those.
    """
    below, above = PortRange(_FIRST_UNPRIVILEGED, ports.low - 1), PortRange(ports.high + 1, _LAST)
    side = max(below, above, key=lambda side: side.high - side.low)
    if side.high < side.low:
        raise HostError(
            f'ports {ports} leave none for the fallback: have [snat] ports end lower, or fallback = "none"'
        )
    return side
