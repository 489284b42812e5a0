# SPDX-License-Identifier: Apache-2.0
"""Who gets which lines and columns of the screen: pure.

What the operator works with, the servers, is kept longest; on a low screen the rest gives way, the
events last but one.
"""

from __future__ import annotations

from typing import NamedTuple

HEAD, FOOT = 2, 1  # lines
_SERVERS_LEAST = 4
_LISTED = 5  # ports, losses and events at most
_HEADING = 1


class Heights(NamedTuple):
    """Lines of each part, headings included; 0: it is not shown."""

    services: int
    servers: int
    lower: int  # ports and losses, side by side
    events: int


def share_height(height: int, services: int, servers: int, lower: int, events: int) -> Heights:
    """Return how *height* lines are shared among parts that would fill so many, without headings."""
    free = height - HEAD - FOOT
    wanted_servers = servers + _HEADING
    needed = min(wanted_servers, max(_SERVERS_LEAST, free // 3))

    def grant(lines: int, least: int = 1) -> int:
        nonlocal free
        spare = free - needed - _HEADING
        if lines < 1 or spare < least:
            return 0
        granted = min(lines, spare) + _HEADING
        free -= granted
        return granted

    service_lines = grant(min(services, max(3, height // 6)))
    lower_lines = grant(min(lower, _LISTED), 2 if lower > 1 else 1)
    event_lines = grant(min(events, _LISTED))
    return Heights(service_lines, min(wanted_servers, max(0, free)), lower_lines, event_lines)


def window(count: int, lines: int, selected: int) -> slice:
    """Return which *lines* of *count* rows are shown, the selected one among them."""
    first = max(0, min(selected - lines // 2, count - lines))
    return slice(first, first + lines)
