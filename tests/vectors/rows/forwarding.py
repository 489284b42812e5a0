# SPDX-License-Identifier: Apache-2.0
"""What is forwarded: flows of both protocols, MSS, reopening, one-packet scheduling."""

from __future__ import annotations

from dataclasses import replace

from fullnat.core.reason import Reason
from tests.packets import tcp, udp
from tests.vectors.case import Case, Given, Net, Step
from tests.vectors.rows.steps import asked, established, opened

MSS = (("MSS", 1460), ("SAckOK", b""), ("Timestamp", (1, 0)), ("NOP", None), ("WScale", 7))


def rows(net: Net) -> list[Case]:
    """The rows of one family."""
    odd = b"seventeen bytes.."
    return [
        Case("a TCP connection runs both ways through one local port", Given(net), established(net)),
        Case(
            "TCP payload crosses unchanged in both directions",
            Given(net),
            [
                *established(net),
                Step(
                    tcp(net.to_vip(), "PA", seq=1001, ack=10, payload=odd),
                    Reason.FLOW_INBOUND,
                    out=tcp(net.to_server(), "PA", seq=1001, ack=10, payload=odd),
                ),
                Step(
                    tcp(net.from_server(), "PA", seq=10, ack=1018, payload=odd * 80),
                    Reason.FLOW_OUTBOUND,
                    out=tcp(net.to_client(), "PA", seq=10, ack=1018, payload=odd * 80),
                ),
            ],
        ),
        Case(
            "UDP is asked and answered",
            Given(net),
            [
                asked(net),
                Step(
                    udp(net.from_server(5353), b"an answer"),
                    Reason.FLOW_OUTBOUND,
                    out=udp(net.to_client(vport=53), b"an answer"),
                ),
                Step(
                    udp(net.to_vip(vport=53), b"again"),
                    Reason.FLOW_INBOUND,
                    out=udp(net.to_server(5353), b"again"),
                ),
            ],
        ),
        Case(
            "a wrong checksum is not repaired",
            Given(net),
            [
                Step(
                    _spoiled(udp(net.to_vip(vport=53), b"spoiled")),
                    Reason.FLOW_OPENED,
                    out=_spoiled(udp(net.to_server(5353), b"spoiled")),
                )
            ],
        ),
        Case(
            "a SYN again, before the answer, belongs to the same flow",
            Given(net),
            [opened(net), replace(opened(net), reason=Reason.FLOW_INBOUND, at=1)],
        ),
        Case(
            "MSS is clamped to the narrower path in SYN and SYN-ACK, and nothing else in them changes",
            Given(net, path_mtu=1280),
            [
                Step(
                    tcp(net.to_vip(), "S", options=MSS),
                    Reason.FLOW_OPENED,
                    out=tcp(net.to_server(), "S", options=(("MSS", _mss(net, 1280)), *MSS[1:])),
                ),
                Step(
                    tcp(net.from_server(), "SA", options=(("NOP", None), *MSS)),
                    Reason.FLOW_OUTBOUND,
                    out=tcp(
                        net.to_client(), "SA", options=(("NOP", None), ("MSS", _mss(net, 1280)), *MSS[1:])
                    ),
                ),
            ],
        ),
        Case(
            "an MSS that fits is left alone",
            Given(net),
            [
                Step(
                    tcp(net.to_vip(), "S", options=(("MSS", 536),)),
                    Reason.FLOW_OPENED,
                    out=tcp(net.to_server(), "S", options=(("MSS", 536),)),
                )
            ],
        ),
        Case(
            "new flows go round the servers",
            Given(net),
            [
                Step(
                    tcp(net.to_vip(4000 + n), "S"),
                    Reason.FLOW_OPENED,
                    out=tcp(net.to_server(server=n), "S"),
                )
                for n in range(3)
            ],
        ),
        Case(
            "a new SYN on a closing flow reopens it on the same local port when the server is the same",
            Given(net, servers=1),
            [
                *established(net),
                Step(tcp(net.to_vip(), "FA"), Reason.FLOW_INBOUND, out=tcp(net.to_server(), "FA")),
                Step(tcp(net.from_server(), "FA"), Reason.FLOW_OUTBOUND, out=tcp(net.to_client(), "FA")),
                Step(
                    tcp(net.to_vip(), "S", seq=77),
                    Reason.FLOW_REOPENED,
                    out=tcp(net.to_server(), "S", seq=77),
                    at=1,
                ),
            ],
        ),
        Case(
            "a SYN of the server's on a closing flow reopens nothing",
            Given(net),
            [
                opened(net),
                Step(tcp(net.to_vip(), "R"), Reason.FLOW_INBOUND, out=tcp(net.to_server(), "R")),
                Step(tcp(net.from_server(), "S"), Reason.FLOW_OUTBOUND, out=tcp(net.to_client(), "S"), at=1),
            ],
        ),
        Case(
            "a new SYN after a reset reopens, on another server if that is its turn",
            Given(net, servers=2),
            [
                opened(net),
                Step(tcp(net.from_server(), "RA"), Reason.FLOW_OUTBOUND, out=tcp(net.to_client(), "RA")),
                Step(
                    tcp(net.to_vip(), "S", seq=77),
                    Reason.FLOW_REOPENED,
                    out=tcp(net.to_server(server=1), "S", seq=77),
                    at=1,
                ),
            ],
        ),
        Case(
            "datagrams of one client are scheduled one by one, and all answers find it",
            Given(net, one_packet=True, servers=2),
            [
                Step(
                    udp(net.to_vip(vport=53), b"%d" % n),
                    Reason.FLOW_OPENED if n < 2 else Reason.FLOW_INBOUND,
                    out=udp(net.to_server(5353, server=n % 2), b"%d" % n),
                )
                for n in range(4)
            ]
            + [
                Step(
                    udp(net.from_server(5353, server=n), b"answer"),
                    Reason.FLOW_OUTBOUND,
                    out=udp(net.to_client(vport=53), b"answer"),
                )
                for n in range(2)
            ],
        ),
    ]


def _mss(net: Net, mtu: int) -> int:
    return mtu - (40 if net.family == 4 else 60)


def _spoiled(datagram: bytes) -> bytes:
    """Return *datagram* with its last byte changed and its checksums as they were."""
    return datagram[:-1] + bytes((datagram[-1] ^ 0x01,))
