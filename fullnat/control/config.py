# SPDX-License-Identifier: Apache-2.0
"""The configuration: a TOML file becomes a frozen Config, or a list of every mistake in it.

Theory.  A file passes four stages, and only the first two can end the run early, as nothing can be
read from what is not TOML:

  read      bytes -> text                     ConfigError with one line
  parse     text -> document (tomllib)        ConfigError with one line
  validate  document -> tables (pydantic)     types, ranges, spelling: what one value shows by itself
  build     tables -> Config                  what takes two values to see, and the warnings

A document with mistakes is built all the same, with stand-ins for the values that were refused
(see _stand_in), so that the checks of the last stage see everything that is sound.

Rules.
  1. Every problem is one line that names file, line, key, what was found and what is accepted.
  2. The words are the operator's: keys as in the file, values as TOML writes them.
  3. Whoever holds a Config need not check it again.

Refused.  Model validators for the cross checks: pydantic skips them as soon as a field fails, and
          the operator would meet the second mistake only after mending the first.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import PydanticCustomError, core_schema

from fullnat.control.schedulers import load_scheduler
from fullnat.control.toml_lines import KeyPath, TomlLines
from fullnat.core.addr import (
    PROTOCOL_NAMES,
    PROTOCOL_NUMBERS,
    UDP,
    Endpoint,
    IPAddress,
    PortRange,
    parse_endpoint,
)
from fullnat.core.service import Persistence
from fullnat.core.timeouts import PROFILES, SECOND, Timeouts

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from fullnat.core.sched.base import Scheduler

# Known to the schema, not carried out by this version.  A later version edits these lines only.
_DATAPATHS, _LATER_DATAPATHS = ("auto", "python"), ("ebpf", "native")
_FALLBACKS, _LATER_FALLBACKS = ("auto", "none"), ("ipvs", "iptables")
_TUNE, _LATER_TUNE = (False,), (True,)
_LATER_SERVICE_TABLES = ("health",)

_MILLISECOND = SECOND // 1000
_UNITS = {"ms": _MILLISECOND, "s": SECOND, "m": 60 * SECOND, "h": 3600 * SECOND}
_LONGEST = 8760 * _UNITS["h"]  # a year; nothing idle is worth more, and C engines count in 64 bits

MAX_LOCAL_ADDRESSES = 256

# Floors an RFC demands: key, seconds, who says so, and whether only profile "rfc" promises to keep it.
_FLOORS = (
    ("tcp_established", 7440, "RFC 5382 REQ-5", True),
    ("udp", 120, "RFC 4787 REQ-5", False),
    ("udp_unreplied", 120, "RFC 4787 REQ-5", True),
)
_WELL_KNOWN_PORTS = range(1024)  # RFC 4787 REQ-5a lets UDP mappings to these be shorter


# ---- What callers see -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake or warning; str() is the line an operator reads."""

    path: Path
    line: int  # 0: the file as a whole
    key: str  # as in service[1].listen, counted from 1; "" when no key is to blame
    message: str
    is_warning: bool = False

    def __str__(self) -> str:
        where = f"{_printable(str(self.path))}:{self.line}" if self.line else _printable(str(self.path))
        parts = (where, "warning" if self.is_warning else "", self.key, self.message)
        return ": ".join(part for part in parts if part)


class ConfigError(Exception):
    """A configuration that cannot be used; str() is one line for each problem, in the file's order."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems  # warnings too: the file is mended once


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Which engine, and what it may do to the host."""

    datapath: str
    tune: bool
    fallback: str
    queue: int  # NFQUEUE number
    add_addresses: bool


@dataclass(frozen=True, slots=True)
class SnatConfig:
    """The LIPs and the ports to use on them."""

    addresses: tuple[IPAddress, ...]  # ranges expanded, each once, in the file's order
    ports: PortRange | None  # None: worked out from the host's ip_local_port_range
    rest: int  # nanoseconds before a released port is used again


@dataclass(frozen=True, slots=True)
class LimitsConfig:
    """How many of each thing are kept at once."""

    flows: int
    persistence: int  # templates
    fragments: int  # datagrams


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """One real server of a service."""

    endpoint: Endpoint
    weight: int
    upper: int  # 0 = no limit
    lower: int | None  # None: RealServer's default


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """One virtual service."""

    name: str
    protocol: int  # addr.TCP or addr.UDP
    listen: Endpoint
    scheduler: type[Scheduler]
    scheduler_name: str  # as the file spells it
    scheduler_flags: frozenset[str]
    persistence: Persistence | None
    one_packet: bool
    timeouts: Timeouts  # the global ones with the service's own on top
    servers: tuple[ServerConfig, ...]


