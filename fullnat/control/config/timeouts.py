# SPDX-License-Identifier: Apache-2.0
"""Timeouts: a profile with keys on top, and warnings of those under an RFC's floor."""

from __future__ import annotations

from dataclasses import replace

from fullnat.control.config.problems import Report
from fullnat.control.config.schema import TimeoutsTable
from fullnat.control.config.toml_lines import KeyPath
from fullnat.core.timeouts import PROFILES, SECOND, Timeouts

# Floors an RFC demands: key, seconds, who says so, and whether only profile "rfc" promises to keep it.
_FLOORS = (
    ("tcp_established", 7440, "RFC 5382 REQ-5", True),
    ("udp", 120, "RFC 4787 REQ-5", False),
    ("udp_unreplied", 120, "RFC 4787 REQ-5", True),
)
_WELL_KNOWN_PORTS = range(1024)  # RFC 4787 REQ-5a lets UDP mappings to these be shorter


def build_timeouts(
    table: TimeoutsTable, base: Timeouts, report: Report, loc: KeyPath, port: int | None = None
) -> Timeouts:
    """Return *base* with *table* on top: a profile replaces all of it, a key one value.

    *port*: that of the service whose table it is.
    """
    overrides = table.overrides()
    is_short_allowed = port in _WELL_KNOWN_PORTS
    for key, floor, source, is_only_rfc in _FLOORS:
        is_asked = table.profile == "rfc" or not is_only_rfc
        is_exempt = is_short_allowed and key.startswith("udp")
        if is_asked and not is_exempt and overrides.get(key, floor * SECOND) < floor * SECOND:
            found = report.shown((*loc, key))
            report.warn((*loc, key), f"found {found}, {source} demands at least {floor} s")
    return replace(PROFILES[table.profile] if table.profile else base, **overrides)
