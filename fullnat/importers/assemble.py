# SPDX-License-Identifier: Apache-2.0
"""From what a format says to what fullnat can have: the checks that all formats need.

Theory.  A reader takes its file at its word.  What the word comes to here is decided in one place:
an address that packets cannot be sent to, a port that means all ports, the second service on one
listen.  What does not fit is left out and told; what only a person can know is told as to complete.

Rule.  What is written passes `fullnat check`, as soon as nothing is left to complete.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from fullnat.core.sched import BUILTIN
from fullnat.importers.document import Document, Listen, Server, Service, Timeouts
from fullnat.importers.health import settle
from fullnat.importers.notes import Notes, Place
from fullnat.importers.values import ANY, Address, read_host, why_unusable

MOST_EXPANDED = 1024  # services or servers that one line may stand for

_SCHEDULERS = frozenset(BUILTIN)
_SUBSTITUTE = "wlc"
_LIKE = {"conhash": "mh"}  # of DPVS: consistent hashing of the client's address

_LEAVES_PORT = frozenset(["dr", "tun"])
_ADVICE = {
    "nat": "the servers see a local address instead of the client's, and need no route back through here",
    "dr": "the servers answer from their own address, so they must listen on it and not only on the VIP",
    "tun": "the servers answer from their own address, so they must listen on it and not only on the VIP",
}


def scheduler(word: str, place: Place, notes: Notes) -> str:
    """Return the scheduler *word* means; another one in its place is told."""
    if word in _SCHEDULERS:
        return word
    substitute = _LIKE.get(word, _SUBSTITUTE)
    notes.changed(place, f"scheduler {word}", f"is {substitute} here")
    return substitute


def flags(words: list[str], service: Service, place: Place) -> tuple[str, ...]:
    """Return the scheduler flags *words* mean for the scheduler of *service*."""
    chosen = BUILTIN[service.scheduler]
    kernel = {"flag-1": f"{chosen.name}-fallback", "flag-2": f"{chosen.name}-port"}
    found = [kernel.get(word, word) for word in words]
    for flag in found:
        if flag not in chosen.accepted_flags:
            service.notes.left(
                place, f"scheduler flag {flag}", f"scheduler {chosen.name} has none of that name"
            )
    return tuple(dict.fromkeys(flag for flag in found if flag in chosen.accepted_flags))


def forward(service: Service, mode: str, place: Place, keep: bool) -> None:
    """Give *service* the forwarding *mode* it had, if that is to be kept, or full NAT, and tell so."""
    if keep or mode == "fullnat":
        service.forward = mode
    else:
        service.notes.changed(place, f"forwarding was {mode.upper()}", f"is full NAT here: {_ADVICE[mode]}")


def server_port(port: int | None, mode: str, listen: Listen) -> int | None:
    """Return the port of a server that packets reached in *mode*: only NAT ever changed it."""
    return None if mode in _LEAVES_PORT or port in {0, listen.port} else port


def assemble(document: Document, services: list[Service]) -> None:
    """Add to *document* of *services* what fits, and notes on what does not."""
    _Assembly(document).add_all(services)


@dataclass(slots=True)
class _Rejection(Exception):
    """Why a service or a server is left out."""

    why: str


class _Assembly:
    """Takes services one after the other, remembering what must not come twice."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._listens: dict[str, Place] = {}
        self._names: set[str] = set()

    def add_all(self, services: list[Service]) -> None:
        """Add those that fit."""
        for service in services:
            try:
                self._check_listen(service)
            except _Rejection as rejection:
                self._document.notes.left(service.place, f"service {service.listen}", rejection.why)
            else:
                self._listens[str(service.listen)] = service.place
                self._document.services.append(service)
        self._names = {_default_name(service.listen) for service in services if not service.name}
        for service in self._document.services:
            self._check_name(service)
            self._check_servers(service)
            self._check_options(service)
        self._check_local_addresses()

    def _check_listen(self, service: Service) -> None:
        listen = service.listen
        first = self._listens.get(str(listen))
        if first and not _is_open(listen):
            raise _Rejection(f"the service of {_near(first, service.place)} has this listen already")
        if isinstance(listen.target, int):
            if not 1 <= listen.target < 2**32:
                raise _Rejection("a firewall mark is 1-4294967295")
            return
        if not listen.target.port:
            raise _Rejection(
                "a service has one port; for all ports of an address mark its packets: fwmark://N"
            )
        if isinstance(listen.target.host, str):
            what = "VIP" if listen.target.host == ANY else f"name {listen.target.host}"
            why = f"write an address in place of {listen.target.host} in listen"
            service.notes.missing(service.place, what, why)
        elif why := why_unusable(listen.target.host):
            raise _Rejection(why)

    def _check_name(self, service: Service) -> None:
        """Make the name one that fullnat takes and that no other service has."""
        if not service.name:
            return
        stem = re.sub(r"[^A-Za-z0-9._:-]", "-", service.name)
        stem = re.sub(r"^[^A-Za-z0-9]+", "", stem)[:56] or "service"
        name, number = stem, 1
        while name in self._names:
            number += 1
            name = f"{stem}-{number}"
        self._names.add(name)
        service.name = name

    def _check_servers(self, service: Service) -> None:
        seen: set[Address] = set()
        service.servers = self._fitting(service.servers, service, seen)
        for pool in service.pools:
            pool.servers = self._fitting(pool.servers, service, seen)
        service.pools = [pool for pool in service.pools if pool.servers]
        if service.sorry:
            service.sorry = next(iter(self._fitting([service.sorry], service, set(), "sorry server ")), None)
        if service.sorry and service.sorry.address.port is None and service.listen.port:
            service.sorry.address = service.sorry.address._replace(port=service.listen.port)

    def _fitting(
        self, servers: list[Server], service: Service, seen: set[Address], kind: str = "server "
    ) -> list[Server]:
        kept = []
        for server in servers:
            try:
                _check_server(server, service, seen, self._listens)
            except _Rejection as rejection:
                service.notes.left(server.place, f"{kind}{server.address}", rejection.why)
            else:
                kept.append(server)
                if server.health:
                    settle(server.health, server.place, service.notes)
        return kept

    def _check_local_addresses(self) -> None:
        """Tell of families that have services and no local address."""
        place, notes = Place(self._document.path, 0), self._document.snat_notes
        known = {read_host(text.partition("-")[0]) for text in self._document.local_addresses}
        families = {4 if isinstance(host, str) else host.version for host in known}
        if not families:
            why = 'what connections to the servers come from, as in ["198.51.100.1-198.51.100.4"]'
            notes.missing(place, "local addresses (LIPs)", why)
            return
        for service in self._document.services:
            family = service.listen.family
            if service.forward == "fullnat" and family and family not in families:
                notes.missing(place, f"an IPv{family} local address", f"a service is of IPv{family}")

    def _check_options(self, service: Service) -> None:
        place, notes = service.place, service.notes
        if service.one_packet and service.listen.scheme == "tcp":
            service.one_packet = False
            notes.left(place, "one-packet scheduling", "it is for UDP services")
        if service.one_packet and service.persistence:
            service.one_packet = False
            notes.left(place, "one-packet scheduling", "the service is persistent, which excludes it")
        if service.hysteresis and service.hysteresis >= service.quorum:
            service.hysteresis = 0
            notes.left(place, "hysteresis", "it must be below quorum")
        is_by_ipvs = service.forward != "fullnat" or isinstance(service.listen.target, int)
        if is_by_ipvs and service.timeouts.keys():
            service.timeouts = Timeouts()
            notes.left(place, "timeouts of this service", "the kernel serves it, with timeouts of its own")
        mask = service.persistence.mask if service.persistence else None
        whole = 128 if service.listen.family == 6 else 32
        if service.persistence and mask and mask >= whole:
            service.persistence.mask = None
            if mask > whole:
                notes.left(place, f"persistence mask {mask}", f"an IPv4 address has {whole} bits")


