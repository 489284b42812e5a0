# SPDX-License-Identifier: Apache-2.0
"""Each type of check against peers that behave, misbehave, say nothing or never stop talking."""

# ruff: noqa: E501 (a row is a line, and reads like one)

from __future__ import annotations

import asyncio
import os
import re
import socket
import struct
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import uvloop

from fullnat.core.timeouts import SECOND
from fullnat.health import dns, http
from fullnat.health.check import (
    Code,
    DnsOptions,
    FileOptions,
    HealthCheck,
    HttpOptions,
    Options,
    Result,
    ScriptOptions,
    SmtpOptions,
    Target,
    TlsOptions,
    UdpOptions,
    one_line,
)
from fullnat.health.reply import BODY_LIMIT, HEAD_LIMIT
from fullnat.health.run import run_check

LOOPBACK = ip_address("127.0.0.1")
TIMEOUT = SECOND // 5

Act = Callable[[asyncio.Transport, bytes], Awaitable[None] | None]


@pytest.fixture(scope="module", autouse=True)
def _loop_warm() -> None:
    """Whatever a first event loop opens for good is open."""
    uvloop.run(asyncio.sleep(0))


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    before = sorted(os.listdir("/proc/self/fd"))
    yield
    assert sorted(os.listdir("/proc/self/fd")) == before


class Peer(asyncio.Protocol):
    """A server that does *act* with whatever it is sent, or on connection when it speaks first."""

    def __init__(self, act: Act, speaks_first: bool) -> None:
        self.act = act
        self.speaks_first = speaks_first
        self.task: asyncio.Future[None] | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.gone = asyncio.get_running_loop().create_future()
        if self.speaks_first:
            self.data_received(b"")

    def data_received(self, data: bytes) -> None:
        acting = self.act(self.transport, data)
        if acting is not None:
            self.task = asyncio.ensure_future(acting)

    def connection_lost(self, _error: Exception | None) -> None:
        self.gone.set_result(None)
        if self.task is not None:
            self.task.cancel()


def ask(
    act: Act,
    kind: str = "http",
    options: Options | None = None,
    *,
    timeout: int = TIMEOUT,
    speaks_first: bool = False,
    tls: Any = None,
) -> Result:
    """Return what a check of *kind* finds of a server on loopback that does *act*."""
    if kind == "http" and options is None:
        options = HttpOptions()

    peers: list[Peer] = []

    def meet() -> Peer:
        peers.append(Peer(act, speaks_first))
        return peers[-1]

    async def main() -> Result:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(meet, "127.0.0.1", 0, ssl=tls)
        port = server.sockets[0].getsockname()[1]
        check = HealthCheck(kind, options, timeout=timeout)
        try:
            return await run_check(check, Target(LOOPBACK, port, LOOPBACK))
        finally:
            server.close()
            for peer in peers:
                if hasattr(peer, "transport"):
                    peer.transport.abort()
                    await peer.gone
            await server.wait_closed()

    begun = time.monotonic_ns()
    result = uvloop.run(main())
    assert result.duration_ns <= time.monotonic_ns() - begun
    assert result.detail.isprintable()
    assert 0 < len(result.detail) <= 100
    return result


def says(*parts: bytes) -> Act:
    """Answer with *parts* and close."""

    def act(transport: asyncio.Transport, _data: bytes) -> None:
        for part in parts:
            transport.write(part)
        transport.close()

    return act


def forever(part: bytes, first: bytes = b"") -> Act:
    """Answer with *first*, and then *part* again and again."""

    async def act(transport: asyncio.Transport, _data: bytes) -> None:
        transport.write(first)
        while not transport.is_closing():
            transport.write(part)
            await asyncio.sleep(0)

    return act


def silent(_transport: asyncio.Transport, _data: bytes) -> None:
    pass


def reset(first: bytes) -> Act:
    """Answer with *first* and reset the connection."""

    def act(transport: asyncio.Transport, _data: bytes) -> None:
        transport.write(first)
        transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        transport.abort()

    return act


