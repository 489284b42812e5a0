# SPDX-License-Identifier: Apache-2.0
"""Persistence: clients of one prefix stay on one server, as with ipvsadm -p and -M.

A template says so for one service and one client prefix.  The director asks find() before it asks
the scheduler, and calls remember() or hold() for each flow it opens, whichever of the two chose the server.

Rules.
  1. A template lives for the service's timeout after its last new flow.  With hold() in place of
     remember(), and release() when the flow ends, it also outlives its flows, as in IPVS: there a
     template that controls connections is re-armed for a minute whenever its time is up.  Here the
     minute begins when the last flow ends, so that it lasts as long as in IPVS or up to a minute longer.
  2. A quiesced server (weight 0) keeps its persistent clients: new flows of theirs go to it until the
     template expires (IPVS with expire_quiescent_template = 0, its default).  So does an overloaded
     one; the kernel's template check does not look at thresholds either.
  3. A server that was removed, is disabled or was found down is not given back; the next remember()
     replaces it.  IPVS knows removal only, which is how keepalived tells it of the other two.
  4. The table is bounded.  When it is full the least recently used template goes first.  That costs a
     client its server on a later flow; a flow that is open is never touched.

The prefix length is the service's own, 0-32 or 0-128 by the family of its address.  Prefix 0 puts all
clients on one server.  When a service is given another length, or none, templates of the old one lead
nowhere any more: they go with their time, or lead again if the service has that length again before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import NamedTuple

from cachetools import Cache, TLRUCache

from fullnat.core.addr import Endpoint, IPAddress
from fullnat.core.service import Admin, Health, RealServer, VirtualService
from fullnat.core.timeouts import SECOND

DEFAULT_CAPACITY = 1 << 16
REARM = 60 * SECOND  # the kernel's ip_vs_conn_expire() looks again after so long
_NEVER = 1 << 80


class TemplateKey(NamedTuple):
    """Whom a template is for; names the service by what outlives a reload, unlike the object."""

    protocol: int
    listen: Endpoint
    prefix_length: int
    prefix: int  # the client address without its host bits, shifted down


@dataclass(slots=True)
class Template:
    """One client prefix of one service and its server."""

    key: TemplateKey
    service: VirtualService
    server: RealServer
    due: int = 0  # the last new flow and the timeout
    flows: int = 0  # held for so many
    kept_until: int = 0  # when it goes: due, or later for the sake of flows

    @property
    def client(self) -> IPv4Network | IPv6Network:
        """The client addresses it is for."""
        address = self.key.listen.address
        host_bits = address.max_prefixlen - self.key.prefix_length
        return ip_network((type(address)(self.key.prefix << host_bits), self.key.prefix_length))

    @property
    def deadline(self) -> int:
        """When it expires; may have passed while flows hold it."""
        return self.due if self.flows else self.kept_until


class PersistenceTable:
    """Templates of all services.  *now* must not go back."""

    def __init__(self, capacity: int = DEFAULT_CAPACITY) -> None:
        self._now = 0
        self._templates: TLRUCache[TemplateKey, Template, int] = TLRUCache(
            capacity, ttu=lambda _key, template, _now: template.kept_until, timer=lambda: self._now
        )

    def __len__(self) -> int:
        return len(self._templates)

    def __iter__(self) -> Iterator[Template]:
        # Cache's own lookup, because TLRUCache's counts as a use.
        return (Cache.__getitem__(self._templates, key) for key in list(self._templates))

    def find(self, service: VirtualService, client_address: IPAddress, now: int) -> RealServer | None:
        """Return the server that *client_address* stays on, or None when the scheduler is to choose."""
        self._now = now
        template = self._templates.get(_key(service, client_address))
        if template is None or not _may_keep(service, template.server):
            return None
        return template.server

    def remember(
        self, service: VirtualService, client_address: IPAddress, server: RealServer, now: int
    ) -> None:
        """Note a new flow from *client_address* to *server*: the timeout starts again."""
        self._note_flow(service, client_address, server, now, held=0)

    def hold(self, service: VirtualService, client_address: IPAddress, server: RealServer, now: int) -> None:
        """Note a new flow, as remember() does, and keep the template until its release()."""
        self._note_flow(service, client_address, server, now, held=1)

    def release(
        self,
        service: VirtualService,
        client_address: IPAddress,
        server: RealServer,
        now: int,
        mask: int | None = None,
    ) -> None:
        """Undo one hold() because its flow ended; nothing happens if the template went meanwhile.

        *mask* is the prefix length at the time of the hold, if the service may have another by now.
        """
        template = self._find_for(_key(service, client_address, mask), server, now)
        if template is not None and template.flows:
            template.flows -= 1
            # Re-armed only if its flows outlived its time, as in IPVS.
            self._store(template, not_before=now + REARM if now > template.due else template.due)

    def forget_server(self, service: VirtualService, server: RealServer) -> None:
        """Drop the templates of *service* that lead to *server*; looks at all templates."""
        for template in self:
            if template.server is server and template.key.listen == service.listen:
                del self._templates[template.key]

    def expire(self, now: int) -> int:
        """Drop what has expired by *now* and return how many there were."""
        self._now = now
        return len(self._templates.expire(now))

    def _find_for(self, key: TemplateKey, server: RealServer, now: int) -> Template | None:
        self._now = now
        template = self._templates.get(key)
        return template if template is not None and template.server is server else None

    def _note_flow(
        self, service: VirtualService, client_address: IPAddress, server: RealServer, now: int, held: int
    ) -> None:
        if service.persistence is None:
            return
        key = _key(service, client_address)
        template = self._find_for(key, server, now)
        if template is None:
            template = Template(key, service, server)
        template.service = service
        template.due = now + service.persistence.timeout
        template.flows += held
        self._store(template, not_before=template.due)

    def _store(self, template: Template, not_before: int) -> None:
        template.kept_until = _NEVER if template.flows else max(template.due, not_before)
        self._templates[template.key] = template


def _key(service: VirtualService, client_address: IPAddress, mask: int | None = None) -> TemplateKey:
    # A service that never had persistence has no templates, so that any length will do.
    own = client_address.max_prefixlen if service.persistence is None else service.persistence.mask
    length = own if mask is None else mask
    prefix = int(client_address) >> (client_address.max_prefixlen - length)
    return TemplateKey(service.protocol, service.listen, length, prefix)


def _may_keep(service: VirtualService, server: RealServer) -> bool:
    return service.has(server) and server.admin is not Admin.DISABLED and server.health is not Health.DOWN
