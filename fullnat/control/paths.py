# SPDX-License-Identifier: Apache-2.0
"""Where a running instance can be found."""

from __future__ import annotations

from pathlib import Path

from fullnat.host.state import DEFAULT_DIRECTORY, network_namespace


def socket_path(instance: str) -> Path:
    """Return the control socket of *instance* in this network namespace."""
    return DEFAULT_DIRECTORY / f"{instance}@{network_namespace()}.sock"
