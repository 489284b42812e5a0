# SPDX-License-Identifier: Apache-2.0
"""What ipvsadm can be told, as data: one frozen object for each command.

A service is meant by its address alone; what it is to be like are its settings.  An edit is told all of
them anew, as ipvsadm has it: what is not said goes back to its default.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from fullnat.core.addr import TCP, UDP, Endpoint, IPAddress
from fullnat.kernel.service import Forward, Fwmark, KernelPersistence, KernelServer

SCTP = 132

SERVICE_OPTIONS = {TCP: "-t", UDP: "-u", SCTP: "--sctp-service"}


@dataclass(frozen=True, slots=True)
class ServiceAddress:
    """Which virtual service: an endpoint of a protocol, or all packets with a mark."""

    protocol: int  # addr.TCP, addr.UDP or SCTP; 0 with a mark
    listen: Endpoint | Fwmark  # port 0: all ports

    def __str__(self) -> str:
        if isinstance(self.listen, Fwmark):
            return f"-f {self.listen.mark}" + (" -6" if self.listen.family == 6 else "")
        return f"{SERVICE_OPTIONS[self.protocol]} {self.listen}"


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """What a virtual service is to be like."""

    scheduler: str = "wlc"  # as it was written: nobody has looked whether there is such a one
    flags: frozenset[str] = frozenset()  # of the scheduler
    persistence: KernelPersistence | None = None
    engine: str = ""  # of persistence: sip
    one_packet: bool = False


@dataclass(frozen=True, slots=True)
class Tunnel:
    """How packets to a server are wrapped."""

    kind: str = "ipip"  # or gue, gre
    port: int = 0  # gue's
    checksum: str = "nocsum"  # or csum, remcsum


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """A real server, and how it is reached."""

    server: KernelServer
    forward: Forward = Forward.DR  # NAT where -m was said, FULLNAT where -b was
    tunnel: Tunnel | None = None  # with Forward.TUN


@dataclass(frozen=True, slots=True)
class AddService:
    """-A."""

    service: ServiceAddress
    settings: ServiceSettings


@dataclass(frozen=True, slots=True)
class EditService:
    """-E."""

    service: ServiceAddress
    settings: ServiceSettings


@dataclass(frozen=True, slots=True)
class DeleteService:
    """-D."""

    service: ServiceAddress


@dataclass(frozen=True, slots=True)
class Clear:
    """-C."""


@dataclass(frozen=True, slots=True)
class Restore:
    """-R: a command a line, on standard input."""


@dataclass(frozen=True, slots=True)
class Save:
    """-S."""

    numeric: bool = False


@dataclass(frozen=True, slots=True)
class AddServer:
    """-a."""

    service: ServiceAddress
    settings: ServerSettings


@dataclass(frozen=True, slots=True)
class EditServer:
    """-e."""

    service: ServiceAddress
    settings: ServerSettings


@dataclass(frozen=True, slots=True)
class DeleteServer:
    """-d."""

    service: ServiceAddress
    server: Endpoint


class Layout(Enum):
    """The columns of a listing of services; the value is the option that asks for them."""

    PLAIN = ""
    STATS = "stats"
    RATE = "rate"
    THRESHOLDS = "thresholds"
    PERSISTENT = "persistent-conn"
    TUNNELS = "tun-info"


@dataclass(frozen=True, slots=True)
class ListServices:
    """-L, also with -t, -u, -f: of all services, or of one."""

    service: ServiceAddress | None = None
    layout: Layout = Layout.PLAIN
    numeric: bool = False
    exact: bool = False
    sort: bool = True


@dataclass(frozen=True, slots=True)
class ListConnections:
    """-Lc."""

    numeric: bool = False
    with_engine: bool = False  # --persistent-conn: the persistence engine's data too


@dataclass(frozen=True, slots=True)
class ListTimeouts:
    """-L --timeout."""


@dataclass(frozen=True, slots=True)
class ListDaemons:
    """-L --daemon."""


@dataclass(frozen=True, slots=True)
class Zero:
    """-Z: of one service, or of all and the totals."""

    service: ServiceAddress | None = None


@dataclass(frozen=True, slots=True)
class SetTimeouts:
    """--set: seconds; 0 leaves one as it is."""

    tcp: int
    tcp_fin: int
    udp: int


class Role(Enum):
    """What a synchronization daemon does: it tells others of connections, or is told."""

    MASTER = "master"
    BACKUP = "backup"


@dataclass(frozen=True, slots=True)
class StartDaemon:
    """--start-daemon; 0 and None leave a choice to the kernel."""

    role: Role
    interface: str = "eth0"
    syncid: int = 0
    maxlen: int = 0
    group: IPAddress | None = None
    port: int = 0
    ttl: int = 0


@dataclass(frozen=True, slots=True)
class StopDaemon:
    """--stop-daemon."""

    role: Role
    syncid: int = 0


@dataclass(frozen=True, slots=True)
class AddLocal:
    """-P, of DPVS: connections of a service may come from this LIP too."""

    service: ServiceAddress
    address: IPAddress
    interface: str = ""  # DPVS needs it; empty where it was not said


@dataclass(frozen=True, slots=True)
class DeleteLocal:
    """-Q, of DPVS."""

    service: ServiceAddress
    address: IPAddress
    interface: str = ""


@dataclass(frozen=True, slots=True)
class ListLocal:
    """-G, of DPVS: of one service, or of all."""

    service: ServiceAddress | None = None


@dataclass(frozen=True, slots=True)
class Help:
    """-h."""


@dataclass(frozen=True, slots=True)
class Version:
    """-v."""


Command = (
    AddService
    | EditService
    | DeleteService
    | Clear
    | Restore
    | Save
    | AddServer
    | EditServer
    | DeleteServer
    | ListServices
    | ListConnections
    | ListTimeouts
    | ListDaemons
    | Zero
    | SetTimeouts
    | StartDaemon
    | StopDaemon
    | AddLocal
    | DeleteLocal
    | ListLocal
    | Help
    | Version
)
