# SPDX-License-Identifier: Apache-2.0
"""Steps that many rows begin with."""

from __future__ import annotations

from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6

from fullnat.core.reason import Reason
from tests.packets import tcp, udp, unreachable
from tests.vectors.case import Net, Step


def opened(net: Net, cport: int = 4000, at: float = 0) -> Step:
    """A SYN that opens a flow."""
    return Step(tcp(net.to_vip(cport), "S"), Reason.FLOW_OPENED, out=tcp(net.to_server(), "S"), at=at)


def established(net: Net) -> list[Step]:
    """A handshake."""
    return [
        opened(net),
        Step(
            tcp(net.from_server(), "SA", seq=9, ack=1001),
            Reason.FLOW_OUTBOUND,
            out=tcp(net.to_client(), "SA", seq=9, ack=1001),
        ),
        Step(
            tcp(net.to_vip(), "A", seq=1001, ack=10),
            Reason.FLOW_INBOUND,
            out=tcp(net.to_server(), "A", seq=1001, ack=10),
        ),
    ]


def asked(net: Net) -> Step:
    """A datagram that opens a flow."""
    return Step(
        udp(net.to_vip(vport=53), b"question"),
        Reason.FLOW_OPENED,
        out=udp(net.to_server(5353), b"question"),
    )


def patched(packet: bytes, at: int, value: int) -> bytes:
    """The packet with another byte at *at*."""
    return packet[:at] + bytes((value,)) + packet[at + 1 :]


def reset(path: str, flags: str = "R", seq: int = 0, ack: int = 0) -> bytes:
    """The RST of ours."""
    segment = tcp(path, flags, seq=seq, ack=ack, ident=0)
    packet = (IP if segment[0] >> 4 == 4 else IPv6)(segment)
    packet[TCP].window = 0
    del packet[TCP].chksum
    return bytes(packet)


def answer_about(net: Net, packet: bytes, code: str) -> bytes:
    """The ICMP error of ours that quotes *packet*."""
    quoted = packet[: 576 - 28 if net.family == 4 else 1280 - 48]
    return unreachable(net.vip, net.client, quoted, code=code)
