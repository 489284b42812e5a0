# SPDX-License-Identifier: Apache-2.0
"""The kernel's own listings, below /proc/net: ip_vs, ip_vs_stats and ip_vs_conn.

node_exporter and others read these files rather than ask ipvsadm.  Numbers are in hexadecimal where
the kernel has them so; the timeout of persistence is in jiffies, of which Debian's kernel has 250 a second.
"""

from __future__ import annotations

from collections.abc import Iterable

from fullnat.core.addr import Endpoint, IPAddress
from fullnat.ipvsadm.columns import METHODS, PROTOCOLS
from fullnat.ipvsadm.output import TABLE_SIZE
from fullnat.ipvsadm.views import ConnectionView, ServerView, ServiceView, Traffic
from fullnat.kernel.service import Forward, Fwmark

HZ = 250


def format_ip_vs(services: Iterable[ServiceView], *, size: int = TABLE_SIZE) -> str:
    """Return /proc/net/ip_vs: the services and their servers, in the order that they come."""
    head = f"""\
IP Virtual Server version 1.2.1 (size={size})
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
"""
    return head + "".join(_service(view) for view in services)


def _service(view: ServiceView) -> str:
    settings = view.settings
    one_packet = "ops " if settings.one_packet else ""
    listen = view.service.listen
    if isinstance(listen, Fwmark):
        line = f"FWM  {listen.mark:08X} {settings.scheduler} {one_packet}"
    elif listen.family == 6:
        line = f"{PROTOCOLS[view.service.protocol]}  {_endpoint(listen)} {settings.scheduler} "
    else:
        line = f"{PROTOCOLS[view.service.protocol]}  {_endpoint(listen)} {settings.scheduler} {one_packet} "
    if settings.persistence:
        mask = _mask(listen.family, settings.persistence.mask)
        line += f"persistent {settings.persistence.timeout * HZ} {mask:08X}"
    return f"{line}\n" + "".join(_server(server) for server in view.servers)


def _mask(family: int, length: int) -> int:
    """Return the mask as the kernel prints it: of IPv6 the prefix length, its bytes turned round."""
    if family == 6:
        return length << 24
    return (0xFFFFFFFF << (32 - length)) & 0xFFFFFFFF


def _server(view: ServerView) -> str:
    server, forward = view.settings.server, view.settings.forward
    # The kernel has no full NAT: what reads this file knows NAT.
    method = METHODS[Forward.NAT if forward is Forward.FULLNAT else forward]
    return (
        f"  -> {_endpoint(server.endpoint)}      "
        f"{method:7} {server.weight:<6} {view.active:<10} {view.inactive:<10}\n"
    )


def _endpoint(endpoint: Endpoint) -> str:
    address = _address(endpoint.address)
    return f"[{address}]:{endpoint.port:04X}" if endpoint.family == 6 else f"{address}:{endpoint.port:04X}"


def _address(address: IPAddress) -> str:
    return address.exploded if address.version == 6 else f"{int(address):08X}"


def format_ip_vs_stats(total: Traffic, rate: Traffic) -> str:
    """Return /proc/net/ip_vs_stats: of all services, all time and the last second."""
    return f"""\
   Total Incoming Outgoing         Incoming         Outgoing
   Conns  Packets  Packets            Bytes            Bytes
{_numbers(total)}

 Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s
{_numbers(rate)}
"""


def _numbers(traffic: Traffic) -> str:
    return (
        f"{traffic.connections:8X} {traffic.in_packets:8X} {traffic.out_packets:8X} "
        f"{traffic.in_bytes:16X} {traffic.out_bytes:16X}"
    )


def format_ip_vs_conn(connections: Iterable[ConnectionView]) -> str:
    """Return /proc/net/ip_vs_conn."""
    head = "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n"
    return head + "".join(_connection(view) for view in connections)


def _connection(view: ConnectionView) -> str:
    ends = " ".join(
        f"{_address(end.address)} {end.port:04X}" for end in (view.client, view.virtual, view.server)
    )
    engine = f" {view.engine} {view.engine_data}" if view.engine else ""
    return f"{PROTOCOLS[view.protocol]:3} {ends} {view.state:11} {view.expires:7}{engine}\n"
