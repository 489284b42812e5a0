# SPDX-License-Identifier: Apache-2.0
"""Servers to be checked, on both families: SMTP on 25, DNS on 53, UDP echo on 7, a slow web server on 8080.

health_servers.py FILE, which holds the seconds the web server takes; prints `up`, then protocol and source
of each conversation.
"""

import contextlib
import socket
import socketserver
import sys
import threading
import time
from pathlib import Path

DELAY = Path(sys.argv[1])


def tell(protocol: str, peer: str) -> None:
    print(protocol, peer.removeprefix("::ffff:"), flush=True)


class Smtp(socketserver.StreamRequestHandler):
    """As much of RFC 5321 as a check speaks."""

    def handle(self) -> None:
        tell("smtp", self.client_address[0])
        self.wfile.write(b"220 mx.example ready\r\n")
        for line in self.rfile:
            match line.split()[:1]:
                case [b"EHLO"]:
                    self.wfile.write(b"250-mx.example\r\n250 SIZE\r\n")
                case [b"QUIT"]:
                    self.wfile.write(b"221 bye\r\n")
                    return
                case _:
                    self.wfile.write(b"502 unknown\r\n")


class Dns(socketserver.BaseRequestHandler):
    """Answers every question with one empty record of the type and name that were asked for."""

    def handle(self) -> None:
        tell("dns", self.client_address[0])
        query, sock = self.request
        record = b"\xc0\x0c" + query[-4:] + b"\0\0\0\x3c\0\0"
        sock.sendto(query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + query[12:] + record, self.client_address)


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        tell("udp", self.client_address[0])
        data, sock = self.request
        sock.sendto(data, self.client_address)


class Slow(socketserver.StreamRequestHandler):
    """Answers any HTTP request, late."""

    def handle(self) -> None:
        while self.rfile.readline().strip():
            pass
        time.sleep(float(DELAY.read_text()))
        with contextlib.suppress(OSError):  # who asked may have gone
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


def dual(kind: type[socketserver.TCPServer]) -> type[socketserver.TCPServer]:
    """A server of *kind* on both families."""

    class Dual(kind):  # type: ignore[valid-type, misc]
        address_family = socket.AF_INET6
        allow_reuse_address = True
        daemon_threads = True

        def server_bind(self) -> None:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            super().server_bind()

    return Dual


if __name__ == "__main__":
    servers = [
        dual(socketserver.ThreadingTCPServer)(("::", 25), Smtp),
        dual(socketserver.ThreadingTCPServer)(("::", 8080), Slow),
        dual(socketserver.UDPServer)(("::", 53), Dns),
        dual(socketserver.UDPServer)(("::", 7), Echo),
    ]
    threads = [threading.Thread(target=server.serve_forever) for server in servers]
    for thread in threads:
        thread.start()
    print("up", flush=True)
