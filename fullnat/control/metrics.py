# SPDX-License-Identifier: Apache-2.0
"""What is counted, as metrics; docs/metrics.md says what each means, the alert rules beside it use them.

Labels are names from the configuration and reasons of ours, never a client's address: their number is
bounded by the configuration.
"""

from __future__ import annotations

import os
import platform
import resource
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from fullnat.control.exposition import Family, Number, render
from fullnat.core.reason import Reason, Verdict
from fullnat.datapath.base import Statistics

Row = Mapping[str, Any]

_TRAFFIC = (("packets", "Packets"), ("bytes", "Bytes of IP packets"))
_DIRECTIONS = ("in", "out")


def render_metrics(
    status: Row, services: Iterable[Row], servers: Iterable[Row], ports: Iterable[Row], statistics: Statistics
) -> str:
    """Return everything as Prometheus reads it; the rows are those of snapshot.py."""
    services, servers = list(services), list(servers)
    return render(
        [
            *_about(status),
            *_of_services(services),
            *_of_servers(servers),
            *_of_checks(servers),
            *_of_ports(ports),
            *_of_tables(statistics),
            *_of_packets(statistics),
            *_of_process(status),
        ]
    )


def _gauge(name: str, meaning: str, value: Number) -> Family:
    return Family(f"fullnat_{name}", "gauge", meaning, [({}, value)])


def _counter(name: str, meaning: str, value: Number) -> Family:
    return Family(f"fullnat_{name}", "counter", meaning, [({}, value)])


def _about(status: Row) -> Iterable[Family]:
    build = Family("fullnat_build_info", "gauge", "What runs; always 1")
    build.add(1, version=status["version"], engine=status["engine"], kernel=platform.release())
    reload = status["reload"]
    yield build
    yield _gauge("up_seconds", "How long the instance has been running", status["uptime"])
    yield _gauge(
        "config_last_reload_successful", "Whether the last reload was carried out", int(not reload["error"])
    )
    succeeded = reload["last"] if reload["last"] is not None else status["started"]
    yield _gauge(
        "config_last_reload_success_timestamp_seconds",
        "When the configuration was last taken over",
        succeeded,
    )
    yield _counter("config_reloads_total", "Reloads that were carried out", reload["successes"])
    yield _counter("config_reload_failures_total", "Reloads that were refused", reload["failures"])


def _of_services(services: Iterable[Row]) -> Iterable[Family]:
    flows = Family("fullnat_service_flows", "gauge", "Flows, by whether they are established")
    opened = Family("fullnat_service_flows_total", "counter", "Flows opened")
    serving = Family("fullnat_service_pool_serves", "gauge", "Whether the pool is the one that serves")
    quorum = Family("fullnat_service_pool_quorum", "gauge", "Whether the pool has its quorum")
    available = Family("fullnat_service_servers_available", "gauge", "Servers that take new flows")
    traffic = _traffic_families("service")
    for row in services:
        name = row["name"]
        flows.add(row["active"], service=name, state="active")
        flows.add(row["inactive"], service=name, state="inactive")
        opened.add(row["connections"], service=name)
        available.add(row["available"], service=name)
        _add_traffic(traffic, row, service=name)
        for pool in row["pools"]:
            serving.add(int(row["serving"] == pool["name"]), service=name, pool=pool["name"])
            quorum.add(int(pool["has_quorum"]), service=name, pool=pool["name"])
    return [flows, opened, available, serving, quorum, *traffic.values()]


def _of_servers(servers: Iterable[Row]) -> Iterable[Family]:
    flows = Family("fullnat_server_flows", "gauge", "Flows, by whether they are established")
    opened = Family("fullnat_server_flows_total", "counter", "Flows opened")
    weight = Family("fullnat_server_weight", "gauge", "The weight its scheduler is told, 0: no new flows")
    up = Family("fullnat_server_up", "gauge", "Whether its check has not found it down")
    admin = Family("fullnat_server_admin_state", "gauge", "What the operator wants: 1 for the state it is in")
    traffic = _traffic_families("server")
    for row in servers:
        labels = _server_labels(row)
        flows.add(row["active"], **labels, state="active")
        flows.add(row["inactive"], **labels, state="inactive")
        opened.add(row["connections"], **labels)
        weight.add(row["effective_weight"], **labels)
        up.add(int(row["health"] != "down"), **labels)
        for state in ("enabled", "drain", "disabled"):
            admin.add(int(row["admin"] == state), **labels, state=state)
        _add_traffic(traffic, row, **labels)
    return [flows, opened, weight, up, admin, *traffic.values()]


