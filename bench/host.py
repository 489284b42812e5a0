# SPDX-License-Identifier: Apache-2.0
"""What the machine did: CPU time used by others and taken by the hypervisor, and time used of one core.

The first two are recorded beside every trial, so that a reader can see which figures were taken on a busy
host.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_STAT = Path("/proc/stat")


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """Ticks of all CPUs since boot."""

    total: int
    idle: int
    steal: int

    @classmethod
    def parse(cls, stat: str) -> Self:
        """Read the first line of /proc/stat (proc(5)): user nice system idle iowait irq softirq steal."""
        ticks = [int(word) for word in stat.splitlines()[0].split()[1:9]]
        return cls(sum(ticks), ticks[3] + ticks[4], ticks[7])

    @classmethod
    def now(cls) -> Self:
        """Read the clock of the CPUs."""
        return cls.parse(_STAT.read_text(encoding="ascii"))

    def steal_since(self, earlier: CpuTimes) -> float:
        """Return the share of time since *earlier* that the hypervisor gave to others."""
        return (self.steal - earlier.steal) / max(1, self.total - earlier.total)

    def busy_since(self, earlier: CpuTimes) -> float:
        """Return the share of time since *earlier* that was not idle."""
        total = self.total - earlier.total
        return (total - (self.idle - earlier.idle)) / max(1, total)


@dataclass(frozen=True, slots=True)
class CoreTimes:
    """One CPU at a moment, in seconds."""

    clock: float
    unused: float  # since boot: idle, waiting for a disk, or with another guest of the hypervisor

    @classmethod
    def parse(cls, stat: str, cpu: int, clock: float, ticks_a_second: int) -> Self:
        """Read the line of *cpu* in /proc/stat (proc(5))."""
        line = next(line for line in stat.splitlines() if line.startswith(f"cpu{cpu} "))
        ticks = [int(word) for word in line.split()[1:9]]
        return cls(clock, (ticks[3] + ticks[4] + ticks[7]) / ticks_a_second)

    @classmethod
    def now(cls, cpu: int) -> Self:
        """Read the clocks."""
        return cls.parse(_STAT.read_text(encoding="ascii"), cpu, time.monotonic(), os.sysconf("SC_CLK_TCK"))

    def since(self, earlier: CoreTimes) -> tuple[float, float]:
        """Return the seconds that have passed since *earlier*, and those of them that were used."""
        passed = self.clock - earlier.clock
        return passed, passed - (self.unused - earlier.unused)


def busy_now(seconds: float = 0.2) -> float:
    """Return the share of CPU time in use while the bench itself does nothing."""
    before = CpuTimes.now()
    time.sleep(seconds)
    return CpuTimes.now().busy_since(before)
