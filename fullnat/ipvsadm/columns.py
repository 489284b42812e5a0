# SPDX-License-Identifier: Apache-2.0
"""Numbers and addresses, to the width that ipvsadm gives them."""

from __future__ import annotations

from ipaddress import IPv4Address
from socket import AF_INET6, inet_ntop

from fullnat.core.addr import ICMP, ICMPV6, TCP, UDP, Endpoint, IPAddress
from fullnat.ipvsadm.commands import SCTP
from fullnat.ipvsadm.names import Names
from fullnat.kernel.service import Forward

PROTOCOLS = {0: "IP", ICMP: "ICMP", TCP: "TCP", UDP: "UDP", ICMPV6: "ICMPv6", SCTP: "SCTP"}
METHODS = {Forward.NAT: "Masq", Forward.FULLNAT: "FullNat", Forward.TUN: "Tunnel", Forward.DR: "Route"}

_LONGEST = 59  # of an address with its port, names too: the rest is cut off

# Below the first, a number is divided by the second and has the letter.
_UNITS = (
    (10**8, 1, ""),
    (10**9, 10**3, "K"),
    (10**11, 10**6, "M"),
    (10**14, 10**9, "G"),
)


def format_number(number: int, *, exact: bool) -> str:
    """Return *number* in nine columns, with a letter once it is large; *exact*: in as many as it takes."""
    if exact:
        return f"{number:9d}" if number < 10**8 else f" {number}"
    for limit, divisor, letter in _UNITS:
        if number < limit:
            return f"{number // divisor:{9 - len(letter)}d}{letter}"
    return f"{number // 10**12:8d}T"


def format_address(address: IPAddress) -> str:
    """Return *address* as inet_ntop has it: an IPv4 address inside one of IPv6 is dotted."""
    return str(address) if isinstance(address, IPv4Address) else inet_ntop(AF_INET6, address.packed)


def format_endpoint(endpoint: Endpoint, protocol: int, names: Names | None) -> str:
    """Return *endpoint* as HOST:PORT or [HOST]:PORT, by name where *names* knows one."""
    address, port = endpoint
    host, service = None, None
    if names is not None:
        host = names.host(address)
        service = names.port(port, protocol) if protocol in (TCP, UDP, SCTP) else None
    text = host or format_address(address)
    if address.version == 6:
        text = f"[{text}]"
    return f"{text}:{service or port}"[:_LONGEST]
