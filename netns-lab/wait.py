# SPDX-License-Identifier: Apache-2.0
"""Waiting for a condition, never for a time; longer where FULLNAT_PATIENCE says that all is slow."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")

INTERVAL = 0.005  # seconds between two looks
PATIENCE = float(os.environ.get("FULLNAT_PATIENCE", "1"))  # limits are multiplied by it


def wait_until(predicate: Callable[[], Value], timeout: float, what: str = "") -> Value:
    """Return the first true value of *predicate*; TimeoutError names *what* after *timeout* seconds."""
    timeout *= PATIENCE
    deadline = time.monotonic() + timeout
    while not (value := predicate()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout:g} s: {what or predicate}")
        time.sleep(INTERVAL)
    return value