@dataclass(frozen=True, slots=True)
class Config:
    """All of it, checked."""

    path: Path
    instance: str
    engine: EngineConfig
    snat: SnatConfig
    timeouts: Timeouts
    limits: LimitsConfig
    services: tuple[ServiceConfig, ...]
    warnings: tuple[Problem, ...]


def load_config(path: Path) -> Config:
    """Return the configuration in the file *path*; ConfigError lists everything wrong with it.

    A scheduler named FILE.py:CLASS is loaded, and so the code of that file runs.
    """
    text = _read(path)
    document = _parse(path, text)
    report = _Report(path, TomlLines(text), document)
    config = _build(_validate(document, report), report)
    if report.has_errors:
        raise ConfigError(report.sorted_problems())
    return replace(config, warnings=tuple(report.sorted_problems()))


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the file, for editors that complete and check TOML by one."""
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        **Document.model_json_schema(schema_generator=_TomlSchema),
        "title": "fullnat configuration",
    }


# ---- How values and keys are printed ----------------------------------------------------------


def _printable(text: str) -> str:
    """Return *text* on one line: whatever does not print is escaped."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _quoted(text: str) -> str:
    shown = text if len(text) <= 60 else text[:59] + "…"
    return '"' + _printable(shown.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def _shown(value: Any) -> str:
    """Return *value* as TOML writes it, in one short line."""
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list" if value else "[]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if abs(value) < 10**20 else "a huge number"  # str() has a limit of its own
    if isinstance(value, float):
        return str(value)
    return str(value.isoformat())  # TOML has dates and times besides


def _listed(values: tuple[Any, ...]) -> str:
    """Return the values as in "a", "b" or "c"."""
    *rest, last = map(_shown, values)
    return f"{', '.join(rest)} or {last}" if rest else last


def _key_text(loc: KeyPath) -> str:
    """Return *loc* as in service[1].listen; people count from 1."""
    text = ""
    for part in loc:
        if isinstance(part, int):
            text += f"[{part + 1}]"
        else:
            key = part if re.fullmatch(r"[A-Za-z0-9_-]+", part) and len(part) <= 60 else _quoted(part)
            text += f".{key}" if text else key
    return text


# ---- What one value may be --------------------------------------------------------------------


class _RefusalError(ValueError):
    """A value refused in words of its own instead of "accepted: ..."."""


@dataclass(frozen=True, slots=True, eq=False)
class _Words:
    """Metadata of a field: what the operator may write there."""

    accepted: str


@dataclass(frozen=True, slots=True, eq=False)
class _Value(_Words):
    """The type of one TOML value: its words, its reader, its JSON Schema.

    None passes unread: TOML cannot write it, and it stands for a value already refused.
    """

    read: Callable[[Any], Any]  # ValueError refuses
    schema: dict[str, Any]

    def __get_pydantic_core_schema__(self, _source: Any, _handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self._validate)

    def __get_pydantic_json_schema__(self, _core: Any, _handler: Any) -> JsonSchemaValue:
        return dict(self.schema)

    def _validate(self, value: Any) -> Any:
        if value is None:
            return None
        try:
            return self.read(value)
        except _RefusalError as refusal:
            words = str(refusal)
        except ValueError:
            words = f"accepted: {self.accepted}"
        raise PydanticCustomError("refused", "{words}", {"words": words})


def _one_of(values: tuple[Any, ...], later: tuple[Any, ...] = ()) -> _Value:
    """Accept each of *values*; say of those in *later* that this version does not have them."""

    def read(value: Any) -> Any:
        if any(type(value) is type(known) and value == known for known in later):
            raise _RefusalError(f"which is not part of this version; use {_listed(values)}")
        if not any(type(value) is type(known) and value == known for known in values):
            raise ValueError
        return value

    return _Value(_listed(values), read, {"enum": list(values)})


def _integer(low: int, high: int) -> _Value:
    def read(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError
        return value

    return _Value(f"{low}-{high}", read, {"type": "integer", "minimum": low, "maximum": high})


def _string(accepted: str, pattern: str, read: Callable[[str], Any] = str) -> _Value:
    """Accept a string that matches the whole of *pattern* and that *read* does not refuse."""

    def read_string(value: Any) -> Any:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise ValueError
        return read(value)

    return _Value(accepted, read_string, {"type": "string", "pattern": f"^(?:{pattern})$"})


def _read_duration(value: Any) -> int:
    if isinstance(value, str):
        match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h)", value)
        if not match:
            raise ValueError
        nanoseconds = round(float(match[1]) * _UNITS[match[2]])
    elif type(value) is int:
        nanoseconds = value * SECOND
    elif type(value) is float and math.isfinite(value):
        nanoseconds = round(value * SECOND) if value < _LONGEST else _LONGEST + 1
    else:
        raise ValueError
    if not _MILLISECOND <= nanoseconds <= _LONGEST:
        raise ValueError
    return nanoseconds


def _usable(address: IPAddress) -> IPAddress:
    """Return *address* if packets can be sent to it and from it."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        raise _RefusalError(f"accepted: {address.ipv4_mapped}, as IPv4 writes it")
    if isinstance(address, IPv6Address) and address.scope_id:
        raise _RefusalError("accepted: an address without %interface")
    for kind in ("multicast", "unspecified", "loopback"):
        if getattr(address, f"is_{kind}"):
            raise _RefusalError(f"accepted: a unicast address; {address} is {kind}")
    if address == IPv4Address("255.255.255.255"):
        raise _RefusalError(f"accepted: a unicast address; {address} is broadcast")
    return address


def _read_address(text: str) -> IPAddress:
    return _usable(ip_address(text))


def _read_endpoint(text: str) -> Endpoint:
    endpoint = parse_endpoint(text)
    return Endpoint(_usable(endpoint.address), endpoint.port)


class Listen(NamedTuple):
    """Where a service is reached."""

    protocol: int
    endpoint: Endpoint


def _read_listen(text: str) -> Listen:
    scheme, _, rest = text.partition("://")
    return Listen(PROTOCOL_NUMBERS[scheme], _read_endpoint(rest))


class ServerAddress(NamedTuple):
    """Where a server is reached; without a port it is reached at the service's."""

    address: IPAddress
    port: int | None


def _read_server_address(text: str) -> ServerAddress:
    if text.startswith("[") and text.endswith("]"):
        return ServerAddress(_usable(IPv6Address(text[1:-1])), None)
    if ":" not in text:
        return ServerAddress(_read_address(text), None)
    return ServerAddress(*_read_endpoint(text))


def _read_local_addresses(text: str) -> tuple[IPAddress, ...]:
    """Return the addresses of "a" or of the range "a-b"."""
    low_text, dash, high_text = text.partition("-")
    low = _read_address(low_text)
    high = _read_address(high_text) if dash else low
    if low.version != high.version or int(low) > int(high):
        raise ValueError
    if int(high) - int(low) >= MAX_LOCAL_ADDRESSES:
        raise _RefusalError(f"accepted: at most {MAX_LOCAL_ADDRESSES} addresses")
    make = type(low)
    return tuple(_usable(make(number)) for number in range(int(low), int(high) + 1))


def _read_port_range(text: str) -> PortRange:
    low, _, high = text.partition("-")
    ports = PortRange(int(low), int(high))
    if not 1024 <= ports.low <= ports.high <= 65535:
        raise ValueError
    return ports


class Mask(NamedTuple):
    """A prefix length, and whether it was written as an IPv4 netmask."""

    prefix: int
    is_netmask: bool


def _read_mask(value: Any) -> Mask:
    if type(value) is int and 1 <= value <= 128:
        return Mask(value, is_netmask=False)
    if not isinstance(value, str):
        raise ValueError
    bits = int(IPv4Address(value))
    host_bits = bits ^ 0xFFFF_FFFF
    if not bits or host_bits & (host_bits + 1):  # no prefix, or a hole in it
        raise ValueError
    return Mask(bits.bit_count(), is_netmask=True)


_Flag = Annotated[bool, _one_of((True, False))]
_Count = Annotated[int, _integer(1, 100_000_000)]
_Connections = Annotated[int, _integer(0, 2**32 - 1)]
_String = Annotated[str, _string("a string", r"[\s\S]+")]
_Duration = Annotated[
    int,
    _Value(
        '1ms to 8760h, as seconds or as in "500ms", "2s", "5m", "1h"',
        _read_duration,
        {
            "anyOf": [
                {"type": "number", "minimum": 0.001, "maximum": 31_536_000},
                {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(ms|s|m|h)$"},
            ]
        },
    ),
]
_LocalAddresses = Annotated[
    tuple[IPAddress, ...] | None,
    _string('an address "a" or a range "a-b"', r"[^\s-]+(-[^\s-]+)?", _read_local_addresses),
]
_Mask = Annotated[
    Mask,
    _Value(
        '1-32 for IPv4, 1-128 for IPv6, or a netmask like "255.255.255.0"',
        _read_mask,
        {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 128}, {"type": "string", "format": "ipv4"}]},
    ),
]
_Listen = Annotated[
    Listen | None,
    _string(
        '"tcp://ADDRESS:PORT" or "udp://ADDRESS:PORT", an IPv6 address in brackets',
        r"(tcp|udp)://\S+",
        _read_listen,
    ),
]
_ServerAddress = Annotated[
    ServerAddress | None,
    _string('"ADDRESS:PORT" or "ADDRESS", an IPv6 address in brackets', r"\S+", _read_server_address),
]


