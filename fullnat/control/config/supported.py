# SPDX-License-Identifier: Apache-2.0
"""Words the schema accepts."""

from __future__ import annotations

from fullnat.kernel.service import Forward

DATAPATHS = ("auto", "ebpf", "native", "python")
FALLBACKS = ("auto", "ipvs", "iptables", "none")
FORWARDS = tuple(forward.value for forward in Forward)
ON_DOWN = ("keep", "reset")
