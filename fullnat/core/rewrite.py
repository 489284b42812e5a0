# SPDX-License-Identifier: Apache-2.0
"""Rewrites: what to change in a packet, computed when a flow opens, applied to each of its packets.

A Rewrite replaces addresses and ports and brings both checksums up to date by differences that
are known in advance (RFC 1624), so its cost does not depend on the size of the packet.  The others
wrap it for the few packets that need more: a SYN whose MSS is clamped, a datagram that is or may
become fragments.

All have one method, apply(view), which returns the new packet.  None keeps state.
"""

from __future__ import annotations

from typing import Protocol

from fullnat.core.addr import TCP, UDP
from fullnat.core.checksum import difference, update
from fullnat.core.packet import PacketView, key_addresses

_MSS_OPTION = 2  # RFC 9293, section 3.2


class Applicable(Protocol):
    """Anything that makes one packet of another."""

    def apply(self, view: PacketView) -> bytes:
        """Return the rewritten packet."""
        ...


class Rewrite:
    """Turn packets of one key into packets of another."""

    __slots__ = ("_addresses", "_ip_delta", "_ports", "_transport_delta", "new_key", "old_key")

    def __init__(self, old_key: bytes, new_key: bytes) -> None:
        self.old_key = old_key
        self.new_key = new_key
        self._addresses = key_addresses(new_key)
        self._ports = new_key[-4:]
        self._ip_delta = difference(key_addresses(old_key), self._addresses)
        self._transport_delta = difference(old_key, new_key)

    def __repr__(self) -> str:
        return f"Rewrite({self.old_key.hex()} -> {self.new_key.hex()})"

    def apply(self, view: PacketView) -> bytes:
        """Return the packet with addresses, ports and checksums changed."""
        data = view.data
        l4 = view.l4
        at = l4 + 16 if view.protocol == TCP else l4 + 6
        check = data[at] << 8 | data[at + 1]
        if check or view.protocol == TCP:  # UDP: 0 says there is none (RFC 768)
            total = (check ^ 0xFFFF) + self._transport_delta
            check = (total & 0xFFFF) + (total >> 16) ^ 0xFFFF
            if not check and view.protocol == UDP:
                check = 0xFFFF
        if view.family == 6:
            return b"".join(
                (
                    data[:8],
                    self._addresses,
                    data[40:l4],
                    self._ports,
                    data[l4 + 4 : at],
                    check.to_bytes(2, "big"),
                    data[at + 2 :],
                )
            )
        total = ((data[10] << 8 | data[11]) ^ 0xFFFF) + self._ip_delta
        ip_check = (total & 0xFFFF) + (total >> 16) ^ 0xFFFF
        return b"".join(
            (
                data[:10],
                ip_check.to_bytes(2, "big"),
                self._addresses,
                data[20:l4],
                self._ports,
                data[l4 + 4 : at],
                check.to_bytes(2, "big"),
                data[at + 2 :],
            )
        )

    def apply_addresses(self, view: PacketView) -> bytes:
        """Return the packet with its addresses changed: all there is to do in a later fragment."""
        data = view.data
        if view.family == 6:
            return data[:8] + self._addresses + data[40:]
        check = update(data[10] << 8 | data[11], self._ip_delta)
        return data[:10] + check.to_bytes(2, "big") + self._addresses + data[20:]


class ClampMss:
    """Rewrite a SYN and lower its MSS to what the narrower side can carry."""

    __slots__ = ("_base", "_limit")

    def __init__(self, base: Applicable, limit: int) -> None:
        self._base = base
        self._limit = limit

    def apply(self, view: PacketView) -> bytes:
        """Return the rewritten SYN."""
        data = self._base.apply(view)
        at = _find_mss(data, view.l4)
        if at is None or int.from_bytes(data[at : at + 2], "big") <= self._limit:
            return data
        value = self._limit.to_bytes(2, "big")
        check_at = view.l4 + 16
        check = int.from_bytes(data[check_at : check_at + 2], "big")
        # The option may start at an odd offset: take the difference of the words that hold it.
        first, last = at - (at - view.l4) % 2, at + 2 + (at - view.l4) % 2
        patched = data[first:at] + value + data[at + 2 : last]
        check = update(check, difference(data[first:last], patched))
        data = data[:first] + patched + data[last:]
        return data[:check_at] + check.to_bytes(2, "big") + data[check_at + 2 :]


def _find_mss(data: bytes, l4: int) -> int | None:
    """Return where the MSS value stands in a TCP header at *l4*, or None."""
    end = l4 + (data[l4 + 12] >> 4) * 4
    at = l4 + 20
    while at + 1 < end:
        kind, length = data[at], data[at + 1]
        if kind == 0:
            return None
        if kind == 1:
            at += 1
        elif length < 2:
            return None
        elif kind == _MSS_OPTION:
            return at + 2 if length == 4 and at + 4 <= end else None
        else:
            at += length
    return None


class Identify:
    """Rewrite a datagram that is, or may become, fragments, and give it a new identification.

    Behind one local address the identifications of many clients meet, and two datagrams with the
    same one would be reassembled into each other (RFC 6864, section 5.3.1).
    """

    __slots__ = ("_base", "_first", "_identification")

    def __init__(self, base: Rewrite, identification: int, first: bool = True) -> None:
        self._base = base
        self._identification = identification
        self._first = first  # has a transport header

    def apply(self, view: PacketView) -> bytes:
        """Return the rewritten datagram or fragment."""
        data = self._base.apply(view) if self._first else self._base.apply_addresses(view)
        if view.family == 6:
            at = (view.fragment.header if view.fragment else 0) + 4
            return data[:at] + self._identification.to_bytes(4, "big") + data[at + 4 :]
        new = (self._identification & 0xFFFF).to_bytes(2, "big")
        check = update(data[10] << 8 | data[11], difference(data[4:6], new))
        return data[:4] + new + data[6:10] + check.to_bytes(2, "big") + data[12:]