# ---- The tables of the file -------------------------------------------------------------------


class Table(BaseModel):
    """A TOML table: every key known, nothing converted but by a _Value."""

    model_config = ConfigDict(extra="forbid", strict=True, validate_default=True)


def _written(value: Any) -> Any:
    """Return a default as a file would have it: it is read like one, and shown in the JSON Schema."""
    return value


class EngineTable(Table):
    """Which engine moves the packets."""

    datapath: Annotated[str, _one_of(_DATAPATHS, _LATER_DATAPATHS)] = Field("auto", description="the engine")
    tune: Annotated[bool, _one_of(_TUNE, _LATER_TUNE)] = Field(
        False, description="tune the host while running"
    )
    fallback: Annotated[str, _one_of(_FALLBACKS, _LATER_FALLBACKS)] = Field(
        "auto", description="who serves new connections while the engine is gone"
    )
    queue: Annotated[int, _integer(0, 65535)] = Field(1080, description="NFQUEUE number")
    add_addresses: _Flag = Field(
        True, description="put a VIP or LIP that no interface has on the interface whose subnet contains it"
    )


class SnatTable(Table):
    """The local addresses (LIPs) connections to servers come from."""

    addresses: Annotated[list[_LocalAddresses], _Words('a list of addresses "a" or ranges "a-b"')] = Field(
        description="LIPs: addresses or ranges a-b", json_schema_extra={"minItems": 1}
    )
    ports: Annotated[
        PortRange | None,
        _string('"low-high" within 1024-65535', r"[0-9]{1,5}-[0-9]{1,5}", _read_port_range),
    ] = Field(None, description="ports to use on each LIP; default: above 1023, outside ip_local_port_range")
    rest: _Duration = Field(_written("60s"), description="how long a released port is not used again")


