# SPDX-License-Identifier: Apache-2.0
"""Connections that a test keeps open while things happen to them.

The sockets are this process's own; each belongs to the machine it was opened on, wherever it is used.
"""

from __future__ import annotations

import http.client
import re
import selectors
import socket
import threading
from contextlib import suppress
from ipaddress import ip_address
from types import TracebackType
from typing import NamedTuple

from lab import Lab
from namespace import inside

TIMEOUT = 2.0  # seconds for one answer
IP_RECVERR, IPV6_RECVERR = 11, 25  # linux/in.h, linux/in6.h
SO_RCVBUFFORCE = 33  # asm-generic/socket.h
BURST = 32 << 20  # bytes of socket buffer: thousands of datagrams at once are answered, not lost

_ANSWER = re.compile(r"server: (\S+)\nclient: (\S+) port (\d+)\n")


class Answer(NamedTuple):
    """Who answered, and whom it saw."""

    server: str
    client: str
    port: int


def open_socket(lab: Lab, role: str, address: str, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """Open a socket on *role* of the family of *address*."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with inside(lab.namespace(role)):
        opened = socket.socket(family, kind)
    opened.settimeout(TIMEOUT)
    if kind == socket.SOCK_DGRAM:  # else a host that is unreachable is no error to a datagram socket
        level, option = (
            (socket.IPPROTO_IPV6, IPV6_RECVERR) if ":" in address else (socket.IPPROTO_IP, IP_RECVERR)
        )
        opened.setsockopt(level, option, 1)
    return opened


def connect(
    lab: Lab,
    role: str,
    address: str,
    port: int = 80,
    *,
    kind: int = socket.SOCK_STREAM,
    source: tuple[str, int] | None = None,
    timeout: float = TIMEOUT,
) -> socket.socket:
    """Return a socket on *role* connected to *address*; OSError when that fails."""
    opened = open_socket(lab, role, address, kind)
    try:
        opened.settimeout(timeout)
        if source is not None:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            opened.bind(source)
        opened.connect((address, port))
    except BaseException:
        opened.close()
        raise
    return opened


def is_reachable(lab: Lab, role: str, address: str, port: int = 80, timeout: float = 0.5) -> bool:
    """Whether *role* gets a TCP connection to *address* within *timeout*."""
    try:
        connect(lab, role, address, port, timeout=timeout).close()
    except OSError:
        return False
    return True


class Browser:
    """One HTTP connection to the lab's web servers, kept alive."""

    def __init__(self, lab: Lab, role: str, address: str, port: int = 80, **options: object) -> None:
        """Connect; *options* are those of connect()."""
        self._http = http.client.HTTPConnection(address, port)
        self._http.auto_open = 0  # a lost connection is an error here, not a reason for another
        self._http.sock = self.socket = connect(lab, role, address, port, **options)  # type: ignore[arg-type]

    def ask(self) -> Answer:
        """Send a request and return what the server says."""
        self._http.request("GET", "/")
        found = _ANSWER.fullmatch(self._http.getresponse().read().decode())
        assert found, "an answer that none of the lab's servers gives"
        return Answer(found[1], str(ip_address(found[2])), int(found[3]))

    def reset(self) -> None:
        """End the connection with a RST, so that neither end waits for the other."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._http.close()

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def ask(lab: Lab, role: str, address: str, port: int = 80) -> Answer:
    """Send one HTTP request on a connection of its own."""
    with Browser(lab, role, address, port) as browser:
        return browser.ask()


class Parrots:
    """Servers that answer with the name of their machine and what they were told, TCP and UDP."""

    def __init__(self, lab: Lab) -> None:
        """Begin with none."""
        self._lab = lab
        self._selector = selectors.DefaultSelector()
        self._wake, self._awake = socket.socketpair()
        self._selector.register(self._awake, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve)

    def add(
        self, role: str, port: int, kind: int = socket.SOCK_STREAM, name: str = "", address: str = "::"
    ) -> None:
        """Answer on *port* of *role*, both families, as *name* if given; before the body of the `with`.

        A datagram is answered from the *address* it came to only where the parrot sits on that.
        """
        parrot = open_socket(self._lab, role, address, kind)
        parrot.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if ":" in address:
            parrot.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        parrot.bind((address, port))
        if kind == socket.SOCK_STREAM:
            parrot.listen()
        else:
            parrot.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BURST)
        parrot.setblocking(False)
        self._selector.register(parrot, selectors.EVENT_READ, name or role)

    def __enter__(self) -> Parrots:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wake.close()
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self._selector.close()

    def _serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._awake:
                    return
                assert isinstance(key.fileobj, socket.socket)
                self._answer(key.fileobj, key.data)

    def _answer(self, parrot: socket.socket, name: str) -> None:
        if parrot.type == socket.SOCK_DGRAM:
            with suppress(OSError):  # a datagram with a wrong checksum wakes us and is gone
                data, peer = parrot.recvfrom(65535)
                parrot.sendto(f"{name}: ".encode() + data, peer)
        elif parrot.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            accepted, _ = parrot.accept()
            self._selector.register(accepted, selectors.EVENT_READ, name)
        else:
            self._answer_stream(parrot, name)

    def _answer_stream(self, stream: socket.socket, name: str) -> None:
        try:
            data = stream.recv(65535)
        except OSError:  # reset
            data = b""
        if data:
            stream.send(f"{name}: ".encode() + data)
        else:
            self._selector.unregister(stream)
            stream.close()


def tell(connection: socket.socket, text: str) -> str:
    """Send *text* to a parrot and return its answer."""
    connection.send(text.encode())
    return connection.recv(65535).decode()
