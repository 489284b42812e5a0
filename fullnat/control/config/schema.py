# SPDX-License-Identifier: Apache-2.0
"""The schema: every table of the file, its keys, their types and defaults.

A table that passes is sound key by key; what takes two keys to see is left to build.py.  None is a
key that was not given or, where there is no default, one that was refused.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Any

from pydantic import Field
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from fullnat.control.config.health import HealthTable
from fullnat.control.config.supported import DATAPATHS, FALLBACKS, FORWARDS, ON_DOWN
from fullnat.control.config.table import Table, written
from fullnat.control.config.value_type import Words, integer, one_of, string
from fullnat.control.config.values import (
    ConnectionsValue,
    CountValue,
    DurationValue,
    FlagValue,
    ListenAddressValue,
    ListenValue,
    LocalAddressesValue,
    MaskValue,
    PathValue,
    PeerNameValue,
    PortRangeValue,
    ServerAddressValue,
    StringValue,
)
from fullnat.core.timeouts import PROFILES, Timeouts


class EngineTable(Table):
    """Which engine moves the packets."""

    datapath: Annotated[str, one_of(DATAPATHS)] = Field("auto", description="the engine")
    workers: Annotated[int, integer(1, 64)] = Field(
        1, description="threads of the packet loop, each with a queue of its own; engine native"
    )
    tune: FlagValue = Field(False, description="set up the host for overload while running")
    fallback: Annotated[str, one_of(FALLBACKS)] = Field(
        "auto", description="who serves new connections while the engine is gone"
    )
    queue: Annotated[int, integer(0, 65535)] = Field(
        1080, description="NFQUEUE number; engine native: the first of workers + 1"
    )
    add_addresses: FlagValue = Field(
        True, description="put a VIP or LIP that no interface has on the interface whose subnet contains it"
    )


class SnatTable(Table):
    """The local addresses (LIPs) connections to servers come from."""

    addresses: Annotated[list[LocalAddressesValue], Words('a list of addresses "a" or ranges "a-b"')] = Field(
        description="LIPs: addresses or ranges a-b", json_schema_extra={"minItems": 1}
    )
    ports: PortRangeValue = Field(
        None, description="ports to use on each LIP; default: above 1023, outside ip_local_port_range"
    )
    rest: DurationValue = Field(written("60s"), description="how long a released port is not used again")


class TimeoutsTable(Table):
    """How long a silent flow is kept."""

    profile: Annotated[str | None, one_of(tuple(PROFILES))] = Field(
        None, description="sets all; keys override"
    )
    tcp_opening: DurationValue | None = Field(None, description="handshake not finished")
    tcp_established: DurationValue | None = Field(None, description="connection open")
    tcp_closing: DurationValue | None = Field(None, description="a FIN was seen")
    tcp_reset: DurationValue | None = Field(None, description="a RST was seen")
    udp: DurationValue | None = Field(None, description="datagrams both ways")
    udp_unreplied: DurationValue | None = Field(None, description="no answer yet")
    icmp: DurationValue | None = Field(None, description="echo request and reply")

    def overrides(self) -> dict[str, int]:
        """Return the keys that were given, in nanoseconds."""
        given = {field.name: getattr(self, field.name) for field in fields(Timeouts)}
        return {name: value for name, value in given.items() if value is not None}


class LimitsTable(Table):
    """How many of each thing are kept at once."""

    flows: CountValue = Field(1_000_000, description="flows")
    persistence: CountValue = Field(100_000, description="persistence templates")
    fragments: CountValue = Field(4096, description="fragmented datagrams in flight")


class PersistenceTable(Table):
    """Clients of one prefix stay on one server."""

    timeout: DurationValue = Field(written("300s"), description="after the last new connection")
    mask: MaskValue | None = Field(
        None, description="prefix length that makes two clients one; default: whole address"
    )


WeightValue = Annotated[int, integer(1, 2**32 - 1)]


class ServerTable(Table):
    """One real server."""

    address: ServerAddressValue = Field(description="RIP:rport; without a port, the service's")
    weight: Annotated[int, integer(0, 65535)] = Field(1, description="share of new connections; 0 quiesces")
    upper: ConnectionsValue = Field(0, description="no new connection from this many on; 0: no limit")
    lower: ConnectionsValue = Field(0, description="again below this many; 0: three quarters of upper")
    health: HealthTable | None = Field(None, description="keys on top of the service's health")


class BackupTable(Table):
    """A pool of servers that serves when those before it cannot."""

    name: Annotated[
        str | None, string("1-64 letters, digits and . _ -", r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
    ] = Field(None, description="unique in the service; default: backup1, backup2, ...")
    quorum: WeightValue = Field(1, description="weight of working servers it takes to serve")
    hysteresis: ConnectionsValue = Field(0, description="how far from it the weight must be to change that")
    server: Annotated[list[ServerTable], Words("[[service.backup.server]] tables")] = Field(
        [], description="its servers"
    )


class ServiceTable(Table):
    """One virtual service."""

    name: Annotated[
        str | None, string("1-64 letters, digits and . _ : -", r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
    ] = Field(None, description="unique; default: made of listen")
    listen: ListenValue = Field(description="VIP:vport and protocol, or the mark of its packets")
    forward: Annotated[str, one_of(FORWARDS)] = Field(
        "fullnat", description="how packets reach the servers; the kernel does what is not fullnat"
    )
    scheduler: StringValue = Field(
        "wlc", description='built in, "FILE.py:CLASS", or an installed entry point'
    )
    scheduler_flags: Annotated[list[StringValue | None], Words("a list of strings")] = Field(
        [], description="options of the scheduler"
    )
    persistence: Annotated[PersistenceTable | None, Words("a table like { timeout = 300, mask = 32 }")] = (
        Field(None, description="clients stay on one server")
    )
    one_packet: FlagValue = Field(False, description="UDP: every datagram is scheduled anew")
    timeouts: TimeoutsTable = Field(written({}), description="on top of the global timeouts")
    server: Annotated[list[ServerTable], Words("[[service.server]] tables")] = Field(
        [], description="the real servers"
    )
    quorum: WeightValue = Field(1, description="weight of working servers it takes to serve without backup")
    hysteresis: ConnectionsValue = Field(0, description="how far from it the weight must be to change that")
    backup: Annotated[list[BackupTable], Words("[[service.backup]] tables")] = Field(
        [], description="pools that serve, in this order, when the one before has no quorum"
    )
    sorry: ServerAddressValue = Field(None, description="server of last resort, never checked")
    inhibit: FlagValue = Field(False, description="a server that is down keeps its place, with weight 0")
    slow_start: DurationValue | None = Field(
        None, description="how long the share of a server that is back grows"
    )
    on_down: Annotated[str, one_of(ON_DOWN)] = Field(
        "keep", description="what becomes of the connections of a server that is down"
    )
    reset_after: DurationValue | None = Field(
        None, description='on_down = "reset": not before; default: at once'
    )
    health: HealthTable | None = Field(None, description="how its servers are checked")


class ApiTable(Table):
    """Who may use the control socket, beside root and the owner."""

    viewers: Annotated[list[PeerNameValue], Words('a list of users, and of groups as in "@ops"')] = Field(
        [], description="may read"
    )
    operators: Annotated[list[PeerNameValue], Words('a list of users, and of groups as in "@ops"')] = Field(
        [], description="may also change the state of servers"
    )
    admins: Annotated[list[PeerNameValue], Words('a list of users, and of groups as in "@ops"')] = Field(
        [], description="may also reload, stop, and change services"
    )


class WebTable(Table):
    """The status page, and the metrics, for browsers and for Prometheus; read-only."""

    listen: ListenAddressValue = Field(written("127.0.0.1:8404"), description="ADDRESS:PORT to listen on")
    names: Annotated[list[StringValue], Words("a list of host names")] = Field(
        [], description="names browsers may use for it, beside the address"
    )


class MetricsTable(Table):
    """What is counted, for others than those who ask the control socket or the page."""

    procfs: PathValue | None = Field(
        None, description="directory for net/ip_vs and net/ip_vs_stats, as the kernel has them in /proc"
    )


class Document(Table):
    """The whole file."""

    version: Annotated[int | None, one_of((1,))] = Field(description="of this schema")
    instance: Annotated[str, string("1-12 letters, digits and -", r"[A-Za-z0-9-]{1,12}")] = Field(
        "main", description="names chains, sets and files of this director"
    )
    engine: EngineTable = Field(written({}), description="the engine")
    snat: SnatTable = Field(description="the local addresses")
    timeouts: TimeoutsTable = Field(written({}), description="of all services")
    limits: LimitsTable = Field(written({}), description="of the whole director")
    maintenance: PathValue | None = Field(
        None, description="directory whose files name servers to drain, as ADDRESS or ADDRESS:PORT"
    )
    api: ApiTable = Field(written({}), description="who may use the control socket")
    web: WebTable | None = Field(None, description="the status page")
    metrics: MetricsTable = Field(written({}), description="files for collectors that know IPVS")
    service: Annotated[list[ServiceTable], Words("[[service]] tables")] = Field(
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


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the file, for editors that complete and check TOML by one."""
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        **Document.model_json_schema(schema_generator=_TomlSchema),
        "title": "fullnat configuration",
    }
