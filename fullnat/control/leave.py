# SPDX-License-Identifier: Apache-2.0
"""What an instance leaves behind when it is told to end."""

from __future__ import annotations

from enum import StrEnum


class Leave(StrEnum):
    """How much of it goes on without it."""

    NOTHING = "nothing"  # the host is as it was found
    FLOWS = "flows"  # those the kernel forwards by itself, for the next start to take over
    SERVICE = "service"  # the fallback serves, and has the connections there are
