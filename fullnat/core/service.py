# SPDX-License-Identifier: Apache-2.0
"""Virtual services and their real servers: weights, thresholds, connection counts, traffic.

Two axes decide whether a server takes new flows: what the operator wants (Admin) and what a check
found (Health).  effective_weight() folds them into the one number schedulers see; 0 quiesces.

Counts follow IPVS (include/net/ip_vs.h): a flow is *inactive* until TCP is established, *active*
while it is, inactive again while it closes; UDP flows are always inactive.  A server is overloaded
from the moment it holds `upper` flows until it holds fewer than `lower`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from fullnat.core.addr import PROTOCOL_NAMES, Endpoint

if TYPE_CHECKING:
    from fullnat.core.sched.base import Request, Scheduler
    from fullnat.core.timeouts import Timeouts


class Admin(Enum):
    """What the operator wants of a server."""

    ENABLED = "enabled"
    QUIESCED = "quiesced"
    DISABLED = "disabled"


class Health(Enum):
    """What the last check found."""

    UP = "up"
    DOWN = "down"
    UNKNOWN = "unknown"


def effective_weight(weight: int, admin: Admin, health: Health) -> int:
    """Return the weight a scheduler may use: *weight*, or 0 when no new flow may be sent."""
    return weight if admin is Admin.ENABLED and health is not Health.DOWN else 0


@dataclass(frozen=True, slots=True)
class Persistence:
    """Clients of one prefix stay on one server for *timeout* after their last new flow."""

    timeout: int  # nanoseconds
    mask: int  # prefix length


class RealServer:
    """One server of one service.  Change weights and counts through its VirtualService."""

    __slots__ = (
        "active",
        "admin",
        "bytes_in",
        "bytes_out",
        "configured_weight",
        "connections",
        "endpoint",
        "health",
        "inactive",
        "lower",
        "overloaded",
        "packets_in",
        "packets_out",
        "position",
        "share",
        "upper",
        "weight",
    )

    def __init__(self, endpoint: Endpoint, weight: int = 1, upper: int = 0, lower: int | None = None) -> None:
        self.endpoint = endpoint
        self.configured_weight = weight
        self.admin = Admin.ENABLED
        self.health = Health.UNKNOWN
        self.weight = weight  # effective; what schedulers read
        self.upper = upper  # 0 = no limit
        # IPVS without a lower threshold: no longer overloaded while flows * 4 < upper * 3, so three
        # quarters round up (ip_vs_unbind_dest in net/netfilter/ipvs/ip_vs_conn.c).
        self.lower = -(-upper * 3 // 4) if lower is None else lower
        self.position = 0  # place in the service's list; schedulers break ties by it
        self.share = 1  # what schedulers see its weight multiplied by: rotation.py
        self.overloaded = False
        self.active = 0
        self.inactive = 0
        self.connections = 0
        self.packets_in = 0
        self.packets_out = 0
        self.bytes_in = 0
        self.bytes_out = 0

    def __repr__(self) -> str:
        return f"RealServer({self.endpoint}, weight={self.weight})"

    @property
    def flows(self) -> int:
        """Flows it holds, active and inactive."""
        return self.active + self.inactive

    @property
    def is_available(self) -> bool:
        """Whether it may be given a new flow."""
        return self.weight > 0 and not self.overloaded


class SchedulerError(Exception):
    """A scheduler of a user's raised an exception or returned what it must not; one line says which."""


