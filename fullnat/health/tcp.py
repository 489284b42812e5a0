# SPDX-License-Identifier: Apache-2.0
"""Check tcp: the server accepts a connection, which is then closed in order, not reset.

A reset would save the director a TIME-WAIT, and fill the logs of many a server with errors.
"""

from __future__ import annotations

from fullnat.health.check import Code, Target
from fullnat.health.probe import Finding, Progress
from fullnat.health.wire import Stream


async def probe(target: Target, _options: None, progress: Progress) -> Finding:
    """Connect to *target*."""
    with await Stream.connect(target, progress):
        return Finding(Code.L4OK, "connected")
