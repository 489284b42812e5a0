# SPDX-License-Identifier: Apache-2.0
"""`ipvsadm -L`: the services and their servers, byte for byte.

*names* look up hosts and services; None is -n.

Differences from ipvsadm.  A mark of 2^31 and more is printed as it was given; ipvsadm prints a negative
number, which it does not read back.  A server of full NAT is listed as DPVS does, FullNat, and saved as -b.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import IPv4Network

from fullnat.ipvsadm.checks import FLAGS, FLAGS_OF
from fullnat.ipvsadm.columns import METHODS, PROTOCOLS, format_endpoint, format_number
from fullnat.ipvsadm.commands import Layout, ListServices, ServiceAddress, ServiceSettings, Tunnel
from fullnat.ipvsadm.names import Names
from fullnat.ipvsadm.order import sort_servers, sort_services
from fullnat.ipvsadm.views import ServerView, ServiceView, Traffic
from fullnat.kernel.service import Forward, Fwmark

TABLE_SIZE = 4096  # of IPVS's connection table, as it is built by default

_SIGNS = {"nocsum": "-c", "csum": "+c", "remcsum": "r+c"}
_WHOLE = {4: 32, 6: 128}

_PLAIN_TITLE = """\
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
"""
_TUNNEL_TITLE = """\
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward TunnelInfo    Weight ActiveConn InActConn
"""
_TRAFFIC_TITLES = {
    Layout.STATS: ("Conns", "InPkts", "OutPkts", "InBytes", "OutBytes"),
    Layout.RATE: ("CPS", "InPPS", "OutPPS", "InBPS", "OutBPS"),
}
_COUNT_TITLES = {
    Layout.THRESHOLDS: f"{'Uthreshold':10} {'Lthreshold':10} {'ActiveConn':10} {'InActConn':10}",
    Layout.PERSISTENT: f"{'Weight':9} {'PersistConn':11} {'ActiveConn':10} {'InActConn':10}",
}


def format_services(
    services: Iterable[ServiceView],
    listing: ListServices,
    names: Names | None = None,
    *,
    size: int = TABLE_SIZE,
) -> str:
    """Return what `ipvsadm -L` prints of *services*.

    Where *listing* is of one service, that is the only one in *services*; it has no line about IPVS.
    """
    names = None if listing.numeric else names
    chosen = sort_services(services) if listing.sort else services
    head = "" if listing.service else f"IP Virtual Server version 1.2.1 (size={size})\n"
    return head + _title(listing.layout) + "".join(_service(view, listing, names) for view in chosen)


def _title(layout: Layout) -> str:
    if layout in _TRAFFIC_TITLES:
        return _two_lines(" ".join(f"{word:>8}" for word in _TRAFFIC_TITLES[layout]))
    if layout in _COUNT_TITLES:
        return _two_lines(_COUNT_TITLES[layout])
    return _TUNNEL_TITLE if layout is Layout.TUNNELS else _PLAIN_TITLE


def _two_lines(columns: str) -> str:
    return f"{'Prot LocalAddress:Port':33} {columns}\n  -> RemoteAddress:Port\n"


def _service(view: ServiceView, listing: ListServices, names: Names | None) -> str:
    title = _listed_address(view.service, names)
    if listing.layout is Layout.STATS:
        line = f"{title:33}{_traffic(view.total, listing.exact)}"
    elif listing.layout is Layout.RATE:
        line = f"{title:33}{_traffic(view.rate, listing.exact)}"
    else:
        line = f"{title} {_listed_settings(view.service.listen.family, view.settings)}"
    servers = sort_servers(view.servers) if listing.sort else view.servers
    return f"{line}\n" + "".join(_server(view.service, server, listing, names) for server in servers)


def _listed_address(service: ServiceAddress, names: Names | None) -> str:
    if isinstance(service.listen, Fwmark):
        return f"FWM  {service.listen.mark}" + (" IPv6" if service.listen.family == 6 else "")
    text = f"{PROTOCOLS[service.protocol]:4} {format_endpoint(service.listen, service.protocol, names)}"
    return text if service.listen.family == 6 else text[:33]


def _listed_settings(family: int, settings: ServiceSettings) -> str:
    words = [settings.scheduler]
    if settings.flags:
        words.append(f"({format_flags(settings)})")
    if settings.persistence:
        words.append(f"persistent {settings.persistence.timeout}")
        if mask := format_mask(family, settings.persistence.mask):
            words.append(f"mask {mask}")
        if settings.engine:
            words.append(f"pe {settings.engine}")
    if settings.one_packet:
        words.append("ops")
    return " ".join(words)


def format_flags(settings: ServiceSettings) -> str:
    """Return the flags of a scheduler, in the order of their bits; of sh and mh the third has no name."""
    known = FLAGS_OF[settings.scheduler][:2] if settings.scheduler in FLAGS_OF else FLAGS
    return ",".join(flag for flag in known if flag in settings.flags)


def format_mask(family: int, length: int) -> str:
    """Return the mask of persistence, or nothing where clients are whole addresses."""
    if length == _WHOLE[family]:
        return ""
    return str(IPv4Network((0, length)).netmask) if family == 4 else str(length)


def _traffic(traffic: Traffic, exact: bool) -> str:
    return "".join(format_number(number, exact=exact) for number in _numbers(traffic))


def _numbers(traffic: Traffic) -> tuple[int, int, int, int, int]:
    return (
        traffic.connections,
        traffic.in_packets,
        traffic.out_packets,
        traffic.in_bytes,
        traffic.out_bytes,
    )


def _server(service: ServiceAddress, view: ServerView, listing: ListServices, names: Names | None) -> str:
    endpoint = view.settings.server.endpoint
    name = format_endpoint(endpoint, service.protocol, names)
    name = name if endpoint.family == 6 else name[:28]
    return f"  -> {name:28}{_COLUMNS[listing.layout](view, listing.exact)}\n"


def _plain(view: ServerView, _: bool) -> str:
    settings = view.settings
    return f" {METHODS[settings.forward]:7} {settings.server.weight:<6}{_counts(view)}"


def _with_tunnel(view: ServerView, _: bool) -> str:
    settings = view.settings
    tunnel = _tunnel_info(settings.tunnel or Tunnel()) if settings.forward is Forward.TUN else "n/a"
    return f" {METHODS[settings.forward]:7} {tunnel:13} {settings.server.weight:<6}{_counts(view)}"


def _tunnel_info(tunnel: Tunnel) -> str:
    sign = _SIGNS[tunnel.checksum]
    return {"gue": f"gue:{tunnel.port}:{sign}", "gre": f"gre:{sign}"}.get(tunnel.kind, tunnel.kind)


def _rates(view: ServerView, exact: bool) -> str:
    """Return the rates; of servers the first three are never shortened."""
    connections, *packets, in_bytes, out_bytes = _numbers(view.rate)
    whole = "".join(f" {number:8d}" for number in (connections, *packets))
    return whole + format_number(in_bytes, exact=exact) + format_number(out_bytes, exact=exact)


def _thresholds(view: ServerView, _: bool) -> str:
    server = view.settings.server
    return f" {server.upper:<10} {server.lower:<10}{_counts(view)}"


def _persistent(view: ServerView, _: bool) -> str:
    return f" {view.settings.server.weight:<9} {view.persistent:<11}{_counts(view)}"


def _counts(view: ServerView) -> str:
    return f" {view.active:<10} {view.inactive:<10}"


_COLUMNS: dict[Layout, Callable[[ServerView, bool], str]] = {
    Layout.PLAIN: _plain,
    Layout.STATS: lambda view, exact: _traffic(view.total, exact),
    Layout.RATE: _rates,
    Layout.THRESHOLDS: _thresholds,
    Layout.PERSISTENT: _persistent,
    Layout.TUNNELS: _with_tunnel,
}
