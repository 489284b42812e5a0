# SPDX-License-Identifier: Apache-2.0
"""How long a silent flow is kept, by what was last seen of it: three profiles.

`lvs`   what `ipvsadm --set` users know: tcp 900, tcpfin 120, udp 300; opening and reset as IPVS
        has SYN_RECV and CLOSE (net/netfilter/ipvs/ip_vs_proto_tcp.c, tcp_timeouts).
`rfc`   the floors and recommendations: TCP established 2 h 4 min (RFC 5382 REQ-5), opening,
        closing and reset 4 min (RFC 7857 section 2), UDP 5 min (RFC 4787 REQ-5c).
`edge`  short ones for boxes that face many clients that vanish.
"""

from __future__ import annotations

from dataclasses import dataclass

SECOND = 1_000_000_000  # nanoseconds


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Idle timeouts in nanoseconds."""

    tcp_opening: int
    tcp_established: int
    tcp_closing: int
    tcp_reset: int
    udp: int
    udp_unreplied: int
    icmp: int


def _seconds(**values: int) -> Timeouts:
    return Timeouts(**{name: value * SECOND for name, value in values.items()})


PROFILES: dict[str, Timeouts] = {
    "lvs": _seconds(
        tcp_opening=60,
        tcp_established=900,
        tcp_closing=120,
        tcp_reset=10,
        udp=300,
        udp_unreplied=300,
        icmp=60,
    ),
    "rfc": _seconds(
        tcp_opening=240,
        tcp_established=7440,
        tcp_closing=240,
        tcp_reset=240,
        udp=300,
        udp_unreplied=120,
        icmp=60,
    ),
    "edge": _seconds(
        tcp_opening=10, tcp_established=350, tcp_closing=60, tcp_reset=10, udp=120, udp_unreplied=30, icmp=30
    ),
}
