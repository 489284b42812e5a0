# SPDX-License-Identifier: Apache-2.0
"""One million mutated packets through the core."""

from __future__ import annotations

import pytest

from fullnat.core.reason import Reason
from tests.fuzz.mutate import run


@pytest.mark.timeout(600)
def test_a_million_malformed_packets_each_end_in_a_reason() -> None:
    totals = run(1_000_000, seed=20261121)
    reached = {name for name, number in totals.items() if number}
    unreachable_here = {
        "FLOW_ENDED",
        "KERNEL_FLOW",
        "OVERLOADED",
        "SCHEDULER_FAILED",
        "NO_SERVER",
        "TABLE_FULL",
    }  # what is configured, or ended on request, not what comes in
    assert {reason.name for reason in Reason} - reached <= unreachable_here
