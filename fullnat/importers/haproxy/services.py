# SPDX-License-Identifier: Apache-2.0
"""A listen of haproxy.cfg, or a frontend with its backend, as services: one for each address it binds."""

from __future__ import annotations

import re

from fullnat.importers.assemble import flags
from fullnat.importers.document import Document, Listen, Persistence, Pool, Server, Service, Timeouts
from fullnat.importers.haproxy.checks import KINDS, OTHERS, Checks
from fullnat.importers.haproxy.servers import ServerLine, read_servers
from fullnat.importers.notes import Notes, Place
from fullnat.importers.settings import Scope, Setting
from fullnat.importers.values import Duration, read_host, read_timespan

_BALANCE = {"roundrobin": "wrr", "static-rr": "wrr", "leastconn": "wlc", "first": "fo", "random": "twos"}
_IDLE = ("timeout tunnel", "timeout client", "timeout server", "clitimeout", "srvtimeout")

# Asked for by name somewhere, also where a proxy says them itself and its defaults are not looked at.
KNOWN = (
    *("mode", "bind", "server", "default-server", "balance", "hash-type", "source", "default_backend"),
    *("stick-table", "stick on", "option allbackups", "disabled", "enabled", *_IDLE, *KINDS, *OTHERS),
)
_LOG = "fullnat logs what becomes of servers, not each connection"
_HTTP = "fullnat does not read HTTP"
_CONTENT = "fullnat goes by addresses and ports alone"
_QUEUE = "nothing is queued, and a connection is never tried on a second server"
_END = "client and server keep their connection alive themselves"
_REASONS = (
    (r"(no )?option (http|forwardfor|accept-invalid|originalto).*|timeout http-.*|http-.*", _HTTP),
    (r"errorfile|cookie|compression.*|capture.*|redirect|monitor-uri|errorloc.*", _HTTP),
    (r"log.*|(no )?option (tcplog|httplog|log.*|dontlog.*|contstats|socket-stats)|unique-id-.*", _LOG),
    (r"acl|use_backend|use-server|tcp-re.*|http-re.*|filter|stick .*|declare.*", _CONTENT),
    (r"timeout (queue|connect|tarpit)|contimeout|fullconn|maxconn", _QUEUE),
    (r"retries|retry-on|(no )?option redispatch", _QUEUE),
    (r"(no )?option (tcpka|clitcpka|srvtcpka|tcp-smart-.*|nolinger|splice-.*)|(cli|srv)tcpka-.*", _END),
    (r"timeout (client|server)-fin", "see tcp_closing in [timeouts]"),
    (r"stats.*", "fullnat has a status page of its own"),
)


def reason(keyword: str) -> str:
    """Return why a setting of a proxy is not taken."""
    found = (why for pattern, why in _REASONS if re.fullmatch(pattern, keyword))
    return next(found, "a service here has nothing like it")


def read_services(
    section: Setting, binds: list[tuple[Place, Listen]], front: Scope, back: Scope, document: Document
) -> list[Service]:
    """Return the services of one proxy; the notes on all of them stand with the first."""
    services: list[Service] = []
    for place, listen in binds:
        service = Service(place, listen, name=section.words[1])
        _Reader(service, front, back, document).read()
        if services:
            service.notes = Notes()
        services.append(service)
    return services


