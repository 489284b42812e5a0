# SPDX-License-Identifier: Apache-2.0
"""What a server carries (overhead, as in IPVS), carries for its weight, and is due of a draw."""

from __future__ import annotations

from fullnat.core.service import RealServer

_SHIFT = 32


def overhead(server: RealServer) -> int:
    """Return what *server* carries: an active flow costs as much as 256 inactive ones.

    The factor is that of ip_vs_dest_conn_overhead() in include/net/ip_vs.h.
    """
    return server.active * 256 + server.inactive


def relative(cost: int, weight: int) -> int:
    """Return a number that orders as cost / weight does, exactly, for weights of 1 to 65536.

    Two different fractions whose denominators are at most 2**16 lie at least 2**-32 apart, so
    multiplied by 2**32 they still differ after rounding down; equal ones stay equal.  The result
    compares as the kernel's cross-multiplication does, and may be kept as a key.
    """
    return (cost << _SHIFT) // weight


def share(server: RealServer) -> int:
    """Return the weight of *server* in a draw: 0 while it may not be picked."""
    return server.weight if server.is_available else 0
