# SPDX-License-Identifier: Apache-2.0
"""Connections handed to the kernel: entries of conntrack with both translations.

    CIP:cport -> VIP:vport     orig     with destination NAT to RIP:rport and source NAT from LIP:lport
    VIP:vport -> CIP:cport     reply    which the kernel itself changes to RIP:rport -> LIP:lport

Theory.  NAT of an entry can only be said when it is made; then the kernel forwards the connection as
if its own rules had opened it, with the very local port it had.  An entry that clashes with another is
refused: none is ever replaced.  For TCP the kernel is told that the connection is established and not
to look at sequence numbers, of which it knows none (nf_conntrack_netlink.c, nf_conntrack_proto_tcp.c).

Netlink is spoken here and not by way of a program or a library: tens of thousands of entries have to
be made in the moment in which no engine runs.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from itertools import islice
from typing import NamedTuple

from fullnat.core.addr import TCP, Endpoint

# linux/netfilter/nfnetlink_conntrack.h, nf_conntrack_common.h, nf_conntrack_tcp.h, linux/netlink.h
_NETFILTER = 12
_NEW_ENTRY = 1 << 8  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_NEW
_GET_ENTRY = 1 << 8 | 1  # IPCTNL_MSG_CT_GET
_REQUEST, _ACK, _EXCL, _CREATE, _DUMP = 0x1, 0x4, 0x200, 0x400, 0x300
_ERROR, _DONE = 2, 3
_NESTED = 0x8000
_ORIG, _REPLY, _STATUS, _PROTOCOL_INFO, _NAT_SRC, _TIMEOUT, _MARK, _NAT_DST, _MARK_MASK = (
    1,
    2,
    3,
    4,
    6,
    7,
    8,
    13,
    21,
)
_TUPLE_IP, _TUPLE_PROTOCOL = 1, 2
_IP = {4: (1, 2), 6: (3, 4)}  # source, destination
_PROTOCOL_NUMBER, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3
_NAT_IP, _NAT_PORTS = {4: (1, 2), 6: (4, 5)}, 3  # lowest, highest
_NAT_PORT_LOW, _NAT_PORT_HIGH = 1, 2
_SEEN_REPLY, _ASSURED, _CONFIRMED = 1 << 1, 1 << 2, 1 << 3
_TCP_INFO, _TCP_STATE, _TCP_FLAGS = 1, 1, (4, 5)
_TCP_ESTABLISHED, _BE_LIBERAL = 3, 8

_BATCH = 64  # entries a message
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


class Connection(NamedTuple):
    """A connection that the kernel is to go on with."""

    protocol: int  # addr.TCP or addr.UDP
    client: Endpoint
    virtual: Endpoint
    local: Endpoint
    server: Endpoint
    timeout: int  # seconds it may stay silent


class Conntrack:
    """The connection tracking of this network namespace; a context manager."""

    def __init__(self) -> None:
        """Open it; OSError where the kernel has none."""
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETFILTER)
        self._socket.bind((0, 0))

    def __enter__(self) -> Conntrack:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def add(self, connections: Iterable[Connection], mark: int) -> int:
        """Have the kernel take *connections*, with *mark* on each; return how many it did not have yet.

        OSError when it will not have one for want of rights or memory.
        """
        source, taken = iter(connections), 0
        while batch := list(islice(source, _BATCH)):
            self._socket.sendall(b"".join(_entry(connection, mark) for connection in batch))
            taken += sum(self._is_taken() for _ in batch)
        return taken

    def local_ends(self, mark: int) -> Iterator[Endpoint]:
        """Yield the local end of each connection that has *mark*: where its answers come in."""
        body = struct.pack("!BBH", socket.AF_UNSPEC, 0, 0)
        body += _attribute(_MARK, struct.pack("!I", mark)) + _attribute(_MARK_MASK, struct.pack("!I", mark))
        header = struct.pack("=IHHII", 16 + len(body), _GET_ENTRY, _REQUEST | _DUMP, 0, 0)
        self._socket.sendall(header + body)
        while True:
            for kind, message in _messages(self._socket.recv(1 << 16)):
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    (code,) = struct.unpack_from("=i", message)
                    raise OSError(-code, f"conntrack: {errno.errorcode.get(-code, code)}")
                yield _destination(_attributes(message[4:])[_REPLY])

    def _is_taken(self) -> bool:
        answer = self._socket.recv(8192)
        code = int(struct.unpack_from("=IHHIIi", answer)[5])  # of NLMSG_ERROR; 0 is an acknowledgement
        if code in (0, -errno.EEXIST):
            return code == 0
        raise OSError(-code, f"conntrack: {errno.errorcode.get(-code, code)}")


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and body of the netlink messages in *data*."""
    while data:
        size, kind = struct.unpack_from("=IH", data)
        yield kind, data[16:size]
        data = data[(size + 3) & ~3 :]


