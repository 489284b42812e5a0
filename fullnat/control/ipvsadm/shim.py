# SPDX-License-Identifier: Apache-2.0
"""One command line of ipvsadm, carried out by a running instance.

Names of services are looked up in this host's table, names of hosts are not: the daemon asks nobody.
A restore is one change: of its lines all are made or none, which IPVS does not promise.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from fullnat.control.config.model import Config
from fullnat.control.instance import Instance
from fullnat.control.ipvsadm.changes import UnlikeIpvsError, change, find
from fullnat.control.ipvsadm.views import Views, address_of, connections
from fullnat.control.reload import RefusedError
from fullnat.control.served import Served
from fullnat.core.addr import TCP, UDP, IPAddress
from fullnat.core.timeouts import SECOND
from fullnat.host.errors import HostError
from fullnat.ipvsadm import commands as told
from fullnat.ipvsadm.answers import answer, status
from fullnat.ipvsadm.connections import format_connections
from fullnat.ipvsadm.extras import format_locals, format_timeouts
from fullnat.ipvsadm.language import Refused, parse
from fullnat.ipvsadm.output import format_services
from fullnat.ipvsadm.restore import split_lines
from fullnat.ipvsadm.save import save_services
from fullnat.ipvsadm.usage import VERSION, format_help
from fullnat.ipvsadm.views import LocalsView, LocalView, ServiceView

_FAILED, _UNLIKE = 255, 2  # exit statuses: IPVS refused; there is no such thing here
_PROTOCOLS = {TCP: "tcp", UDP: "udp"}


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a command line."""

    output: str = ""
    errors: str = ""
    status: int = 0


class ServiceNames:
    """Ports by name, from this host's table; hosts only as numbers."""

    def host(self, name: str) -> None:
        """Return None."""

    def port(self, name: str, protocol: int) -> int | None:
        """Return the port of the service *name*."""
        try:
            return socket.getservbyname(name, _PROTOCOLS.get(protocol, "tcp"))
        except (OSError, ValueError):
            return None


class PortNames:
    """Names of ports for listings without -n; addresses stay numbers."""

    def host(self, _address: IPAddress) -> str | None:
        """Return None."""
        return None

    def port(self, port: int, protocol: int) -> str | None:
        """Return the name of *port*."""
        try:
            return socket.getservbyport(port, _PROTOCOLS.get(protocol, "tcp"))
        except (OSError, OverflowError):
            return None


_LISTINGS = (
    told.Help,
    told.Version,
    told.ListServices,
    told.ListConnections,
    told.ListTimeouts,
    told.ListDaemons,
    told.ListLocal,
    told.Save,
)


def is_change(arguments: Sequence[str]) -> bool:
    """Whether *arguments* are to change anything; what is not understood changes nothing."""
    try:
        return not isinstance(parse(arguments, ServiceNames()), _LISTINGS)
    except Refused:
        return False


class Shim:
    """Carries out command lines on *instance*."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance

    async def run(self, arguments: Sequence[str], text: str) -> Done:
        """Carry out *arguments*, with *text* on standard input."""
        try:
            command = parse(arguments, ServiceNames())
            return Done(output=await self._carry_out(command, text))
        except Refused as refusal:
            return Done(errors=refusal.text, status=refusal.status)
        except (UnlikeIpvsError, RefusedError, HostError) as error:
            return Done(errors=f"fullnat: {error}\n", status=_UNLIKE)

    async def _carry_out(self, command: told.Command, text: str) -> str:
        listed = self._list(command)
        if listed is not None:
            return listed
        commands = [command]
        if isinstance(command, told.Restore):
            commands = [
                parse(words, ServiceNames(), is_line=True) for words in split_lines(text.splitlines())
            ]
        await self._instance.command(lambda config: self._change(config, commands))
        return ""

    @staticmethod
    def _change(config: Config, commands: Sequence[told.Command]) -> Config:
        for command in commands:
            try:
                config = change(config, command)
            except OSError as error:
                raise Refused(answer(command, error.errno or 0), status(command)) from None
        return config

    # What changes nothing that is served.

    def _list(self, command: told.Command) -> str | None:
        """Return what *command* lists, None when it is to change something."""
        match command:
            case told.Help():
                return format_help()
            case told.Version():
                return VERSION
            case told.ListServices():
                views = self._views(command.service, command)
                return format_services(views, command, PortNames())
            case told.ListConnections():
                return self._list_connections(command)
            case told.ListTimeouts():
                return format_timeouts(self._timeouts())
            case told.ListDaemons():
                return ""
            case told.ListLocal():
                return format_locals(self._locals(command))
            case told.Save():
                return save_services(self._views(None, command), None if command.numeric else PortNames())
            case told.Zero():
                return self._zero(command)
            case _:
                return None

    def _served(self, address: told.ServiceAddress | None, command: told.Command) -> list[Served]:
        """Return the services meant: the one at *address*, or all."""
        roster = self._instance.roster
        if address is None:
            return list(roster.services)
        try:
            served = roster.find(find(self._instance.reloader.config, address).address)
        except OSError as error:
            raise Refused(answer(command, error.errno or 0), status(command)) from None
        return [served] if served else []

    def _views(self, address: told.ServiceAddress | None, command: told.Command) -> list[ServiceView]:
        instance, chosen = self._instance, self._served(address, command)
        instance.engine.refresh()
        servers = list(chain.from_iterable(served.servers for served in chosen))
        templates = instance.engine.templates()
        views = Views(instance.rates.totals(servers), instance.rates.rates(), templates)
        return [views.service(served) for served in chosen]

    def _list_connections(self, command: told.ListConnections) -> str:
        engine = self._instance.engine
        found = connections(engine.flows(), engine.templates(), self._instance.now())
        return format_connections(found, command, PortNames())

    def _timeouts(self) -> told.SetTimeouts:
        timeouts = self._instance.reloader.config.timeouts
        return told.SetTimeouts(
            timeouts.tcp_established // SECOND, timeouts.tcp_closing // SECOND, timeouts.udp // SECOND
        )

    def _locals(self, command: told.ListLocal) -> list[LocalsView]:
        config = self._instance.reloader.config
        return [
            LocalsView(
                address_of(served.config),
                tuple(
                    LocalView(lip)
                    for lip in config.snat.addresses
                    if lip.version == served.config.listen.family
                ),
            )
            for served in self._served(command.service, command)
        ]

    def _zero(self, command: told.Zero) -> str:
        self._instance.engine.refresh()
        for served in self._served(command.service, command):
            self._instance.rates.zero(served.servers)
        return ""
