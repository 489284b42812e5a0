# SPDX-License-Identifier: Apache-2.0
"""Checks http and https: one request on a connection of its own, and what its answer must be.

The body is read only where a regular expression or a digest asks for it.  The expression is the
operator's and runs on what a server sent, up to reply.BODY_LIMIT bytes of it: write none that
backtracks, such as (a+)+, for the event loop waits for it.

Each https check makes a full handshake: resuming a session would not look at the certificate again.
"""

from __future__ import annotations

import ssl
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from fullnat.health.check import Code, HttpOptions, Target, TlsOptions, one_line
from fullnat.health.probe import CheckError, Finding, Progress
from fullnat.health.reply import Head, read_body, read_head
from fullnat.health.wire import Stream

_DEFAULT_PORTS = {False: 80, True: 443}


async def probe(target: Target, options: HttpOptions, progress: Progress) -> Finding:
    """Ask *target* for a page."""
    with await Stream.connect(target, progress) as stream:
        if options.tls is not None:
            await _secure(stream, target, options, options.tls, progress)
        progress.talking("HTTP answer")
        await stream.send(_request(target, options))
        head = await read_head(stream)
        _check_status(head, options)
        if options.method != "HEAD" and (options.body or options.digest):
            progress.talking("end of the body")
            _check_body(await read_body(stream, head), options)
        return Finding(Code.L7OK, _status(head))


def _request(target: Target, options: HttpOptions) -> bytes:
    return (
        f"{options.method} {options.path} HTTP/1.1\r\n"
        f"Host: {options.host or _authority(target, options.tls is not None)}\r\n"
        "User-Agent: fullnat\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    ).encode()


def _authority(target: Target, is_tls: bool) -> str:
    """Return the address as Host has it: the scheme's own port is left out (RFC 9110, 7.2)."""
    if target.port != _DEFAULT_PORTS[is_tls]:
        return str(target)
    return f"[{target.address}]" if target.family == 6 else str(target.address)


def _status(head: Head) -> str:
    return one_line(b"%d %s" % (head.status, head.reason))


def _check_status(head: Head, options: HttpOptions) -> None:
    if not any(low <= head.status <= high for low, high in options.status):
        raise CheckError(Code.L7STS, _status(head))


def _check_body(body: bytes, options: HttpOptions) -> None:
    if options.body and not options.body.search(body):
        raise CheckError(Code.L7STS, f"{len(body)} bytes of body without what is expected")
    if options.digest and sha256(body).digest() != options.digest:
        raise CheckError(Code.L7STS, f"{len(body)} bytes of body with another digest")


async def _secure(
    stream: Stream, target: Target, options: HttpOptions, tls: TlsOptions, progress: Progress
) -> None:
    name = tls.name or _host_name(options.host) or str(target.address)
    try:
        changed = tls.ca.stat().st_mtime_ns if tls.ca else 0
        context = _context(tls.verify, tls.ca, changed)
    except OSError as error:  # an SSLError too
        raise CheckError(Code.SOCKERR, f"{tls.ca}: {error.strerror}") from None
    await stream.start_tls(context, name, progress)


def _host_name(host: str) -> str:
    """Return *host*, as Host has it, without port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


@lru_cache(maxsize=64)
def _context(verify: bool, ca: Path | None, _changed: int) -> ssl.SSLContext:
    """Return the settings of TLS; *_changed* makes a new CA file count at once.

    Kept, for reading the system's certificates takes longer than all else in a check.
    """
    if not verify:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    return ssl.create_default_context(cafile=str(ca) if ca else None)