def _attributes(data: bytes) -> dict[int, bytes]:
    """Return the attributes in *data*, by type."""
    found = {}
    while data:
        size, kind = struct.unpack_from("=HH", data)
        found[kind & ~_NESTED] = data[4:size]
        data = data[(size + 3) & ~3 :]
    return found


def _destination(data: bytes) -> Endpoint:
    """Return where the packets of a tuple go."""
    parts = _attributes(data)
    ip, ports = _attributes(parts[_TUPLE_IP]), _attributes(parts[_TUPLE_PROTOCOL])
    address = next(ip[at] for _, at in _IP.values() if at in ip)
    return Endpoint(ip_address(address), int.from_bytes(ports[_DESTINATION_PORT], "big"))


def _entry(connection: Connection, mark: int) -> bytes:
    status = _SEEN_REPLY | _ASSURED | _CONFIRMED
    body = struct.pack("!BBH", _FAMILIES[connection.client.family], 0, 0)
    body += _tuple(_ORIG, connection.protocol, connection.client, connection.virtual)
    body += _tuple(_REPLY, connection.protocol, connection.virtual, connection.client)
    body += _attribute(_STATUS, struct.pack("!I", status))
    body += _attribute(_TIMEOUT, struct.pack("!I", max(1, connection.timeout)))
    body += _attribute(_MARK, struct.pack("!I", mark))
    body += _nat(_NAT_SRC, connection.local) + _nat(_NAT_DST, connection.server)
    if connection.protocol == TCP:
        liberal = struct.pack("BB", _BE_LIBERAL, _BE_LIBERAL)
        state = _attribute(_TCP_STATE, bytes([_TCP_ESTABLISHED]))
        state += b"".join(_attribute(flags, liberal) for flags in _TCP_FLAGS)
        body += _nest(_PROTOCOL_INFO, _nest(_TCP_INFO, state))
    flags = _REQUEST | _ACK | _CREATE | _EXCL
    return struct.pack("=IHHII", 16 + len(body), _NEW_ENTRY, flags, 0, 0) + body


def _tuple(kind: int, protocol: int, source: Endpoint, destination: Endpoint) -> bytes:
    at_source, at_destination = _IP[source.family]
    ip = _attribute(at_source, source.address.packed) + _attribute(at_destination, destination.address.packed)
    ports = _attribute(_PROTOCOL_NUMBER, bytes([protocol]))
    ports += _attribute(_SOURCE_PORT, source.packed_port)
    ports += _attribute(_DESTINATION_PORT, destination.packed_port)
    return _nest(kind, _nest(_TUPLE_IP, ip) + _nest(_TUPLE_PROTOCOL, ports))


def _nat(kind: int, to: Endpoint) -> bytes:
    ip = b"".join(_attribute(bound, to.address.packed) for bound in _NAT_IP[to.family])
    ports = b"".join(_attribute(bound, to.packed_port) for bound in (_NAT_PORT_LOW, _NAT_PORT_HIGH))
    return _nest(kind, ip + _nest(_NAT_PORTS, ports))


def _nest(kind: int, inside: bytes) -> bytes:
    return _attribute(kind | _NESTED, inside)


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)
