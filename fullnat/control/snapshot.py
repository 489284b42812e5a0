# SPDX-License-Identifier: Apache-2.0
"""What `fullnat show` shows, as plain data: the one source of tables, JSON and the summary.

Pure: reads what an engine offers, returns lists and dicts of numbers and strings.  Durations are
seconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fullnat.core.addr import PROTOCOL_NAMES
from fullnat.core.lport import PortUse
from fullnat.core.reason import Reason, Verdict
from fullnat.core.service import RealServer, VirtualService
from fullnat.core.timeouts import SECOND
from fullnat.datapath.base import FlowRecord, Statistics, TemplateRecord

Row = dict[str, Any]

_TRAFFIC = ("connections", "packets_in", "packets_out", "bytes_in", "bytes_out")


def services(served: Iterable[VirtualService]) -> list[Row]:
    """Return a row for each service, with the sums over its servers."""
    return [_service_row(service) for service in served]


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


def servers(served: Iterable[VirtualService]) -> list[Row]:
    """Return a row for each server of each service."""
    return [_server_row(service, server) for service in served for server in service.servers]


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
