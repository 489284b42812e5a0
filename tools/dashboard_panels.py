# SPDX-License-Identifier: Apache-2.0
"""What the dashboard shows, row by row: panels, and what Prometheus is asked for each.

Rates are over $__rate_interval, which Grafana makes of the scrape interval and the width of the screen.
"""

from __future__ import annotations

from dataclasses import dataclass

from fullnat.datapath.ebpf import PASSES

OF_INSTANCE = 'instance=~"$instance"'
_S = f'{OF_INSTANCE},service=~"$service"'
# For process_*, which other programs have as well.
_OURS = f"and on (instance, job) fullnat_build_info{{{OF_INSTANCE}}}"


@dataclass(frozen=True, slots=True)
class Query:
    """What Prometheus is asked, and what the line is called."""

    expression: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart, or whatever *kind* says."""

    title: str
    meaning: str
    unit: str
    queries: tuple[Query, ...]
    kind: str = "timeseries"
    width: int = 8
    alarm: float | None = None  # a value from which on it is red
    mappings: tuple[tuple[int, str, str], ...] = ()  # value, word, colour


def _rate(metric: str, labels: str, by: str = "") -> str:
    rate = f"rate({metric}{{{labels}}}[$__rate_interval])"
    return f"sum by ({by}) ({rate})" if by else f"sum({rate})"


def _one(expression: str, legend: str) -> tuple[Query, ...]:
    return (Query(expression, legend),)


_DIRECTIONS = (("in", "to servers"), ("out", "to clients"))
_YES_NO = ((1, "yes", "green"), (0, "no", "red"))

_TRAFFIC = (
    Panel(
        "New flows",
        "Flows opened a second, by service.",
        "ops",
        _one(_rate("fullnat_service_flows_total", _S, "service"), "{{service}}"),
    ),
    Panel(
        "Packets",
        "Packets forwarded a second, both directions of every flow.",
        "pps",
        tuple(
            Query(_rate("fullnat_service_packets_total", f'{_S},direction="{key}"', "service"), legend)
            for key, legend in ((key, f"{{{{service}}}} {words}") for key, words in _DIRECTIONS)
        ),
    ),
    Panel(
        "Bits",
        "Bits of IP packets forwarded a second.",
        "bps",
        tuple(
            Query("8 * " + _rate("fullnat_service_bytes_total", f'{_S},direction="{key}"', "service"), legend)
            for key, legend in ((key, f"{{{{service}}}} {words}") for key, words in _DIRECTIONS)
        ),
    ),
    Panel(
        "Flows",
        "Flows that are known now: established, and those that open or close.",
        "short",
        _one(f"sum by (service, state) (fullnat_service_flows{{{_S}}})", "{{service}} {{state}}"),
        width=12,
    ),
    Panel(
        "Servers that take new flows",
        "0: clients of this service are refused.",
        "short",
        _one(f"fullnat_service_servers_available{{{_S}}}", "{{service}}"),
        width=12,
    ),
)
_SERVERS = (
    Panel(
        "Up",
        "Whether the check of each server has not found it down.",
        "short",
        _one(f"fullnat_server_up{{{_S}}}", "{{service}} {{server}}"),
        kind="state-timeline",
        width=12,
        mappings=((1, "up", "green"), (0, "down", "red")),
    ),
    Panel(
        "Weight",
        "What the scheduler is told: 0 is no new flows, a ramp is a slow start.",
        "short",
        _one(f"fullnat_server_weight{{{_S}}}", "{{service}} {{server}}"),
        width=12,
    ),
    Panel(
        "New flows",
        "Flows opened a second, by server.",
        "ops",
        _one(_rate("fullnat_server_flows_total", _S, "service, server"), "{{service}} {{server}}"),
    ),
    Panel(
        "Active flows",
        "Established flows, by server.",
        "short",
        _one(f'fullnat_server_flows{{{_S},state="active"}}', "{{service}} {{server}}"),
    ),
    Panel(
        "Bits",
        "Bits forwarded a second, both directions, by server.",
        "bps",
        _one("8 * " + _rate("fullnat_server_bytes_total", _S, "service, server"), "{{service}} {{server}}"),
    ),
    Panel(
        "Packets",
        "Packets forwarded a second, both directions, by server.",
        "pps",
        _one(_rate("fullnat_server_packets_total", _S, "service, server"), "{{service}} {{server}}"),
        width=12,
    ),
    Panel(
        "Drained or disabled",
        "Servers that an operator has taken out, by state.",
        "short",
        _one(
            f'fullnat_server_admin_state{{{_S},state!="enabled"}} == 1',
            "{{service}} {{server}} {{state}}",
        ),
        width=12,
    ),
)
_SNAT = (
    Panel(
        "Fullest local ports",
        "Share of a local address's ports in use or at rest, towards the server with the fewest left. "
        "At 100 % new flows to that server are refused: add a local address.",
        "percentunit",
        _one(f"fullnat_snat_ports_fullest_ratio{{{OF_INSTANCE}}}", "{{instance}} {{local}} {{protocol}}"),
        alarm=0.8,
    ),
    Panel(
        "Local ports in use",
        "Towards all servers together; one port serves several servers at once.",
        "short",
        _one(f"fullnat_snat_ports_in_use{{{OF_INSTANCE}}}", "{{instance}} {{local}} {{protocol}}"),
    ),
    Panel(
        "Refused for want of a port",
        "Flows refused a second.",
        "ops",
        _one(_rate("fullnat_snat_port_exhausted_total", OF_INSTANCE, "instance"), "{{instance}}"),
        alarm=0.001,
    ),
)
_DROPS = (
    Panel(
        "Dropped",
        "Packets dropped a second, by reason: docs/reasons.md.",
        "pps",
        _one(_rate("fullnat_drops_total", OF_INSTANCE, "reason") + " > 0", "{{reason}}"),
    ),
    Panel(
        "Refused",
        "Packets answered with a reset or an ICMP message a second, by reason.",
        "pps",
        _one(
            _rate("fullnat_packets_total", f'{OF_INSTANCE},verdict="reply"', "reason") + " > 0", "{{reason}}"
        ),
    ),
    Panel(
        "Lost before an engine saw them",
        "The kernel dropped them: a queue or a socket was full. And answers it would not send.",
        "pps",
        (
            Query(_rate("fullnat_queue_dropped_total", OF_INSTANCE, "instance"), "{{instance}} queue full"),
            Query(
                _rate("fullnat_queue_user_dropped_total", OF_INSTANCE, "instance"), "{{instance}} socket full"
            ),
            Query(
                _rate("fullnat_send_failures_total", OF_INSTANCE, "instance"), "{{instance}} answers not sent"
            ),
        ),
        alarm=0.001,
    ),
)
_HEALTH = (
    Panel(
        "Last check",
        "How the last check of each server ended.",
        "short",
        _one(f"fullnat_server_check_status{{{_S}}}", "{{service}} {{server}} {{code}}"),
        kind="table",
        width=12,
    ),
    Panel(
        "Quorum",
        "Whether each pool has its quorum.",
        "short",
        _one(f"fullnat_service_pool_quorum{{{_S}}}", "{{service}} {{pool}}"),
        kind="state-timeline",
        width=6,
        mappings=_YES_NO,
    ),
    Panel(
        "Serving",
        "Which pool serves.",
        "short",
        _one(f"fullnat_service_pool_serves{{{_S}}}", "{{service}} {{pool}}"),
        kind="state-timeline",
        width=6,
        mappings=((1, "serves", "green"), (0, "stands by", "text")),
    ),
    Panel(
        "Time a check takes",
        "Of the last one, by server.",
        "s",
        _one(f"fullnat_server_check_duration_seconds{{{_S}}}", "{{service}} {{server}}"),
    ),
    Panel(
        "Failed checks",
        "Of all checks, by server.",
        "percentunit",
        _one(
            _rate("fullnat_server_check_failures_total", _S, "service, server")
            + " / "
            + _rate("fullnat_server_checks_total", _S, "service, server"),
            "{{service}} {{server}}",
        ),
    ),
    Panel(
        "Changes of health",
        "In ten minutes; more than three is flapping.",
        "short",
        _one(f"increase(fullnat_server_check_transitions_total{{{_S}}}[10m])", "{{service}} {{server}}"),
        alarm=3,
    ),
)
_ENGINE = (
    Panel(
        "What runs",
        "Version, engine and kernel.",
        "short",
        _one(f"fullnat_build_info{{{OF_INSTANCE}}}", "{{instance}}: {{version}}, {{engine}}, {{kernel}}"),
        kind="table",
    ),
    Panel(
        "Running for",
        "Since the instance was started.",
        "s",
        _one(f"fullnat_up_seconds{{{OF_INSTANCE}}}", "{{instance}}"),
        kind="stat",
        width=4,
    ),
    Panel(
        "Last reload was carried out",
        "A refused reload changes nothing; `fullnat events` says why it was refused.",
        "short",
        _one(f"fullnat_config_last_reload_successful{{{OF_INSTANCE}}}", "{{instance}}"),
        kind="stat",
        width=4,
        mappings=_YES_NO,
    ),
    Panel(
        "Configuration as of",
        "When it was last taken over.",
        "dateTimeFromNow",
        _one(f"1000 * fullnat_config_last_reload_success_timestamp_seconds{{{OF_INSTANCE}}}", "{{instance}}"),
        kind="stat",
        width=4,
    ),
    Panel(
        "Reloads",
        "Carried out and refused, in five minutes.",
        "short",
        (
            Query(f"increase(fullnat_config_reloads_total{{{OF_INSTANCE}}}[5m])", "{{instance}} done"),
            Query(
                f"increase(fullnat_config_reload_failures_total{{{OF_INSTANCE}}}[5m])", "{{instance}} refused"
            ),
        ),
        width=4,
    ),
    Panel(
        "Flow table",
        "How full it is. A full table refuses new flows; it never ends a known one.",
        "percentunit",
        _one(
            f"fullnat_flow_table_entries{{{OF_INSTANCE}}} / fullnat_flow_table_capacity{{{OF_INSTANCE}}}",
            "{{instance}}",
        ),
        alarm=0.8,
    ),
    Panel(
        "Packets by verdict",
        "What was decided; what engine ebpf's program in the kernel forwards is in it.",
        "pps",
        _one(_rate("fullnat_packets_total", OF_INSTANCE, "verdict"), "{{verdict}}"),
    ),
    Panel(
        "Packets an engine took",
        "From its queues; with engine ebpf those in the kernel's program as well.",
        "pps",
        _one(_rate("fullnat_queue_received_total", OF_INSTANCE, "instance"), "{{instance}}"),
    ),
    Panel(
        "Left to the engine by the program in the kernel",
        "Engine ebpf: why, docs/metrics.md.",
        "pps",
        tuple(Query(_rate(f"fullnat_engine_passed_{why}_total", OF_INSTANCE), why) for why in PASSES),
    ),
    Panel(
        "CPU time",
        "Of the process, as a share of one core.",
        "percentunit",
        _one(f"rate(process_cpu_seconds_total{{{OF_INSTANCE}}}[$__rate_interval]) {_OURS}", "{{instance}}"),
    ),
    Panel(
        "Memory",
        "Resident memory of the process.",
        "bytes",
        _one(f"process_resident_memory_bytes{{{OF_INSTANCE}}} {_OURS}", "{{instance}}"),
    ),
    Panel(
        "Kept besides flows",
        "Client prefixes that stay on a server, fragmented datagrams in flight, open descriptors.",
        "short",
        (
            Query(f"fullnat_persistence_entries{{{OF_INSTANCE}}}", "{{instance}} persistence"),
            Query(f"fullnat_fragments_tracked{{{OF_INSTANCE}}}", "{{instance}} fragments"),
            Query(f"process_open_fds{{{OF_INSTANCE}}} {_OURS}", "{{instance}} descriptors"),
        ),
    ),
)
ROWS = (
    ("Traffic", _TRAFFIC),
    ("Servers", _SERVERS),
    ("SNAT", _SNAT),
    ("Drops", _DROPS),
    ("Health", _HEALTH),
    ("Engine", _ENGINE),
)
