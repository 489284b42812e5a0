# SPDX-License-Identifier: Apache-2.0
"""A virtual_server of keepalived.conf as services: one for each address its group stands for."""

from __future__ import annotations

from fullnat.importers.assemble import flags, forward, scheduler, server_port
from fullnat.importers.document import Document, Listen, Persistence, Server, Service, Timeouts
from fullnat.importers.keepalived.checks import is_yes, read_health
from fullnat.importers.keepalived.globals import Known
from fullnat.importers.keepalived.groups import read_listens
from fullnat.importers.notes import ImporterError, Notes, Place, quoted
from fullnat.importers.settings import Scope, Setting
from fullnat.importers.values import Address, Duration, read_integer, read_ip, read_prefix, read_seconds

_MODES = {"NAT": "nat", "DR": "dr", "TUN": "tun", "FNAT": "fullnat", "FULLNAT": "fullnat"}
_FLAGS = ("sh-port", "sh-fallback", "mh-port", "mh-fallback", "flag-1", "flag-2", "flag-3")
_DEFAULT_PERSISTENCE_S = 360

_COMMANDS = "fullnat runs no commands; `fullnat events` tells of every change"
_NOT_HERE = "no engine does this in this version"
_ACCESS = "fullnat filters no clients; nft or iptables do"
_REASONS = {
    **dict.fromkeys(["quorum_up", "quorum_down", "notify_up", "notify_down", "omega"], _COMMANDS),
    **dict.fromkeys(["syn_proxy", "proxy_protocol", "quic", "bps_limit", "cps_limit"], _NOT_HERE),
    **dict.fromkeys(["expire_quiescent_conn", "hash_target", "dest_check"], _NOT_HERE),
    **dict.fromkeys(["daddr_group_name", "waddr_group_name", "allow_addr_group", "deny_addr_group"], _ACCESS),
    "ha_suspend": "servers are checked whether or not this host has the VIP",
    "smtp_alert": "fullnat sends no mail; the alert rules of its metrics do",
    "persistence_engine": "clients are told apart by address alone",
    "sorry_server_inhibit": "the sorry server is out of the pool while it is not needed",
    "sorry_server_lvs_method": "the sorry server is reached as the servers are",
}
# Read by the checks, which look outwards through the server and the service.
_OF_CHECKS = ("delay_loop", "connect_timeout", "retry", "nb_get_retry", "nb_sock_retry", "delay_before_retry")
_HARMLESS = ("warmup", "alpha", "virtualhost", "ip_family", "inhibit_on_failure", "nat_mask", *_OF_CHECKS)


def read_service(setting: Setting, known: Known, document: Document, keep_forwarding: bool) -> list[Service]:
    """Return the services of a virtual_server; the notes on all of them stand with the first."""
    scope = Scope(setting.block)
    protocol = _protocol(scope)
    if protocol not in {"tcp", "udp"}:
        document.notes.left(
            setting.place, " ".join(setting.words), f"fullnat balances TCP and UDP, not {protocol}"
        )
        return []
    services: list[Service] = []
    for place, listen in _listens(setting, scope, protocol, known, document.notes):
        service = _Reader(setting, scope, Service(place, listen), known, keep_forwarding).read()
        if setting.value == "group" and not service.name:
            service.name = setting.words[2]
        if services:
            service.notes = Notes()
        services.append(service)
    return services


def _protocol(scope: Scope) -> str:
    protocol = scope.own("protocol")
    return protocol.value.lower() if protocol else "tcp"


def _family(scope: Scope) -> int:
    """Return the family of a service that is a mark: as said, or that of its servers."""
    said, servers = scope.own("ip_family"), scope.all("real_server")
    if said:
        return 6 if said.value == "inet6" else 4
    return read_ip(servers[0].value, "real_server", servers[0].place).version if servers else 4


def _listens(
    setting: Setting, scope: Scope, protocol: str, known: Known, notes: Notes
) -> list[tuple[Place, Listen]]:
    kind, words = setting.value, setting.arguments[1:]
    if kind in {"fwmark", "group", "match"} and not words:
        raise ImporterError(setting.place, f"virtual_server {kind}: a value is missing")
    if kind == "fwmark":
        mark = read_integer(words[0], 1, 2**32 - 1, "fwmark", setting.place)
        return [(setting.place, Listen("fwmark6" if _family(scope) == 6 else "fwmark", mark))]
    if kind == "match":
        notes.left(setting.place, f"virtual_server match {words[0]}", "a service is an address and a port")
        return []
    if kind == "group":
        if words[0] not in known.groups:
            raise ImporterError(
                setting.place, f"virtual_server group: no virtual_server_group is named {quoted(words[0])}"
            )
        return list(read_listens(known.groups[words[0]], protocol, _family(scope)))
    address = read_ip(kind, "virtual_server", setting.place)
    port = read_integer(words[0], 0, 65535, "virtual_server", setting.place) if words else None
    return [(setting.place, Listen(protocol, Address(address, port)))]


