# SPDX-License-Identifier: Apache-2.0
"""The correctness gate: before anything is timed, the right bytes must cross, translated, both ways.

A peer that loses, duplicates or corrupts data, or that lets the client's address through, would
otherwise look fast.  The sockets belong to the lab's namespaces, this process drives both ends.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from bench.errors import BenchError
from bench.ns import Lab
from bench.peers.base import Peer
from bench.waiting import PATIENCE

TIMEOUT = 3.0 * PATIENCE
DATAGRAMS = 20
CHUNK, CHUNKS = 16_384, 16


def check_datagrams(lab: Lab, peer: Peer, port: int) -> None:
    """Raise BenchError unless each of some datagrams arrives whole, translated, and is answered."""
    noise = random.Random(port)
    with _told_apart(peer, f"udp {port}"), _server(lab, socket.SOCK_DGRAM, port) as server:
        for number in range(DATAGRAMS):
            with _client(lab, peer, socket.SOCK_DGRAM, port) as client:
                _exchange(peer, client, server, noise.randbytes(1 + 37 * number))


def _exchange(peer: Peer, client: socket.socket, server: socket.socket, question: bytes) -> None:
    client.send(question)
    received, source = server.recvfrom(65_536)
    _expect_source(peer, source[0])
    if received != question:
        raise BenchError(f"{len(question)} bytes sent, other bytes arrived at the server")
    server.sendto(question[::-1], source)
    # A connected socket: only an answer from the address and port it talks to is delivered.
    if client.recv(65_536) != question[::-1]:
        raise BenchError(f"{len(question)} bytes answered, other bytes arrived at the client")


def check_stream(lab: Lab, peer: Peer, port: int) -> None:
    """Raise BenchError unless a connection is translated and carries the same bytes both ways."""
    noise = random.Random(port)
    with _told_apart(peer, f"tcp {port}"), _server(lab, socket.SOCK_STREAM, port) as listener:
        listener.listen()
        with _client(lab, peer, socket.SOCK_STREAM, port) as client:
            server, source = listener.accept()
            with server:
                server.settimeout(TIMEOUT)
                _expect_source(peer, source[0])
                for _ in range(CHUNKS):
                    chunk = noise.randbytes(CHUNK)
                    _carry(client, server, chunk)
                    _carry(server, client, chunk[::-1])


def _carry(sender: socket.socket, receiver: socket.socket, data: bytes) -> None:
    sender.sendall(data)
    received = bytearray()
    while len(received) < len(data):
        part = receiver.recv(len(data) - len(received))
        if not part:
            raise BenchError("the connection closed early")
        received += part
    if received != data:
        raise BenchError(f"{len(data)} bytes sent, other bytes arrived")


@contextmanager
def _told_apart(peer: Peer, what: str) -> Iterator[None]:
    """Say in each failure whose gate it was."""
    try:
        yield
    except (OSError, BenchError) as error:
        reason = "nothing arrived in time" if isinstance(error, TimeoutError) else error
        raise BenchError(f"gate: {peer.name}, {what}: {reason}") from error


def _server(lab: Lab, kind: int, port: int) -> socket.socket:
    server = lab.server.socket(lab.plan.address_family, kind)
    server.settimeout(TIMEOUT)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind((lab.plan.server, port))
    return server


def _client(lab: Lab, peer: Peer, kind: int, port: int) -> socket.socket:
    client = lab.client.socket(lab.plan.address_family, kind)
    client.settimeout(TIMEOUT)
    try:
        client.connect((peer.target, port))
    except OSError:
        client.close()
        raise
    return client


def _expect_source(peer: Peer, source: str) -> None:
    if source not in peer.sources:
        raise BenchError(f"the server saw {source}, expected {peer.sources.first} to {peer.sources.last}")