class TimeoutsTable(Table):
    """How long a silent flow is kept."""

    profile: Annotated[str | None, _one_of(tuple(PROFILES))] = Field(
        None, description="sets all; keys override"
    )
    tcp_opening: _Duration | None = Field(None, description="handshake not finished")
    tcp_established: _Duration | None = Field(None, description="connection open")
    tcp_closing: _Duration | None = Field(None, description="a FIN was seen")
    tcp_reset: _Duration | None = Field(None, description="a RST was seen")
    udp: _Duration | None = Field(None, description="datagrams both ways")
    udp_unreplied: _Duration | None = Field(None, description="no answer yet")
    icmp: _Duration | None = Field(None, description="echo request and reply")

    def overrides(self) -> dict[str, int]:
        """Return the keys that were given, in nanoseconds."""
        given = {field.name: getattr(self, field.name) for field in fields(Timeouts)}
        return {name: value for name, value in given.items() if value is not None}


class LimitsTable(Table):
    """How many of each thing are kept at once."""

    flows: _Count = Field(1_000_000, description="flows")
    persistence: _Count = Field(100_000, description="persistence templates")
    fragments: _Count = Field(4096, description="fragmented datagrams in flight")


class PersistenceTable(Table):
    """Clients of one prefix stay on one server."""

    timeout: _Duration = Field(_written("300s"), description="after the last new connection")
    mask: _Mask | None = Field(
        None, description="prefix length that makes two clients one; default: whole address"
    )


class ServerTable(Table):
    """One real server."""

    address: _ServerAddress = Field(description="RIP:rport; without a port, the service's")
    weight: Annotated[int, _integer(0, 65535)] = Field(1, description="share of new connections; 0 quiesces")
    upper: _Connections = Field(0, description="no new connection from this many on; 0: no limit")
    lower: _Connections = Field(0, description="again below this many; 0: three quarters of upper")


