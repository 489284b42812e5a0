# SPDX-License-Identifier: Apache-2.0
"""Waiting for a condition, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")

INTERVAL = 0.005  # seconds between two looks


def wait_until(predicate: Callable[[], Value], timeout: float, what: str = "") -> Value:
    """Return the first true value of *predicate*; TimeoutError names *what* after *timeout* seconds."""
    deadline = time.monotonic() + timeout
    while not (value := predicate()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout:g} s: {what or predicate}")
        time.sleep(INTERVAL)
    return value
