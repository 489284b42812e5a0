# SPDX-License-Identifier: Apache-2.0
"""Wait for a condition instead of a time, and longer where FULLNAT_PATIENCE says that all is slow."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

POLL_SECONDS = 0.02
PATIENCE = float(os.environ.get("FULLNAT_PATIENCE", "1"))  # limits are multiplied by it


def wait_until(condition: Callable[[], bool], timeout: float, what: str) -> None:
    """Return as soon as *condition* holds; TimeoutError naming *what* after *timeout* seconds."""
    timeout *= PATIENCE
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout:g} s for {what}")
        time.sleep(POLL_SECONDS)


def wait_until_still(read: Callable[[], int], quiet: float, timeout: float, what: str) -> int:
    """Return what *read* gives once it has not changed for *quiet* seconds."""
    timeout *= PATIENCE
    value, since = read(), time.monotonic()
    deadline = since + timeout
    while time.monotonic() - since < quiet:
        time.sleep(POLL_SECONDS)
        latest = read()
        if latest != value:
            value, since = latest, time.monotonic()
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} was still moving after {timeout:g} s")
    return value
