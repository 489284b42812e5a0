# SPDX-License-Identifier: Apache-2.0
"""Build: tables -> Config, with the checks that take two values to see, and the warnings.

A table may hold None for what was refused already.  A check that needs such a value is left out,
and all others are made, whether or not a Config comes of it.
"""

from __future__ import annotations

from dataclasses import replace

from fullnat.control.config.model import (
    Config,
    EngineConfig,
    LimitsConfig,
    ServerConfig,
    ServiceConfig,
    SnatConfig,
)
from fullnat.control.config.problems import Report
from fullnat.control.config.schema import (
    Document,
    EngineTable,
    ServerTable,
    ServiceTable,
    SnatTable,
    TimeoutsTable,
)
from fullnat.control.config.toml_lines import KeyPath
from fullnat.control.config.values import MAX_LOCAL_ADDRESSES, Listen, ServerAddress
from fullnat.control.config.wording import key_text, printable, value_text
from fullnat.control.schedulers import load_scheduler
from fullnat.core.addr import PROTOCOL_NAMES, UDP, Endpoint, IPAddress
from fullnat.core.sched.base import Scheduler
from fullnat.core.service import Persistence
from fullnat.core.timeouts import PROFILES, SECOND, Timeouts

# Floors an RFC demands: key, seconds, who says so, and whether only profile "rfc" promises to keep it.
_FLOORS = (
    ("tcp_established", 7440, "RFC 5382 REQ-5", True),
    ("udp", 120, "RFC 4787 REQ-5", False),
    ("udp_unreplied", 120, "RFC 4787 REQ-5", True),
)
_LAST_QUEUE = 65535
_WELL_KNOWN_PORTS = range(1024)  # RFC 4787 REQ-5a lets UDP mappings to these be shorter


def build_config(document: Document, report: Report) -> Config:
    """Return the Config of *document*; with errors in the report it is good for nothing."""
    _check_engine(document.engine, report)
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


def _check_engine(engine: EngineTable, report: Report) -> None:
    if engine.datapath == "python":
        if engine.workers > 1:
            report.refuse(("engine", "workers"), '1 with datapath "python"')
    elif engine.queue + engine.workers > _LAST_QUEUE:
        # Engine native has one queue more than workers: host/plan.py.
        last = _LAST_QUEUE - engine.workers
        report.refuse(("engine", "queue"), f"0-{last}, for {engine.workers + 1} queues are needed from it on")


def _build_addresses(snat: SnatTable, report: Report) -> list[IPAddress]:
    """Return every LIP once, in the file's order."""
    loc: KeyPath = ("snat", "addresses")
    first: dict[IPAddress, KeyPath] = {}
    total = 0
    for index, group in enumerate(snat.addresses):
        for address in group or ():
            total += 1
            if address in first:
                report.warn((*loc, index), f"{address} is in {key_text(first[address])} already")
            first.setdefault(address, (*loc, index))
    if not snat.addresses and not report.is_bad(loc):
        report.refuse(loc, "at least one address")
    if total > MAX_LOCAL_ADDRESSES:
        report.error(loc, f"found {total} addresses, accepted: at most {MAX_LOCAL_ADDRESSES}")
    return list(first)


def _build_timeouts(
    table: TimeoutsTable, base: Timeouts, report: Report, loc: KeyPath, listen: Listen | None = None
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
        self, document: Document, addresses: list[IPAddress], timeouts: Timeouts, report: Report
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
            message = f"found {value_text(table.scheduler)}, {printable(str(error))}"
            self._report.error((*loc, "scheduler"), message)
            return None
        accepted = ", ".join(sorted(scheduler.accepted_flags)) or "none"
        for index, flag in enumerate(table.scheduler_flags):
            if flag is not None and flag not in scheduler.accepted_flags:
                self._report.refuse(
                    (*loc, "scheduler_flags", index),
                    f"{accepted} with scheduler {value_text(table.scheduler)}",
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
