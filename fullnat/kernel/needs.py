# SPDX-License-Identifier: Apache-2.0
"""What the real servers must have, by forwarding mode, in words an operator can act on.

IPv4 answers ARP for any address of the host on any device, which the director alone may do for the VIP;
IPv6 answers neighbour solicitations only for those of the device that was asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fullnat.core.addr import Endpoint, IPAddress
from fullnat.kernel.service import Forward, KernelService

_QUIET = {4: " and no ARP for it (net.ipv4.conf.all.arp_ignore=1, net.ipv4.conf.all.arp_announce=2)", 6: ""}
_LENGTH = {4: 32, 6: 128}
_TUNNEL = {4: "tunl0", 6: "ip6tnl0"}
_MODULE = {4: "ipip", 6: "ip6_tunnel"}
# A packet out of the tunnel is from a client, to whom the way leads elsewhere.
_UNFILTERED = {4: ", net.ipv4.conf.all.rp_filter=0, net.ipv4.conf.tunl0.rp_filter=0", 6: ""}


def needs(services: Iterable[KernelService], lips: Mapping[int, IPAddress]) -> list[str]:
    """Return, for each service that is not full NAT, what its servers need: a line each.

    *lips* has the director's address towards the servers by family, which NAT sends their answers to.
    """
    return [_line(service, lips) for service in services if service.forward is not Forward.FULLNAT]


def _line(service: KernelService, lips: Mapping[int, IPAddress]) -> str:
    servers = ", ".join(str(server.endpoint.address) for server in service.servers) or "no server yet"
    what = {Forward.NAT: _nat, Forward.DR: _dr, Forward.TUN: _tun}[service.forward](service, lips)
    return f"{service}: forward {service.forward.value}: each of {servers} needs {what}"


def _nat(service: KernelService, lips: Mapping[int, IPAddress]) -> str:
    director = lips.get(service.family, "the director")
    return f"its way to clients through the director: ip route replace default via {director}"


def _dr(service: KernelService, lips: Mapping[int, IPAddress]) -> str:
    family = service.family
    device = f"the VIP on lo (ip addr add {_vip(service)}/{_LENGTH[family]} dev lo)"
    return f"{device}{_QUIET[family]}{_port(service)}, on a link of the director's own"


def _tun(service: KernelService, lips: Mapping[int, IPAddress]) -> str:
    family = service.family
    name = _TUNNEL[family]
    device = (
        f"the VIP on a tunnel device (modprobe {_MODULE[family]}; ip link set {name} up; "
        f"ip addr add {_vip(service)}/{_LENGTH[family]} dev {name})"
    )
    return f"{device}{_QUIET[family]}{_UNFILTERED[family]}{_port(service)}"


def _vip(service: KernelService) -> str:
    return str(service.listen.address) if isinstance(service.listen, Endpoint) else "VIP"


def _port(service: KernelService) -> str:
    return f", listening on port {service.listen.port}" if isinstance(service.listen, Endpoint) else ""
