# SPDX-License-Identifier: Apache-2.0
"""Check dns: one question over UDP; the answer must have the code that is expected.

With NOERROR there must be a record in it too, or, where it was cut short, the flag that says so: an
empty answer of a server that lost its zone is no good one.  What is not the answer to our question
(another identification, another question, garbage) is passed over, as a resolver does.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import NamedTuple

from fullnat.health.check import QUERY_TYPES, RCODES, Code, DnsOptions, Target
from fullnat.health.probe import CheckError, Finding, Progress
from fullnat.health.wire import Datagrams, open_socket

_RCODE_NAMES = {number: name for name, number in RCODES.items()}

_HEADER = struct.Struct("!6H")  # RFC 1035, 4.1.1
_RESPONSE, _TRUNCATED, _RECURSION_DESIRED = 0x8000, 0x0200, 0x0100
_CLASS_IN = 1


class _Answer(NamedTuple):
    rcode: int
    records: int
    is_truncated: bool


async def probe(target: Target, options: DnsOptions, progress: Progress) -> Finding:
    """Ask *target* one question."""
    query = build_query(int.from_bytes(os.urandom(2)), options)
    with Datagrams(open_socket(target, socket.SOCK_DGRAM), target) as datagrams:
        progress.asking(Finding(Code.L7TOUT, "no DNS answer"))
        datagrams.send(query)
        answer = None
        while answer is None:
            answer = parse_answer(await datagrams.receive(), query)
    return _judge(answer, options)


def build_query(identification: int, options: DnsOptions) -> bytes:
    """Return the question as a message."""
    labels = [label.encode() for label in options.name.rstrip(".").split(".") if label]
    name = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    header = _HEADER.pack(identification, _RECURSION_DESIRED, 1, 0, 0, 0)
    return header + name + struct.pack("!2H", QUERY_TYPES[options.query], _CLASS_IN)


def parse_answer(message: bytes, query: bytes) -> _Answer | None:
    """Return what *message* answers to *query*, or None when it is no answer to it."""
    if len(message) < _HEADER.size:
        return None
    identification, flags, questions, records, _, _ = _HEADER.unpack_from(message)
    if not flags & _RESPONSE or identification.to_bytes(2) != query[:2]:
        return None
    rcode = flags & 0xF
    # A server that refuses may leave the question out.
    question = message[_HEADER.size : len(query)] if questions else query[_HEADER.size :]
    if question.lower() != query[_HEADER.size :].lower() or (not questions and not rcode):
        return None
    return _Answer(rcode, records, bool(flags & _TRUNCATED))


def _judge(answer: _Answer, options: DnsOptions) -> Finding:
    name = _RCODE_NAMES.get(answer.rcode, f"code {answer.rcode}")
    detail = f"{name}, {answer.records} records"
    if name != options.rcode:
        raise CheckError(Code.L7STS, detail)
    if not answer.rcode and not answer.records and not answer.is_truncated:
        raise CheckError(Code.L7STS, detail)
    return Finding(Code.L7OK, detail)
