# SPDX-License-Identifier: Apache-2.0
"""Engine `ebpf`: engine `native` decides flows, a program on the devices forwards them.

    first packet of a flow --NFQUEUE--> native engine: decides, writes the flow record
    every other packet     --device---> program in the kernel: finds the record, rewrites, redirects
    what is not plain      --NFQUEUE--> native engine, as if there were no program

Theory.  Flow records and the entries they are found by lie in maps of the kernel that are mapped
into this process, so that both work on the same memory: a flow that opens costs no system call, and
state, times and counts need not be carried from one side to the other.  What the program changes in
a flow's state it marks, and the engine catches up with that.

Rules.
  1. Flows that were left in the maps are taken over before the first packet is.
  2. The engine does not know which devices there are: the host attaches the program (host/fastpath.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from fullnat.core.service import VirtualService
from fullnat.datapath.base import FlowMaps, Setup, Statistics
from fullnat.datapath.native import NativeDatapath

# Why the program left a packet to the engine or the host: enum fn_fastpath_pass, csrc/core/fastpath_maps.h.
PASSES = (
    "untranslated",
    "unknown",
    "reopened",
    "divisible",
    "segment_size",
    "expired",
    "too_big",
    "unrouted",
)


class EbpfDatapath(NativeDatapath):
    """The engine whose packets stay in the kernel."""

    name = "ebpf"

    def __init__(
        self,
        setup: Setup,
        services: Iterable[VirtualService],
        maps: FlowMaps,
        *,
        queues: Sequence[int],
        segmented: int,
        mark: int,
        sockets: tuple[int, int],
        clock: Callable[[], int],
        priority: int = 0,
        cpus: Sequence[int] = (),
    ) -> None:
        """As NativeDatapath; flows are in *maps*, which may have less room than *setup* asks for."""
        super().__init__(
            replace(setup, flow_limit=min(setup.flow_limit, maps.limit)),
            services,
            queues=queues,
            segmented=segmented,
            mark=mark,
            sockets=sockets,
            hash_key=maps.hash_key,
            clock=clock,
            priority=priority,
            cpus=cpus,
            maps=maps,
        )
        self.adopted, self.ended = self._director.adopt(clock()) if maps.is_inherited else (0, 0)

    def statistics(self) -> Statistics:
        """Return what C, the program and the kernel counted."""
        statistics = super().statistics()
        inbound, outbound, *passed = self._director.carried()
        statistics.received += inbound + outbound
        statistics.of_engine |= {f"passed_{why}": count for why, count in zip(PASSES, passed, strict=True)}
        statistics.of_engine |= {"flows_adopted": self.adopted, "flows_ended_by_adoption": self.ended}
        return statistics
