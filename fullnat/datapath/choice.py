# SPDX-License-Identifier: Apache-2.0
"""Which engine runs.  `auto` is the fastest that really starts here, found by starting it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

from fullnat.datapath.base import DatapathError

FASTEST, EVERYWHERE = "native", "python"
PURE = "FULLNAT_PURE"  # =1 in the environment: `auto` keeps to Python, for comparisons and in doubt

Started = TypeVar("Started")


def choose(datapath: str, start: Callable[[str], Started]) -> tuple[Started, str]:
    """Return what *start* makes of the engine that *datapath* comes to, and in a line why that one.

    *start* takes the name of an engine and raises DatapathError where that cannot run.
    """
    if datapath != "auto":
        return start(datapath), "chosen"
    if os.environ.get(PURE) == "1":
        return start(EVERYWHERE), f"auto: {PURE}=1 is set"
    try:
        return start(FASTEST), "auto: the fastest that runs here"
    except DatapathError as refusal:
        return start(EVERYWHERE), f"auto: {refusal}"
