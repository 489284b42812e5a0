# SPDX-License-Identifier: Apache-2.0
"""The rows: every reason, both protocols, both families, both directions."""

from __future__ import annotations

from tests.vectors.case import NETS, Case
from tests.vectors.rows import (
    answering,
    ending,
    forwarding,
    fragmented,
    icmp,
    ipv4,
    ipv6,
    malformed,
    passing,
)

_BOTH_FAMILIES = (forwarding, passing, answering, ending, icmp, malformed, fragmented)


def all_cases() -> list[Case]:
    """Return every row."""
    cases = [case for net in NETS for group in _BOTH_FAMILIES for case in group.rows(net)]
    return [*cases, *ipv4.rows(), *ipv6.rows()]
