# SPDX-License-Identifier: Apache-2.0
"""Which devices have NAPI, asked of the kernel: generic netlink family `netdev`, since Linux 6.8.

A device without NAPI hands its packets to the backlog of the CPU they came up on.  Which of the two
it is may change while the device is up: a veth has NAPI only while GRO is on or an XDP program is
attached.  Devices that are down are not reported.
"""

from __future__ import annotations

import socket
import struct

from fullnat.host import netlink

# linux/genetlink.h, linux/netdev.h
_GENL_ID_CTRL, _CTRL_CMD_GETFAMILY = 16, 3
_CTRL_ATTR_FAMILY_ID, _CTRL_ATTR_FAMILY_NAME = 1, 2
_NETDEV_CMD_NAPI_GET = 11
_NETDEV_A_NAPI_IFINDEX = 1

_GENERIC = struct.Struct("=BBH")  # command, version, reserved


def read_napi_indexes() -> frozenset[int] | None:
    """Return the ifindex of every device with NAPI that is up, or None when the kernel cannot say."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, netlink.GENERIC) as kernel:
        try:
            name = netlink.attribute(_CTRL_ATTR_FAMILY_NAME, b"netdev\0")
            (about, *_) = _ask(kernel, _GENL_ID_CTRL, _CTRL_CMD_GETFAMILY, body=name)
            (family,) = struct.unpack("=H", netlink.attributes(about)[_CTRL_ATTR_FAMILY_ID])
            return napi_indexes(_ask(kernel, family, _NETDEV_CMD_NAPI_GET, flags=netlink.DUMP))
        except OSError:
            return None


def napi_indexes(bodies: list[bytes]) -> frozenset[int]:
    """Return the ifindexes in the *bodies* of answers to napi-get."""
    values = (netlink.attributes(body).get(_NETDEV_A_NAPI_IFINDEX) for body in bodies)
    return frozenset(struct.unpack("=I", value)[0] for value in values if value is not None)


def _ask(
    kernel: socket.socket, family: int, command: int, *, flags: int = 0, body: bytes = b""
) -> list[bytes]:
    """Return the attributes of every answer to *command*; OSError when the kernel refuses."""
    kernel.send(netlink.message(family, flags, _GENERIC.pack(command, 1, 0) + body))
    answers: list[bytes] = []
    while True:
        for answer in netlink.messages(kernel.recv(netlink.LARGEST)):
            if answer.error is not None:
                raise answer.error
            if answer.kind in (netlink.ERROR, netlink.DONE):
                return answers
            answers.append(answer.body[_GENERIC.size :])
            if not answer.flags & netlink.MULTI:
                return answers
