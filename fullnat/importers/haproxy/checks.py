# SPDX-License-Identifier: Apache-2.0
"""The checks of haproxy.cfg: what `option httpchk` and its like ask of every server that has `check`."""

from __future__ import annotations

import re
from dataclasses import replace

from fullnat.importers.document import Health, Listen
from fullnat.importers.haproxy.servers import ServerLine
from fullnat.importers.health import MOST_REPEATS, read_status
from fullnat.importers.notes import ImporterError, Notes
from fullnat.importers.settings import Scope, Setting
from fullnat.importers.values import Duration, read_ip, read_timespan

_INTERVAL_MS = 2000
_OTHER_CHECKS = ("mysql-check", "pgsql-check", "redis-check", "ldap-check", "spop-check", "ssl-hello-chk")
KINDS = tuple(
    f"option {name}" for name in ("httpchk", "smtpchk", "external-check", "tcp-check", *_OTHER_CHECKS)
)
OTHERS = ("http-check expect", "http-check send", "external-check command", "timeout check")


class Checks:
    """What the checks of one proxy have in common."""

    def __init__(self, scope: Scope, notes: Notes) -> None:
        self._scope = scope
        self._notes = notes
        self._kind = scope.find(*KINDS)
        self._common = self._read_common()

    def of(self, line: ServerLine, listen: Listen) -> Health | None:
        """Return the check of one server, None where it is not checked."""
        if "check" not in line.options:
            return None
        health = replace(self._common)
        inter = line.options.get("inter")
        health.interval = read_timespan(inter, "ms", "inter", line.place) if inter else Duration(_INTERVAL_MS)
        timeout = self._scope.find("timeout check")
        health.timeout = health.interval
        if timeout:
            health.timeout = read_timespan(timeout.value, "ms", "timeout check", timeout.place)
        health.rise = line.integer("rise", 1, MOST_REPEATS) or 2
        health.fall = line.integer("fall", 1, MOST_REPEATS) or 3
        health.start = "up"
        if health.type == "script":
            health.command = (*(health.command or ()), *_reached(line, listen))
            return health
        served = line.port(listen.port) or listen.port
        port = line.integer("port", 1, 65535)
        health.port = port if port != served else None
        if address := line.options.get("addr"):
            health.address = str(read_ip(address, "addr", line.place))
        if "check-ssl" in line.options or "ssl" in line.options:
            self._over_tls(health, line)
        return health

    def _over_tls(self, health: Health, line: ServerLine) -> None:
        if health.type == "http":
            health.type = "https"
            health.sni = line.options.get("check-sni")
            health.verify = line.options.get("verify") != "none"
        else:
            self._notes.changed(line.place, "check over TLS", "a check by https does that, others do not")

    def _read_common(self) -> Health:
        kind = self._kind
        if kind is None:
            return Health("tcp")
        if kind.keyword == "option httpchk":
            return self._read_http(kind)
        if kind.keyword == "option smtpchk":
            return Health("smtp", helo=kind.words[2] if len(kind.words) > 2 else None)
        if kind.keyword == "option external-check":
            command = self._scope.find("external-check command")
            if command is None:
                raise ImporterError(kind.place, "option external-check: external-check command is missing")
            return Health("script", command=(command.value,))
        if kind.keyword != "option tcp-check" or self._scope.find("tcp-check connect", "tcp-check send"):
            why = "a server is well that takes a connection; a script can ask more"
            self._notes.changed(kind.place, kind.keyword, why)
        return Health("tcp")

    def _read_http(self, kind: Setting) -> Health:
        method, uri, version = _request(kind.arguments)
        health = Health("http", path=uri, method=method, status=("200-399",))
        if host := re.search(r"(?i)host:\s*([^\s\\]+)", version):
            health.host = host[1]
        if send := self._scope.find("http-check send"):
            self._read_send(send, health)
        if expect := self._scope.find("http-check expect"):
            self._read_expect(expect, health)
            for other in self._scope.all("http-check expect")[:-1]:
                self._notes.left(other.place, "http-check expect", "a check expects one thing, the last")
        return health

    def _read_send(self, send: Setting, health: Health) -> None:
        words = iter(send.arguments)
        for word in words:
            value = next(words, "")
            if word == "meth":
                health.method = value
            elif word == "uri":
                health.path = value
            elif word == "hdr" and value.lower() == "host":
                health.host = next(words, "")
            elif word == "hdr":
                next(words, "")
                self._notes.left(
                    send.place, f"http-check send hdr {value}", "a check sends no headers of its own"
                )
            elif word not in {"ver", "comment"}:
                self._notes.left(send.place, f"http-check send {word}", "a check sends no body")

    def _read_expect(self, expect: Setting, health: Health) -> None:
        words = [word for word in expect.arguments if word]
        kind, pattern = words[-2:] if len(words) > 1 else ("", "")
        if "!" in words:
            self._notes.left(
                expect.place, "http-check expect !", "a check cannot expect that something is not there"
            )
        elif kind == "status":
            health.status = read_status(pattern.split(","), "http-check expect status", expect.place)
        elif kind == "string":
            health.body = re.escape(pattern)
        elif kind == "rstring":
            health.body = pattern
        else:
            self._notes.left(expect.place, f"http-check expect {kind}", "a check expects a status or a body")


def _reached(line: ServerLine, listen: Listen) -> tuple[str, ...]:
    """Return what haproxy tells an external check of: both addresses and ports."""
    virtual, real = listen.target, line.reached(listen.port)
    host = virtual if isinstance(virtual, int) else virtual.host
    return (str(host), str(listen.port), str(real.host), str(real.port or listen.port))


def _request(words: list[str]) -> tuple[str, str, str]:
    """Return method, path and version of `option httpchk [METHOD] [PATH] [VERSION]`."""
    if not words:
        return "OPTIONS", "/", ""
    if len(words) == 1:
        return "OPTIONS", words[0], ""
    return words[0], words[1], " ".join(words[2:])
