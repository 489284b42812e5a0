# SPDX-License-Identifier: Apache-2.0
"""Farewells: what is sent to both ends of a flow that was ended, so that neither waits for the other.

   TCP    VIP:vport  -> CIP:cport   a segment out of place; the end acknowledges what it does expect
          LIP:lport  -> RIP:rport   likewise; core/ended.py has the director answer that with a RST
   UDP    VIP        -> CIP         port unreachable, about the datagram the client would send
          LIP        -> RIP         likewise, about the server's

Theory.  A RST counts only with the sequence number that its receiver expects next (RFC 9293, section
3.10.7.4; RFC 5961, section 3.2), and packets are forwarded without a look at those.  But every end of
a synchronized connection answers a segment it cannot accept with an acknowledgment that says where
it stands, and a RST that answers it is right by construction.

Rules.
  1. The segment has no data, so that nothing of ours can ever be taken for the stream's.
  2. It has no timestamp, even where timestamps were agreed on: Linux since 6.14 takes a bare
     acknowledgment with an old one for a straggler and says nothing, and without it looks at the
     numbers.  Who drops segments for the lack of one (RFC 7323, section 3.2, allows it) is not reached.
  3. A connection that is closing or was reset is let go in silence: its ends know.

A firewall on the way may drop what it finds out of place, and an end with a rate limit for such
answers, Linux has one of two a second for a connection, may be silent once.  Who is not reached is
reset by its next packet.

Refused.  A RST for each number the end may expect: that is the attack which RFC 5961 is about.
          Following sequence numbers in every flow: work for each packet, for the sake of the last.
"""

from __future__ import annotations

from typing import Protocol

from fullnat.core import icmp
from fullnat.core.addr import TCP, UDP, Endpoint
from fullnat.core.checksum import checksum
from fullnat.core.packet import ACK, build_key, key_addresses, parse
from fullnat.core.service import RealServer, VirtualService
from fullnat.core.tcp import TcpState

_OVER = frozenset(state.name for state in (TcpState.CLOSING, TcpState.CLIENT_RESET, TcpState.SERVER_RESET))


class Ended(Protocol):
    """A flow that was ended: what a FlowRecord has."""

    @property
    def service(self) -> VirtualService:
        """Whose flow it was."""
        ...

    @property
    def server(self) -> RealServer:
        """RIP:rport is its endpoint."""
        ...

    @property
    def client(self) -> Endpoint:
        """CIP:cport."""
        ...

    @property
    def local(self) -> Endpoint:
        """LIP:lport."""
        ...

    @property
    def state(self) -> str:
        """What it was in at the end."""
        ...


def farewell(flow: Ended) -> list[bytes]:
    """Return the packets that tell the client and the server of *flow*, in this order, or none."""
    to_client = flow.service.listen, flow.client
    to_server = flow.local, flow.server.endpoint
    if flow.service.protocol == UDP:
        return [_unreachable(*to_client), _unreachable(*to_server)]
    return [] if flow.state in _OVER else [_probe(*to_client), _probe(*to_server)]


def _probe(source: Endpoint, destination: Endpoint) -> bytes:
    """Return a segment that *destination* cannot accept: its numbers are as good as any."""
    key = build_key(source, destination)
    addresses = key_addresses(key)
    segment = key[-4:] + bytes(8) + bytes((5 << 4, ACK)) + bytes(6)
    check = checksum(icmp.pseudo_header(addresses, len(segment), TCP), segment)
    segment = segment[:16] + check.to_bytes(2, "big") + segment[18:]
    return icmp.build_packet(addresses, TCP, segment)


def _unreachable(source: Endpoint, destination: Endpoint) -> bytes:
    """Return what *source* would say if *destination* sent it an empty datagram now."""
    key = build_key(destination, source)
    addresses = key_addresses(key)
    datagram = key[-4:] + b"\0\x08\0\0"
    check = checksum(icmp.pseudo_header(addresses, len(datagram), UDP), datagram) or 0xFFFF
    datagram = datagram[:6] + check.to_bytes(2, "big")
    view = parse(icmp.build_packet(addresses, UDP, datagram))
    return icmp.build_unreachable(view, icmp.PORT_UNREACHABLE[view.family])
