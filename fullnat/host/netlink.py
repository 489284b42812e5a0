# SPDX-License-Identifier: Apache-2.0
"""Netlink messages, for what no program can be asked: built, and taken apart.

Numbers are in the host's byte order, but for what an attribute says otherwise.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

# linux/netlink.h
GENERIC, NETFILTER = 16, 12  # NETLINK_GENERIC, NETLINK_NETFILTER
REQUEST, MULTI, ACK, NONREC, EXCL, DUMP, CREATE = 0x1, 0x2, 0x4, 0x100, 0x200, 0x300, 0x400  # NLM_F_...
ERROR, DONE = 2, 3  # NLMSG_...
NESTED = 0x8000  # NLA_F_NESTED
_TYPE_MASK = 0x3FFF  # NLA_TYPE_MASK

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")  # length, type
LARGEST = 1 << 16  # what to receive: more than any answer the kernel puts together


class Message(NamedTuple):
    """A message of the kernel's, without its header."""

    kind: int
    flags: int
    sequence: int
    body: bytes

    @property
    def error(self) -> OSError | None:
        """What an ERROR says; None where it acknowledges, and of any other message."""
        if self.kind != ERROR:
            return None
        (code,) = struct.unpack_from("=i", self.body)
        return OSError(-code, os.strerror(-code)) if code else None


def message(kind: int, flags: int, body: bytes, sequence: int = 0) -> bytes:
    """Return a request; REQUEST need not be among *flags*."""
    return _HEADER.pack(_HEADER.size + len(body), kind, REQUEST | flags, sequence, 0) + body


def netfilter_message(
    kind: int, flags: int, family: int, attributes: bytes, sequence: int = 0, resource: int = 0
) -> bytes:
    """Return a request of netfilter's: *kind* is subsystem << 8 | message (linux/netfilter/nfnetlink.h)."""
    return message(kind, flags, struct.pack("!BBH", family, 0, resource) + attributes, sequence)


def netfilter_attributes(body: bytes) -> dict[int, bytes]:
    """Return the attributes of an answer of netfilter's, by type."""
    return attributes(body[4:])


def attribute(kind: int, value: bytes) -> bytes:
    """Return an attribute, filled up to the next one."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def nest(kind: int, inside: bytes) -> bytes:
    """Return an attribute of the attributes *inside*."""
    return attribute(kind | NESTED, inside)


def messages(datagram: bytes) -> Iterator[Message]:
    """Yield the messages in *datagram*."""
    position = 0
    while position + _HEADER.size <= len(datagram):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(datagram, position)
        yield Message(kind, flags, sequence, datagram[position + _HEADER.size : position + length])
        position += _aligned(max(length, _HEADER.size))


def attributes(body: bytes) -> dict[int, bytes]:
    """Return the attributes of *body*, by type."""
    found = {}
    position = 0
    while position + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, position)
        found[kind & _TYPE_MASK] = body[position + _ATTRIBUTE.size : position + length]
        position += _aligned(max(length, _ATTRIBUTE.size))
    return found


def _aligned(length: int) -> int:
    return (length + 3) & ~3
