# SPDX-License-Identifier: Apache-2.0
"""Run one check: the probe of its type within its timeout, and whatever happened as a Result.

An event loop that stood still runs its timers first, and reads the answers that came meanwhile after
them: every check under way would time out, and all servers be down at once, through no fault of
theirs.  So a timeout that is noticed late is put off by as much, once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from time import monotonic_ns
from typing import Any

from fullnat.core.timeouts import SECOND
from fullnat.health import dns, file, http, icmp, script, smtp, tcp, udp
from fullnat.health.check import OFF, Code, HealthCheck, Result, Target
from fullnat.health.probe import CheckError, Finding, Progress

Probe = Callable[[Target, Any, Progress], Awaitable[Finding]]


async def _not_checked(_target: Target, _options: None, _progress: Progress) -> Finding:
    return Finding(Code.UNK, "not checked")


PROBES: dict[str, Probe] = {
    "tcp": tcp.probe,
    "http": http.probe,
    "https": http.probe,
    "dns": dns.probe,
    "udp": udp.probe,
    "icmp": icmp.probe,
    "smtp": smtp.probe,
    "script": script.probe,
    "file": file.probe,
    OFF: _not_checked,
}


_LATE = 0.02  # seconds; less is no standstill


@contextlib.asynccontextmanager
async def _within(seconds: float) -> AsyncIterator[None]:
    """Raise TimeoutError where the body takes longer, not counting a standstill of the loop at the end."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds

    def expire() -> None:
        late = loop.time() - deadline
        limit.reschedule(loop.time() + (min(late, seconds) if late > _LATE else 0))

    async with asyncio.timeout(None) as limit:
        timer = loop.call_at(deadline, expire)
        try:
            yield
        finally:
            timer.cancel()


async def run_check(check: HealthCheck, target: Target) -> Result:
    """Return what came of checking *target*; raises nothing for anything a peer does."""
    progress = Progress()
    begun = monotonic_ns()
    try:
        async with _within(check.timeout / SECOND):
            finding = await PROBES[check.type](target, check.options, progress)
    except CheckError as error:
        finding = error.finding
    except TimeoutError:  # ours, or ETIMEDOUT from the kernel
        finding = progress.timed_out()
    except OSError as error:
        finding = progress.failed(error)
    return Result(finding.code, finding.detail, monotonic_ns() - begun, finding.weight)
