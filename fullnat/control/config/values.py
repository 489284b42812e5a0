# SPDX-License-Identifier: Apache-2.0
"""The types of value there are: numbers, durations, addresses, listens, ports and masks.

A type named XValue is what a key of the schema may hold, and becomes X when it is read.  Each
stands right below its reader, so that the bounds the one keeps and the other tells stay the same.
"""

from __future__ import annotations

import math
import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from fullnat.control.config.value_type import RefusalError, ValueType, integer, one_of, string
from fullnat.core.addr import PROTOCOL_NUMBERS, Endpoint, IPAddress, PortRange, parse_endpoint
from fullnat.core.timeouts import SECOND
from fullnat.kernel.service import Fwmark

_MILLISECOND = SECOND // 1000
_UNITS = {"ms": _MILLISECOND, "s": SECOND, "m": 60 * SECOND, "h": 3600 * SECOND}
_LONGEST = 8760 * _UNITS["h"]  # a year; nothing idle is worth more, and C engines count in 64 bits

MAX_LOCAL_ADDRESSES = 256

FlagValue = Annotated[bool, one_of((True, False))]
CountValue = Annotated[int, integer(1, 100_000_000)]
ConnectionsValue = Annotated[int, integer(0, 2**32 - 1)]
StringValue = Annotated[str, string("a string", r"[\s\S]+")]


def _read_duration(value: Any) -> int:
    if isinstance(value, str):
        match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h)", value)
        if not match:
            raise ValueError
        nanoseconds = round(float(match[1]) * _UNITS[match[2]])
    elif type(value) is int:
        nanoseconds = value * SECOND
    elif type(value) is float and math.isfinite(value):
        nanoseconds = round(value * SECOND) if value < _LONGEST else _LONGEST + 1
    else:
        raise ValueError
    if not _MILLISECOND <= nanoseconds <= _LONGEST:
        raise ValueError
    return nanoseconds


