# SPDX-License-Identifier: Apache-2.0
"""Engine `ebpf`: packets of known flows stay in the kernel."""

from __future__ import annotations

from typing import ClassVar

from bench.bpf import read_map_bytes
from bench.peers.native import Native


class Ebpf(Native):
    """The engine with a program in the kernel."""

    name: ClassVar[str] = "ebpf"
    title: ClassVar[str] = "fullnat, engine ebpf"
    datapath: ClassVar[str] = "ebpf"
    tools: ClassVar[dict[str, str]] = {"bpftool": "bpftool"}

    def kernel_bytes(self) -> int:
        """Return what the maps of the instance take."""
        return read_map_bytes(self.pid())
