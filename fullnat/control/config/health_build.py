# SPDX-License-Identifier: Apache-2.0
"""Build health: the tables [service.health] and [service.server.health] -> HealthCheck.

A server's table is laid over its service's, key by key.  Where it names another type, the service's
keys that only the other type has are left behind.  `type = "off"` accepts every key, so that a check
can be switched off with one word and switched on again.
"""

from __future__ import annotations

import re
from pathlib import Path

from fullnat.control.config.health import KEYS, PAYLOADS, TYPES, HealthTable
from fullnat.control.config.problems import Report
from fullnat.control.config.toml_lines import KeyPath
from fullnat.control.config.wording import listed, value_text
from fullnat.core.service import Health
from fullnat.health.check import (
    OFF,
    DnsOptions,
    FileOptions,
    HealthCheck,
    HttpOptions,
    Options,
    ScriptOptions,
    SmtpOptions,
    TlsOptions,
    UdpOptions,
)


def build_health(
    table: HealthTable | None,
    report: Report,
    loc: KeyPath,
    family: int | None,
    base: HealthTable | None = None,
) -> HealthCheck | None:
    """Return the check of *table*, laid over *base* if it is a server's; None without table or type.

    *loc* is service[i].health or service[i].server[j].health, and *family* the servers', if known.
    What is wrong with *base* by itself is not told again.
    """
    if table is None:
        return None
    type_ = table.type or (base.type if base else None)
    if type_ is None:
        if not report.is_bad((*loc, "type")) and not report.is_bad((*loc[:2], "health", "type")):
            report.refuse((*loc, "type"), listed(TYPES))
        return None
    check = _Check(type_, _merge(type_, table, base), table.model_fields_set, report, loc, family)
    if type_ != OFF:
        check.report_mistakes()
    return check.build()


def _merge(type_: str, table: HealthTable, base: HealthTable | None) -> HealthTable:
    """Return *table* with what *base* has besides and *type_* can use."""
    if base is None:
        return table
    inherited = set(base.model_fields_set)
    if type_ not in (base.type, OFF):
        inherited &= KEYS[type_] & KEYS.get(base.type or OFF, KEYS[type_])
        if "file" in (type_, base.type):
            inherited.discard("path")  # a page there, a file here
    inherited -= table.model_fields_set
    if not table.model_fields_set.isdisjoint(PAYLOADS):
        inherited -= PAYLOADS
    return table.model_copy(update={key: getattr(base, key) for key in inherited})


class _Check:
    """One check: a table with everything in it, of which some keys were given at *loc*."""

    def __init__(
        self,
        type_: str,
        table: HealthTable,
        given: set[str],
        report: Report,
        loc: KeyPath,
        family: int | None,
    ) -> None:
        self._type = type_
        self._table = table
        self._given = given
        self._report = report
        self._loc = loc
        self._family = family

    def report_mistakes(self) -> None:
        """Report what it takes two keys to see."""
        table = self._table
        for key in sorted(self._given - KEYS[self._type]):
            keys = ", ".join(sorted(KEYS[self._type]))
            self._report.error(
                (*self._loc, key), f"not a key of type {value_text(self._type)}, accepted: {keys}"
            )
        if table.timeout > table.interval:
            self._refuse("at most interval", "timeout", "interval")
        if table.source and table.source.version != self._checked_family():
            self._refuse(
                f"an IPv{self._checked_family()} address, as the one checked is", "source", "address"
            )
        if self._type in ("http", "https"):
            self._report_http(table)
        elif self._type == "udp" and table.send is not None and table.send_hex is not None:
            self._refuse("send or send_hex, not both", "send_hex")
        elif self._type == "script":
            self._report_command(table.command)
        elif self._type == "file" and table.path is None:
            self._refuse("the absolute path of a file", "path", is_needed=True)

    def _report_http(self, table: HealthTable) -> None:
        if not re.fullmatch(r"[!-~]+", table.path or "/"):
            self._refuse("a path without blanks, in ASCII", "path")
        if not table.status:
            self._refuse("at least one code", "status")
        if table.method == "HEAD" and (table.body or table.digest):
            self._refuse('"GET" with body or digest', "method", "body", "digest")
        if self._type == "https" and table.ca and not self._ca(table.ca).is_file():
            self._refuse("the path of a file that is there", "ca")

    def _report_command(self, command: list[str | None]) -> None:
        if not command:
            self._refuse("a list of strings: a program's absolute path, arguments", "command", is_needed=True)
        elif command[0] is not None and not command[0].startswith("/"):
            self._refuse("a program's absolute path first", "command")

    def _refuse(self, accepted: str, *keys: str, is_needed: bool = False) -> None:
        """Blame the first of *keys* that was given here; none: what it comes from was told of already."""
        locs = [(*self._loc, key) for key in keys]
        inherited = [(*self._loc[:2], "health", key) for key in keys]
        if any(self._report.is_bad(loc) for loc in (*locs, *inherited)):
            return
        blamed = [loc for key, loc in zip(keys, locs, strict=True) if key in self._given]
        if blamed or is_needed:
            self._report.refuse((blamed or locs)[0], accepted)

    def _checked_family(self) -> int | None:
        if self._table.address:
            return self._table.address.version
        return self._family or (self._table.source.version if self._table.source else None)

    def _ca(self, path: str) -> Path:
        return self._report.path.parent / path

    def build(self) -> HealthCheck:
        """Return it; with errors in the report it is good for nothing."""
        table = self._table
        return HealthCheck(
            type=self._type,
            options=self._options(),
            interval=table.interval,
            timeout=table.timeout,
            rise=table.rise,
            fall=table.fall,
            jitter=table.jitter,
            start=Health(table.start),
            address=table.address,
            port=table.port,
            source=table.source,
        )

    def _options(self) -> Options | None:
        table = self._table
        match self._type:
            case "http" | "https":
                return HttpOptions(
                    path=table.path or "/",
                    host=table.host or "",
                    method=table.method,
                    status=tuple(codes for codes in table.status if codes),
                    body=table.body,
                    digest=table.digest,
                    tls=self._tls() if self._type == "https" else None,
                )
            case "dns":
                return DnsOptions(table.name, table.query, table.rcode)
            case "udp":
                text = table.send.encode() if table.send else b""
                return UdpOptions(text if table.send_hex is None else table.send_hex, table.expect)
            case "smtp":
                return SmtpOptions(table.helo)
            case "script":
                return ScriptOptions(tuple(word or "" for word in table.command), table.dynamic)
            case "file":
                return FileOptions(Path(table.path or "/"))
            case _:
                return None

    def _tls(self) -> TlsOptions:
        table = self._table
        return TlsOptions(table.sni or "", table.verify, self._ca(table.ca) if table.ca else None)