DurationValue = Annotated[
    int,
    ValueType(
        '1ms to 8760h, as seconds or as in "500ms", "2s", "5m", "1h"',
        _read_duration,
        {
            "anyOf": [
                {"type": "number", "minimum": 0.001, "maximum": 31_536_000},
                {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(ms|s|m|h)$"},
            ]
        },
    ),
]


def usable(address: IPAddress) -> IPAddress:
    """Return *address* if packets can be sent to it and from it."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        raise RefusalError(f"accepted: {address.ipv4_mapped}, as IPv4 writes it")
    if isinstance(address, IPv6Address) and address.scope_id:
        raise RefusalError("accepted: an address without %interface")
    for kind in ("multicast", "unspecified", "loopback"):
        if getattr(address, f"is_{kind}"):
            raise RefusalError(f"accepted: a unicast address; {address} is {kind}")
    if address == IPv4Address("255.255.255.255"):
        raise RefusalError(f"accepted: a unicast address; {address} is broadcast")
    return address


def _read_address(text: str) -> IPAddress:
    return usable(ip_address(text))


def _read_endpoint(text: str) -> Endpoint:
    endpoint = parse_endpoint(text)
    return Endpoint(usable(endpoint.address), endpoint.port)


class Listen(NamedTuple):
    """Where a service is reached, or the mark of its packets."""

    protocol: int  # addr.TCP or addr.UDP; 0 with a mark
    place: Endpoint | Fwmark

    @property
    def family(self) -> int:
        """4 or 6."""
        return self.place.family

    @property
    def port(self) -> int:
        """The one it is reached at; 0 with a mark, which may have any."""
        return self.place.port if isinstance(self.place, Endpoint) else 0


_MARKED = {"fwmark": 4, "fwmark6": 6}  # scheme -> family
_LAST_MARK = 2**32 - 1


def _read_listen(text: str) -> Listen:
    scheme, _, rest = text.partition("://")
    if scheme not in _MARKED:
        return Listen(PROTOCOL_NUMBERS[scheme], _read_endpoint(rest))
    if not (re.fullmatch(r"[0-9]{1,10}", rest) and 0 < int(rest) <= _LAST_MARK):
        raise RefusalError(f'accepted: "{scheme}://N" with a mark of 1-{_LAST_MARK}')
    return Listen(0, Fwmark(int(rest), _MARKED[scheme]))


ListenValue = Annotated[
    Listen | None,
    string(
        '"tcp://ADDRESS:PORT", "udp://ADDRESS:PORT", "fwmark://N" or "fwmark6://N", '
        "an IPv6 address in brackets",
        r"(tcp|udp|fwmark6?)://\S+",
        _read_listen,
    ),
]


class ServerAddress(NamedTuple):
    """Where a server is reached; without a port it is reached at the service's."""

    address: IPAddress
    port: int | None


def _read_server_address(text: str) -> ServerAddress:
    if text.startswith("[") and text.endswith("]"):
        return ServerAddress(usable(IPv6Address(text[1:-1])), None)
    if ":" not in text:
        return ServerAddress(_read_address(text), None)
    return ServerAddress(*_read_endpoint(text))


ServerAddressValue = Annotated[
    ServerAddress | None,
    string('"ADDRESS:PORT" or "ADDRESS", an IPv6 address in brackets', r"\S+", _read_server_address),
]


def _read_listen_address(text: str) -> Endpoint:
    return parse_endpoint(text)


ListenAddressValue = Annotated[
    Endpoint | None,
    string('"ADDRESS:PORT", an IPv6 address in brackets', r"\S+", _read_listen_address),
]
PathValue = Annotated[Path, string("an absolute path", r"/[^\0\n]*", Path)]
PeerNameValue = Annotated[str, string('a user, or a group as in "@ops"', r"@?[A-Za-z_][A-Za-z0-9_.-]{0,31}")]


def _read_local_addresses(text: str) -> tuple[IPAddress, ...]:
    """Return the addresses of "a" or of the range "a-b"."""
    low_text, dash, high_text = text.partition("-")
    low = _read_address(low_text)
    high = _read_address(high_text) if dash else low
    if low.version != high.version or int(low) > int(high):
        raise ValueError
    if int(high) - int(low) >= MAX_LOCAL_ADDRESSES:
        raise RefusalError(f"accepted: at most {MAX_LOCAL_ADDRESSES} addresses")
    make = type(low)
    return tuple(usable(make(number)) for number in range(int(low), int(high) + 1))


LocalAddressesValue = Annotated[
    tuple[IPAddress, ...] | None,
    string('an address "a" or a range "a-b"', r"[^\s-]+(-[^\s-]+)?", _read_local_addresses),
]


def _read_port_range(text: str) -> PortRange:
    low, _, high = text.partition("-")
    ports = PortRange(int(low), int(high))
    if not 1024 <= ports.low <= ports.high <= 65535:
        raise ValueError
    return ports


PortRangeValue = Annotated[
    PortRange | None,
    string('"low-high" within 1024-65535', r"[0-9]{1,5}-[0-9]{1,5}", _read_port_range),
]


class Mask(NamedTuple):
    """A prefix length, and whether it was written as an IPv4 netmask."""

    prefix: int
    is_netmask: bool


def _read_mask(value: Any) -> Mask:
    if type(value) is int and 1 <= value <= 128:
        return Mask(value, is_netmask=False)
    if not isinstance(value, str):
        raise ValueError
    bits = int(IPv4Address(value))
    host_bits = bits ^ 0xFFFF_FFFF
    if not bits or host_bits & (host_bits + 1):  # no prefix, or a hole in it
        raise ValueError
    return Mask(bits.bit_count(), is_netmask=True)


MaskValue = Annotated[
    Mask,
    ValueType(
        '1-32 for IPv4, 1-128 for IPv6, or a netmask like "255.255.255.0"',
        _read_mask,
        {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 128}, {"type": "string", "format": "ipv4"}]},
    ),
]
