# SPDX-License-Identifier: Apache-2.0
"""Farewells, byte for byte as scapy would write them."""

from __future__ import annotations

from ipaddress import ip_address
from typing import NamedTuple

import pytest
from scapy.layers import inet
from scapy.layers.inet6 import IPv6

from fullnat.core.addr import TCP, UDP, Endpoint, parse_endpoint
from fullnat.core.farewell import farewell
from fullnat.core.sched.base import Scheduler
from fullnat.core.service import RealServer, VirtualService
from fullnat.core.tcp import TcpState
from fullnat.core.timeouts import PROFILES
from tests.packets import tcp, udp, unreachable
from tests.vectors.case import NETS, Net


class Flow(NamedTuple):
    """What of a record is needed."""

    service: VirtualService
    server: RealServer
    client: Endpoint
    local: Endpoint
    state: str


def flow_of(net: Net, protocol: int, state: str) -> Flow:
    server = RealServer(Endpoint(ip_address(net.servers[0]), 8080))
    listen = Endpoint(ip_address(net.vip), 80)
    service = VirtualService("s", protocol, listen, Scheduler(), PROFILES["lvs"], [server])
    client, local = parse_endpoint(net.end(net.client, 4000)), parse_endpoint(net.end(net.lip, 5000))
    return Flow(service, server, client, local, state)


def probe(path: str) -> bytes:
    packet = (inet.IP if "[" not in path else IPv6)(tcp(path, "A", seq=0, ack=0, ident=0))
    packet[inet.TCP].window = 0
    del packet[inet.TCP].chksum
    return bytes(packet)


@pytest.mark.parametrize("net", NETS, ids=lambda net: f"v{net.family}")
def test_the_ends_of_a_connection_are_probed(net: Net) -> None:
    for state in (TcpState.SYN_SENT, TcpState.SYN_RECEIVED, TcpState.ESTABLISHED, TcpState.CLIENT_FIN):
        assert farewell(flow_of(net, TCP, state.name)) == [probe(net.to_client()), probe(net.to_server())]


@pytest.mark.parametrize("net", NETS, ids=lambda net: f"v{net.family}")
@pytest.mark.parametrize("state", [TcpState.CLOSING, TcpState.CLIENT_RESET, TcpState.SERVER_RESET])
def test_a_connection_that_is_over_is_let_go_in_silence(net: Net, state: TcpState) -> None:
    assert farewell(flow_of(net, TCP, state.name)) == []


@pytest.mark.parametrize("net", NETS, ids=lambda net: f"v{net.family}")
@pytest.mark.parametrize("state", ["UNREPLIED", "REPLIED"])
def test_the_ends_of_datagrams_are_told_of_a_port_that_is_unreachable(net: Net, state: str) -> None:
    assert farewell(flow_of(net, UDP, state)) == [
        unreachable(net.vip, net.client, udp(net.to_vip(), b"", ident=0)),
        unreachable(net.lip, net.servers[0], udp(net.from_server(), b"", ident=0)),
    ]
