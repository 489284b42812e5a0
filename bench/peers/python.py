# SPDX-License-Identifier: Apache-2.0
"""Engine `python`: every packet goes through NetfilterQueue and the pure core."""

from __future__ import annotations

from typing import ClassVar

from bench.peers.fullnat import Fullnat


class Python(Fullnat):
    """The reference engine."""

    name: ClassVar[str] = "python"
    title: ClassVar[str] = "fullnat, engine python"
    datapath: ClassVar[str] = "python"