def _check_server(server: Server, service: Service, seen: set[Address], listens: dict[str, Place]) -> None:
    listen, address = service.listen, server.address
    port = address.port or listen.port
    if isinstance(address.host, str):
        if not re.fullmatch(r"[A-Za-z0-9._-]+", address.host):
            raise _Rejection("it is no address of a host")
        service.notes.missing(server.place, f"name {address.host}", "write the address it stands for")
    elif why := why_unusable(address.host):
        raise _Rejection(why)
    elif listen.family not in {None, address.family}:
        raise _Rejection(f"a server of an IPv{listen.family} service has an IPv{listen.family} address")
    if str(Listen(listen.scheme, Address(address.host, port))) in listens:
        raise _Rejection("it is a service's listen itself")
    if Address(address.host, port) in seen:
        raise _Rejection("the service has this server already")
    seen.add(Address(address.host, port))
    if server.lower > server.upper:
        service.notes.left(
            server.place, f"lower threshold {server.lower}", f"it is above upper, {server.upper}"
        )
        server.lower = 0


def _default_name(listen: Listen) -> str:
    """Return the name a service has that is given none."""
    target = listen.target
    suffix = target if isinstance(target, int) else f"{target.host}-{target.port}"
    return f"{listen.scheme}-{suffix}"


def _is_open(listen: Listen) -> bool:
    """Whether it will be another listen when it is complete."""
    return isinstance(listen.target, Address) and isinstance(listen.target.host, str)


def _near(place: Place, other: Place) -> str:
    return f"line {place.line}" if place.path == other.path else str(place)