class _Reader:
    """Reads the body of a virtual_server for one of its addresses."""

    def __init__(
        self, setting: Setting, scope: Scope, service: Service, known: Known, keep_forwarding: bool
    ) -> None:
        self._setting = setting
        self._scope = scope
        self._service = service
        self._known = known
        self._keep_forwarding = keep_forwarding
        self._mode = self._mode_of(scope, setting.place)

    def read(self) -> Service:
        """Return the service, every setting of it taken or told."""
        service, scope = self._service, self._scope
        if name := scope.own("snmp_name"):
            service.name = name.value
        self._read_scheduler()
        self._read_persistence()
        service.one_packet = is_yes(scope.own("ops"))
        service.quorum = self._integer("quorum", 1)
        service.hysteresis = self._integer("hysteresis", 0)
        if idle := scope.own("establish_timeout", "est_timeout"):
            service.timeouts = Timeouts(tcp_established=read_seconds(idle.value, idle.keyword, idle.place))
        self._read_local_group()
        self._read_servers()
        self._read_sorry()
        method = scope.own("lb_kind", "lvs_method")
        forward(service, self._mode, method.place if method else self._setting.place, self._keep_forwarding)
        scope.ignore("protocol", *_HARMLESS)
        self._tell(scope, "")
        return service

    def _tell(self, scope: Scope, inside: str) -> None:
        for setting in scope.unasked():
            why = _REASONS.get(setting.keyword, "a service here has nothing like it")
            self._service.notes.left(setting.place, f"{inside}{setting.keyword}", why)

    def _mode_of(self, scope: Scope, place: Place) -> str:
        setting = scope.find("lb_kind", "lvs_method")
        word = setting.value if setting else "NAT"
        if word.upper() not in _MODES:
            raise ImporterError(place, f"lvs_method: found {quoted(word)}, accepted: NAT, DR, TUN or FNAT")
        if setting and len(setting.words) > 2:
            why = "a tunnel is IPIP as the kernel has it by default"
            self._service.notes.left(setting.place, " ".join(setting.words), why)
        return _MODES[word.upper()]

    def _integer(self, keyword: str, default: int) -> int:
        setting = self._scope.own(keyword)
        return read_integer(setting.value, 0, 1_000_000, keyword, setting.place) if setting else default

    def _read_scheduler(self) -> None:
        chosen = self._scope.own("lb_algo", "lvs_sched")
        if chosen:
            self._service.scheduler = scheduler(chosen.value, chosen.place, self._service.notes)
        given = self._scope.all(*_FLAGS)
        if given:
            self._service.scheduler_flags = flags(
                [setting.keyword for setting in given], self._service, given[0].place
            )

    def _read_persistence(self) -> None:
        timeout, mask = self._scope.own("persistence_timeout"), self._scope.own("persistence_granularity")
        if timeout is None:
            if mask:
                self._service.notes.left(
                    mask.place, "persistence_granularity", "there is no persistence_timeout"
                )
            return
        seconds = _DEFAULT_PERSISTENCE_S
        if timeout.arguments:
            seconds = read_integer(timeout.value, 0, 31_536_000, "persistence_timeout", timeout.place)
        length = read_prefix(mask.value, "persistence_granularity", mask.place) if mask else None
        if seconds:
            self._service.persistence = Persistence(Duration(seconds * 1000), length)

    def _read_local_group(self) -> None:
        group = self._scope.own("laddr_group_name")
        if group and len(self._known.local_groups) > 1:
            why = "all services use all of [snat] addresses"
            self._service.notes.changed(group.place, f"laddr_group_name {group.value}", why)

    def _read_servers(self) -> None:
        inhibited = []
        for setting in self._scope.all("real_server"):
            scope = Scope(setting.block, self._scope)
            self._service.servers.append(self._server(setting, scope))
            inhibited.append(is_yes(scope.find("inhibit_on_failure")))
            scope.ignore(
                "weight", "uthreshold", "lthreshold", "lb_kind", "lvs_method", "snmp_name", *_HARMLESS
            )
            self._tell(scope, "real_server ")
        self._service.inhibit = any(inhibited)
        if self._service.inhibit and not all(inhibited):
            why = "is for all servers of a service here, and some had it"
            self._service.notes.changed(self._setting.place, "inhibit_on_failure", why)

    def _server(self, setting: Setting, scope: Scope) -> Server:
        mode = self._mode_of(scope, setting.place)
        if mode != self._mode:
            why = f"all servers of a service are reached alike, here as {self._mode.upper()} was"
            self._service.notes.changed(setting.place, f"real_server {setting.value} was {mode.upper()}", why)
        address, port = self._address(setting)
        server = Server(
            setting.place, Address(address.host, server_port(port, self._mode, self._service.listen))
        )
        for keyword, name, most in (
            ("weight", "weight", 65535),
            ("uthreshold", "upper", 2**32 - 1),
            ("lthreshold", "lower", 2**32 - 1),
        ):
            if given := scope.own(keyword):
                setattr(server, name, read_integer(given.value, 0, most, keyword, given.place))
        if label := scope.own("snmp_name"):
            server.comment = label.value
        server.health = read_health(scope, server, self._service, self._known.files)
        self._settle_check_port(server, port)
        return server

    def _address(self, setting: Setting) -> tuple[Address, int | None]:
        address = read_ip(setting.value, setting.keyword, setting.place)
        words = setting.arguments[1:]
        port = read_integer(words[0], 0, 65535, setting.keyword, setting.place) if words else None
        return Address(address), port

    def _settle_check_port(self, server: Server, port: int | None) -> None:
        """Write the port a check asks only where it is not the one that is served."""
        served = server.address.port or self._service.listen.port
        if server.health and server.health.type not in {"script", "file", "icmp"}:
            asked = server.health.port or port or served
            server.health.port = asked if asked != served else None
        elif server.health:
            server.health.port = None

    def _read_sorry(self) -> None:
        sorry = self._scope.own("sorry_server")
        if sorry:
            address, port = self._address(sorry)
            port = server_port(port, self._mode, self._service.listen)
            self._service.sorry = Server(sorry.place, address._replace(port=port))