class ServiceTable(Table):
    """One virtual service."""

    name: Annotated[
        str | None, _string("1-64 letters, digits and . _ : -", r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
    ] = Field(None, description="unique; default: made of listen")
    listen: _Listen = Field(description="VIP:vport and protocol")
    scheduler: _String = Field("wlc", description='built in, "FILE.py:CLASS", or an installed entry point')
    scheduler_flags: Annotated[list[_String | None], _Words("a list of strings")] = Field(
        [], description="options of the scheduler"
    )
    persistence: Annotated[PersistenceTable | None, _Words("a table like { timeout = 300, mask = 32 }")] = (
        Field(None, description="clients stay on one server")
    )
    one_packet: _Flag = Field(False, description="UDP: every datagram is scheduled anew")
    timeouts: TimeoutsTable = Field(_written({}), description="on top of the global timeouts")
    server: Annotated[list[ServerTable], _Words("[[service.server]] tables")] = Field(
        [], description="the real servers"
    )


class Document(Table):
    """The whole file."""

    version: Annotated[int | None, _one_of((1,))] = Field(description="of this schema")
    instance: Annotated[str, _string("1-12 letters, digits and -", r"[A-Za-z0-9-]{1,12}")] = Field(
        "main", description="names chains, sets and files of this director"
    )
    engine: EngineTable = Field(_written({}), description="the engine")
    snat: SnatTable = Field(description="the local addresses")
    timeouts: TimeoutsTable = Field(_written({}), description="of all services")
    limits: LimitsTable = Field(_written({}), description="of the whole director")
    service: Annotated[list[ServiceTable], _Words("[[service]] tables")] = Field(
        [], description="the services"
    )


class _TomlSchema(GenerateJsonSchema):
    """JSON Schema without null, which TOML cannot write."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        if schema.get("default", ...) is None:
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)


# ---- Read and parse ---------------------------------------------------------------------------


def _read(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError([Problem(path, 0, "", f"cannot be read: {error.strerror}")]) from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError([Problem(path, line, "", "not a text in UTF-8")]) from None


def _parse(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        problem = _syntax_problem(path, text, str(error))
    except (ValueError, RecursionError):  # what tomllib lets through: int() of 5000 digits, [[[[[...
        problem = Problem(path, 0, "", "not valid TOML: a number too long, or nested too deeply")
    raise ConfigError([problem])


def _syntax_problem(path: Path, text: str, message: str) -> Problem:
    """Turn "Expected '=' after a key (at line 3, column 4)" into a problem on line 3."""
    message = re.sub(
        r"\('([^()]*)',?\)", lambda key: key[1].replace("', '", "."), message
    )  # ('a', 'b') is a.b
    position = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", message)
    line, column = text.rstrip("\n").count("\n") + 1, ""
    if position:
        message = message[: position.start()]
        if position[1]:
            line, column = int(position[1]), f" (column {position[2]})"
    return Problem(path, line, "", _printable(f"not valid TOML: {message[:1].lower()}{message[1:]}{column}"))


# ---- Validate ---------------------------------------------------------------------------------


class _Report:
    """The problems found so far, and what it takes to word one."""

    def __init__(self, path: Path, lines: TomlLines, document: dict[str, Any]) -> None:
        self.path = path
        self.has_errors = False
        self._lines = lines
        self._document = document
        self._problems: list[Problem] = []
        self._bad: set[KeyPath] = set()  # where an error was found, and all tables around it

    def error(self, loc: KeyPath, message: str) -> None:
        """Note a mistake at *loc*."""
        self.has_errors = True
        self._bad.update(loc[:length] for length in range(len(loc) + 1))
        self._problems.append(Problem(self.path, self._lines.find(loc), _key_text(loc), message))

    def refuse(self, loc: KeyPath, accepted: str) -> None:
        """Note that what the file has at *loc* does not go with the rest of it."""
        found = self._value(loc)
        start = "missing" if found is None else f"found {_shown(found)}"
        self.error(loc, f"{start}, accepted: {accepted}")

    def refuse_repeated(self, loc: KeyPath, first: KeyPath, accepted: str) -> None:
        """Note that *loc* has what the earlier *first* has already."""
        self.refuse(loc, f"{accepted}; {_key_text(first)} on line {self._lines.find(first)} has it")

    def warn(self, loc: KeyPath, message: str) -> None:
        """Note what is allowed and hardly meant."""
        problem = Problem(self.path, self._lines.find(loc), _key_text(loc), message, is_warning=True)
        self._problems.append(problem)

    def is_bad(self, loc: KeyPath) -> bool:
        """Whether an error was found at *loc* or in it."""
        return loc in self._bad

    def shown(self, loc: KeyPath) -> str:
        """Return the value at *loc* as the file has it."""
        return _shown(self._value(loc))

    def sorted_problems(self) -> list[Problem]:
        """Return all problems in the order of the file's lines."""
        return sorted(self._problems, key=lambda problem: problem.line)

    def _value(self, loc: KeyPath) -> Any:
        value: Any = self._document
        for part in loc:
            try:
                value = value[part]
            except (KeyError, IndexError):
                return None
        return value


def _validate(document: dict[str, Any], report: _Report) -> Document:
    """Return the tables of *document*, reporting what pydantic refuses.

    Each round after the first mends gaps the one before it left, one level further in; the
    operator hears of the first only.
    """
    document.setdefault("snat", {})  # so that a file without [snat] is told of snat.addresses
    is_first_round = True
    while True:
        try:
            return Document.model_validate(document)
        except ValidationError as failure:
            for error in failure.errors(include_url=False):
                if is_first_round:
                    report.error(error["loc"], _in_words(error))
                _stand_in(document, error)
        is_first_round = False


def _stand_in(document: dict[str, Any], error: ErrorDetails) -> None:
    """Put something valid in the place of what was refused, or nothing where nothing is needed.

    None is a value already refused; only what has no default ever gets it.
    """
    *parents, last = error["loc"]
    parent: Any = document
    for part in parents:
        parent = parent[part]
    kind = error["type"]
    if kind == "model_type":
        parent[last] = {}
    elif kind == "list_type":
        parent[last] = []
    elif kind == "missing" or isinstance(parent, list):  # an element stays, or the others would move up
        parent[last] = None
    else:
        del parent[last]


def _in_words(error: ErrorDetails) -> str:
    """Return pydantic's finding in the operator's words."""
    loc = error["loc"]
    match error["type"]:
        case "missing":
            return f"missing, accepted: {_accepted(loc)}"
        case "extra_forbidden":
            return _unknown_key(loc, error["input"])
        case "refused":
            return f"found {_shown(error['input'])}, {error['ctx']['words']}"
        case _:
            return f"found {_shown(error['input'])}, accepted: {_accepted(loc)}"


def _unknown_key(loc: KeyPath, value: Any) -> str:
    *table_loc, key = loc
    table = _table_at(tuple(table_loc))
    if table is ServiceTable and key in _LATER_SERVICE_TABLES:
        return f"found {_shown(value)}, which is not part of this version; remove the table"
    known = sorted(table.model_fields)
    for close in get_close_matches(str(key), known, n=1):
        return f'unknown key; did you mean "{close}"?'
    return f"unknown key, accepted: {', '.join(known)}"


def _accepted(loc: KeyPath) -> str:
    """Return what may be written at *loc*, or in the list it is an element of."""
    *table_loc, key = loc if isinstance(loc[-1], str) else loc[:-1]
    metadata = _table_at(tuple(table_loc)).model_fields[str(key)].metadata
    return next((item.accepted for item in metadata if isinstance(item, _Words)), "a table")


def _table_at(loc: KeyPath) -> type[Table]:
    """Return the class of the table at *loc*."""
    table: type[Table] = Document
    for part in loc:
        if isinstance(part, str):
            table = next(_tables_in(table.model_fields[part].annotation))
    return table


def _tables_in(annotation: Any) -> Iterator[type[Table]]:
    """Yield the table classes an annotation is made of: X, list[X], X | None."""
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, Table):
            yield candidate


