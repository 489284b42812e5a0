# SPDX-License-Identifier: Apache-2.0
"""`fullnat stop`: end an instance, running or killed, and what it left on the host."""

from __future__ import annotations

import time

from fullnat.control.client import AbsentError, ControlError, tell
from fullnat.control.leave import Leave
from fullnat.control.paths import socket_path
from fullnat.host.host import clean_up, is_claimed

_PATIENCE = 30.0  # seconds for an instance to put everything back
_STEP = 0.02


_GOES_ON = {
    Leave.NOTHING: "",
    Leave.FLOWS: "; its flows go on",
    Leave.SERVICE: "; the kernel goes on for it",
}


def stop(instance: str, leave: Leave) -> str:
    """End *instance* and return in a line what was done; ControlError or HostError when it cannot be."""
    try:
        tell(socket_path(instance), f"stop?leave={leave}")
    except AbsentError:
        if leave is not Leave.NOTHING or not clean_up(instance):
            raise
        return f"instance {instance} did not run; what it had left is put back"
    deadline = time.monotonic() + _PATIENCE
    while is_claimed(instance):
        if time.monotonic() > deadline:
            raise ControlError(f"instance {instance} has not ended after {_PATIENCE:.0f} s")
        time.sleep(_STEP)
    return f"instance {instance} has ended{_GOES_ON[leave]}"
