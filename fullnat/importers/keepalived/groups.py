# SPDX-License-Identifier: Apache-2.0
"""Groups of addresses in keepalived.conf: virtual_server_group, and DPVS's local_address_group."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_network

from fullnat.core.addr import IPAddress
from fullnat.importers.assemble import MOST_EXPANDED
from fullnat.importers.document import Listen
from fullnat.importers.notes import ImporterError, Place, quoted
from fullnat.importers.settings import Setting
from fullnat.importers.values import Address, read_host, read_integer, read_ip

_ACCEPTED = "ADDRESS, ADDRESS-N, ADDRESS-ADDRESS or ADDRESS/LENGTH"


def read_listens(group: Setting, protocol: str, family: int) -> Iterator[tuple[Place, Listen]]:
    """Yield what a virtual_server_group listens to; a mark without a family has *family*."""
    for setting in group.block:
        if setting.keyword == "fwmark":
            mark = read_integer(setting.value, 1, 2**32 - 1, "fwmark", setting.place)
            is_v6 = {"inet": False, "inet6": True}.get(setting.words[-1], family == 6)
            yield setting.place, Listen("fwmark6" if is_v6 else "fwmark", mark)
            continue
        port = None
        if setting.arguments:
            port = read_integer(setting.value, 0, 65535, "port", setting.place)
        for address in _addresses(setting.keyword, setting.place):
            yield setting.place, Listen(protocol, Address(address, port))


def read_local_addresses(group: Setting) -> Iterator[str]:
    """Yield the addresses and ranges of a local_address_group as [snat] has them."""
    for setting in group.block:
        first, last = _ends(setting.keyword, setting.place)
        yield str(first) if first == last else f"{first}-{last}"


def _addresses(text: str, place: Place) -> Iterator[IPAddress]:
    first, last = _ends(text, place)
    size = int(last) - int(first) + 1
    if size > MOST_EXPANDED:
        raise ImporterError(
            place,
            f"{text} is {size} services, accepted: at most {MOST_EXPANDED}; mark the packets and use fwmark",
        )
    make = type(first)
    yield from (make(number) for number in range(int(first), int(last) + 1))


def _ends(text: str, place: Place) -> tuple[IPAddress, IPAddress]:
    """Return the first and the last address of a range in any of its forms."""
    if "/" in text:
        try:
            network = ip_network(text, strict=False)
        except ValueError:
            raise ImporterError(place, f"found {quoted(text)}, accepted: {_ACCEPTED}") from None
        return network.network_address, network.broadcast_address
    low, _, high = text.partition("-")
    first = read_ip(low, "address", place)
    last = first if not high else _last(first, high, place)
    if last.version != first.version or int(last) < int(first):
        raise ImporterError(place, f"found {quoted(text)}, accepted: {_ACCEPTED}, the first one first")
    return first, last


def _last(first: IPAddress, text: str, place: Place) -> IPAddress:
    """Return the end of a range, which may be written as its last part alone."""
    if re.fullmatch(r"[0-9A-Fa-f]{1,4}", text):
        separator = "." if first.version == 4 else ":"
        text = f"{first.exploded.rpartition(separator)[0]}{separator}{text}"
    last = read_host(text)
    if isinstance(last, str):
        raise ImporterError(place, f"found {quoted(text)}, accepted: {_ACCEPTED}")
    return last