# ---- Build ------------------------------------------------------------------------------------


def _build(document: Document, report: _Report) -> Config:
    """Return the Config of *document*; with errors in the report it is good for nothing."""
    addresses = _build_addresses(document.snat, report)
    timeouts = _build_timeouts(document.timeouts, PROFILES["lvs"], report, ("timeouts",))
    builder = _ServiceBuilder(document, addresses, timeouts, report)
    services = [builder.build(index) for index in range(len(document.service))]
    if not services and not report.is_bad(("service",)):
        report.warn((), "no [[service]]: nothing is balanced")
    return Config(
        path=report.path,
        instance=document.instance,
        engine=EngineConfig(**dict(document.engine)),
        snat=SnatConfig(tuple(addresses), document.snat.ports, document.snat.rest),
        timeouts=timeouts,
        limits=LimitsConfig(**dict(document.limits)),
        services=tuple(service for service in services if service is not None),
        warnings=(),
    )


def _build_addresses(snat: SnatTable, report: _Report) -> list[IPAddress]:
    """Return every LIP once, in the file's order."""
    loc: KeyPath = ("snat", "addresses")
    first: dict[IPAddress, KeyPath] = {}
    total = 0
    for index, group in enumerate(snat.addresses):
        for address in group or ():
            total += 1
            if address in first:
                report.warn((*loc, index), f"{address} is in {_key_text(first[address])} already")
            first.setdefault(address, (*loc, index))
    if not snat.addresses and not report.is_bad(loc):
        report.refuse(loc, "at least one address")
    if total > MAX_LOCAL_ADDRESSES:
        report.error(loc, f"found {total} addresses, accepted: at most {MAX_LOCAL_ADDRESSES}")
    return list(first)


