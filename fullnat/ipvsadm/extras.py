# SPDX-License-Identifier: Apache-2.0
"""The short listings: `-L --timeout`, `-L --daemon`, and DPVS's -G."""

from __future__ import annotations

from collections.abc import Iterable

from fullnat.ipvsadm.columns import format_address, format_endpoint
from fullnat.ipvsadm.commands import SetTimeouts, StartDaemon
from fullnat.ipvsadm.views import LocalsView
from fullnat.kernel.service import Fwmark


def format_timeouts(timeouts: SetTimeouts) -> str:
    """Return what `ipvsadm -L --timeout` prints."""
    return f"Timeout (tcp tcpfin udp): {timeouts.tcp} {timeouts.tcp_fin} {timeouts.udp}\n"


def format_daemons(daemons: Iterable[StartDaemon]) -> str:
    """Return what `ipvsadm -L --daemon` prints of the daemons that run."""
    return "".join(_daemon(daemon) for daemon in daemons)


def _daemon(daemon: StartDaemon) -> str:
    words = [f"mcast={daemon.interface}", f"syncid={daemon.syncid}"]
    if daemon.maxlen:
        words.append(f"maxlen={daemon.maxlen}")
    if daemon.group:
        words.append(f"group={format_address(daemon.group)}")
    if daemon.port:
        words.append(f"port={daemon.port}")
    if daemon.ttl:
        words.append(f"ttl={daemon.ttl}")
    return f"{daemon.role.value} sync daemon ({', '.join(words)})\n"


def format_locals(services: Iterable[LocalsView]) -> str:
    """Return what DPVS's `ipvsadm -G` prints: each service, and below it its LIPs.

    DPVS has no title when there is nothing, and knows no marks; they are written as -L has them.
    """
    blocks = "".join(_locals(view) for view in services)
    title = f"{'VIP:VPORT':20} {'TOTAL':8} {'SNAT_IP':20} {'CONFLICTS':10} {'CONNS':10}\n"
    return title + blocks if blocks else ""


def _locals(view: LocalsView) -> str:
    listen = view.service.listen
    if isinstance(listen, Fwmark):
        name = f"FWM  {listen.mark}" + (" IPv6" if listen.family == 6 else "")
    else:
        name = format_endpoint(listen, view.service.protocol, None)
    lines = [f"{name:20} {len(view.addresses):<8} "]
    for local in view.addresses:
        address = format_address(local.address)
        lines.append(f"{'':20} {'':8} {address:20} {local.conflicts:<10} {local.connections:<10}")
    return "".join(f"{line}\n" for line in lines)
