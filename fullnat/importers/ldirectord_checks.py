# SPDX-License-Identifier: Apache-2.0
"""The check of ldirectord.cf as the health check of a server: checktype, and service when it negotiates."""

from __future__ import annotations

import re

from fullnat.importers.document import Health, Server, Service
from fullnat.importers.health import MOST_REPEATS, read_command
from fullnat.importers.notes import ImporterError, Place, quoted
from fullnat.importers.settings import Scope
from fullnat.importers.values import Address, Duration, read_host, read_integer, read_seconds

_CHECKTYPES = frozenset(["connect", "external", "external-perl", "negotiate", "off", "on", "ping"])
_INTERVAL_S, _CHECK_TIMEOUT_S, _NEGOTIATE_TIMEOUT_S = 10, 5, 30

# What is negotiated where `service` is not said, by the port of the virtual service.
_SERVICES = {
    **{21: "ftp", 25: "smtp", 53: "dns", 80: "http", 110: "pop", 119: "nntp", 143: "imap", 389: "ldap"},
    **{443: "https", 587: "submission", 993: "imaps", 995: "pops", 1521: "oracle", 1812: "radius"},
    **{3128: "http_proxy", 3306: "mysql", 5432: "pgsql", 5060: "sip"},
}
_TYPES = {"http": "http", "https": "https", "dns": "dns", "smtp": "smtp", "submission": "smtp"}

_OF_CHECKS = (
    *("checktype", "service", "checkport", "request", "receive", "virtualhost", "httpmethod"),
    *("checkcommand", "checkinterval", "checktimeout", "negotiatetimeout", "failurecount"),
)


def read_health(scope: Scope, server: Server, service: Service, texts: list[str]) -> Health:
    """Return the check of *server*; *texts* are the request and what to receive its own line has."""
    return _Check(scope, server, service, texts).read()


class _Check:
    """Reads the check of one server."""

    def __init__(self, scope: Scope, server: Server, service: Service, texts: list[str]) -> None:
        scope.ignore(*_OF_CHECKS)
        self._scope = scope
        self._server = server
        self._service = service
        self._request = texts[0] if texts else self._text("request")
        self._receive = texts[1] if len(texts) > 1 else self._text("receive")
        self._health = Health("off")

    def read(self) -> Health:
        """Return the check."""
        kind, what = self._kind()
        self._health.type = kind
        if kind == "off":
            return self._health
        self._read_timing(is_negotiated=what == "negotiate")
        if kind not in {"icmp", "script"}:
            port = self._scope.own("checkport")
            self._health.port = read_integer(port.value, 1, 65535, "checkport", port.place) if port else None
        if kind in {"http", "https"}:
            self._read_http()
        elif kind == "dns":
            self._read_dns()
        elif kind == "script":
            self._read_script()
        return self._health

    def _text(self, keyword: str) -> str:
        setting = self._scope.own(keyword)
        return setting.value if setting else ""

    def _kind(self) -> tuple[str, str]:
        """Return the type of the check here, and what its type is there."""
        setting = self._scope.own("checktype")
        word = setting.value if setting else "negotiate"
        if setting and re.fullmatch(r"[0-9]+", word):
            why = "every check negotiates, and none in between only connects"
            self._service.notes.changed(setting.place, f"checktype {word}", why)
            word = "negotiate"
        if setting and word not in _CHECKTYPES:
            accepted = ", ".join(sorted(_CHECKTYPES)) + " or a number"
            raise ImporterError(setting.place, f"checktype: found {quoted(word)}, accepted: {accepted}")
        if word == "negotiate":
            return self._negotiated(), word
        if word == "connect":
            return ("icmp" if self._service.listen.scheme == "udp" else "tcp"), word
        if setting and word == "external-perl":
            why = "the command is run, not evaluated inside"
            self._service.notes.changed(setting.place, "checktype external-perl", why)
        return {"ping": "icmp", "external": "script", "external-perl": "script"}.get(word, "off"), word

    def _negotiated(self) -> str:
        said = self._scope.own("service")
        name = said.value if said else _SERVICES.get(self._service.listen.port or 0, "none")
        if name == "none":
            return "off"
        if name not in _TYPES:
            kind = "icmp" if self._service.listen.scheme == "udp" else "tcp"
            what = "answers a ping" if kind == "icmp" else "takes a connection"
            place = said.place if said else self._service.place
            why = f"fullnat does not speak it: a server is well that {what}; a script can ask more"
            self._service.notes.changed(place, f"check by {name}", why)
            return kind
        return _TYPES[name]

    def _read_timing(self, is_negotiated: bool) -> None:
        check, negotiate = self._seconds("checktimeout"), self._seconds("negotiatetimeout")
        if is_negotiated:
            timeout = negotiate or check or Duration(_NEGOTIATE_TIMEOUT_S * 1000)
        else:
            timeout = check or negotiate or Duration(_CHECK_TIMEOUT_S * 1000)
        count = self._scope.find("failurecount")
        self._health.interval = self._seconds("checkinterval") or Duration(_INTERVAL_S * 1000)
        self._health.timeout = timeout
        self._health.rise = 1
        self._health.fall = (
            read_integer(count.value, 1, MOST_REPEATS, "failurecount", count.place) if count else 1
        )

    def _seconds(self, keyword: str) -> Duration | None:
        setting = self._scope.find(keyword)
        return read_seconds(setting.value, keyword, setting.place) if setting else None

    def _read_http(self) -> None:
        url = re.fullmatch(r"https?://([^/:]+)(?::[0-9]+)?(/.*)?", self._request)
        host, method = self._text("virtualhost"), self._scope.own("httpmethod")
        if url:
            why = "the server itself is asked, with this as its host"
            self._service.notes.changed(self._place("request"), f"request {url[0]}", why)
        path = (url[2] or "/") if url else self._request
        self._health.path = path if path.startswith("/") else f"/{path}"
        self._health.host = host or (url[1] if url else None)
        if method and method.value.upper() not in {"GET", "HEAD"}:
            raise ImporterError(
                method.place, f"httpmethod: found {quoted(method.value)}, accepted: GET or HEAD"
            )
        self._health.method = "HEAD" if method and method.value.upper() == "HEAD" else None
        self._health.status = ("200-299",)
        self._health.body = self._receive or None
        if self._health.type == "https":
            self._health.sni = self._health.host
            self._health.verify = False

    def _read_dns(self) -> None:
        self._health.name = self._request.strip("/") or "."
        is_address = not isinstance(read_host(self._health.name), str)
        self._health.query = "PTR" if is_address else "A"
        if self._receive:
            why = "that there is an answer is checked, not which"
            self._service.notes.left(self._place("receive"), "receive", why)

    def _read_script(self) -> None:
        listen, address = self._service.listen, self._server.address
        host = listen.target.host if isinstance(listen.target, Address) else listen.target
        port = address.port or listen.port or 0
        command = self._text("checkcommand") or "/bin/true"
        words = read_command(command, "checkcommand", self._place("checkcommand"))
        self._health.command = (*words, str(host), str(listen.port or 0), str(address.host), str(port))

    def _place(self, keyword: str) -> Place:
        setting = self._scope.own(keyword)
        return setting.place if setting else self._server.place
