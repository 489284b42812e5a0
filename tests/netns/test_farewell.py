# SPDX-License-Identifier: Apache-2.0
"""Flows that are ended on request: both ends are told, though they were silent.

 client                    director                     real server
CIP:cport  <---probe--- VIP:vport | LIP:lport ---probe--->  RIP:rport
           ----ACK---->           |           <---ACK-----
           <---RST-----           |           ----RST---->
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import product
from typing import NamedTuple

import pytest

from balancer import Balancer
from lab import Lab
from tests.netns.conversations import connect, open_socket
from tests.netns.streams import ECHO, TRANSPORTS, echo_config
from tests.netns.traffic import reasons, vips

pytestmark = pytest.mark.requires("nfqueue", "ipset", "iptables")

TOLD = 1.0  # seconds in which both ends hear of it
FALLBACKS = ["none", pytest.param("iptables", marks=pytest.mark.requires("nat"))]


def end_all(running: Balancer) -> None:
    """End every flow there is."""
    for row in running.show("servers"):
        running.command("reset", row["service"], row["address"])


Listeners = list[socket.socket]


@pytest.fixture
def listeners(lab: Lab) -> Iterator[Listeners]:
    """Sockets on ECHO of every server, one of each protocol and family."""
    with ExitStack() as stack:
        found = []
        for role, kind, address in product(lab.servers, TRANSPORTS, ("0.0.0.0", "::")):
            listener = stack.enter_context(open_socket(lab, role, address, kind))
            if listener.family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address, ECHO))
            if kind == socket.SOCK_STREAM:
                listener.listen()
            found.append(listener)
        yield found


class Pair(NamedTuple):
    """Two ends of one conversation."""

    client: socket.socket
    server: socket.socket


def talk(stack: ExitStack, lab: Lab, listeners: Listeners, vip: str, kind: int) -> Pair:
    """Open a conversation and have each end say something; then both are silent."""
    client = stack.enter_context(connect(lab, "client", vip, ECHO, kind=kind))
    client.send(b"hello")
    ready, _, _ = select.select([one for one in listeners if one.type == kind], [], [], TOLD)
    (listener,) = ready
    if kind == socket.SOCK_STREAM:
        server = stack.enter_context(listener.accept()[0])
        server.settimeout(TOLD)
        assert server.recv(100) == b"hello"
    else:
        server = listener
        data, peer = server.recvfrom(100)
        assert data == b"hello"
        server.connect(peer)
    server.send(b"how do you do")
    assert client.recv(100) == b"how do you do"
    return Pair(client, server)


def hear(end: socket.socket, error: type[OSError]) -> None:
    end.settimeout(TOLD)
    with pytest.raises(error):
        end.recv(100)


@pytest.mark.parametrize("fallback", FALLBACKS)
def test_both_ends_of_silent_connections_are_reset(
    lab: Lab,
    balancer: Callable[..., Balancer],
    listeners: Listeners,
    fallback: str,
) -> None:
    running = balancer(echo_config(lab, fallback=fallback))
    with ExitStack() as stack:
        pairs = [
            talk(stack, lab, listeners, vips(lab, family)[0], socket.SOCK_STREAM)
            for family in lab.families
            for _ in range(4)
        ]
        end_all(running)
        for pair in pairs:
            hear(pair.client, ConnectionResetError)
            hear(pair.server, ConnectionResetError)
    stats = running.show("stats")
    assert stats["flows"] == 0
    assert reasons(stats)["flow_ended"] == 2 * len(pairs)
    assert running.show("flows") == []


@pytest.mark.parametrize("fallback", FALLBACKS)
def test_both_ends_of_datagrams_are_refused(
    lab: Lab,
    balancer: Callable[..., Balancer],
    listeners: Listeners,
    fallback: str,
) -> None:
    running = balancer(echo_config(lab, fallback=fallback))
    with ExitStack() as stack:
        pairs = [
            talk(stack, lab, listeners, vips(lab, family)[0], socket.SOCK_DGRAM) for family in lab.families
        ]
        end_all(running)
        for pair in pairs:
            hear(pair.client, ConnectionRefusedError)
            hear(pair.server, ConnectionRefusedError)
    assert running.show("flows") == []


def test_whoever_was_talking_is_reset_and_may_connect_again(
    lab: Lab, balancer: Callable[..., Balancer], listeners: Listeners
) -> None:
    running = balancer(echo_config(lab))
    for family in lab.families:
        vip = vips(lab, family)[0]
        with ExitStack() as stack:
            pair = talk(stack, lab, listeners, vip, socket.SOCK_STREAM)
            end_all(running)
            hear(pair.client, ConnectionResetError)
            again = talk(stack, lab, listeners, vip, socket.SOCK_STREAM)
            again.client.send(b"still here?")
            assert again.server.recv(100) == b"still here?"