def closed_port() -> Target:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return Target(LOOPBACK, sock.getsockname()[1], LOOPBACK)


def check_alone(check: HealthCheck, target: Target | None = None) -> Result:
    return uvloop.run(run_check(check, target or closed_port()))


# What is common to all that connect.


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("tcp", None),
        ("http", HttpOptions()),
        ("https", HttpOptions(tls=TlsOptions())),
        ("smtp", SmtpOptions()),
        ("dns", DnsOptions()),
        ("udp", UdpOptions()),
    ],
)
def test_a_closed_port_is_refused_at_once(kind: str, options: Options | None) -> None:
    result = check_alone(HealthCheck(kind, options, timeout=10 * SECOND))
    assert (result.code, result.detail) == (Code.L4CON, "Connection refused")
    assert result.ok is False
    assert result.duration_ns < SECOND


@pytest.mark.parametrize(("kind", "options"), [("tcp", None), ("udp", UdpOptions()), ("icmp", None)])
def test_a_source_that_is_not_here_says_nothing_about_the_server(kind: str, options: Options | None) -> None:
    target = closed_port()._replace(source=ip_address("203.0.113.77"))
    result = check_alone(HealthCheck(kind, options), target)
    assert result.code is Code.SOCKERR
    assert result.ok is None
    assert "203.0.113.77" in result.detail


def test_tcp_is_satisfied_by_a_connection() -> None:
    assert ask(silent, "tcp").code is Code.L4OK


def test_off_is_no_verdict() -> None:
    assert check_alone(HealthCheck("off")).ok is None


# http