def _build_timeouts(
    table: TimeoutsTable, base: Timeouts, report: _Report, loc: KeyPath, listen: Listen | None = None
) -> Timeouts:
    """Return *base* with *table* on top: a profile replaces all of it, a key one value."""
    overrides = table.overrides()
    is_short_allowed = listen is not None and listen.endpoint.port in _WELL_KNOWN_PORTS
    for key, floor, source, is_only_rfc in _FLOORS:
        is_asked = table.profile == "rfc" or not is_only_rfc
        is_exempt = is_short_allowed and key.startswith("udp")
        if is_asked and not is_exempt and overrides.get(key, floor * SECOND) < floor * SECOND:
            found = report.shown((*loc, key))
            report.warn((*loc, key), f"found {found}, {source} demands at least {floor} s")
    return replace(PROFILES[table.profile] if table.profile else base, **overrides)


class _ServiceBuilder:
    """Builds services one after the other, remembering what must not come twice."""

    def __init__(
        self, document: Document, addresses: list[IPAddress], timeouts: Timeouts, report: _Report
    ) -> None:
        self._tables = document.service
        self._timeouts = timeouts
        self._report = report
        self._local_families = {address.version for address in addresses}
        self._are_locals_known = bool(addresses) and None not in document.snat.addresses
        self._names: dict[str, KeyPath] = {}
        self._listens: dict[Listen, KeyPath] = {}
        for index, table in enumerate(self._tables):
            if table.listen:
                self._listens.setdefault(table.listen, ("service", index, "listen"))

    def build(self, index: int) -> ServiceConfig | None:
        """Return the service *index*, or None where its listen was refused; check it in any case."""
        table = self._tables[index]
        loc: KeyPath = ("service", index)
        name = self._build_name(table, loc)
        scheduler = self._build_scheduler(table, loc)
        persistence = self._build_persistence(table, loc)
        timeouts = _build_timeouts(
            table.timeouts, self._timeouts, self._report, (*loc, "timeouts"), table.listen
        )
        servers = self._build_servers(table, loc)
        self._check_listen(table.listen, loc)
        self._check_one_packet(table, loc)
        if table.listen is None or scheduler is None:
            return None
        return ServiceConfig(
            name=name,
            protocol=table.listen.protocol,
            listen=table.listen.endpoint,
            scheduler=scheduler,
            scheduler_name=table.scheduler,
            scheduler_flags=frozenset(flag for flag in table.scheduler_flags if flag is not None),
            persistence=persistence,
            one_packet=table.one_packet,
            timeouts=timeouts,
            servers=tuple(servers),
        )

    def _build_name(self, table: ServiceTable, loc: KeyPath) -> str:
        loc = (*loc, "name")
        name = table.name or _default_name(table.listen)
        is_second_listen = table.listen is not None and self._listens[table.listen][:-1] != loc[:-1]
        if name and (table.name or not is_second_listen):  # else the listen is the mistake
            first = self._names.setdefault(name, loc)
            if first != loc:
                self._report.refuse_repeated(loc, first, "a name no other service has")
        return name

    def _check_listen(self, listen: Listen | None, loc: KeyPath) -> None:
        if listen is None:
            return
        loc = (*loc, "listen")
        first = self._listens[listen]
        if first != loc:
            self._report.refuse_repeated(loc, first, "a listen no other service has")
        family = listen.endpoint.family
        if self._are_locals_known and family not in self._local_families:
            other = 6 if family == 4 else 4
            self._report.refuse(
                loc, f"an IPv{other} address, or this with an IPv{family} one in snat.addresses"
            )

    def _build_scheduler(self, table: ServiceTable, loc: KeyPath) -> type[Scheduler] | None:
        """Return the scheduler's class with its flags checked, or None if there is none to be had."""
        if self._report.is_bad((*loc, "scheduler")):
            return None
        try:
            scheduler = load_scheduler(table.scheduler, self._report.path.parent)
        except ValueError as error:
            message = f"found {_shown(table.scheduler)}, {_printable(str(error))}"
            self._report.error((*loc, "scheduler"), message)
            return None
        accepted = ", ".join(sorted(scheduler.accepted_flags)) or "none"
        for index, flag in enumerate(table.scheduler_flags):
            if flag is not None and flag not in scheduler.accepted_flags:
                self._report.refuse(
                    (*loc, "scheduler_flags", index), f"{accepted} with scheduler {_shown(table.scheduler)}"
                )
        return scheduler

    def _build_persistence(self, table: ServiceTable, loc: KeyPath) -> Persistence | None:
        if table.persistence is None or table.listen is None:
            return None
        family = table.listen.endpoint.family
        full = 32 if family == 4 else 128
        mask = table.persistence.mask
        if mask is not None and (mask.prefix > full or (mask.is_netmask and family == 6)):
            self._report.refuse((*loc, "persistence", "mask"), f"1-{full} for an IPv{family} service")
        return Persistence(table.persistence.timeout, mask.prefix if mask else full)

    def _check_one_packet(self, table: ServiceTable, loc: KeyPath) -> None:
        if not table.one_packet:
            return
        if table.listen and table.listen.protocol != UDP:
            self._report.refuse((*loc, "one_packet"), "false for a tcp:// service")
        if table.persistence:
            self._report.refuse((*loc, "one_packet"), "false for a service with persistence")

    def _build_servers(self, table: ServiceTable, loc: KeyPath) -> list[ServerConfig]:
        servers = []
        seen: dict[ServerAddress, KeyPath] = {}
        for index, server in enumerate(table.server):
            server_loc = (*loc, "server", index)
            if self._is_threshold_wrong(server, server_loc):
                self._report.refuse((*server_loc, "lower"), f"at most upper, which is {server.upper}")
            if server.address is None:
                continue
            address = server.address
            if table.listen:
                address = ServerAddress(address.address, address.port or table.listen.endpoint.port)
                self._check_server_address(address, table.listen, server_loc)
            first = seen.setdefault(address, (*server_loc, "address"))
            if first != (*server_loc, "address"):
                self._report.refuse_repeated(
                    (*server_loc, "address"), first, "an address no other server of the service has"
                )
            endpoint = Endpoint(address.address, address.port or 0)  # 0: no listen either, no use
            servers.append(ServerConfig(endpoint, server.weight, server.upper, server.lower or None))
        if not self._report.is_bad((*loc, "server")):
            self._warn_of_idle_service(servers, loc)
        return servers

    def _is_threshold_wrong(self, server: ServerTable, loc: KeyPath) -> bool:
        return server.lower > server.upper and not self._report.is_bad((*loc, "upper"))

    def _check_server_address(self, address: ServerAddress, listen: Listen, loc: KeyPath) -> None:
        loc = (*loc, "address")
        family = listen.endpoint.family
        if address.address.version != family:
            self._report.refuse(loc, f"an IPv{family} address, as the service's listen is")
        target = Listen(listen.protocol, Endpoint(address.address, address.port or 0))
        if target in self._listens:
            self._report.refuse_repeated(loc, self._listens[target], "an address that is no service's listen")

    def _warn_of_idle_service(self, servers: list[ServerConfig], loc: KeyPath) -> None:
        if not servers:
            self._report.warn(loc, "no [[service.server]]: every new connection is dropped")
        elif not any(server.weight for server in servers):
            self._report.warn(loc, "no server of weight above 0: every new connection is dropped")


def _default_name(listen: Listen | None) -> str:
    """Return a name like tcp-203.0.113.10-80."""
    if listen is None:
        return ""
    return f"{PROTOCOL_NAMES[listen.protocol]}-{listen.endpoint.address}-{listen.endpoint.port}"
