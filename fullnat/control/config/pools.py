# SPDX-License-Identifier: Apache-2.0
"""Pools: the servers of one service, its backups and its sorry server, each with its check."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from fullnat.control.config.health import NEED_PORT
from fullnat.control.config.health_build import build_health
from fullnat.control.config.model import PoolConfig, ServerConfig
from fullnat.control.config.problems import Report
from fullnat.control.config.schema import BackupTable, ServerTable, ServiceTable
from fullnat.control.config.toml_lines import KeyPath
from fullnat.control.config.values import Listen, ServerAddress
from fullnat.core.addr import Endpoint
from fullnat.health.check import HealthCheck
from fullnat.kernel.service import Forward

MAIN, SORRY = RESERVED = ("main", "sorry")  # what the first pool and the last resort are called
_KEEP_PORT = (Forward.DR.value, Forward.TUN.value)


class PoolBuilder:
    """Builds the pools of one service, remembering what must not come twice in it."""

    def __init__(
        self, table: ServiceTable, listens: Mapping[Listen, KeyPath], report: Report, loc: KeyPath
    ) -> None:
        """*listens* are those of all services."""
        self._table = table
        self._listens = listens
        self._report = report
        self._loc = loc
        self._family = table.listen.family if table.listen else None
        self._addresses: dict[ServerAddress, KeyPath] = {}

    def build(self) -> tuple[tuple[PoolConfig, ...], Endpoint | None]:
        """Return the pools in order, the main one first, and the sorry server."""
        table, loc = self._table, self._loc
        build_health(table.health, self._report, (*loc, "health"), self._family)
        servers = tuple(self._build_servers(table.server, (*loc, "server")))
        if not self._report.is_bad((*loc, "server")):
            self._warn_of_idle_service(servers)
        self._check_quorum(table.quorum, table.hysteresis, servers, loc)
        backups = self._build_backups()
        return (PoolConfig(MAIN, servers, table.quorum, table.hysteresis), *backups), self._build_sorry()

    def _build_backups(self) -> Iterator[PoolConfig]:
        names: dict[str, KeyPath] = {}
        for index, backup in enumerate(self._table.backup):
            loc = (*self._loc, "backup", index)
            name = backup.name or f"backup{index + 1}"
            first = names.setdefault(name, (*loc, "name"))
            if name in RESERVED:
                self._report.refuse((*loc, "name"), f"a name other than {' and '.join(RESERVED)}")
            elif first != (*loc, "name"):
                self._report.refuse_repeated((*loc, "name"), first, "a name no other pool of the service has")
            yield self._build_backup(backup, name, loc)

    def _build_backup(self, backup: BackupTable, name: str, loc: KeyPath) -> PoolConfig:
        servers = tuple(self._build_servers(backup.server, (*loc, "server")))
        if not servers and not self._report.is_bad((*loc, "server")):
            self._report.warn(loc, "no [[service.backup.server]]: it can never serve")
        self._check_quorum(backup.quorum, backup.hysteresis, servers, loc)
        return PoolConfig(name, servers, backup.quorum, backup.hysteresis)

    def _build_sorry(self) -> Endpoint | None:
        sorry = self._table.sorry
        return None if sorry is None else self._build_endpoint(sorry, (*self._loc, "sorry"))

    def _build_servers(self, tables: Sequence[ServerTable], loc: KeyPath) -> Iterator[ServerConfig]:
        for index, server in enumerate(tables):
            server_loc = (*loc, index)
            if self._is_threshold_wrong(server, server_loc):
                self._report.refuse((*server_loc, "lower"), f"at most upper, which is {server.upper}")
            if server.address is None:
                continue
            endpoint = self._build_endpoint(server.address, (*server_loc, "address"))
            health = self._build_health(server, endpoint, server_loc)
            yield ServerConfig(endpoint, server.weight, server.upper, server.lower or None, health)

    def _build_health(self, server: ServerTable, endpoint: Endpoint, loc: KeyPath) -> HealthCheck | None:
        """Return the check of the server at *loc*: its own on top of the service's, or the service's."""
        service, own = self._table.health, server.health
        if own is None:
            # The service's own was looked at already: what it says is not told again for each server.
            loc, report = self._loc, self._report.muted()
            health = build_health(service, report, (*loc, "health"), self._family)
        else:
            health = build_health(own, self._report, (*loc, "health"), self._family, service)
        if health and not endpoint.port and health.port is None and health.type in NEED_PORT:
            self._report.error((*loc, "health", "port"), "missing, accepted: 1-65535, for a mark has no port")
        return health

    def _is_threshold_wrong(self, server: ServerTable, loc: KeyPath) -> bool:
        return server.lower > server.upper and not self._report.is_bad((*loc, "upper"))

    def _build_endpoint(self, address: ServerAddress, loc: KeyPath) -> Endpoint:
        """Return where the server at *loc* is reached, with everything said that is wrong with it."""
        listen = self._table.listen
        if listen is not None:
            self._check_port(address, listen, loc)
            address = ServerAddress(address.address, address.port or listen.port)
            self._check_address(address, listen, loc)
        first = self._addresses.setdefault(address, loc)
        if first != loc:
            self._report.refuse_repeated(loc, first, "an address no other server of the service has")
        # 0: a mark has no port; or no listen was given, and this is of no use
        return Endpoint(address.address, address.port or 0)

    def _check_port(self, address: ServerAddress, listen: Listen, loc: KeyPath) -> None:
        """Only NAT changes the port."""
        if address.port in (None, listen.port) or self._table.forward not in _KEEP_PORT:
            return
        kept = f"port {listen.port}" if listen.port else "the port the client asked for"
        self._report.refuse(loc, f'an address without a port: forward = "{self._table.forward}" keeps {kept}')

    def _check_address(self, address: ServerAddress, listen: Listen, loc: KeyPath) -> None:
        family = listen.family
        if address.address.version != family:
            self._report.refuse(loc, f"an IPv{family} address, as the service's listen is")
        target = Listen(listen.protocol, Endpoint(address.address, address.port or 0))
        if target in self._listens:
            self._report.refuse_repeated(loc, self._listens[target], "an address that is no service's listen")

    def _check_quorum(
        self, quorum: int, hysteresis: int, servers: Sequence[ServerConfig], loc: KeyPath
    ) -> None:
        if self._report.is_bad((*loc, "quorum")) or self._report.is_bad((*loc, "server")):
            return
        weight = sum(server.weight for server in servers)
        if hysteresis >= quorum and hysteresis:
            self._report.refuse((*loc, "hysteresis"), f"less than quorum, which is {quorum}")
        elif servers and quorum > 1 and quorum + hysteresis > weight:
            self._report.warn(
                (*loc, "quorum"),
                f"with hysteresis it is {quorum + hysteresis}, and all servers together have {weight}",
            )

    def _warn_of_idle_service(self, servers: Sequence[ServerConfig]) -> None:
        if not servers:
            self._report.warn(self._loc, "no [[service.server]]: every new connection is dropped")
        elif not any(server.weight for server in servers):
            self._report.warn(self._loc, "no server of weight above 0: every new connection is dropped")
