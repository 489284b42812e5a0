# SPDX-License-Identifier: Apache-2.0
"""What is listed, as data: what was asked for, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass

from fullnat.core.addr import Endpoint, IPAddress
from fullnat.ipvsadm.commands import ServerSettings, ServiceAddress, ServiceSettings


@dataclass(frozen=True, slots=True)
class Traffic:
    """Connections, packets and bytes: of all time, or of a second."""

    connections: int = 0
    in_packets: int = 0  # inbound
    out_packets: int = 0
    in_bytes: int = 0
    out_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ServerView:
    """One real server of a service."""

    settings: ServerSettings
    active: int = 0  # connections that are established
    inactive: int = 0  # and all others
    persistent: int = 0  # templates
    total: Traffic = Traffic()
    rate: Traffic = Traffic()


@dataclass(frozen=True, slots=True)
class ServiceView:
    """One virtual service, and its servers as they come."""

    service: ServiceAddress
    settings: ServiceSettings
    servers: tuple[ServerView, ...] = ()
    total: Traffic = Traffic()
    rate: Traffic = Traffic()


@dataclass(frozen=True, slots=True)
class ConnectionView:
    """One connection, or a template of persistence: then the port of its client is 0."""

    protocol: int
    client: Endpoint
    virtual: Endpoint  # a template of a mark: the mark as an address
    server: Endpoint
    state: str  # NONE ESTABLISHED SYN_SENT ... UDP; of templates NONE or ASSURED
    expires: int  # seconds from now
    engine: str = ""  # of persistence, and what it goes by
    engine_data: str = ""


@dataclass(frozen=True, slots=True)
class LocalView:
    """One LIP of a service."""

    address: IPAddress
    conflicts: int = 0  # times that a local port was not to be had
    connections: int = 0


@dataclass(frozen=True, slots=True)
class LocalsView:
    """The LIPs of a service."""

    service: ServiceAddress
    addresses: tuple[LocalView, ...] = ()
