# SPDX-License-Identifier: Apache-2.0
"""Whether this process may change its network namespace, asked before anything is changed."""

from __future__ import annotations

from pathlib import Path

from fullnat.host.errors import MissingPrivilegeError

_NEEDED_CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13}
_STATUS = Path("/proc/thread-self/status")


def require_privileges() -> None:
    """Raise MissingPrivilegeError unless this thread may configure its network namespace."""
    missing = find_missing_capabilities(_STATUS.read_text())
    if missing:
        raise MissingPrivilegeError(f"{' and '.join(missing)} missing: run fullnat as root")


def find_missing_capabilities(status: str) -> list[str]:
    """Return the capabilities that /proc/<pid>/status does not show as effective."""
    line = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    effective = int(line.split()[1], 16)
    return [name for name, bit in _NEEDED_CAPABILITIES.items() if not effective >> bit & 1]
