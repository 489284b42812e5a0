# SPDX-License-Identifier: Apache-2.0
"""The roster: all services while they run, and everything that makes a server serve or not.

    an operator's command  --.
    a maintenance file     ---+--> wish, health, weight --> rotation --> engine, kernel
    a check's result       --'
                time       -----> slow start, deadlines, what is left of a drain

Each change takes effect in the engine before the call returns.  What the kernel serves beside or behind
the engine follows: *on_kernel* is called, and whoever it belongs to asks kernel_services().
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from fullnat.control.config.model import AnyServiceConfig, OnDown
from fullnat.control.events import EventLog, Kind
from fullnat.control.farewells import Farewells
from fullnat.control.kernel import as_configured
from fullnat.control.served import Served
from fullnat.control.wish import Wish
from fullnat.core.addr import TCP, Endpoint
from fullnat.core.service import Admin, Health, RealServer
from fullnat.core.timeouts import SECOND
from fullnat.datapath.base import Datapath
from fullnat.kernel.service import KernelServer

ADMIN_WORDS = {"enabled": Admin.ENABLED, "drain": Admin.QUIESCED, "disabled": Admin.DISABLED}
_WORD_OF = {admin: word for word, admin in ADMIN_WORDS.items()}


class Roster:
    """Services in configured order, with what is wanted and known of their servers."""

    def __init__(
        self,
        served: Iterable[Served],
        events: EventLog,
        on_kernel: Callable[[], None],
        on_admin: Callable[[Served, RealServer], None],
    ) -> None:
        """*on_kernel* is called when what the kernel serves may be another, *on_admin* after set_admin()."""
        self._served = {one.key: one for one in served}
        self._events = events
        self._on_kernel = on_kernel
        self._on_admin = on_admin
        self._engine: Datapath | None = None
        self._farewells: Farewells | None = None
        self._wishes: dict[RealServer, Wish] = {}
        self._resets: dict[RealServer, int] = {}  # when the flows of one that is down are ended

    # What there is.

    @property
    def services(self) -> Sequence[Served]:
        """All that are served."""
        return list(self._served.values())

    def find(self, name: str) -> Served | None:
        """Return the service of this name, or of this address."""
        named = (one for one in self._served.values() if one.config.name == name)
        return self._served.get(name) or next(named, None)

    def wish_for(self, server: RealServer) -> Wish | None:
        """Return what is wanted of *server*, None when it just is to serve."""
        return self._wishes.get(server)

    def kernel_servers(self, config: AnyServiceConfig) -> list[KernelServer]:
        """Return who of the service of *config* takes part now, as the kernel is told."""
        served = self._served.get(config.address)
        if served is None or served.config != config:
            return as_configured(config)  # it is not served yet
        return [
            KernelServer(one.endpoint, one.configured_weight if one.weight else 0, one.upper, one.lower)
            for one in served.rotation.look()
        ]

    # Beginning, and being changed by a reload.

    def prepare(self) -> None:
        """Put all servers into each service's list: an engine may take over flows of any of them."""
        for served in self._served.values():
            served.virtual.set_servers(served.servers)

    def attach(self, engine: Datapath, farewells: Farewells, now: int) -> None:
        """Tell *engine*, which has taken the services as they were prepared, who is in rotation."""
        self._engine, self._farewells = engine, farewells
        for served in self._served.values():
            self._turn_anew(served, now, is_known=True)

    def add(self, served: Served, now: int) -> None:
        """Serve one more service."""
        self._served[served.key] = served
        self._turn_anew(served, now, is_known=False)
        if served.is_engines and self._engine is not None:
            self._engine.add_service(served.virtual)

    def remove(self, served: Served) -> None:
        """Serve *served* no more: its flows are ended."""
        del self._served[served.key]
        servers = served.servers
        if served.is_engines and self._engine is not None:
            self._engine.remove_service(served.virtual)
            for server in servers:
                self.reset(served, server)
        self.forget(servers)

    def order(self, keys: Sequence[str]) -> None:
        """Have the services be in this order, for whoever looks."""
        self._served = {key: self._served[key] for key in keys}

    def forget(self, servers: Iterable[RealServer]) -> None:
        """Drop what is wanted of *servers*, which are gone."""
        for server in servers:
            self._wishes.pop(server, None)
            self._resets.pop(server, None)

    def changed(self, served: Served, now: int, *, more_than_servers: bool) -> None:
        """Have everybody know that *served* was changed."""
        if more_than_servers and served.is_engines and self._engine is not None:
            self._engine.service_changed(served.virtual)
        self._turn_anew(served, now, is_known=True)

    # What operators want.

    def set_admin(
        self, served: Served, server: RealServer, admin: Admin, now: int, deadline: int | None = None
    ) -> None:
        """Have *server* serve, drain, or be out; *deadline* is when what is left of a drain is ended."""
        wish = self._wishes.setdefault(server, Wish())
        wish.command = admin
        wish.begin(now, deadline if admin is Admin.QUIESCED else None)
        self._take_wish(served, server, wish, now, by="command")

    def set_files(self, named: Callable[[Endpoint], bool], now: int) -> None:
        """Have the servers whose address is *named* by a maintenance file drain, and no others."""
        for served in self._served.values():
            for server in served.servers:
                has_file = named(server.endpoint)
                wish = self._wishes.get(server)
                if has_file != (wish is not None and wish.has_file):
                    wish = wish or self._wishes.setdefault(server, Wish())
                    wish.has_file = has_file
                    wish.begin(now, wish.deadline)
                    self._take_wish(served, server, wish, now, by="file")

    def set_weight(
        self, served: Served, server: RealServer, weight: int, now: int, by: str = "command"
    ) -> None:
        """Set the weight of *server* until the configuration, or *by* again, says another."""
        if weight == server.configured_weight:
            return
        was = server.configured_weight
        served.virtual.set_weight(server, weight)
        self._note(Kind.SERVER_WEIGHT, served, server, was=was, weight=weight, by=by)
        self._turn(served, now, changed=server)

    def reset(self, served: Served, server: RealServer) -> None:
        """Begin to end the flows of *server*, and to tell both ends of each."""
        self._resets.pop(server, None)

        def note(ended: int) -> None:
            if ended:
                self._note(Kind.FLOWS_RESET, served, server, ended=ended)

        if self._farewells is not None and served.is_engines:
            self._farewells.begin(server, note)

    def _take_wish(self, served: Served, server: RealServer, wish: Wish, now: int, by: str) -> None:
        if wish.is_idle:
            del self._wishes[server]
        if wish.admin is not server.admin:
            served.virtual.set_admin(server, wish.admin)
            state = _WORD_OF[wish.admin]
            self._note(Kind.SERVER_STATE, served, server, state=state, by=by)
            self._on_admin(served, server)
            self._turn(served, now, changed=server)

    # What checks find.

    def set_health(
        self, served: Served, server: RealServer, health: Health, now: int, code: str = "", detail: str = ""
    ) -> None:
        """Take over what a check found of *server*."""
        was = server.health
        if was is health:
            return
        served.virtual.set_health(server, health)
        if health is Health.DOWN:
            served.rotation.left(server)
            if served.config.on_down is OnDown.RESET:
                self._resets[server] = now + served.config.reset_after
        else:
            self._resets.pop(server, None)
            if was is Health.DOWN:
                served.rotation.returned(server, now)
        self._turn(served, now, changed=server)
        kind = Kind.SERVER_DOWN if health is Health.DOWN else Kind.SERVER_UP
        left = sum(one.weight > 0 for one in served.virtual.servers)
        self._note(kind, served, server, code=code, detail=detail, serving=left)
        if self._resets.get(server, now + 1) <= now:
            self.reset(served, server)

    # What time brings.

    @property
    def is_waiting(self) -> bool:
        """Whether it is looked how many flows some server has left."""
        return bool(self._wishes)

    def tick(self, now: int) -> None:
        """Let shares grow, end what a deadline ends, and say what has drained; about once a second."""
        for served in self._served.values():
            if served.rotation.is_ramping:
                self._turn(served, now)
            for server in served.servers:
                if self._resets.get(server, now + 1) <= now:
                    self.reset(served, server)
                wish = self._wishes.get(server)
                if wish is not None:
                    self._look_at_drain(served, server, wish, now)

    def _look_at_drain(self, served: Served, server: RealServer, wish: Wish, now: int) -> None:
        if flows_left(served, server) == 0:
            if not wish.is_drained:
                seconds = round((now - wish.since) / SECOND, 3)
                self._note(Kind.DRAINED, served, server, seconds=seconds)
            wish.is_drained, wish.deadline = True, None
        elif wish.deadline is not None and wish.deadline <= now:
            # Disabled, or clients that persistence keeps on it would be back at once.
            wish.command, wish.deadline = Admin.DISABLED, None
            self._take_wish(served, server, wish, now, by="deadline")
            self.reset(served, server)

    # What follows.

    def _turn(self, served: Served, now: int, changed: RealServer | None = None) -> None:
        """Look who is in rotation now that *changed* has, and have the engine and the kernel know."""
        was = served.rotation.serving
        listed = served.rotation.look()
        different = self._share_out(served, now)
        if changed is not None:
            different.append(changed)
        self._tell_engine(served, listed, different)
        self._tell_who_serves(served, was)
        self._on_kernel()

    def _turn_anew(self, served: Served, now: int, *, is_known: bool) -> None:
        """Do the same for a service whose servers are others; *is_known* to the engine, or not yet."""
        was = served.rotation.serving
        listed = served.rotation.look()
        self._share_out(served, now)
        if is_known and served.is_engines and self._engine is not None:
            self._engine.set_servers(served.virtual, listed)
        else:
            served.virtual.set_servers(listed)
        if was or served.rotation.serving not in ("", served.rotation.pools[0].name):
            self._tell_who_serves(served, was)  # else it begins as it should, or it is not known yet
        self._on_kernel()

    @staticmethod
    def _share_out(served: Served, now: int) -> list[RealServer]:
        """Give servers their shares; return those that have another."""
        different = []
        for server, share in served.rotation.shares(now):
            if share != server.share:
                served.virtual.set_share(server, share)
                different.append(server)
        return different

    def _tell_engine(self, served: Served, listed: list[RealServer], different: list[RealServer]) -> None:
        virtual = served.virtual
        if self._engine is None or not served.is_engines:
            virtual.set_servers(listed)
        elif listed != virtual.servers:
            self._engine.set_servers(virtual, listed)
        else:
            for server in different:
                self._engine.server_changed(virtual, server)

    def _tell_who_serves(self, served: Served, was: str) -> None:
        serving = served.rotation.serving
        if serving == was:
            return
        if serving:
            self._events.add(Kind.POOL_SERVES, service=served.config.name, pool=serving, was=was)
        else:
            self._events.add(Kind.NOBODY_SERVES, service=served.config.name, was=was)

    def _note(self, kind: Kind, served: Served, server: RealServer, **fields: str | int | float) -> None:
        self._events.add(kind, service=served.config.name, server=str(server.endpoint), **fields)


def flows_left(served: Served, server: RealServer) -> int:
    """Return how many flows of *server* somebody still waits for.

    A TCP connection that both ends have closed is kept for a while, and does not hold up a drain.
    """
    return server.active if served.config.protocol == TCP else server.flows
