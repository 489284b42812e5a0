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
from fullnat.host import netlink
from fullnat.host.netlink import attribute, attributes, nest, netfilter_attributes, netfilter_message

# linux/netfilter/nfnetlink_conntrack.h, nf_conntrack_common.h, nf_conntrack_tcp.h
_NEW_ENTRY = 1 << 8  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_NEW
_GET_ENTRY = 1 << 8 | 1  # IPCTNL_MSG_CT_GET
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
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, netlink.NETFILTER)
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
        wanted = attribute(_MARK, struct.pack("!I", mark)) + attribute(_MARK_MASK, struct.pack("!I", mark))
        self._socket.sendall(netfilter_message(_GET_ENTRY, netlink.DUMP, socket.AF_UNSPEC, wanted))
        while True:
            for answer in netlink.messages(self._socket.recv(netlink.LARGEST)):
                if answer.kind == netlink.DONE:
                    return
                if answer.error is not None:
                    raise answer.error
                yield _destination(netfilter_attributes(answer.body)[_REPLY])

    def _is_taken(self) -> bool:
        (answer,) = netlink.messages(self._socket.recv(netlink.LARGEST))
        if answer.error is not None and answer.error.errno != errno.EEXIST:
            raise answer.error
        return answer.error is None


def _destination(data: bytes) -> Endpoint:
    """Return where the packets of a tuple go."""
    parts = attributes(data)
    ip, ports = attributes(parts[_TUPLE_IP]), attributes(parts[_TUPLE_PROTOCOL])
    address = next(ip[at] for _, at in _IP.values() if at in ip)
    return Endpoint(ip_address(address), int.from_bytes(ports[_DESTINATION_PORT], "big"))


def _entry(connection: Connection, mark: int) -> bytes:
    status = _SEEN_REPLY | _ASSURED | _CONFIRMED
    body = _tuple(_ORIG, connection.protocol, connection.client, connection.virtual)
    body += _tuple(_REPLY, connection.protocol, connection.virtual, connection.client)
    body += attribute(_STATUS, struct.pack("!I", status))
    body += attribute(_TIMEOUT, struct.pack("!I", max(1, connection.timeout)))
    body += attribute(_MARK, struct.pack("!I", mark))
    body += _nat(_NAT_SRC, connection.local) + _nat(_NAT_DST, connection.server)
    if connection.protocol == TCP:
        liberal = struct.pack("BB", _BE_LIBERAL, _BE_LIBERAL)
        state = attribute(_TCP_STATE, bytes([_TCP_ESTABLISHED]))
        state += b"".join(attribute(flags, liberal) for flags in _TCP_FLAGS)
        body += nest(_PROTOCOL_INFO, nest(_TCP_INFO, state))
    flags = netlink.ACK | netlink.CREATE | netlink.EXCL
    return netfilter_message(_NEW_ENTRY, flags, _FAMILIES[connection.client.family], body)


def _tuple(kind: int, protocol: int, source: Endpoint, destination: Endpoint) -> bytes:
    at_source, at_destination = _IP[source.family]
    ip = attribute(at_source, source.address.packed) + attribute(at_destination, destination.address.packed)
    ports = attribute(_PROTOCOL_NUMBER, bytes([protocol]))
    ports += attribute(_SOURCE_PORT, source.packed_port)
    ports += attribute(_DESTINATION_PORT, destination.packed_port)
    return nest(kind, nest(_TUPLE_IP, ip) + nest(_TUPLE_PROTOCOL, ports))


def _nat(kind: int, to: Endpoint) -> bytes:
    ip = b"".join(attribute(bound, to.address.packed) for bound in _NAT_IP[to.family])
    ports = b"".join(attribute(bound, to.packed_port) for bound in (_NAT_PORT_LOW, _NAT_PORT_HIGH))
    return nest(kind, ip + nest(_NAT_PORTS, ports))
