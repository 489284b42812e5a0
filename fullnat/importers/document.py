# SPDX-License-Identifier: Apache-2.0
"""The file that will be written: what docs/config.md describes, as plain values.

Whatever is None, empty or the default of docs/config.md is not written.  Each thing knows the place
it comes from, for the notes that are made of it later on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields

from fullnat.importers.notes import Notes, Place
from fullnat.importers.values import Address, Duration

Value = (
    str | int | bool | Duration | tuple[int | str, ...] | tuple[str, ...]
)  # what a key of the file can hold


@dataclass(slots=True)
class Health:
    """One health check; the fields are the keys of [service.health], in its order."""

    type: str
    interval: Duration | None = None
    timeout: Duration | None = None
    rise: int | None = None
    fall: int | None = None
    start: str | None = None
    address: str | None = None
    port: int | None = None
    path: str | None = None  # of a request, or of a file
    host: str | None = None
    method: str | None = None
    status: tuple[int | str, ...] | None = None  # codes, and ranges like "200-299"
    body: str | None = None
    digest: str | None = None
    sni: str | None = None
    verify: bool | None = None
    name: str | None = None
    query: str | None = None
    send: str | None = None
    send_hex: str | None = None
    expect: str | None = None
    helo: str | None = None
    command: tuple[str, ...] | None = None  # the program and its arguments
    dynamic: bool | None = None

    def keys(self) -> dict[str, Value]:
        """Return what is set, in order."""
        given = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(slots=True)
class Server:
    """One real server."""

    place: Place
    address: Address
    weight: int = 1
    upper: int = 0
    lower: int = 0
    health: Health | None = None
    comment: str = ""  # what it was called


@dataclass(slots=True)
class Pool:
    """Servers that stand in while the pool above them has lost its quorum."""

    name: str
    servers: list[Server]
    quorum: int = 1


@dataclass(slots=True)
class Persistence:
    """Clients of one prefix stay on one server."""

    timeout: Duration
    mask: int | None = None  # prefix length; None: the whole address


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a silent flow is kept."""

    tcp_established: Duration | None = None
    tcp_closing: Duration | None = None
    udp: Duration | None = None

    def keys(self) -> dict[str, Value]:
        """Return what is set, in order."""
        given = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Listen:
    """What a service serves; prints as in tcp://203.0.113.10:80 or fwmark://7."""

    scheme: str  # tcp, udp, fwmark or fwmark6
    target: Address | int  # int: the mark

    def __str__(self) -> str:
        return f"{self.scheme}://{self.target}"

    @property
    def family(self) -> int | None:
        """4, 6, or None while nobody knows."""
        if isinstance(self.target, Address):
            return self.target.family
        return 6 if self.scheme == "fwmark6" else 4

    @property
    def port(self) -> int | None:
        """The port asked for; None: any, or not told."""
        return self.target.port if isinstance(self.target, Address) else None


@dataclass(slots=True)
class Service:
    """One virtual service."""

    place: Place
    listen: Listen
    name: str = ""  # empty: the default, made of listen
    scheduler: str = "wlc"
    scheduler_flags: tuple[str, ...] = ()
    persistence: Persistence | None = None
    one_packet: bool = False
    forward: str = "fullnat"
    quorum: int = 1
    hysteresis: int = 0
    on_down: str = "keep"
    inhibit: bool = False
    sorry: Server | None = None
    timeouts: Timeouts = field(default_factory=Timeouts)
    servers: list[Server] = field(default_factory=list)
    pools: list[Pool] = field(default_factory=list)
    notes: Notes = field(default_factory=Notes)

    def all_servers(self) -> Iterator[Server]:
        """Yield the servers of the service, then those of its pools."""
        yield from self.servers
        for pool in self.pools:
            yield from pool.servers


@dataclass(slots=True)
class Document:
    """The whole file."""

    path: str  # what it was made of
    local_addresses: list[str] = field(default_factory=list)  # addresses and ranges a-b
    snat_notes: Notes = field(default_factory=Notes)
    timeouts: Timeouts = field(default_factory=Timeouts)
    services: list[Service] = field(default_factory=list)
    notes: Notes = field(default_factory=Notes)
