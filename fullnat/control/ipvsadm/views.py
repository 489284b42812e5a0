# SPDX-License-Identifier: Apache-2.0
"""What ipvsadm lists, of what is served: the engine's services look like IPVS's NAT."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from fullnat.control.config.model import AnyServiceConfig
from fullnat.control.rates import COUNTED, Counts
from fullnat.control.served import Served
from fullnat.core.addr import Endpoint
from fullnat.core.service import RealServer
from fullnat.core.timeouts import SECOND
from fullnat.datapath.base import FlowRecord, TemplateRecord
from fullnat.ipvsadm.commands import ServerSettings, ServiceAddress, ServiceSettings
from fullnat.ipvsadm.views import ConnectionView, ServerView, ServiceView, Traffic
from fullnat.kernel.service import Forward, KernelPersistence, KernelServer

_STATES = {
    "SYN_SENT": "SYN_RECV",  # IPVS hears of the server's SYN only, and calls it so from the first on
    "SYN_RECEIVED": "SYN_RECV",
    "ESTABLISHED": "ESTABLISHED",
    "CLIENT_FIN": "FIN_WAIT",
    "SERVER_FIN": "CLOSE_WAIT",
    "CLOSING": "TIME_WAIT",
    "CLIENT_RESET": "CLOSE",
    "SERVER_RESET": "CLOSE",
    "UNREPLIED": "UDP",
    "REPLIED": "UDP",
}


def address_of(config: AnyServiceConfig) -> ServiceAddress:
    """Return how ipvsadm is told of a service."""
    return ServiceAddress(config.protocol, config.listen)


class Views:
    """Views of the same moment."""

    def __init__(
        self,
        totals: Mapping[RealServer, Counts],
        rates: Mapping[RealServer, Counts],
        templates: Iterable[TemplateRecord],
    ) -> None:
        """*totals* are counts since they were set to zero, *rates* are of a second."""
        self._totals = totals
        self._rates = rates
        self._persistent: dict[RealServer, int] = {}
        for template in templates:
            self._persistent[template.server] = self._persistent.get(template.server, 0) + 1

    def service(self, served: Served) -> ServiceView:
        """Return *served* with the servers that take part, and those that still have connections."""
        config, persistence = served.config, served.config.persistence
        servers = [server for _, server in served.in_pools() if self._is_shown(served, server)]
        return ServiceView(
            address_of(config),
            ServiceSettings(
                config.scheduler_name,
                config.scheduler_flags,
                KernelPersistence(persistence.timeout // SECOND, persistence.mask) if persistence else None,
                one_packet=config.one_packet,
            ),
            tuple(self._server(served, server) for server in servers),
            _sum(self._total(server) for server in servers),
            _sum(self._rate(server) for server in servers),
        )

    @staticmethod
    def _is_shown(served: Served, server: RealServer) -> bool:
        is_main = any(server is one for one in served.rotation.pools[0].servers)
        return is_main or server in served.virtual.servers or server.flows > 0

    def _server(self, served: Served, server: RealServer) -> ServerView:
        weight = server.configured_weight if server.weight and server in served.virtual.servers else 0
        kernel = KernelServer(server.endpoint, weight, server.upper, server.lower if server.upper else 0)
        return ServerView(
            ServerSettings(kernel, Forward.NAT),
            server.active,
            server.inactive,
            self._persistent.get(server, 0),
            _traffic(self._total(server)),
            _traffic(self._rate(server)),
        )

    def _total(self, server: RealServer) -> Counts:
        return self._totals.get(server, _NOTHING)

    def _rate(self, server: RealServer) -> Counts:
        return self._rates.get(server, _NOTHING)


_NOTHING: Counts = (0,) * len(COUNTED)


def _traffic(counts: Counts) -> Traffic:
    return Traffic(*counts)


def _sum(all_counts: Iterable[Counts]) -> Traffic:
    return Traffic(*map(sum, zip(_NOTHING, *all_counts, strict=True)))


def connections(
    flows: Iterable[FlowRecord], templates: Iterable[TemplateRecord], now: int
) -> Iterator[ConnectionView]:
    """Yield flows, and then templates, as `ipvsadm -Lc` has them."""
    for flow in flows:
        yield ConnectionView(
            flow.service.protocol,
            flow.client,
            flow.service.listen,
            flow.server.endpoint,
            _STATES[flow.state],
            max(0, flow.last_seen + flow.timeout - now) // SECOND,
        )
    for template in templates:
        yield ConnectionView(
            template.service.protocol,
            Endpoint(template.clients.network_address, 0),
            template.service.listen,
            template.server.endpoint,
            "NONE",
            max(0, template.deadline - now) // SECOND,
        )
