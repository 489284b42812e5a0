# SPDX-License-Identifier: Apache-2.0
"""What `fullnat show` shows, as plain data: the one source of tables, JSON and the summary.

Pure: reads what an engine offers, returns lists and dicts of numbers and strings.  Durations are
seconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fullnat.control.config.model import KernelServiceConfig
from fullnat.control.roster import flows_left
from fullnat.control.served import Served
from fullnat.control.wish import Wish
from fullnat.core.addr import PROTOCOL_NAMES, Endpoint
from fullnat.core.lport import PortUse
from fullnat.core.reason import Reason, Verdict
from fullnat.core.rotation import Pool
from fullnat.core.service import Admin, RealServer
from fullnat.core.timeouts import SECOND
from fullnat.datapath.base import FlowRecord, Statistics, TemplateRecord

Row = dict[str, Any]

_TRAFFIC = ("connections", "packets_in", "packets_out", "bytes_in", "bytes_out")
_ADMIN = {Admin.ENABLED: "enabled", Admin.QUIESCED: "drain", Admin.DISABLED: "disabled"}


def services(served: Iterable[Served]) -> list[Row]:
    """Return a row for each service, with the sums over its servers."""
    return [_service_row(one) for one in served]


def _service_row(served: Served) -> Row:
    config, servers = served.config, served.servers
    persistence = config.persistence
    row: Row = {
        "name": config.name,
        "protocol": PROTOCOL_NAMES.get(config.protocol, "fwmark"),
        "listen": str(config.listen) if isinstance(config.listen, Endpoint) else str(config.listen.mark),
        "address": config.address,
        "scheduler": served.scheduler_name,
        "scheduler_flags": sorted(config.scheduler_flags),
        "persistence": persistence and {"timeout": persistence.timeout / SECOND, "mask": persistence.mask},
        "one_packet": config.one_packet,
        "forward": config.forward.value if isinstance(config, KernelServiceConfig) else "fullnat",
        "serving": served.rotation.serving,
        "pools": [_pool_row(pool) for pool in served.rotation.pools],
        "servers": len(servers),
        "available": sum(server.is_available for server in served.virtual.servers),
        "active": sum(server.active for server in servers),
        "inactive": sum(server.inactive for server in servers),
    }
    return row | {name: sum(getattr(server, name) for server in servers) for name in _TRAFFIC}


def _pool_row(pool: Pool) -> Row:
    return {
        "name": pool.name,
        "servers": len(pool.servers),
        "usable_weight": pool.usable_weight,
        "quorum": pool.quorum,
        "has_quorum": bool(pool.has_quorum),
    }


def server(
    served: Served, pool: str, server: RealServer, wish: Wish | None, check: Row | None, now: int
) -> Row:
    """Return the row of one server, in the pool of this name."""
    in_rotation = server in served.virtual.servers
    row: Row = {
        "service": served.config.name,
        "pool": pool,
        "address": str(server.endpoint),
        "weight": server.configured_weight,
        "effective_weight": server.weight if in_rotation else 0,
        "upper": server.upper,
        "lower": server.lower,
        "overloaded": server.overloaded,
        "admin": _ADMIN[server.admin],
        "health": server.health.value,
        "in_rotation": in_rotation,
        "check": check,
        "drain": _drain_row(served, server, wish, now),
        "active": server.active,
        "inactive": server.inactive,
    }
    return row | {name: getattr(server, name) for name in _TRAFFIC}


def _drain_row(served: Served, server: RealServer, wish: Wish | None, now: int) -> Row | None:
    if wish is None or wish.is_idle:
        return None
    return {
        "by": wish.source,
        "since": round((now - wish.since) / SECOND, 3),
        "deadline": None if wish.deadline is None else max(0.0, round((wish.deadline - now) / SECOND, 3)),
        "left": flows_left(served, server),
    }


def flows(records: Iterable[FlowRecord], now: int) -> list[Row]:
    """Return a row for each flow."""
    return [_flow_row(flow, now) for flow in records]


def _flow_row(flow: FlowRecord, now: int) -> Row:
    return {
        "service": flow.service.name,
        "protocol": PROTOCOL_NAMES[flow.service.protocol],
        "client": str(flow.client),
        "virtual": str(flow.service.listen),
        "local": str(flow.local),
        "server": str(flow.server.endpoint),
        "state": flow.state,
        "age": round((now - flow.created) / SECOND, 3),
        "idle": round((now - flow.last_seen) / SECOND, 3),
        "expires": round((flow.last_seen + flow.timeout - now) / SECOND, 3),
        "packets_in": flow.packets_in,
        "packets_out": flow.packets_out,
        "bytes_in": flow.bytes_in,
        "bytes_out": flow.bytes_out,
    }


def ports(uses: Iterable[PortUse]) -> list[Row]:
    """Return a row for each local address and server that had a flow."""
    return [
        {
            "protocol": PROTOCOL_NAMES[use.protocol],
            "local": str(use.lip),
            "server": str(use.real),
            "in_use": use.in_use,
            "resting": use.resting,
            "capacity": use.capacity,
        }
        for use in uses
    ]


def persistence(records: Iterable[TemplateRecord], now: int) -> list[Row]:
    """Return a row for each client prefix that stays on a server."""
    return [
        {
            "service": template.service.name,
            "clients": str(template.clients),
            "server": str(template.server.endpoint),
            "flows": template.flows,
            "expires": max(0.0, round((template.deadline - now) / SECOND, 3)),
        }
        for template in records
    ]


def stats(statistics: Statistics) -> Row:
    """Return every reason with its count, and what else is counted."""
    return {
        "reasons": {
            reason.name.lower(): {
                "count": statistics.reasons[reason],
                "verdict": reason.verdict.value,
                "meaning": reason.sentence,
            }
            for reason in Reason
        },
        "packets_received": statistics.received,
        "queue_dropped": statistics.queue_dropped,
        "user_dropped": statistics.user_dropped,
        "send_failures": statistics.send_failures,
        "replies_suppressed": statistics.replies_suppressed,
        "flows": statistics.flows,
        "flows_limit": statistics.flows_limit,
        "fragments": statistics.fragments,
        "fragments_held": statistics.fragments_held,
        "persistence": statistics.persistence,
        "scheduler_error": statistics.scheduler_error,
        **statistics.of_engine,
    }


def count_verdict(statistics: Statistics, verdict: Verdict) -> int:
    """Return how many packets ended with *verdict*."""
    return sum(statistics.reasons[reason] for reason in Reason if reason.verdict is verdict)