class _Reader:
    """Reads a proxy for one of the addresses it binds."""

    def __init__(self, service: Service, front: Scope, back: Scope, document: Document) -> None:
        self._service = service
        self._front = front
        self._back = back
        self._document = document

    def read(self) -> None:
        """Fill the service; every setting is taken or told."""
        self._read_balance()
        self._read_persistence()
        self._read_timeouts()
        if source := self._back.find("source"):
            self._read_source(source.arguments, source.place)
        self._read_servers()
        for scope in {id(scope): scope for scope in (self._front, self._back)}.values():
            scope.ignore(*KNOWN)
            for setting in scope.unasked():
                self._service.notes.left(setting.place, setting.keyword, reason(setting.keyword))

    def _read_balance(self) -> None:
        balance, hashing = self._back.find("balance"), self._back.find("hash-type")
        word = balance.value if balance else "roundrobin"
        service = self._service
        if balance and word == "source":
            service.scheduler = "mh" if hashing and hashing.value == "consistent" else "sh"
            service.scheduler_flags = flags([f"{service.scheduler}-fallback"], service, balance.place)
            return
        service.scheduler = _BALANCE.get(re.sub(r"\(.*", "", word), "wlc")
        if word == "random(1)":
            service.scheduler = "random"
        elif balance and re.sub(r"\(.*", "", word) not in _BALANCE:
            service.notes.changed(
                balance.place, f"balance {word}", f"is {service.scheduler} here: {_CONTENT}"
            )

    def _read_persistence(self) -> None:
        table, stick = self._back.own("stick-table"), self._back.own("stick on")
        if stick is None or table is None:
            for setting in filter(None, (table, stick)):
                self._service.notes.left(
                    setting.place, setting.keyword, "it has no use without its other half"
                )
            return
        match = re.fullmatch(r"src(?:,ipmask\(([0-9]{1,3})(?:,([0-9]{1,3}))?\))?", stick.value)
        expire = _behind(table, "expire")
        if not match or not expire or len(stick.words) > 2:
            why = "clients are told apart by address, for a time that must be given"
            self._service.notes.left(stick.place, "stick on", why)
            return
        length = int(match[2 if self._service.listen.family == 6 else 1] or 0)
        mask = length if 1 <= length <= 128 else None
        self._service.persistence = Persistence(read_timespan(expire, "ms", "expire", table.place), mask)

    def _read_timeouts(self) -> None:
        """Take the idle time of a tunnel, or else the longer one of both ends."""
        tunnel = self._back.find("timeout tunnel")
        ends = [
            self._front.find("timeout client", "clitimeout"),
            self._back.find("timeout server", "srvtimeout"),
        ]
        spans = [
            read_timespan(setting.value, "ms", setting.keyword, setting.place)
            for setting in ([tunnel] if tunnel else ends)
            if setting and setting.value != "0"
        ]
        if spans:
            self._service.timeouts = Timeouts(tcp_established=Duration(max(spans).ms))

    def _read_servers(self) -> None:
        service, notes = self._service, self._service.notes
        defaults = [setting for setting in [self._back.find("default-server")] if setting]
        lines = read_servers(self._back.all("server"), defaults, notes)
        checks = Checks(self._back, notes)
        backups: list[Server] = []
        for line in lines:
            if "ssl" in line.options:
                why = "fullnat passes bytes on as they are; clients must speak TLS themselves"
                notes.left(line.place, f"server {line.name} by ssl", why)
                continue
            server = self._server(line, checks)
            (backups if "backup" in line.options else service.servers).append(server)
        self._add_pools(backups)
        if any(line.options.get("on-marked-down") == "shutdown-sessions" for line in lines):
            service.on_down = "reset"

    def _server(self, line: ServerLine, checks: Checks) -> Server:
        listen = self._service.listen
        server = Server(line.place, line.reached(listen.port), comment=line.name)
        weight, upper = line.integer("weight", 0, 256), line.integer("maxconn", 0, 2**32 - 1)
        server.weight = 1 if weight is None else weight
        server.upper = upper or 0
        if "disabled" in line.options:
            server.weight = 0
            why = "has weight 0 here, so that no new connection goes to it"
            self._service.notes.changed(line.place, f"server {line.name} disabled", why)
        server.health = checks.of(line, listen)
        if "source" in line.options:
            words = [
                line.options["source"],
                *(["usesrc", line.options["usesrc"]] if "usesrc" in line.options else []),
            ]
            self._read_source(words, line.place)
        return server

    def _add_pools(self, backups: list[Server]) -> None:
        """One backup stands in after the other, or with `option allbackups` all at once."""
        if backups and self._back.find("option allbackups"):
            self._service.pools = [Pool("backup", backups)]
        else:
            self._service.pools = [Pool(server.comment, [server]) for server in backups]

    def _read_source(self, words: list[str], place: Place) -> None:
        """Take the source address of connections to the servers as a local address."""
        text = (
            re.sub(r":[0-9-]*$", "", words[0]) if words and words[0].count(":") == 1 else "".join(words[:1])
        )
        host = read_host(text)
        if "usesrc" in words:
            why = "the servers see local addresses, never the client's"
            self._service.notes.left(place, "source usesrc", why)
        if isinstance(host, str):
            self._service.notes.left(place, f"source {text}", "it is no address")
        elif not host.is_unspecified and str(host) not in self._document.local_addresses:
            self._document.local_addresses.append(str(host))


def _behind(setting: Setting, word: str) -> str:
    """Return the word behind *word*, empty where there is none."""
    words = setting.arguments
    return words[words.index(word) + 1] if word in words[:-1] else ""
