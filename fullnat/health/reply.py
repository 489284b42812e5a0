# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.x answers, as much of RFC 9112 as a check needs: the status, and the body where it is asked for.

Lines may end in a bare LF: a health responder is often three lines of shell.  What is read is bounded:
a head of HEAD_LIMIT bytes, INTERIM_LIMIT answers 1xx before the real one, a body of BODY_LIMIT bytes.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from fullnat.health.check import Code
from fullnat.health.probe import CheckError
from fullnat.health.wire import Stream

HEAD_LIMIT = 16 * 1024
BODY_LIMIT = 1024 * 1024
INTERIM_LIMIT = 8

_CHUNK_LINE = 1024  # a size in hexadecimal, and extensions
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: (.*))?")
_BODILESS = (204, 304)


class Head(NamedTuple):
    """What precedes the body."""

    status: int
    reason: bytes
    fields: dict[bytes, bytes]  # by name in lower case; the last of several


async def read_head(stream: Stream) -> Head:
    """Return the head of the answer; what is 1xx before it is passed over."""
    for _ in range(INTERIM_LIMIT):
        head = await _read_one_head(stream)
        if head.status >= 200:
            return head
    raise CheckError(Code.L7RSP, f"more than {INTERIM_LIMIT} answers 1xx")


async def _read_one_head(stream: Stream) -> Head:
    line = await stream.read_line(HEAD_LIMIT)
    match = _STATUS_LINE.fullmatch(line)
    if not match:
        raise CheckError(Code.L7RSP, b"not HTTP/1.x: " + line)
    left = HEAD_LIMIT - len(line)
    fields: dict[bytes, bytes] = {}
    while line := await stream.read_line(HEAD_LIMIT):
        left -= len(line) + 2
        name, colon, value = line.partition(b":")
        if left < 0:
            raise CheckError(Code.L7RSP, f"a head larger than {HEAD_LIMIT} bytes")
        if not colon:
            raise CheckError(Code.L7RSP, b"not a header: " + line)
        fields[name.lower()] = value.strip()
    return Head(int(match[1]), match[2] or b"", fields)


async def read_body(stream: Stream, head: Head) -> bytes:
    """Return the whole body; L7RSP when it is too large, cut short or garbled."""
    if head.status in _BODILESS:
        return b""
    if head.fields.get(b"transfer-encoding", b"").lower().endswith(b"chunked"):
        return await _read_chunks(stream)
    length = head.fields.get(b"content-length")
    if length is None:
        return _bounded(await stream.read_to_end(BODY_LIMIT))
    return await stream.read_exactly(_size(length, 10, BODY_LIMIT))


async def _read_chunks(stream: Stream) -> bytes:
    body = bytearray()
    while size := _size((await stream.read_line(_CHUNK_LINE)).partition(b";")[0], 16, BODY_LIMIT - len(body)):
        body += await stream.read_exactly(size)
        if await stream.read_line(2):
            raise CheckError(Code.L7RSP, "a chunk longer than it says")
    return bytes(body)  # trailers are left unread, as is the end of the connection


def _size(text: bytes, base: int, limit: int) -> int:
    try:
        # int() takes signs and underscores, and a number of any length is slow to read.
        size = int(text, base) if text.strip().isalnum() and len(text) <= 20 else -1
    except ValueError:
        size = -1
    if size < 0:
        raise CheckError(Code.L7RSP, b"not a length: " + text)
    if size > limit:
        raise CheckError(Code.L7RSP, f"a body larger than {BODY_LIMIT} bytes")
    return size


def _bounded(body: bytes) -> bytes:
    if len(body) > BODY_LIMIT:
        raise CheckError(Code.L7RSP, f"a body larger than {BODY_LIMIT} bytes")
    return body
