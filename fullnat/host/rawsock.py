# SPDX-License-Identifier: Apache-2.0
"""Send whole IP packets, from whatever source address they carry, with fullnat's mark.

For what fullnat itself has to say: ICMP errors and resets in the name of a VIP, which need not be an
address of this host.  A raw socket with the header included takes the source from the packet; the
mark lets the packet past our own steering and past a firewall (rules.py).

The kernel fills in an IPv4 header's total length and checksum, and its identification if 0; all
else, the transport checksum too, must be right.  It does not fragment: a packet larger than the
MTU is an error, and errors are counted, never raised, for nobody on the packet path could do better.
"""

from __future__ import annotations

import socket
from ipaddress import IPv6Address
from types import TracebackType

_IPV4_DESTINATION = slice(16, 20)
_IPV6_DESTINATION = slice(24, 40)


class RawSender:
    """Sends packets of both families; an IPv6 socket only where the host has IPv6."""

    def __init__(self, mark: int) -> None:
        self.sent = 0
        self.errors = 0
        self._v4 = _open_socket(socket.AF_INET, mark)
        try:
            self._v6: socket.socket | None = _open_socket(socket.AF_INET6, mark)
        except OSError:
            self._v6 = None  # EAFNOSUPPORT: booted with ipv6.disable=1

    @property
    def descriptors(self) -> tuple[int, int]:
        """The sockets of IPv4 and IPv6, for who sends by himself; -1: there is none."""
        return self._v4.fileno(), -1 if self._v6 is None else self._v6.fileno()

    def send(self, packet: bytes | bytearray | memoryview) -> bool:
        """Send *packet*, which begins with its IP header; False and one error more when it fails."""
        try:
            self._send(packet)
        except (OSError, ValueError):
            self.errors += 1
            return False
        self.sent += 1
        return True

    def _send(self, packet: bytes | bytearray | memoryview) -> None:
        version = packet[0] >> 4 if len(packet) else 0
        if version == 4:
            self._v4.sendto(packet, (socket.inet_ntop(socket.AF_INET, packet[_IPV4_DESTINATION]), 0))
        elif version == 6 and self._v6 is not None:
            destination = IPv6Address(bytes(packet[_IPV6_DESTINATION]))
            self._v6.sendto(packet, (str(destination), 0))
        else:
            raise ValueError("neither IPv4 nor an IPv6 this host has")

    def close(self) -> None:
        """Close the sockets."""
        self._v4.close()
        if self._v6 is not None:
            self._v6.close()

    def __enter__(self) -> RawSender:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _open_socket(family: socket.AddressFamily, mark: int) -> socket.socket:
    # IPPROTO_RAW: the header is included, and nothing is ever received.
    sock = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
    return sock
