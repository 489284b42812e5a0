# SPDX-License-Identifier: Apache-2.0
"""What things of an instance in the kernel are called, and how a rule says whose it is."""

from __future__ import annotations


def chain_name(instance: str, part: str = "") -> str:
    """Return FULLNAT-main or FULLNAT-main.part; an instance has no dot, so names never meet."""
    return f"FULLNAT-{instance}.{part}" if part else f"FULLNAT-{instance}"


def comment_prefix(instance: str) -> str:
    """Return how the comment of every rule of *instance* begins."""
    return f"fullnat {instance}: "


class RuleWriter:
    """Writes rules whose comment names the instance."""

    def __init__(self, instance: str) -> None:
        self._instance = instance

    def __call__(self, match: str, purpose: str, target: str) -> str:
        """Return a rule without its chain; *match* and *target* may be empty."""
        comment = f'-m comment --comment "{comment_prefix(self._instance)}{purpose}"'
        return " ".join(part for part in (match, comment, target) if part)
