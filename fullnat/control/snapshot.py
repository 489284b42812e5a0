# SPDX-License-Identifier: Apache-2.0
"""What `fullnat show` shows, as plain data: the one source of tables, JSON and the summary.

Pure: reads a director, returns lists and dicts of numbers and strings.  Durations are seconds.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

from fullnat.core.addr import PROTOCOL_NAMES
from fullnat.core.director import Director
from fullnat.core.flow import Flow
from fullnat.core.reason import Reason, Verdict
from fullnat.core.service import RealServer, VirtualService
from fullnat.core.timeouts import SECOND
from fullnat.datapath.base import EngineStatistics

Row = dict[str, Any]

_TRAFFIC = ("connections", "packets_in", "packets_out", "bytes_in", "bytes_out")


def services(director: Director) -> list[Row]:
    """Return a row for each service, with the sums over its servers."""
    return [_service_row(service) for service in director.services.values()]


def _service_row(service: VirtualService) -> Row:
    row: Row = {
        "name": service.name,
        "protocol": PROTOCOL_NAMES[service.protocol],
        "listen": str(service.listen),
        "scheduler": service.scheduler_name,
        "servers": len(service.servers),
        "available": sum(server.is_available for server in service.servers),
        "active": sum(server.active for server in service.servers),
        "inactive": sum(server.inactive for server in service.servers),
    }
    return row | {name: sum(getattr(server, name) for server in service.servers) for name in _TRAFFIC}


def servers(director: Director) -> list[Row]:
    """Return a row for each server of each service."""
    return [
        _server_row(service, server) for service in director.services.values() for server in service.servers
    ]


def _server_row(service: VirtualService, server: RealServer) -> Row:
    row: Row = {
        "service": service.name,
        "address": str(server.endpoint),
        "weight": server.weight,
        "upper": server.upper,
        "lower": server.lower,
        "overloaded": server.overloaded,
        "active": server.active,
        "inactive": server.inactive,
    }
    return row | {name: getattr(server, name) for name in _TRAFFIC}


def flows(director: Director, now: int, limit: int | None = None) -> list[Row]:
    """Return a row for each flow, at most *limit* of them."""
    return [_flow_row(flow, now) for flow in islice(director.flows, limit)]


def _flow_row(flow: Flow, now: int) -> Row:
    return {
        "service": flow.service.name,
        "protocol": PROTOCOL_NAMES[flow.protocol],
        "client": str(flow.client),
        "virtual": str(flow.virtual),
        "local": str(flow.local),
        "server": str(flow.server.endpoint),
        "state": flow.state_name,
        "age": round((now - flow.created) / SECOND, 3),
        "idle": round((now - flow.last_seen) / SECOND, 3),
        "expires": round((flow.last_seen + flow.timeout - now) / SECOND, 3),
        "packets_in": flow.inbound.packets,
        "packets_out": flow.outbound.packets,
        "bytes_in": flow.inbound.bytes,
        "bytes_out": flow.outbound.bytes,
    }


def ports(director: Director, now: int) -> list[Row]:
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
        for use in director.pool.usage(now)
    ]


def persistence(director: Director, now: int) -> list[Row]:
    """Return a row for each client prefix that stays on a server."""
    return [
        {
            "service": template.service.name,
            "clients": str(template.client),
            "server": str(template.server.endpoint),
            "flows": template.flows,
            "expires": max(0.0, round((template.deadline - now) / SECOND, 3)),
        }
        for template in director.persistence
    ]


def stats(director: Director, engine: EngineStatistics) -> Row:
    """Return every reason with its count, and what else is counted."""
    return {
        "reasons": {
            reason.name.lower(): {
                "count": director.counters[reason],
                "verdict": reason.verdict.value,
                "meaning": reason.sentence,
            }
            for reason in Reason
        },
        "packets_received": engine.received,
        "queue_dropped": engine.queue_dropped,
        "user_dropped": engine.user_dropped,
        "send_failures": engine.send_failures,
        "replies_suppressed": director.answers.suppressed,
        "flows": len(director.flows),
        "flows_limit": director.flows.limit,
        "fragments": len(director.fragments),
        "fragments_held": director.fragments.held,
        "persistence": len(director.persistence),
        "scheduler_error": director.scheduler_error,
    }


def count_verdict(director: Director, verdict: Verdict) -> int:
    """Return how many packets ended with *verdict*."""
    return sum(director.counters[reason] for reason in Reason if reason.verdict is verdict)