def page(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    length = b"Content-Length: %d" % len(body)
    return (
        b"HTTP/1.1 " + status + b"\r\n" + b"".join(h + b"\r\n" for h in (*headers, length)) + b"\r\n" + body
    )


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
HELLO = HttpOptions(body=re.compile(rb"^hello$"), digest=sha256(b"hello").digest())

ANSWERS = {
    "200": (says(page(b"ok")), HttpOptions(), Code.L7OK, "200 OK"),
    "no reason": (says(page(b"", status=b"204")), HttpOptions(), Code.L7OK, "204"),
    "HTTP/1.0, bare LF": (says(b"HTTP/1.0 200 fine\n\nhello"), HELLO, Code.L7OK, "200 fine"),
    "after 103": (says(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + page(b"")), HttpOptions(), Code.L7OK, "200 OK"),
    "body by length": (says(page(b"hello") + b"more"), HELLO, Code.L7OK, "200 OK"),
    "body in chunks": (says(CHUNKED), HELLO, Code.L7OK, "200 OK"),
    "status 503": (says(page(b"", status=b"503 Overloaded\x1b[1m")), HttpOptions(), Code.L7STS, "503 Overloaded [1m"),
    "status accepted": (says(page(b"", status=b"503 x")), HttpOptions(status=((200, 200), (500, 599))), Code.L7OK, "503 x"),
    "redirect": (says(page(b"", status=b"302 Found")), HttpOptions(), Code.L7STS, "302 Found"),
    "other body": (says(page(b"hallo")), HttpOptions(body=re.compile(b"hello")), Code.L7STS, "5 bytes of body without what is expected"),
    "other digest": (says(page(b"hallo")), HttpOptions(digest=sha256(b"hello").digest()), Code.L7STS, "5 bytes of body with another digest"),
    "garbage": (says(b"SSH-2.0-OpenSSH\r\n"), HttpOptions(), Code.L7RSP, "not HTTP/1.x: SSH-2.0-OpenSSH"),
    "binary": (says(bytes(range(256)) * 9), HttpOptions(), Code.L7RSP, None),
    "closed": (says(), HttpOptions(), Code.L7RSP, "closed before the answer was complete"),
    "cut head": (says(b"HTTP/1.1 200 OK\r\nServer"), HttpOptions(), Code.L7RSP, "closed before the answer was complete"),
    "cut body": (says(page(b"hello")[:-1]), HELLO, Code.L7RSP, "closed before the answer was complete"),
    "reset": (reset(b""), HttpOptions(), Code.L7RSP, None),
    "reset in the body": (reset(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel"), HELLO, Code.L7RSP, None),
    "silence": (silent, HttpOptions(), Code.L7TOUT, "no HTTP answer"),
    "half a body": (forever(b"", first=page(b"hello")[:-1]), HELLO, Code.L7TOUT, "no end of the body"),
    "endless header": (forever(b"a" * 4096, b"HTTP/1.1 200 OK\r\nX: "), HttpOptions(), Code.L7RSP, f"a line longer than {HEAD_LIMIT} bytes"),
    "endless headers": (forever(b"X: y\r\n" * 99, b"HTTP/1.1 200 OK\r\n"), HttpOptions(), Code.L7RSP, f"a head larger than {HEAD_LIMIT} bytes"),
    "endless 1xx": (forever(b"HTTP/1.1 100 Continue\r\n\r\n"), HttpOptions(), Code.L7RSP, "more than 8 answers 1xx"),
    "endless body": (forever(b"x" * 9999, b"HTTP/1.1 200 OK\r\n\r\n"), HELLO, Code.L7RSP, f"a body larger than {BODY_LIMIT} bytes"),
    "endless chunks": (forever(b"800\r\n" + b"x" * 2048 + b"\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), HELLO, Code.L7RSP, f"a body larger than {BODY_LIMIT} bytes"),
    "huge length": (says(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"), HELLO, Code.L7RSP, f"a body larger than {BODY_LIMIT} bytes"),
    "length of a thousand digits": (says(b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 1000 + b"\r\n\r\n"), HELLO, Code.L7RSP, None),
    "negative length": (says(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n"), HELLO, Code.L7RSP, "not a length: -5"),
    "no size of a chunk": (says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), HELLO, Code.L7RSP, "not a length: zz"),
    "a chunk too long": (says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxyz\r\n"), HELLO, Code.L7RSP, None),
    "no header": (says(b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n"), HttpOptions(), Code.L7RSP, "not a header: nonsense"),
    "unread body": (forever(b"x", first=page(b"ok")), HttpOptions(), Code.L7OK, "200 OK"),
}  # fmt: skip


@pytest.mark.parametrize("case", ANSWERS)
def test_http_answers(case: str) -> None:
    act, options, code, detail = ANSWERS[case]
    result = ask(act, "http", options, timeout=TIMEOUT if code is Code.L7TOUT else 5 * SECOND)
    assert result.code is code
    assert detail in (None, result.detail)


def test_slow_bytes_do_not_lengthen_the_timeout() -> None:
    async def drip(transport: asyncio.Transport, _data: bytes) -> None:
        for byte in page(b"hello") * 9:
            transport.write(bytes([byte]))
            await asyncio.sleep(0.02)

    result = ask(drip)
    assert result.code is Code.L7TOUT
    assert TIMEOUT * 0.95 <= result.duration_ns < 2 * TIMEOUT


def test_a_standstill_of_our_own_is_not_taken_for_a_dead_server() -> None:
    def stall(transport: asyncio.Transport, data: bytes) -> None:
        end = time.monotonic_ns() + 2 * TIMEOUT
        while time.monotonic_ns() < end:  # the check's loop is this one
            pass
        says(page(b""))(transport, data)

    assert ask(stall).code is Code.L7OK


@pytest.mark.parametrize(
    ("options", "host"),
    [
        (HttpOptions("/a?b=c"), None),
        (HttpOptions("/", "www.example"), "www.example"),
        (HttpOptions("/", method="HEAD"), None),
    ],
)
def test_http_asks_what_it_is_told_to(options: HttpOptions, host: str | None) -> None:
    seen = []

    def act(transport: asyncio.Transport, data: bytes) -> None:
        port = transport.get_extra_info("sockname")[1]
        seen.append((data.decode().split("\r\n"), port))
        says(page(b""))(transport, data)

    assert ask(act, "http", options).code is Code.L7OK
    ((lines, port),) = seen
    assert lines[0] == f"{options.method} {options.path} HTTP/1.1"
    assert lines[1] == f"Host: {host or f'127.0.0.1:{port}'}"
    assert "Connection: close" in lines


@pytest.mark.parametrize(
    ("address", "port", "is_tls", "host"),
    [
        ("198.19.0.1", 80, False, "198.19.0.1"),
        ("198.19.0.1", 443, False, "198.19.0.1:443"),
        ("2001:db8::1", 443, True, "[2001:db8::1]"),
        ("2001:db8::1", 80, True, "[2001:db8::1]:80"),
    ],
)
def test_the_schemes_own_port_is_left_out_of_host(address: str, port: int, is_tls: bool, host: str) -> None:
    assert http._authority(Target(ip_address(address), port, None), is_tls) == host


# https


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """The settings of a server named www.example, and its certificate."""
    import ssl

    folder = tmp_path_factory.mktemp("tls")
    argv = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "9",
    ]
    argv += ["-subj", "/CN=www.example", "-addext", "subjectAltName=DNS:www.example,IP:127.0.0.1"]
    subprocess.run(
        [*argv, "-keyout", folder / "key", "-out", folder / "cert"], check=True, capture_output=True
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert", folder / "key")
    return context, folder / "cert"


@pytest.mark.parametrize("case", ["verified", "by address", "by host", "not verified"])
def test_https_with_a_certificate_that_is_accepted(certificate: tuple[Any, Path], case: str) -> None:
    context, ca = certificate
    tls = {
        "verified": TlsOptions("www.example", ca=ca),
        "by address": TlsOptions(ca=ca),
        "by host": TlsOptions(ca=ca),
        "not verified": TlsOptions("other.example", verify=False),
    }[case]
    options = HttpOptions(
        host="www.example:81" if case == "by host" else "", tls=tls, body=re.compile(b"^x{70000}$")
    )
    result = ask(says(page(b"x" * 70_000)), "https", options, tls=context, timeout=5 * SECOND)
    assert (result.code, result.detail) == (Code.L7OK, "200 OK")


def test_https_with_a_certificate_of_somebody_else(certificate: tuple[Any, Path]) -> None:
    context, ca = certificate
    for tls in (TlsOptions("other.example", ca=ca), TlsOptions("www.example")):
        result = ask(says(page(b"")), "https", HttpOptions(tls=tls), tls=context, timeout=5 * SECOND)
        assert result.code is Code.L6RSP
        assert result.detail.startswith("certificate: ")


def test_https_of_a_server_that_speaks_no_tls() -> None:
    options = HttpOptions(tls=TlsOptions(verify=False))
    assert ask(says(page(b"")), "https", options).code is Code.L6RSP
    assert ask(says(), "https", options).detail == "closed in the TLS handshake"
    assert ask(reset(b""), "https", options).code is Code.L6RSP
    assert ask(silent, "https", options).code is Code.L6TOUT
    assert ask(forever(b"\x16\x03\x03\x40\x00" + b"x" * 9000), "https", options).code is Code.L6RSP


def test_https_that_falls_silent_or_is_cut_after_the_handshake(certificate: tuple[Any, Path]) -> None:
    context, ca = certificate
    options = HttpOptions(tls=TlsOptions("www.example", ca=ca), body=HELLO.body)
    long = 5 * SECOND
    assert ask(silent, "https", options, tls=context, timeout=SECOND).code is Code.L7TOUT
    assert ask(says(), "https", options, tls=context, timeout=long).code is Code.L7RSP
    assert ask(says(page(b"hello")[:-1]), "https", options, tls=context, timeout=long).code is Code.L7RSP
    assert (
        ask(says(b"HTTP/1.1 200 OK\r\n\r\nhello"), "https", options, tls=context, timeout=long).code
        is Code.L7OK
    )


def test_an_unreadable_ca_says_nothing_about_the_server(tmp_path: Path) -> None:
    options = HttpOptions(tls=TlsOptions(ca=tmp_path / "absent"))
    assert ask(silent, "https", options).ok is None
    (tmp_path / "absent").write_text("no certificate")
    assert ask(silent, "https", options).ok is None


# smtp


def smtp(greeting: bytes = b"220 mx.example ready", **answers: bytes) -> Act:
    """A server that answers the first word of a line; without an answer it closes."""

    def act(transport: asyncio.Transport, data: bytes) -> None:
        answer = greeting if not data else answers.get(data.decode().split()[0].lower(), b"")
        transport.write(answer + b"\r\n" if answer else b"")
        if not answer:
            transport.close()

    return act


OK_EHLO = b"250-mx.example\r\n250-SIZE\r\n250 PIPELINING"
SMTP_ANSWERS = {
    "ready": (smtp(ehlo=OK_EHLO, quit=b"221 bye"), Code.L7OK, "220 mx.example ready"),
    "greeting of lines": (
        smtp(b"220-wait\r\n220 ready", ehlo=OK_EHLO, quit=b"221 bye"),
        Code.L7OK,
        "220 ready",
    ),
    "only HELO": (smtp(ehlo=b"502 what?", helo=b"250 mx", quit=b"221"), Code.L7OK, None),
    "not now": (smtp(b"554 no service"), Code.L7STS, "554 no service"),
    "refused": (smtp(ehlo=b"550 who?", helo=b"550 go away"), Code.L7STS, "550 go away"),
    "cut at QUIT": (smtp(ehlo=OK_EHLO), Code.L7RSP, None),
    "another protocol": (smtp(b"SSH-2.0-x"), Code.L7RSP, "not SMTP: SSH-2.0-x"),
    "endless greeting": (forever(b"220-x\r\n"), Code.L7RSP, "a reply of more than 100 lines"),
    "endless line": (forever(b"2" * 999), Code.L7RSP, "a line longer than 2048 bytes"),
    "silence": (silent, Code.L7TOUT, "no SMTP greeting"),
}


@pytest.mark.parametrize("case", SMTP_ANSWERS)
def test_smtp_answers(case: str) -> None:
    act, code, detail = SMTP_ANSWERS[case]
    timeout = TIMEOUT if code is Code.L7TOUT else 5 * SECOND
    result = ask(act, "smtp", SmtpOptions("lb1.example"), speaks_first=True, timeout=timeout)
    assert result.code is code
    assert detail in (None, result.detail)


# dns and udp


class Echo(asyncio.DatagramProtocol):
    """Answers each datagram with those that *answer* makes of it."""

    def __init__(self, answer: Callable[[bytes], list[bytes]]) -> None:
        self.answer = answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def datagram_received(self, data: bytes, peer: Any) -> None:
        for datagram in self.answer(data):
            self.transport.sendto(datagram, peer)


def ask_udp(answer: Callable[[bytes], list[bytes]], kind: str, options: Options) -> Result:
    async def main() -> Result:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: Echo(answer), ("127.0.0.1", 0))
        port = transport.get_extra_info("sockname")[1]
        try:
            return await run_check(
                HealthCheck(kind, options, timeout=TIMEOUT), Target(LOOPBACK, port, LOOPBACK)
            )
        finally:
            transport.close()
            await asyncio.sleep(0)

    return uvloop.run(main())


def answer(query: bytes, flags: int = 0x8180, records: int = 1, questions: int = 1) -> bytes:
    header = query[:2] + struct.pack("!5H", flags, questions, records, 0, 0)
    return header + (query[12:] if questions else b"") + b"\0" * 16 * records


DNS_ANSWERS = {
    "a record": (lambda q: [answer(q)], DnsOptions(), Code.L7OK, "NOERROR, 1 records"),
    "truncated": (lambda q: [answer(q, 0x8380, 0)], DnsOptions(), Code.L7OK, "NOERROR, 0 records"),
    "no record": (lambda q: [answer(q, records=0)], DnsOptions(), Code.L7STS, "NOERROR, 0 records"),
    "SERVFAIL": (lambda q: [answer(q, 0x8182, 0)], DnsOptions(), Code.L7STS, "SERVFAIL, 0 records"),
    "a code nobody knows": (lambda q: [answer(q, 0x818B, 0)], DnsOptions(), Code.L7STS, "code 11, 0 records"),
    "NXDOMAIN as asked": (lambda q: [answer(q, 0x8183, 0)], DnsOptions("x.example", "A", "NXDOMAIN"), Code.L7OK, "NXDOMAIN, 0 records"),
    "refused without question": (lambda q: [answer(q, 0x8185, 0, 0)], DnsOptions(rcode="REFUSED"), Code.L7OK, "REFUSED, 0 records"),
    "letters of another case": (lambda q: [answer(q[:12] + q[12:].upper())], DnsOptions("www.example"), Code.L7OK, None),
    "another question": (lambda q: [answer(q.replace(b"www", b"ftp"))], DnsOptions("www.example"), Code.L7TOUT, "no DNS answer"),
    "another id": (lambda q: [answer(bytes([q[0] ^ 1]) + q[1:])], DnsOptions(), Code.L7TOUT, "no DNS answer"),
    "the query": (lambda q: [q], DnsOptions(), Code.L7TOUT, "no DNS answer"),
    "garbage first": (lambda q: [b"", b"\xff" * 3, b"\xff" * 999, answer(q)], DnsOptions(), Code.L7OK, None),
    "silence": (lambda _: [], DnsOptions(), Code.L7TOUT, "no DNS answer"),
}  # fmt: skip


@pytest.mark.parametrize("case", DNS_ANSWERS)
def test_dns_answers(case: str) -> None:
    act, options, code, detail = DNS_ANSWERS[case]
    result = ask_udp(act, "dns", options)
    assert result.code is code
    assert detail in (None, result.detail)


def test_dns_query_is_as_rfc_1035_has_it() -> None:
    query = dns.build_query(0x1234, DnsOptions("www.Example.org.", "AAAA"))
    assert query == bytes.fromhex("123401000001000000000000 03777777074578616d706c65036f726700 001c0001")
    assert dns.build_query(0, DnsOptions())[12:] == b"\0\0\x06\0\x01"


UDP_ANSWERS = {
    "any": (lambda _: [b"y"], UdpOptions(b"x", re.compile(b"")), Code.L7OK, "an answer of 1 bytes"),
    "expected": (lambda data: [data], UdpOptions(b"\xff\0", re.compile(rb"^\xff\0$")), Code.L7OK, "an answer of 2 bytes"),
    "unexpected": (lambda _: [b"no"], UdpOptions(b"", re.compile(b"yes")), Code.L7RSP, "an answer of 2 bytes without what is expected"),
    "none": (lambda _: [], UdpOptions(b"x", re.compile(b"")), Code.L7TOUT, "no answer"),
    "none needed": (lambda _: [], UdpOptions(b"x"), Code.L4OK, "no answer, no refusal"),
    "one not needed": (lambda _: [b"x"], UdpOptions(b"x"), Code.L7OK, "an answer of 1 bytes"),
}  # fmt: skip


@pytest.mark.parametrize("case", UDP_ANSWERS)
def test_udp_answers(case: str) -> None:
    act, options, code, detail = UDP_ANSWERS[case]
    result = ask_udp(act, "udp", options)
    assert (result.code, result.detail) == (code, detail)


# icmp


@pytest.mark.requires("root")
def test_loopback_answers_a_ping() -> None:
    assert check_alone(HealthCheck("icmp"), Target(LOOPBACK, 80, LOOPBACK)).code is Code.L4OK


# script


def script(source: str, dynamic: bool = False, timeout: int = 5 * SECOND) -> Result:
    target = Target(ip_address("198.19.0.11"), 8080, ip_address("198.19.0.1"))
    options = ScriptOptions(("/bin/sh", "-c", source), dynamic)
    return check_alone(HealthCheck("script", options, timeout=timeout), target)


@pytest.mark.parametrize(
    ("source", "dynamic", "code", "detail", "weight"),
    [
        ("exit 0", False, Code.L7OK, "status 0", None),
        ("echo fine; echo more", False, Code.L7OK, "status 0: fine", None),
        ("echo bad >&2; exit 1", False, Code.L7STS, "status 1: bad", None),
        ("exit 7", False, Code.L7STS, "status 7", None),
        ("exit 0", True, Code.L7OK, "status 0", None),
        ("exit 1", True, Code.L7STS, "status 1", None),
        ("exit 2", True, Code.L7OK, "weight 0", 0),
        ("exit 255", True, Code.L7OK, "weight 253", 253),
        ("kill -TERM $$", False, Code.L7RSP, "killed by signal 15", None),
        ("yes | head -c 1000000", False, Code.L7OK, "status 0: y", None),
        ('test "$FULLNAT_ADDRESS $FULLNAT_PORT $FULLNAT_SOURCE" = "198.19.0.11 8080 198.19.0.1"', False, Code.L7OK, "status 0", None),
        ('test -z "$HOME"; test ! -t 0', False, Code.L7OK, "status 0", None),
    ],
)  # fmt: skip
def test_script_status(source: str, dynamic: bool, code: Code, detail: str, weight: int | None) -> None:
    result = script(source, dynamic)
    assert (result.code, result.detail, result.weight) == (code, detail, weight)


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.parametrize("ending", ["wait", "exit 0"])
def test_a_script_is_ended_with_all_it_started(tmp_path: Path, ending: str) -> None:
    pids = tmp_path / "pids"
    source = f"trap '' TERM; sleep 600 & echo $! >{pids}; {ending}"
    result = script(source, timeout=SECOND if ending == "wait" else 5 * SECOND)
    assert result.code is (Code.L7TOUT if ending == "wait" else Code.L7OK)
    deadline = time.monotonic() + 5
    while not is_gone(int(pids.read_text())):
        assert time.monotonic() < deadline


def test_a_script_that_never_stops_talking_is_ended_too() -> None:
    assert script("exec yes", timeout=TIMEOUT).code is Code.L7TOUT


def test_a_script_that_is_not_there_says_nothing_about_the_server() -> None:
    options = ScriptOptions(("/absent/check",))
    result = check_alone(HealthCheck("script", options))
    assert (result.code, result.detail) == (Code.SOCKERR, "No such file or directory: /absent/check")


# file


@pytest.mark.parametrize(
    ("content", "code", "weight"),
    [
        ("", Code.L7OK, None),
        ("\n", Code.L7OK, None),
        ("100\n", Code.L7OK, 100),
        ("0", Code.L7OK, 0),
        ("65535", Code.L7OK, 65535),
        ("65536", Code.L7RSP, None),
        ("-1", Code.L7RSP, None),
        ("up", Code.L7RSP, None),
        ("²", Code.L7RSP, None),
        ("1" * 5000, Code.L7RSP, None),
    ],
)
def test_file_holds_a_weight(tmp_path: Path, content: str, code: Code, weight: int | None) -> None:
    path = tmp_path / "weight"
    path.write_text(content)
    result = check_alone(HealthCheck("file", FileOptions(path)))
    assert (result.code, result.weight) == (code, weight)


def test_file_that_is_none(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path, code in ((tmp_path / "absent", Code.L7STS), (tmp_path, Code.L7RSP), (fifo, Code.L7RSP)):
        assert check_alone(HealthCheck("file", FileOptions(path))).code is code


def test_a_peers_words_stay_on_one_short_line() -> None:
    assert one_line(b"a\r\nb\x00\xff") == "a  b �"
    assert one_line("x" * 200) == "x" * 99 + "…"
