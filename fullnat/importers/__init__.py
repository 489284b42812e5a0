# SPDX-License-Identifier: Apache-2.0
"""Importers: configurations of other load balancers as ours, and a list of what could not be taken.

    text --keepalived, ldirectord, ipvsadm, haproxy--> services --assemble--> document --writer--> TOML
                                      `------------------ notes --------------------'

Theory.  A reader takes its file at its word, setting by setting; what it did not ask for is what it
tells.  What fits fullnat is decided once for all formats (assemble.py), and so is how it is written.

Rules.
  1. Nothing here reads a file, looks up a name or asks a clock: the same text gives the same file.
  2. A text becomes a file, or ImporterError with one line that says where and what would be right.
  3. Nothing is dropped in silence: each setting is taken, told, or known to make no difference.
"""

from __future__ import annotations

from fullnat.importers.convert import FORMATS, Imported, convert
from fullnat.importers.keepalived import Include
from fullnat.importers.notes import ImporterError, Kind, Note, Place

__all__ = ["FORMATS", "Imported", "ImporterError", "Include", "Kind", "Note", "Place", "convert"]
