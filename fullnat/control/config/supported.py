# SPDX-License-Identifier: Apache-2.0
"""Known to the schema, not carried out by this version.

What is LATER is refused as not part of this version, rather than as a mistake, and belongs to what
is accepted as soon as an engine carries it out.
"""

from __future__ import annotations

DATAPATHS = ("auto", "ebpf", "native", "python")
FALLBACKS = ("auto", "ipvs", "iptables", "none")
LATER_SERVICE_TABLES = ("health",)
