# SPDX-License-Identifier: Apache-2.0
"""Which ports of the local addresses connections to servers come from."""

from __future__ import annotations

from fullnat.control.config.model import Config
from fullnat.core.addr import PortRange
from fullnat.host.errors import HostError
from fullnat.host.ports import default_port_range, read_ip_local_port_range


def local_ports(config: Config) -> PortRange:
    """Return the local ports to use; HostError when the host uses some of them itself."""
    taken = read_ip_local_port_range()
    if config.snat.ports is None:
        return default_port_range(taken)
    if config.snat.ports.overlaps(taken):
        raise HostError(
            f"[snat] ports {config.snat.ports} overlap the host's own net.ipv4.ip_local_port_range {taken}: "
            f"leave ports out to have {default_port_range(taken)}, or change the sysctl"
        )
    return config.snat.ports
