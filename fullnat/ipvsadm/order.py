# SPDX-License-Identifier: Apache-2.0
"""The order of a listing: by mark, family, protocol, address and port.

ipvsadm subtracts and looks at the sign of 32 bits, so that 203.0.113.10 comes before 10.0.0.1: they are
more than 2^31 apart.  Comparing like this is no order once three addresses go round in a circle; then
ipvsadm's own depends on how the kernel had them.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cmp_to_key

from fullnat.core.addr import Endpoint, IPAddress
from fullnat.ipvsadm.views import ServerView, ServiceView
from fullnat.kernel.service import Fwmark

Key = tuple[int, ...]


def sort_services(services: Iterable[ServiceView]) -> list[ServiceView]:
    """Return *services* in the order that ipvsadm lists them in."""
    return sorted(services, key=lambda view: _by_sign(_service_key(view)))


def sort_servers(servers: Iterable[ServerView]) -> list[ServerView]:
    """Return *servers* in the order that ipvsadm lists them in."""
    return sorted(servers, key=lambda view: _by_sign(_endpoint_key(view.settings.server.endpoint)))


def _compare(one: Key, other: Key) -> int:
    """Return the first difference of two keys, which need not be of one length."""
    differences = (_difference(left, right) for left, right in zip(one, other, strict=False))
    return next(filter(None, differences), 0)


_by_sign = cmp_to_key(_compare)


def _service_key(view: ServiceView) -> Key:
    listen = view.service.listen
    if isinstance(listen, Fwmark):
        return (listen.mark, listen.family)
    return (0, listen.family, view.service.protocol, *_endpoint_key(listen))


def _endpoint_key(endpoint: Endpoint) -> Key:
    return (*_words(endpoint.address), endpoint.port)


def _words(address: IPAddress) -> Key:
    """Return *address* in pieces of 32 bits."""
    packed = address.packed
    return tuple(int.from_bytes(packed[at : at + 4], "big") for at in range(0, len(packed), 4))


def _difference(left: int, right: int) -> int:
    """Return *left* - *right* in 32 bits, with their sign."""
    return ((left - right + 2**31) % 2**32) - 2**31
