# SPDX-License-Identifier: Apache-2.0
"""An echo server for many at once, TCP and UDP, both families: stream_echo.py PORT; prints `up`."""

import asyncio
import contextlib
import socket
import sys

import uvloop

BURST = 32 << 20  # bytes of socket buffer
SO_RCVBUFFORCE, SO_SNDBUFFORCE = 33, 32  # asm-generic/socket.h


class Stream(asyncio.Protocol):
    """One TCP connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.WriteTransport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


def echo_datagrams(server: socket.socket) -> None:
    """Answer what there is now."""
    with contextlib.suppress(BlockingIOError):
        for _ in range(64):
            try:
                data, peer = server.recvfrom(65535)
                server.sendto(data, peer)
            except BlockingIOError:
                raise
            except OSError:  # an ICMP error for an answer to somebody who is gone
                continue


async def serve(port: int) -> None:
    """Answer until killed."""
    loop = asyncio.get_running_loop()
    streams = await loop.create_server(Stream, ["0.0.0.0", "::"], port, backlog=1024)
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        server = socket.socket(family, socket.SOCK_DGRAM)
        if family == socket.AF_INET6:
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        server.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BURST)
        server.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, BURST)
        server.bind((address, port))
        server.setblocking(False)
        loop.add_reader(server, echo_datagrams, server)
    print("up", flush=True)
    await streams.serve_forever()


uvloop.run(serve(int(sys.argv[1])))
