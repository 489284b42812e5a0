# SPDX-License-Identifier: Apache-2.0
"""`ipvsadm -Lc`: the connections, in the order that they come."""

from __future__ import annotations

from collections.abc import Iterable

from fullnat.ipvsadm.columns import PROTOCOLS, format_endpoint
from fullnat.ipvsadm.commands import ListConnections
from fullnat.ipvsadm.names import Names
from fullnat.ipvsadm.views import ConnectionView

_TITLE = f"pro expire {'state':11} {'source':18} {'virtual':18}"


def format_connections(
    connections: Iterable[ConnectionView], listing: ListConnections, names: Names | None = None
) -> str:
    """Return what `ipvsadm -Lc` prints; *names* look up hosts and services, None is -n."""
    names = None if listing.numeric else names
    title = f"{_TITLE} destination"
    if listing.with_engine:
        title = f"{_TITLE} {'destination':18} {'pe name':16} pe_data"
    lines = (_line(connection, listing, names) for connection in connections)
    return f"IPVS connection entries\n{title}\n" + "".join(lines)


def _line(view: ConnectionView, listing: ListConnections, names: Names | None) -> str:
    client, virtual, server = (
        format_endpoint(endpoint, view.protocol, names)
        for endpoint in (view.client, view.virtual, view.server)
    )
    minutes, seconds = divmod(view.expires, 60)
    expires = f"{minutes:02}:{seconds:02}"
    line = f"{PROTOCOLS[view.protocol]:3} {expires:6} {view.state:11} {client:18} {virtual:18}"
    if listing.with_engine and view.engine:
        # The columns of the title are not those of the lines.
        return f"{line} {server:16} {view.engine:18} {view.engine_data}\n"
    return f"{line} {server}\n"
