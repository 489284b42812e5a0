# SPDX-License-Identifier: Apache-2.0
"""Check smtp: a greeting 220, EHLO (or HELO) answered with 250, QUIT with 221 (RFC 5321)."""

from __future__ import annotations

import re

from fullnat.health.check import Code, SmtpOptions, Target, one_line
from fullnat.health.probe import CheckError, Finding, Progress
from fullnat.health.wire import Stream

_LINE_LIMIT = 2048  # RFC 5321 has 512; extensions exceed it
_LINES_LIMIT = 100
_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?")


async def probe(target: Target, options: SmtpOptions, progress: Progress) -> Finding:
    """Greet *target* and take leave of it."""
    with await Stream.connect(target, progress) as stream:
        progress.talking("SMTP greeting")
        greeting = await _expect(stream, 220)
        progress.talking("answer to EHLO")
        await stream.send(f"EHLO {options.helo}\r\n".encode())
        code, line = await _reply(stream)
        if code >= 500:  # it does not know EHLO
            await stream.send(f"HELO {options.helo}\r\n".encode())
            code, line = await _reply(stream)
        if code != 250:
            raise CheckError(Code.L7STS, line)
        progress.talking("answer to QUIT")
        await stream.send(b"QUIT\r\n")
        await _expect(stream, 221)
    return Finding(Code.L7OK, one_line(greeting))


async def _expect(stream: Stream, wanted: int) -> bytes:
    """Return the last line of a reply that has code *wanted*; L7STS for another."""
    code, line = await _reply(stream)
    if code != wanted:
        raise CheckError(Code.L7STS, line)
    return line


async def _reply(stream: Stream) -> tuple[int, bytes]:
    """Return the code of the next reply and its last line."""
    for _ in range(_LINES_LIMIT):
        line = await stream.read_line(_LINE_LIMIT)
        match = _LINE.fullmatch(line)
        if not match:
            raise CheckError(Code.L7RSP, b"not SMTP: " + line)
        if match[2] != b"-":
            return int(match[1]), line
    raise CheckError(Code.L7RSP, f"a reply of more than {_LINES_LIMIT} lines")
