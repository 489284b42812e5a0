# SPDX-License-Identifier: Apache-2.0
"""Which devices have NAPI, asked of the kernel: generic netlink family `netdev`, since Linux 6.8.

A device without NAPI hands its packets to the backlog of the CPU they came up on.  Which of the two
it is may change while the device is up: a veth has NAPI only while GRO is on or an XDP program is
attached.  Devices that are down are not reported.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

# linux/netlink.h, linux/genetlink.h, linux/netdev.h
_NETLINK_GENERIC = 16
_NLM_F_REQUEST, _NLM_F_DUMP = 1, 0x300
_NLM_F_MULTI = 2
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_GENL_ID_CTRL, _CTRL_CMD_GETFAMILY = 16, 3
_CTRL_ATTR_FAMILY_ID, _CTRL_ATTR_FAMILY_NAME = 1, 2
_NETDEV_CMD_NAPI_GET = 11
_NETDEV_A_NAPI_IFINDEX = 1
_TYPE_MASK = 0x3FFF  # NLA_TYPE_MASK

_MESSAGE = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_GENERIC = struct.Struct("=BBH")  # command, version, reserved
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_LARGEST = 1 << 16


def read_napi_indexes() -> frozenset[int] | None:
    """Return the ifindex of every device with NAPI that is up, or None when the kernel cannot say."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_GENERIC) as kernel:
        try:
            name = _pack_attribute(_CTRL_ATTR_FAMILY_NAME, b"netdev\0")
            (about, *_) = _ask(kernel, _GENL_ID_CTRL, _CTRL_CMD_GETFAMILY, body=name)
            (family,) = struct.unpack("=H", parse_attributes(about)[_CTRL_ATTR_FAMILY_ID])
            return napi_indexes(_ask(kernel, family, _NETDEV_CMD_NAPI_GET, flags=_NLM_F_DUMP))
        except OSError:
            return None


def napi_indexes(bodies: list[bytes]) -> frozenset[int]:
    """Return the ifindexes in the *bodies* of answers to napi-get."""
    values = (parse_attributes(body).get(_NETDEV_A_NAPI_IFINDEX) for body in bodies)
    return frozenset(struct.unpack("=I", value)[0] for value in values if value is not None)


def parse_attributes(body: bytes) -> dict[int, bytes]:
    """Return the attributes of *body* by their type."""
    attributes = {}
    position = 0
    while position + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, position)
        attributes[kind & _TYPE_MASK] = body[position + _ATTRIBUTE.size : position + length]
        position += _aligned(max(length, _ATTRIBUTE.size))
    return attributes


def split_messages(datagram: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield type, flags and payload of each message in *datagram*."""
    position = 0
    while position + _MESSAGE.size <= len(datagram):
        length, kind, flags, _, _ = _MESSAGE.unpack_from(datagram, position)
        yield kind, flags, datagram[position + _MESSAGE.size : position + length]
        position += _aligned(max(length, _MESSAGE.size))


def _ask(
    kernel: socket.socket, family: int, command: int, *, flags: int = 0, body: bytes = b""
) -> list[bytes]:
    """Return the attributes of every answer to *command*; OSError when the kernel refuses."""
    payload = _GENERIC.pack(command, 1, 0) + body
    length = _MESSAGE.size + len(payload)
    kernel.send(_MESSAGE.pack(length, family, _NLM_F_REQUEST | flags, 1, 0) + payload)
    answers: list[bytes] = []
    while True:
        for kind, answer_flags, content in split_messages(kernel.recv(_LARGEST)):
            if kind == _NLMSG_ERROR:
                (code,) = struct.unpack_from("=i", content)
                raise OSError(-code, os.strerror(-code))
            if kind == _NLMSG_DONE:
                return answers
            answers.append(content[_GENERIC.size :])
            if not answer_flags & _NLM_F_MULTI:
                return answers


def _pack_attribute(kind: int, value: bytes) -> bytes:
    header = _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind)
    return header + value.ljust(_aligned(len(value)), b"\0")


def _aligned(length: int) -> int:
    return (length + 3) & ~3
