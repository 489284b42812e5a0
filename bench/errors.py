# SPDX-License-Identifier: Apache-2.0
"""The one exception that ends a run: its text is the line the user sees."""

from __future__ import annotations


class BenchError(RuntimeError):
    """The run cannot go on; str() is one line that says why and, where there is one, the remedy."""
