# SPDX-License-Identifier: Apache-2.0
"""The values all formats have: numbers, durations, addresses, ports and prefix lengths.

A value that no format would accept raises ImporterError with its place.  A name in place of an
address is no mistake where it stands, but nothing here looks names up: it is carried along, and told
as still to be completed (assemble.py).
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

from fullnat.core.addr import IPAddress
from fullnat.importers.notes import ImporterError, Place, quoted

ANY = "*"  # the host of a listen that takes every address of its machine

_LONGEST_MS = 8760 * 3600 * 1000  # a year, as in control/config/values.py

# Names of services that load balancers are configured with; /etc/services is not read.
_PORTS = {
    **{"ftp": 21, "ssh": 22, "telnet": 23, "smtp": 25, "domain": 53, "http": 80, "www": 80},
    **{"pop3": 110, "nntp": 119, "ntp": 123, "imap": 143, "imap2": 143, "snmp": 161, "ldap": 389},
    **{"https": 443, "submissions": 465, "syslog": 514, "submission": 587, "ldaps": 636, "imaps": 993},
    **{"pop3s": 995, "ms-sql-s": 1433, "radius": 1812, "mysql": 3306, "postgresql": 5432, "sip": 5060},
    **{"http-alt": 8080, "webcache": 8080},
}


class Duration(NamedTuple):
    """A span of time; prints as the config file writes it."""

    ms: int

    def __str__(self) -> str:
        return f"{self.ms}ms" if self.ms % 1000 else f"{self.ms // 1000}s"


class Address(NamedTuple):
    """Where something is reached; prints as in 198.51.100.1:80, [2001:db8::1]:80 or 198.51.100.1."""

    host: IPAddress | str  # str: a name that is still to be replaced by an address, or ANY
    port: int | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if isinstance(self.host, IPv6Address) else str(self.host)
        return host if self.port is None else f"{host}:{self.port}"

    @property
    def family(self) -> int | None:
        """4, 6, or None while nobody knows."""
        return None if isinstance(self.host, str) else self.host.version


def read_integer(text: str, low: int, high: int, what: str, place: Place) -> int:
    """Return the number *text* is."""
    if re.fullmatch(r"[+-]?[0-9]{1,18}", text) and low <= int(text) <= high:
        return int(text)
    raise ImporterError(place, f"{what}: found {quoted(text)}, accepted: {low}-{high}")


def read_seconds(text: str, what: str, place: Place) -> Duration:
    """Return the duration *text* is in seconds, a fraction perhaps; None-like zeros are the caller's."""
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
        ms = round(float(text) * 1000)
        if 1 <= ms <= _LONGEST_MS:
            return Duration(ms)
    raise ImporterError(place, f"{what}: found {quoted(text)}, accepted: 0.001-{_LONGEST_MS // 1000} seconds")


_UNITS_US = {"us": 1, "ms": 1000, "s": 10**6, "m": 60 * 10**6, "h": 3600 * 10**6, "d": 86400 * 10**6}


def read_timespan(text: str, default_unit: str, what: str, place: Place) -> Duration:
    """Return the duration *text* is, as in 500us, 2s, 1m or, in *default_unit*, 2000."""
    match = re.fullmatch(r"([0-9]{1,15})(us|ms|s|m|h|d)?", text)
    if match:
        ms = -(-int(match[1]) * _UNITS_US[match[2] or default_unit] // 1000)
        if 1 <= ms <= _LONGEST_MS:
            return Duration(ms)
    raise ImporterError(
        place, f'{what}: found {quoted(text)}, accepted: 1ms to 8760h as in "500ms", "2s", "1m"'
    )


def read_host(text: str) -> IPAddress | str:
    """Return the address *text* is, or *text* itself where it is a name."""
    try:
        return ip_address(text.removeprefix("[").removesuffix("]") if ":" in text else text)
    except ValueError:
        return text


def read_ip(text: str, what: str, place: Place) -> IPAddress:
    """Return the address *text* is, where a name will not do."""
    host = read_host(text)
    if isinstance(host, str):
        raise ImporterError(place, f"{what}: found {quoted(text)}, accepted: an IPv4 or IPv6 address")
    return host


def read_port(text: str, what: str, place: Place) -> int:
    """Return the port *text* is, a number or the name of a well-known service."""
    if text.lower() in _PORTS:
        return _PORTS[text.lower()]
    return read_integer(text, 0, 65535, what, place)


def read_address(text: str, what: str, place: Place) -> Address:
    """Return where *text* is, as in 198.51.100.1:80, [2001:db8::1]:80, web1:http or 198.51.100.1."""
    match = re.fullmatch(r"(\[[^\[\]\s]+\]|[^\[\]:\s]+)(?::([^:\s]+))?", text)
    if not match:
        host = read_host(text)
        if isinstance(host, str):
            accepted = "ADDRESS or ADDRESS:PORT, an IPv6 address in brackets"
            raise ImporterError(place, f"{what}: found {quoted(text)}, accepted: {accepted}")
        return Address(host)
    return Address(read_host(match[1]), read_port(match[2], what, place) if match[2] else None)


def read_prefix(text: str, what: str, place: Place) -> int:
    """Return the prefix length *text* is, as a number or as an IPv4 netmask."""
    if "." in text:
        host = read_ip(text, what, place)
        rest = int(host) ^ 0xFFFF_FFFF
        if isinstance(host, IPv4Address) and int(host) and not rest & (rest + 1):
            return int(host).bit_count()
        raise ImporterError(place, f"{what}: found {quoted(text)}, accepted: a netmask like 255.255.255.0")
    return read_integer(text, 1, 128, what, place)


def why_unusable(address: IPAddress) -> str:
    """Return why packets cannot be sent to *address* from another host, empty where they can."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return f"write {address.ipv4_mapped}, as IPv4 has it"
    if isinstance(address, IPv6Address) and address.scope_id:
        return "an address of one link only; give it one that is routed"
    for kind, advice in (
        ("multicast", "fullnat balances connections to one address each"),
        ("unspecified", "it is no address"),
        ("loopback", "it stays on its own host; give it an address of an interface"),
    ):
        if getattr(address, f"is_{kind}"):
            return f"{address} is {kind}: {advice}"
    return "" if address != IPv4Address("255.255.255.255") else "255.255.255.255 is broadcast"