class VirtualService:
    """One VIP:vport of one protocol, its scheduler and its real servers in configured order."""

    def __init__(
        self,
        name: str,
        protocol: int,
        listen: Endpoint,
        scheduler: Scheduler,
        timeouts: Timeouts,
        servers: list[RealServer],
        persistence: Persistence | None = None,
        one_packet: bool = False,
    ) -> None:
        self.name = name
        self.protocol = protocol
        self.listen = listen
        self.scheduler = scheduler
        self.timeouts = timeouts
        self.persistence = persistence
        self.one_packet = one_packet  # every datagram is scheduled anew (UDP)
        self.servers: list[RealServer] = []
        self.set_servers(servers)

    def __str__(self) -> str:
        return f"{PROTOCOL_NAMES[self.protocol]}://{self.listen}"

    @property
    def scheduler_name(self) -> str:
        """What its scheduler is called: by its name, or for want of one by its class."""
        return self.scheduler.name or type(self.scheduler).__name__

    def schedule(self, request: Request) -> RealServer | None:
        """Return the server its scheduler picks, None when there is none to be had, or SchedulerError."""
        try:
            chosen = self.scheduler.schedule(request)
            if chosen is None:
                return None
            if isinstance(chosen, RealServer) and self.has(chosen):  # a user's class may return anything
                return chosen
            problem = f"schedule() returned {chosen!r}, which is not in the service"
        except Exception as error:  # a user's scheduler may raise anything
            problem = f"{type(error).__name__}: {error}"
        raise SchedulerError(f"{self.name}: {problem}")

    def has(self, server: RealServer) -> bool:
        """Whether *server* is in the list to schedule from; one that left it has its old position."""
        return server.position < len(self.servers) and self.servers[server.position] is server

    def set_scheduler(self, scheduler: Scheduler) -> None:
        """Have *scheduler* pick from now on; what its attach() raises leaves the one there was."""
        scheduler.attach(self.servers)
        self.scheduler = scheduler

    def set_servers(self, servers: list[RealServer]) -> None:
        """Make *servers* the list to schedule from, in this order."""
        self.servers = list(servers)
        for position, server in enumerate(self.servers):
            server.position = position
        self.scheduler.attach(self.servers)

    def set_weight(self, server: RealServer, weight: int) -> None:
        """Set the configured weight of *server*; flows it already has are not touched."""
        server.configured_weight = weight
        self._refresh_weight(server)

    def set_share(self, server: RealServer, share: int) -> None:
        """Have schedulers see the weight of *server* multiplied by *share*."""
        server.share = share
        self._refresh_weight(server)

    def set_thresholds(self, server: RealServer, upper: int, lower: int) -> None:
        """Set the limits of *server* and see whether the flows it has overload it now.

        Raising the upper limit, or taking it away, ends an overload as in IPVS, unless the flows
        reach the new one as well; under any other change it lasts until they are below *lower*.
        """
        stays = server.overloaded and 0 < upper <= server.upper
        server.upper, server.lower = upper, lower
        self._set_overloaded(server, server.flows >= max(lower, 1) if stays else 0 < upper <= server.flows)

    def set_admin(self, server: RealServer, admin: Admin) -> None:
        """Record what the operator wants of *server*."""
        server.admin = admin
        self._refresh_weight(server)

    def set_health(self, server: RealServer, health: Health) -> None:
        """Record what a check found of *server*."""
        server.health = health
        self._refresh_weight(server)

    def _refresh_weight(self, server: RealServer) -> None:
        weight = effective_weight(server.configured_weight, server.admin, server.health) * server.share
        if weight != server.weight:
            server.weight = weight
            self._tell_changed(server)

    def _set_overloaded(self, server: RealServer, overloaded: bool) -> None:
        if overloaded != server.overloaded:
            server.overloaded = overloaded
            self._tell_changed(server)

    def _tell_changed(self, server: RealServer) -> None:
        """Have the scheduler hear of *server*, unless it may pick another at that position by now."""
        if self.has(server):
            self.scheduler.server_changed(server)

    def flow_opened(self, server: RealServer) -> None:
        """Count a new flow, inactive at first; it may overload the server."""
        server.connections += 1
        server.inactive += 1
        if server.upper and server.flows >= server.upper:
            self._set_overloaded(server, True)
        self.scheduler.flows_changed(server)

    def flow_activated(self, server: RealServer) -> None:
        """Move one flow from inactive to active."""
        server.inactive -= 1
        server.active += 1
        self.scheduler.flows_changed(server)

    def flow_deactivated(self, server: RealServer) -> None:
        """Move one flow from active to inactive."""
        server.active -= 1
        server.inactive += 1
        self.scheduler.flows_changed(server)

    def flow_ended(self, server: RealServer, was_active: bool) -> None:
        """Take one flow off the count; the server may no longer be overloaded."""
        if was_active:
            server.active -= 1
        else:
            server.inactive -= 1
        if server.flows < max(server.lower, 1):
            self._set_overloaded(server, False)
        self.scheduler.flows_changed(server)
