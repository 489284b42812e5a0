# SPDX-License-Identifier: Apache-2.0
"""ldirectord.cf: settings of the whole file, and virtual services with settings indented below them.

    virtual = 203.0.113.10:80
            real = 198.19.0.11:80 masq 2
            service = http
            request = "index.html"

What a virtual service does not say holds as the file says it, and else as ldirectord(8) has it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from fullnat.core.addr import IPAddress
from fullnat.importers.assemble import MOST_EXPANDED, forward, scheduler, server_port
from fullnat.importers.document import Document, Listen, Persistence, Server, Service
from fullnat.importers.ldirectord_checks import read_health
from fullnat.importers.notes import ImporterError, Place, quoted
from fullnat.importers.settings import Scope, Setting, numbered
from fullnat.importers.values import (
    Address,
    Duration,
    read_address,
    read_host,
    read_integer,
    read_prefix,
)

_MODES = {"gate": "dr", "masq": "nat", "ipip": "tun"}

_MAIL = "fullnat sends no mail; the alert rules of its metrics do"
_DAEMON = "it is about ldirectord itself"
_COMMANDS = "fullnat runs no commands; `fullnat events` tells of every change"
_SECRET = "it is for a check fullnat does not have"
_REASONS = {
    **dict.fromkeys(["emailalert", "emailalertfrom", "emailalertfreq", "emailalertstatus", "smtp"], _MAIL),
    **dict.fromkeys(["logfile", "supervised", "fork", "execute", "autoreload", "cleanstop"], _DAEMON),
    **dict.fromkeys(["callback", "fallbackcommand"], _COMMANDS),
    **dict.fromkeys(["login", "passwd", "database", "secret"], _SECRET),
    "maintenancedir": "`fullnat drain` takes a server out for maintenance",
    "monitorfile": "`fullnat events` has every change",
    "readdquiescent": "a server that is down keeps its place with weight 0",
    "checkcount": "failurecount says how often a check must fail",
}
_GLOBAL = (
    "checktimeout",
    "negotiatetimeout",
    "checkinterval",
    "failurecount",
    "quiescent",
    "fallback",
    "fallback6",
)


def read(document: Document, text: str, keep_forwarding: bool) -> list[Service]:
    """Return the services of *text*; notes on what is global go to *document* at once."""
    top = _read_settings(document.path, text)
    whole = Scope(top)
    whole.ignore("virtual", "virtual6", *_GLOBAL)
    for setting in whole.unasked():
        why = _REASONS.get(setting.keyword, "ldirectord has no such setting for the whole file")
        document.notes.left(setting.place, setting.keyword, why)
    return [
        _Reader(setting, whole, keep_forwarding).read()
        for setting in top
        if setting.keyword in {"virtual", "virtual6"}
    ]


def _read_settings(path: str, text: str) -> list[Setting]:
    """Return the settings of the file, those of a virtual service in its block."""
    top: list[Setting] = []
    for place, whole in numbered(path, text):
        line = whole.partition("#")[0].rstrip()  # also inside quotes, as ldirectord has it
        if not line:
            continue
        match = re.fullmatch(
            r"(\s*)([A-Za-z0-9_]+)\s*=\s*(.*)", "supervised=yes" if line == "supervised" else line
        )
        if not match:
            raise ImporterError(place, f"found {quoted(line.strip())}, accepted: KEY = VALUE")
        setting = Setting(place, [match[2].lower(), *_words(match[2].lower(), match[3], place)])
        if not match[1]:
            top.append(setting)
        elif top and top[-1].keyword in {"virtual", "virtual6"}:
            top[-1].block.append(setting)
        else:
            raise ImporterError(place, f"{match[2]}: it is indented, and no virtual= is above it")
    return top


def _words(keyword: str, value: str, place: Place) -> list[str]:
    """Return the words of a value: of those that are lists each, else all of it without its quotes."""
    if not keyword.startswith(("real", "fallback")) or keyword == "fallbackcommand":
        return [value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value] if value else []
    words = []
    for match in re.finditer(r'"((?:[^"\\]|\\.)*)"|([^\s,"]+)|(")', value):
        if match[3]:
            raise ImporterError(place, f"{keyword}: a quote is not closed")
        words.append(f'"{match[1]}' if match[1] is not None else match[2])
    return words


class _Reader:
    """Reads one virtual service."""

    def __init__(self, setting: Setting, whole: Scope, keep_forwarding: bool) -> None:
        self._setting = setting
        self._scope = Scope(setting.block, whole)
        self._service = Service(setting.place, self._listen())
        self._keep_forwarding = keep_forwarding
        self._mode = ""
        self._texts: dict[int, list[str]] = {}  # what the line of a server says on its check, by id()

    def read(self) -> Service:
        """Return the service, every setting of it taken or told."""
        service, scope = self._service, self._scope
        chosen = scope.own("scheduler")
        service.scheduler = scheduler(chosen.value, chosen.place, service.notes) if chosen else "wrr"
        self._read_persistence()
        service.one_packet = self._is_yes("ops", default=False)
        service.inhibit = self._is_yes("quiescent", default=True)
        for setting in scope.all("real", "real6"):
            self._read_servers(setting)
        forward(service, self._mode or "fullnat", self._setting.place, self._keep_forwarding)
        self._read_sorry()
        for server in service.servers:
            server.health = read_health(scope, server, service, self._texts[id(server)])
        if (kind := scope.own("checktype")) and kind.value == "off":
            for server in service.servers:
                server.weight = 0
            service.notes.changed(
                kind.place, "checktype off", "ldirectord sends no server anything, so weight is 0"
            )
        scope.ignore("protocol", "comment", *_GLOBAL)
        for setting in scope.unasked():
            why = _REASONS.get(setting.keyword, "a service here has nothing like it")
            service.notes.left(setting.place, setting.keyword, why)
        return service

    def _listen(self) -> Listen:
        text, place = self._setting.value, self._setting.place
        if re.fullmatch(r"[0-9]+", text):
            mark = read_integer(text, 1, 2**32 - 1, "virtual", place)
            return Listen("fwmark6" if self._setting.keyword == "virtual6" else "fwmark", mark)
        address = read_address(text, "virtual", place)
        said = self._scope.own("protocol")
        protocol = said.value.lower() if said else ("udp" if address.port == 53 else "tcp")
        if said and protocol not in {"tcp", "udp"}:
            raise ImporterError(said.place, f"protocol: found {quoted(said.value)}, accepted: tcp or udp")
        return Listen(protocol, address)

    def _is_yes(self, keyword: str, default: bool) -> bool:
        setting = self._scope.find(keyword)
        if setting is None:
            return default
        if setting.value.lower() not in {"yes", "no"}:
            raise ImporterError(
                setting.place, f"{keyword}: found {quoted(setting.value)}, accepted: yes or no"
            )
        return setting.value.lower() == "yes"

    def _read_persistence(self) -> None:
        timeout, mask = self._scope.own("persistent"), self._scope.own("netmask")
        if timeout:
            seconds = read_integer(timeout.value, 1, 31_536_000, "persistent", timeout.place)
            length = read_prefix(mask.value, "netmask", mask.place) if mask else None
            self._service.persistence = Persistence(Duration(seconds * 1000), length)
        elif mask:
            self._service.notes.left(mask.place, "netmask", "there is no persistent")

    def _read_servers(self, setting: Setting) -> None:
        """Take a real= line: one server, or one for each address of a range."""
        if len(setting.arguments) < 2 or setting.arguments[1] not in _MODES:
            raise ImporterError(setting.place, "real: accepted: ADDRESS:PORT gate|masq|ipip [WEIGHT]")
        first, mode, *rest = setting.arguments
        self._mode = self._mode or _MODES[mode]
        if _MODES[mode] != self._mode:
            why = f"all servers of a service are reached alike, here as {self._mode.upper()} was"
            self._service.notes.changed(setting.place, f"real {first} was {mode}", why)
        for address in _addresses(first, setting.place):
            port = server_port(address.port, self._mode, self._service.listen)
            server = Server(setting.place, address._replace(port=port))
            self._texts[id(server)] = [
                word.strip('"') for word in rest if word[0] == '"' and word[2:3] != ":"
            ]
            _read_extras(server, rest, setting.place)
            self._service.servers.append(server)

    def _read_sorry(self) -> None:
        is_v6 = self._service.listen.family == 6
        setting = self._scope.find("fallback6") if is_v6 else self._scope.find("fallback")
        if setting:
            address = read_address(setting.value, setting.keyword, setting.place)
            self._service.sorry = Server(setting.place, address._replace(port=address.port or None))


def _read_extras(server: Server, words: list[str], place: Place) -> None:
    """Take what stands behind the mode: the weight, thresholds; the texts of a check are read there."""
    for word in words:
        if match := re.fullmatch(r"\"?([lu]):([0-9]+)", word):
            number = read_integer(match[2], 0, 2**32 - 1, f"real {match[1]}:", place)
            setattr(server, {"u": "upper", "l": "lower"}[match[1]], number)
        elif not word.startswith('"'):
            server.weight = read_integer(word, 0, 65535, "real", place)


def _addresses(text: str, place: Place) -> Iterator[Address]:
    """Yield the addresses of ADDRESS:PORT or of ADDRESS->ADDRESS:PORT."""
    low, arrow, high = text.partition("->")
    last = read_address(high if arrow else low, "real", place)
    first = read_host(low) if arrow else last.host
    if isinstance(first, str) or isinstance(last.host, str):
        yield last
        return
    yield from (Address(host, last.port) for host in _between(first, last.host, text, place))


def _between(first: IPAddress, last: IPAddress, text: str, place: Place) -> Iterator[IPAddress]:
    if first.version != last.version or not 0 <= int(last) - int(first) < MOST_EXPANDED:
        accepted = f"a range of at most {MOST_EXPANDED} addresses, the first one first"
        raise ImporterError(place, f"real: found {quoted(text)}, accepted: {accepted}")
    make = type(first)
    yield from (make(number) for number in range(int(first), int(last) + 1))
