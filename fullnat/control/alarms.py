# SPDX-License-Identifier: Apache-2.0
"""Alarms: what is running out, told when it begins and then at most once in a while; pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fullnat.control.events import Kind
from fullnat.core.reason import Reason
from fullnat.core.timeouts import SECOND

QUIET = 10 * SECOND  # between two alarms of a kind

_ALARMS = {Reason.NO_LOCAL_PORT: Kind.PORTS_SPENT, Reason.TABLE_FULL: Kind.TABLE_FULL}


class Alarms:
    """Looks at counters that should stand still."""

    def __init__(self) -> None:
        self._told = dict.fromkeys(_ALARMS, 0)  # of each counter
        self._quiet_until = dict.fromkeys(_ALARMS, 0)

    def look(self, reasons: Sequence[int], now: int) -> Iterator[tuple[Kind, int]]:
        """Yield each alarm that is due, with how many packets were refused since the last of its kind.

        *reasons* are counts by Reason.
        """
        for reason, kind in _ALARMS.items():
            refused = reasons[reason] - self._told[reason]
            if refused and now >= self._quiet_until[reason]:
                self._told[reason] = reasons[reason]
                self._quiet_until[reason] = now + QUIET
                yield kind, refused
