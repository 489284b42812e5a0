# SPDX-License-Identifier: Apache-2.0
"""Check udp: one datagram, and an answer that is accepted, or at least no refusal.

Without `expect` the server is up unless "port unreachable" or another ICMP error comes back within
the timeout: all that can be known of a protocol that does not answer, and a server that is switched
off passes as up as long as nothing on its network says otherwise.  With it, silence is a failure.
"""

from __future__ import annotations

import socket

from fullnat.health.check import Code, Target, UdpOptions
from fullnat.health.probe import CheckError, Finding, Progress
from fullnat.health.wire import Datagrams, open_socket

_SILENCE = Finding(Code.L4OK, "no answer, no refusal")


async def probe(target: Target, options: UdpOptions, progress: Progress) -> Finding:
    """Send *target* a datagram."""
    with Datagrams(open_socket(target, socket.SOCK_DGRAM), target) as datagrams:
        progress.asking(_SILENCE if options.expect is None else Finding(Code.L7TOUT, "no answer"))
        datagrams.send(options.payload)
        answer = await datagrams.receive()
    if options.expect and not options.expect.search(answer):
        raise CheckError(Code.L7RSP, f"an answer of {len(answer)} bytes without what is expected")
    return Finding(Code.L7OK, f"an answer of {len(answer)} bytes")