def _of_checks(servers: Iterable[Row]) -> Iterable[Family]:
    status = Family("fullnat_server_check_status", "gauge", "How the last check ended; always 1")
    duration = Family("fullnat_server_check_duration_seconds", "gauge", "How long the last check took")
    checks = Family("fullnat_server_checks_total", "counter", "Checks made")
    failures = Family("fullnat_server_check_failures_total", "counter", "Checks that failed")
    changes = Family("fullnat_server_check_transitions_total", "counter", "Times its health changed")
    for row in servers:
        check = row["check"]
        if check is None:
            continue
        labels = _server_labels(row)
        status.add(1, **labels, code=check["code"])
        duration.add(check["duration"], **labels)
        checks.add(check["checks"], **labels)
        failures.add(check["failures"], **labels)
        changes.add(check["transitions"], **labels)
    return [status, duration, checks, failures, changes]


def _of_ports(ports: Iterable[Row]) -> Iterable[Family]:
    """Return how many ports are in use, in all and towards the server with the fewest left."""
    in_use: dict[tuple[str, str], int] = defaultdict(int)
    fullest: dict[tuple[str, str], float] = defaultdict(float)
    for row in ports:
        place = row["local"], row["protocol"]
        in_use[place] += row["in_use"]
        taken = (row["in_use"] + row["resting"]) / row["capacity"] if row["capacity"] else 0.0
        fullest[place] = max(fullest[place], taken)
    used = Family("fullnat_snat_ports_in_use", "gauge", "Local ports in use, towards all servers together")
    ratio = Family(
        "fullnat_snat_ports_fullest_ratio",
        "gauge",
        "Share of a local address's ports in use or at rest towards the server with the fewest left",
    )
    for (local, protocol), count in in_use.items():
        used.add(count, local=local, protocol=protocol)
        ratio.add(round(fullest[local, protocol], 6), local=local, protocol=protocol)
    return [used, ratio]


def _of_tables(statistics: Statistics) -> Iterable[Family]:
    yield _gauge("flow_table_entries", "Flows in the table", statistics.flows)
    yield _gauge("flow_table_capacity", "Flows the table has room for", statistics.flows_limit)
    yield _gauge("persistence_entries", "Client prefixes that stay on a server", statistics.persistence)
    yield _gauge("fragments_tracked", "Fragmented datagrams in flight", statistics.fragments)


def _of_packets(statistics: Statistics) -> Iterable[Family]:
    packets = Family("fullnat_packets_total", "counter", "Packets an engine decided, by reason and verdict")
    drops = Family("fullnat_drops_total", "counter", "Packets dropped, by reason")
    for reason in Reason:
        count, name = statistics.reasons[reason], reason.name.lower()
        packets.add(count, reason=name, verdict=reason.verdict.value)
        if reason.verdict is Verdict.DROP:
            drops.add(count, reason=name)
    yield packets
    yield drops
    yield _counter(
        "snat_port_exhausted_total",
        "Flows refused for want of a local port",
        statistics.reasons[Reason.NO_LOCAL_PORT],
    )
    yield _counter("queue_received_total", "Packets taken from the queues", statistics.received)
    yield _counter(
        "queue_dropped_total", "Packets the kernel dropped: a queue was full", statistics.queue_dropped
    )
    yield _counter(
        "queue_user_dropped_total", "Packets the kernel dropped: our socket was full", statistics.user_dropped
    )
    yield _counter("send_failures_total", "Answers the kernel would not send", statistics.send_failures)
    for name, count in statistics.of_engine.items():
        yield _counter(f"engine_{name}_total", "Counted by this engine: docs/metrics.md", count)


def _of_process(status: Row) -> Iterable[Family]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    yield Family(
        "process_cpu_seconds_total",
        "counter",
        "CPU time of the process",
        [({}, usage.ru_utime + usage.ru_stime)],
    )
    yield Family("process_resident_memory_bytes", "gauge", "Resident memory", [({}, _resident_bytes())])
    yield Family(
        "process_start_time_seconds", "gauge", "When it began, since the epoch", [({}, status["started"])]
    )
    yield Family("process_open_fds", "gauge", "Open descriptors", [({}, len(os.listdir("/proc/self/fd")))])


def _resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _server_labels(row: Row) -> dict[str, str]:
    return {"service": row["service"], "pool": row["pool"], "server": row["address"]}


def _traffic_families(of: str) -> dict[str, Family]:
    return {
        what: Family(f"fullnat_{of}_{what}_total", "counter", f"{meaning} forwarded, by direction")
        for what, meaning in _TRAFFIC
    }


def _add_traffic(families: Mapping[str, Family], row: Row, **labels: str) -> None:
    for what, family in families.items():
        for direction in _DIRECTIONS:
            family.add(row[f"{what}_{direction}"], **labels, direction=direction)
