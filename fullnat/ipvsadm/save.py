# SPDX-License-Identifier: Apache-2.0
"""`ipvsadm -S`: the table as commands that make it again.

Thresholds are not among them: ipvsadm does not save them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fullnat.ipvsadm.columns import format_endpoint
from fullnat.ipvsadm.commands import SERVICE_OPTIONS, ServerSettings, ServiceAddress, ServiceSettings, Tunnel
from fullnat.ipvsadm.names import Names
from fullnat.ipvsadm.order import sort_servers, sort_services
from fullnat.ipvsadm.output import format_flags, format_mask
from fullnat.ipvsadm.views import ServiceView
from fullnat.kernel.service import Forward, Fwmark

_SWITCHES = {Forward.NAT: "-m", Forward.FULLNAT: "-b", Forward.TUN: "-i", Forward.DR: "-g"}


def save_services(services: Iterable[ServiceView], names: Names | None = None) -> str:
    """Return what `ipvsadm -S` prints of *services*; without *names*, `ipvsadm -Sn`."""
    return "".join(f"{line}\n" for view in sort_services(services) for line in _lines(view, names))


def _lines(view: ServiceView, names: Names | None) -> Iterator[str]:
    address = _address(view.service, names)
    yield f"-A {address} {_service_options(view.service.listen.family, view.settings)}"
    for server in sort_servers(view.servers):
        name = format_endpoint(server.settings.server.endpoint, view.service.protocol, names)
        yield f"-a {address} -r {name} {_server_options(server.settings)}"


def _address(service: ServiceAddress, names: Names | None) -> str:
    if isinstance(service.listen, Fwmark):
        return str(service)
    option = SERVICE_OPTIONS[service.protocol]
    return f"{option} {format_endpoint(service.listen, service.protocol, names)}"


def _service_options(family: int, settings: ServiceSettings) -> str:
    words = [f"-s {settings.scheduler}"]
    if settings.persistence:
        words.append(f"-p {settings.persistence.timeout}")
        if mask := format_mask(family, settings.persistence.mask):
            words.append(f"-M {mask}")
    if settings.engine:
        words.append(f"--pe {settings.engine}")
    if settings.one_packet:
        words.append("-o")
    if settings.flags:
        words.append(f"-b {format_flags(settings)}")
    return " ".join(words)


def _server_options(settings: ServerSettings) -> str:
    words = f"{_SWITCHES[settings.forward]} -w {settings.server.weight}"
    if settings.forward is not Forward.TUN:
        return words
    return f"{words} {_tunnel_options(settings.tunnel or Tunnel())}"


def _tunnel_options(tunnel: Tunnel) -> str:
    words = [f"--tun-type {tunnel.kind}"]
    if tunnel.kind == "gue":
        words.append(f"--tun-port {tunnel.port}")
    if tunnel.kind != "ipip":
        words.append(f"--tun-{tunnel.checksum}")
    return " ".join(words)
