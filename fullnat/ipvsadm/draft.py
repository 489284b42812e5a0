# SPDX-License-Identifier: Apache-2.0
"""A command while its words are read.

Each option is understood when it is read, with what was said before it: -M is a netmask or a prefix length
by the family of the service so far, -r has the port of the service so far.  So it is in ipvsadm, and so
scripts have it that put their options in an order that happens to work.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address

from fullnat.core.addr import TCP, UDP, IPAddress
from fullnat.ipvsadm.commands import SCTP, Role, Tunnel
from fullnat.ipvsadm.names import Resolver
from fullnat.ipvsadm.values import (
    leading_number,
    parse_dotted,
    parse_host,
    parse_host_port,
    parse_ipv6,
    parse_number,
)
from fullnat.kernel.service import Forward

MAX_TIMEOUT = 31 * 86400
DEFAULT_PERSISTENCE = 360  # seconds, of -p alone
_INT_MAX = 2**31 - 1
_MARK_MAX = 2**32 - 1
_LARGEST_MESSAGE = 65535 - 20 - 8  # in UDP over IPv4

_PROTOCOLS = {"tcp-service": TCP, "udp-service": UDP, "sctp-service": SCTP}
_FORWARDS = {
    "gatewaying": Forward.DR,
    "ipip": Forward.TUN,
    "masquerading": Forward.NAT,
    "fullnat": Forward.FULLNAT,
}
# Option, lowest and highest value, what is wrong otherwise.
_NUMBERS = {
    "weight": (0, _INT_MAX, "illegal weight specified"),
    "u-threshold": (0, _INT_MAX, "illegal u_threshold specified"),
    "l-threshold": (0, _INT_MAX, "illegal l_threshold specified"),
    "syncid": (0, 255, "illegal syncid specified"),
    "mcast-port": (1, 65535, "illegal mcast-port specified"),
    "mcast-ttl": (1, 255, "illegal mcast-ttl specified"),
    "sync-maxlen": (1, _LARGEST_MESSAGE, "illegal sync-maxlen specified"),
    "tun-port": (1, 65535, "illegal tunnel port specified"),
}
_ROLE_ERRORS = {
    "start-daemon": "illegal start-daemon parameter specified",
    "stop-daemon": "illegal start_daemon specified",
}
TUNNELS = ("ipip", "gue", "gre")


class Illegal(Exception):
    """A value that its option cannot have."""


@dataclass(slots=True)
class Draft:
    """What was said so far."""

    resolver: Resolver
    given: set[str] = field(default_factory=set)  # kinds of option
    protocol: int = 0
    family: int = 0  # 0: nothing about it yet
    address: IPAddress | None = None
    port: int = 0
    mark: int = 0
    scheduler: str = ""
    flags: str = ""
    timeout: int = 0
    mask: IPv4Address | int | None = None  # None: whole addresses
    engine: str = ""
    server: IPAddress | None = None
    server_port: int = 0
    forward: Forward = Forward.DR
    tunnel: str = "ipip"
    local: IPAddress | None = None
    interface: str = ""
    sync_interface: str = ""
    group: IPAddress | None = None
    role: Role = Role.MASTER
    numbers: dict[str, int] = field(default_factory=dict)  # by option, of those in _NUMBERS

    def read_role(self, command: str, value: str) -> None:
        """Take the role of a daemon to be started or stopped."""
        try:
            self.role = Role(value)
        except ValueError:
            raise Illegal(_ROLE_ERRORS[command]) from None

    def read(self, name: str, value: str) -> None:
        """Take one option; Illegal says what is wrong with its value."""
        if name in _PROTOCOLS:
            self._read_service(_PROTOCOLS[name], value)
        elif name in _FORWARDS:
            self.forward = _FORWARDS[name]
        elif name in _NUMBERS:
            low, high, error = _NUMBERS[name]
            number = parse_number(value, low, high)
            if number is None:
                raise Illegal(error)
            self.numbers[name] = number
        elif name in _READERS:
            _READERS[name](self, value)

    def _read_service(self, protocol: int, value: str) -> None:
        self.protocol = protocol
        found = parse_host_port(value, protocol, self.resolver)
        if found is None:
            raise Illegal("illegal virtual server address[:port] specified")
        self.address, port = found
        self.port = port or 0
        self.family = self.address.version
        if self.family == 6:
            self.mask = None

    def _read_mark(self, value: str) -> None:
        number = parse_number(value, 1, _MARK_MAX)
        if number is None:
            raise Illegal(f"invalid fwmark value `{value}' specified")
        self.mark, self.family, self.protocol = number, 4, TCP

    def _read_ipv6(self, _: str) -> None:
        if not self.mark:
            raise Illegal("-6 used before -f\n")
        self.family, self.mask = 6, None

    def _read_scheduler(self, value: str) -> None:
        self.scheduler = value

    def _read_flags(self, value: str) -> None:
        self.flags = value

    def _read_engine(self, value: str) -> None:
        self.engine = value

    def _read_mask(self, value: str) -> None:
        if self.family != 6:
            self.mask = parse_host(value, self.resolver)
            if self.mask is None:
                raise Illegal("illegal virtual server persistent mask specified")
            return
        self.mask = leading_number(value)
        if not 1 <= self.mask <= 128:
            raise Illegal("illegal ipv6 netmask specified")

    def _read_server(self, value: str) -> None:
        found = parse_host_port(value, self.protocol, self.resolver)
        if found is None:
            raise Illegal("illegal real server address[:port] specified")
        self.server, port = found
        self.server_port = self.port if port is None else port

    def _read_tunnel(self, value: str) -> None:
        if value not in TUNNELS:
            raise Illegal("illegal tunnel type specified")
        self.tunnel = value

    def _read_group(self, value: str) -> None:
        family = 6 if ":" in value else 4
        group = parse_ipv6(value) if family == 6 else parse_dotted(value)
        if group is None or not group.is_multicast:
            raise Illegal(f"invalid IPv{family} mcast-group `{value}'")
        self.group = group

    def _read_sync_interface(self, value: str) -> None:
        self.sync_interface = value

    def _read_local(self, value: str) -> None:
        found = parse_host_port(value, self.protocol, self.resolver)
        if found is None:
            raise Illegal("illegal local address")
        self.local = found[0]

    def _read_interface(self, value: str) -> None:
        self.interface = value

    def read_persistence(self, value: str | None) -> None:
        """Take -p, with or without its seconds."""
        self.timeout = DEFAULT_PERSISTENCE if value is None else parse_timeout(value, 1)

    def made_tunnel(self) -> Tunnel:
        """Return the tunnel that was spoken of."""
        checksum = next((name for name in ("csum", "remcsum") if f"tun-{name}" in self.given), "nocsum")
        return Tunnel(self.tunnel, self.numbers.get("tun-port", 0), checksum)


_READERS = {
    "fwmark-service": Draft._read_mark,
    "ipv6": Draft._read_ipv6,
    "scheduler": Draft._read_scheduler,
    "sched-flags": Draft._read_flags,
    "pe": Draft._read_engine,
    "netmask": Draft._read_mask,
    "real-server": Draft._read_server,
    "tun-type": Draft._read_tunnel,
    "mcast-group": Draft._read_group,
    "mcast-interface": Draft._read_sync_interface,
    "laddr": Draft._read_local,
    "ifname": Draft._read_interface,
}


def parse_timeout(value: str, low: int) -> int:
    """Return a timeout in seconds, from *low* to 31 days."""
    number = parse_number(value, low, MAX_TIMEOUT)
    if number is None:
        raise Illegal(f"invalid timeout value `{value}' specified")
    return number
