# SPDX-License-Identifier: Apache-2.0
"""Tuning: make overload cost what is too much, and nothing else.  `[engine] tune = true`.

Theory.  Softirq outranks every process.  Offered more than it can carry, a CPU that receives and
also runs the packet loop only receives: the queue overflows, after all the work of receiving was
done, and next to nothing is forwarded (receive livelock).  The remedy is an order of precedence in
which receiving comes last, so that what is too much is dropped before it has cost anything:

  NAPI      threaded = 1: a device's polling becomes a kernel thread, SCHED_OTHER; the packet loop
            runs above it, SCHED_FIFO, and the excess is dropped where the device's ring is full.
  backlog   rps_cpus = the CPUs that the packet loop does not run on: other CPUs receive, and the
            excess is dropped where their backlog is full.  With one CPU there is no such remedy.

Rules.
  1. What someone has set is theirs: only `threaded` 0 and an empty mask are changed.
  2. A device may be renamed while we run: a change is undone by ifindex.  One that has lost its NAPI
     since (a veth that is down, or has GRO off) takes no value any more, and keeps the one it has.
  3. The packet loop sleeps when it has nothing to do, and the kernel keeps 5 % of each CPU for
     others (sched_rt_runtime_us), so FIFO threads cannot lock it out.

Which devices, and how they receive: devices.py.  The engine gives its own threads what plan_loop() says.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from fullnat.host.devices import Device, mask_of, read_used_devices
from fullnat.host.errors import HostError
from fullnat.host.plan import HostPlan
from fullnat.host.sysfs import SysFs, open_sysfs

LOOP_PRIORITY = 1  # of SCHED_FIFO: above every ordinary process and thread, below all that is real-time


@dataclass(frozen=True, slots=True)
class LoopSchedule:
    """How the threads of the packet loop are to run."""

    priority: int  # of SCHED_FIFO
    cpus: tuple[int, ...]  # one for each thread in turn


@dataclass(frozen=True, slots=True)
class Tuning:
    """One attribute of one device to write, with what it takes to undo it."""

    device: str
    index: int
    attribute: str  # below /sys/class/net/<device>
    old: str
    new: str

    @property
    def key(self) -> str:
        """The attribute's path below /sys/class/net."""
        return f"{self.device}/{self.attribute}"

    def __str__(self) -> str:
        return f"echo {self.new} > /sys/class/net/{self.key}"

    def to_json(self) -> dict[str, Any]:
        """Return the tuning as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, detail: dict[str, Any]) -> Tuning:
        """Return the tuning that to_json() wrote."""
        return cls(**detail)


def plan_loop(workers: int, allowed: Collection[int] | None = None) -> LoopSchedule:
    """Return how *workers* threads are to run on the *allowed* CPUs, by default this process's.

    They get the last CPUs: the first ones are where most hosts have their interrupts.
    """
    cpus = sorted(os.sched_getaffinity(0) if allowed is None else allowed)
    return LoopSchedule(LOOP_PRIORITY, tuple(cpus[-workers:]))


def read_spread_cpus(tree: SysFs, workers: int) -> frozenset[int]:
    """Return the CPUs that can receive while *workers* threads run the packet loop: none with only one."""
    isolated = tree.read_cpus("isolated") | tree.read_cpus("nohz_full")  # the kernel takes them out itself
    return tree.read_cpus("online") - isolated - frozenset(plan_loop(workers).cpus)


def read_tunings(plan: HostPlan) -> list[Tuning]:
    """Return what must be written on this host for *plan*; nothing that is right already."""
    with open_sysfs() as tree:
        return plan_tunings(read_used_devices(plan, tree), read_spread_cpus(tree, plan.workers))


def plan_tunings(devices: Iterable[Device], spread: Collection[int]) -> list[Tuning]:
    """Return what must be written for *devices* when the CPUs of *spread* can receive."""
    return [tuning for device in devices for tuning in _plan_device(device, spread)]


def _plan_device(device: Device, spread: Collection[int]) -> list[Tuning]:
    tunings = []
    if device.has_softirq_napi:
        tunings.append(Tuning(device.name, device.index, "threaded", "0", "1"))
    if device.has_backlog and spread and not device.has_rps:
        tunings += [
            Tuning(device.name, device.index, f"queues/{queue}/rps_cpus", old, format_mask(spread, old))
            for queue, old in device.rps_cpus.items()
        ]
    return tunings


def format_mask(cpus: Iterable[int], like: str) -> str:
    """Return the mask of *cpus* as the kernel will print it, in as many digits as *like* has."""
    digits = f"{sum(1 << cpu for cpu in cpus):0{len(like.replace(',', ''))}x}"
    groups = [digits[max(0, end - 8) : end] for end in range(len(digits), 0, -8)]
    return ",".join(reversed(groups))


def apply_tunings(tunings: Iterable[Tuning], record: Callable[[Tuning], None]) -> None:
    """Write *tunings* in order, each handed to *record* first, and make sure that it sticks."""
    tunings = list(tunings)
    if not tunings:
        return
    with open_sysfs() as tree:
        for tuning in tunings:
            record(tuning)
            _apply(tuning, tree)


def _apply(tuning: Tuning, tree: SysFs) -> None:
    if not tree.write(tuning.key, tuning.new):
        return
    found = tree.read(tuning.key)
    if found is not None and mask_of(found) != mask_of(tuning.new):
        raise HostError(f"/sys/class/net/{tuning.key} was set to {tuning.new} and still reads {found}")


def undo_tunings(tunings: Iterable[Tuning]) -> None:
    """Put *tunings* back, those that nobody has changed since.  Safe to repeat."""
    with open_sysfs() as tree:
        for tuning in tunings:
            undo_tuning(tuning, tree)


def undo_tuning(tuning: Tuning, tree: SysFs) -> None:
    """Put *tuning* back in *tree*, unless someone else has changed it since or its device is gone."""
    name = tree.find_name(tuning.index)
    if name is not None and tree.read(key := f"{name}/{tuning.attribute}") == tuning.new:
        tree.write(key, tuning.old)
