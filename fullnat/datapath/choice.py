# SPDX-License-Identifier: Apache-2.0
"""Which engine runs.  `auto` is the fastest that really starts here, found by starting it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

from fullnat.datapath.base import DatapathError

ENGINES = ("ebpf", "native", "python")  # fastest first; the last runs everywhere
PURE = "FULLNAT_PURE"  # =1 in the environment: `auto` keeps to Python, for comparisons and in doubt

Started = TypeVar("Started")


def choose(datapath: str, start: Callable[[str], Started]) -> tuple[Started, str]:
    """Return what *start* makes of the engine that *datapath* comes to, and in a line why that one.

    *start* takes the name of an engine and raises DatapathError where that cannot run.
    """
    if datapath != "auto":
        return start(datapath), "chosen"
    if os.environ.get(PURE) == "1":
        return start(ENGINES[-1]), f"auto: {PURE}=1 is set"
    refusals: list[str] = []
    for engine in ENGINES[:-1]:
        try:
            return start(engine), f"auto: {'; '.join(refusals) or 'the fastest that runs here'}"
        except DatapathError as refusal:
            refusals.append(str(refusal))
    return start(ENGINES[-1]), f"auto: {'; '.join(refusals)}"
