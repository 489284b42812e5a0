# SPDX-License-Identifier: Apache-2.0
"""haproxy.cfg: listens, and frontends with their default backend, in mode tcp.

    text --sections--> defaults, listens, frontends, backends
         --binds, servers, checks, services--> services

Proxies in mode http are told and not taken: fullnat passes connections on and does not read them.
"""

from __future__ import annotations

from fullnat.importers.document import Document, Service
from fullnat.importers.haproxy.binds import read_binds
from fullnat.importers.haproxy.sections import PROXIES, read_sections
from fullnat.importers.haproxy.services import KNOWN, read_services, reason
from fullnat.importers.notes import ImporterError, quoted
from fullnat.importers.settings import Scope, Setting

__all__ = ["read"]

_IN_FRONT = "does not read what connections carry; HAProxy can stay, with fullnat in front of several of it"


def read(document: Document, text: str) -> list[Service]:
    """Return the services of *text*; what is global goes to *document* at once."""
    return _Reader(document, read_sections(document.path, text)).read()


class _Reader:
    """Reads the sections one after the other."""

    def __init__(self, document: Document, sections: list[Setting]) -> None:
        self._document = document
        self._sections = sections
        self._defaults: dict[int, Scope] = {}  # of a section, by id()
        self._backends = {section.value: section for section in sections if section.keyword == "backend"}
        self._used: set[str] = set()
        self._needed_defaults: list[Scope] = []
        self._find_defaults()

    def read(self) -> list[Service]:
        """Return the services."""
        services: list[Service] = []
        for section in self._sections:
            if section.keyword in {"listen", "frontend"}:
                services += self._read_proxy(section)
            elif section.keyword not in PROXIES:
                self._document.notes.left(
                    section.place, " ".join(section.words[:2]), "it is about HAProxy itself"
                )
        for name, backend in self._backends.items():
            if name not in self._used:
                self._document.notes.left(
                    backend.place, f"backend {name}", "no frontend that was taken leads to it"
                )
        for scope in self._needed_defaults:
            scope.ignore(*KNOWN)
            for setting in scope.unasked():
                self._document.notes.left(
                    setting.place, f"defaults {setting.keyword}", reason(setting.keyword)
                )
        self._share_timeouts(services)
        return services

    def _find_defaults(self) -> None:
        """Note for each proxy what it inherits from: the defaults it names, or else the last before it."""
        named: dict[str, Scope] = {}
        current = Scope([])
        for section in self._sections:
            origin = section.words.index("from") if "from" in section.words[:-1] else None
            name = section.words[origin + 1] if origin else ""
            if origin and name not in named:
                raise ImporterError(section.place, f"from: no defaults before are named {quoted(name)}")
            parent = named[name] if origin else current
            if section.keyword == "defaults":
                current = Scope(section.block, parent if origin else None)
                if len(section.words) > 1:
                    named[section.words[1]] = current
            self._defaults[id(section)] = parent

    def _scope(self, section: Setting) -> Scope:
        parent = self._defaults[id(section)]
        if parent not in self._needed_defaults:
            self._needed_defaults.append(parent)
        return Scope(section.block, parent)

    def _read_proxy(self, section: Setting) -> list[Service]:
        what = f"{section.keyword} {section.value}"
        front = self._scope(section)
        back = front if section.keyword == "listen" else self._backend_of(section, front)
        if back is None:
            return []
        if why := _why_not(front) or _why_not(back):
            self._document.notes.left(section.place, what, why)
            return []
        binds = list(read_binds(section, self._document.notes))
        return read_services(section, binds, front, back, self._document)

    def _backend_of(self, section: Setting, front: Scope) -> Scope | None:
        """Return the scope of the backend a frontend leads to by default, or None."""
        setting = front.find("default_backend")
        if setting is None:
            why = "it has no default_backend, and what else says where connections go is not taken"
            self._document.notes.left(section.place, f"frontend {section.value}", why)
            return None
        if setting.value not in self._backends:
            raise ImporterError(
                setting.place, f"default_backend: no backend is named {quoted(setting.value)}"
            )
        self._used.add(setting.value)
        return self._scope(self._backends[setting.value])

    def _share_timeouts(self, services: list[Service]) -> None:
        """Write a timeout all services have once."""
        common = {service.timeouts for service in services}
        if len(common) == 1 and len(services) > 1:
            self._document.timeouts = common.pop()
            for service in services:
                service.timeouts = type(service.timeouts)()


def _why_not(scope: Scope) -> str:
    """Return why a proxy is not taken, empty where it is."""
    mode = scope.find("mode")
    if mode and mode.value != "tcp":
        return f"mode {mode.value}: fullnat {_IN_FRONT}"
    return "it is disabled" if scope.own("disabled") else ""
