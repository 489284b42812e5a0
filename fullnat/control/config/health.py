# SPDX-License-Identifier: Apache-2.0
"""The table of a check: [service.health], and on top of it [service.server.health].

What one key shows by itself is seen here; what takes two, and which keys belong to the type, is left
to health_build.py.
"""

from __future__ import annotations

import re
import warnings
from ipaddress import ip_address
from typing import Annotated, Any

from pydantic import Field

from fullnat.control.config.table import Table, written
from fullnat.control.config.value_type import RefusalError, ValueType, Words, integer, one_of, string
from fullnat.control.config.values import DurationValue, FlagValue, usable
from fullnat.core.addr import IPAddress
from fullnat.health.check import (
    OFF,
    QUERY_TYPES,
    RCODES,
)

_COMMON = frozenset({"type", "interval", "timeout", "rise", "fall", "jitter", "start"})
_NETWORK = _COMMON | {"address", "port", "source"}
_HTTP = _NETWORK | {"path", "host", "method", "status", "body", "digest"}

# The keys that belong to each type.
KEYS: dict[str, frozenset[str]] = {
    "tcp": _NETWORK,
    "http": _HTTP,
    "https": _HTTP | {"sni", "verify", "ca"},
    "dns": _NETWORK | {"name", "query", "rcode"},
    "udp": _NETWORK | {"send", "send_hex", "expect"},
    "icmp": _NETWORK - {"port"},
    "smtp": _NETWORK | {"helo"},
    "script": _NETWORK | {"command", "dynamic"},
    "file": _COMMON | {"path"},
}
TYPES = (*KEYS, OFF)
NEED_PORT = frozenset({"tcp", "http", "https", "dns", "udp", "smtp"})
PAYLOADS = frozenset({"send", "send_hex"})


def _read_pattern(text: str) -> re.Pattern[bytes]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what a later Python may read otherwise
            return re.compile(text.encode())
    except (re.error, OverflowError, RecursionError) as error:  # the last two: beyond what re can count
        raise RefusalError(f"accepted: a regular expression; {error}") from None


def _read_payload(text: str) -> bytes:
    return bytes.fromhex(text)


def _read_digest(text: str) -> bytes:
    return bytes.fromhex(text.partition(":")[2])


def _read_status(value: Any) -> tuple[int, int]:
    if type(value) is int:
        low = high = value
    elif isinstance(value, str) and re.fullmatch("[0-9]{3}-[0-9]{3}", value):
        low, high = int(value[:3]), int(value[4:])
    else:
        raise ValueError
    if not 200 <= low <= high <= 599:
        raise ValueError
    return low, high


def _read_domain(text: str) -> str:
    if len(text) > 253 or any(len(label) > 63 for label in text.split(".")):
        raise ValueError
    return text


_STATUS_SCHEMA = {
    "anyOf": [
        {"type": "integer", "minimum": 200, "maximum": 599},
        {"type": "string", "pattern": "^[2-5][0-9]{2}-[2-5][0-9]{2}$"},
    ]
}
_WEB_HOST = r"[A-Za-z0-9._-]{1,253}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?"
_HOST_NAME = r"[A-Za-z0-9._-]{1,253}"

CheckAddressValue = Annotated[
    IPAddress | None, string("an address", r"[0-9A-Fa-f:.]+", lambda text: usable(ip_address(text)))
]
PatternValue = Annotated[re.Pattern[bytes] | None, string("a regular expression", r"[\s\S]*", _read_pattern)]
StatusValue = Annotated[
    tuple[int, int] | None, ValueType('codes like 200 or ranges like "200-299"', _read_status, _STATUS_SCHEMA)
]
ArgumentValue = Annotated[str | None, string("a string without NUL", r"[^\0]*")]


class HealthTable(Table):
    """How servers are checked."""

    type: Annotated[str | None, one_of(TYPES)] = Field(None, description="what is asked of the server")
    interval: DurationValue = Field(written("2s"), description="from one check to the next")
    timeout: DurationValue = Field(written("1s"), description="of one check, over everything")
    rise: Annotated[int, integer(1, 1000)] = Field(2, description="good checks in a row until it is up")
    fall: Annotated[int, integer(1, 1000)] = Field(3, description="bad checks in a row until it is down")
    jitter: Annotated[int, integer(0, 50)] = Field(
        10, description="percent of the interval that a check may come earlier, by chance"
    )
    start: Annotated[str, one_of(("unknown", "up", "down"))] = Field(
        "unknown", description="health before the first check; unknown: that one decides"
    )
    address: CheckAddressValue = Field(None, description="to check instead of the server's")
    port: Annotated[int | None, integer(1, 65535)] = Field(
        None, description="to check instead of the server's"
    )
    source: CheckAddressValue = Field(None, description="where checks come from; default: the first LIP")
    path: Annotated[str | None, string('an absolute path like "/healthz"', r"/[^\0\r\n]{0,2000}")] = Field(
        None, description='http: of the page, default "/"; file: of the file'
    )
    host: Annotated[str | None, string("a host name, with a port or not", _WEB_HOST)] = Field(
        None, description="http: the Host header; default: the address"
    )
    method: Annotated[str, one_of(("GET", "HEAD"))] = Field("GET", description="http: the method")
    status: Annotated[list[StatusValue], Words('a list of codes like 200 or ranges like "200-299"')] = Field(
        written(["200-299"]), description="http: codes that are good"
    )
    body: PatternValue = Field(None, description="http: regular expression found in the body")
    digest: Annotated[
        bytes | None, string('"sha256:" and 64 hexadecimal digits', r"sha256:[0-9A-Fa-f]{64}", _read_digest)
    ] = Field(None, description="http: of the whole body")
    sni: Annotated[str | None, string("a host name", _HOST_NAME)] = Field(
        None, description="https: the name in the certificate; default: host, or the address"
    )
    verify: FlagValue = Field(True, description="https: whether the certificate is verified")
    ca: Annotated[str | None, string("the path of a file", r"[^\0]+")] = Field(
        None, description="https: certificates to trust (PEM); default: the system's"
    )
    name: Annotated[
        str, string("a domain name", r"\.|([A-Za-z0-9_-]+\.)*[A-Za-z0-9_-]+\.?", _read_domain)
    ] = Field(".", description="dns: what is asked about")
    query: Annotated[str, one_of(tuple(QUERY_TYPES))] = Field("SOA", description="dns: record type")
    rcode: Annotated[str, one_of(tuple(RCODES))] = Field("NOERROR", description="dns: code of a good answer")
    send: Annotated[str | None, string("a string", r"[\s\S]{0,1400}")] = Field(
        None, description="udp: the datagram, as text"
    )
    send_hex: Annotated[
        bytes | None, string("pairs of hexadecimal digits", r"([0-9A-Fa-f]{2}\s*){0,1400}", _read_payload)
    ] = Field(None, description="udp: the datagram, in hexadecimal")
    expect: PatternValue = Field(
        None, description='udp: regular expression found in the answer, "": any; default: no refusal'
    )
    helo: Annotated[str, string("a host name", _HOST_NAME)] = Field(
        "localhost", description="smtp: how we introduce ourselves"
    )
    command: Annotated[
        list[ArgumentValue], Words("a list of strings: a program's absolute path, arguments")
    ] = Field([], description="script: the program and its arguments")
    dynamic: FlagValue = Field(False, description="script: exit status 2-255 is a weight, plus 2")
