# SPDX-License-Identifier: Apache-2.0
"""Find what is an instance's own in the output of iptables-save, and how to take it out.

A chain is an instance's by its name, a rule by the chain it is in or leads into.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from fullnat.kernel.names import chain_name, comment_prefix


def render_removal(saved: str, instance: str) -> str:
    """Return the input of `iptables-restore --noflush` that takes everything of *instance* out.

    Empty when *saved*, the output of iptables-save, has nothing of it.
    """
    jumps, chains = find_own_jumps(saved, instance), find_own_chains(saved, instance)
    lines = []
    for table in dict.fromkeys([*jumps, *chains]):
        own = chains.get(table, [])
        lines += [f"*{table}", *jumps.get(table, ())]
        lines += [f"-F {chain}" for chain in own]
        lines += [f"-X {chain}" for chain in own]
        lines.append("COMMIT")
    return "".join(f"{line}\n" for line in lines)


def find_own_chains(saved: str, instance: str) -> dict[str, list[str]]:
    """Return the chains of *instance* in the output of iptables-save, by table."""
    found: dict[str, list[str]] = {}
    for table, line in _table_lines(saved):
        if line.startswith(":") and _is_own(name := line[1:].split()[0], instance):
            found.setdefault(table, []).append(name)
    return found


def find_own_jumps(saved: str, instance: str) -> dict[str, list[str]]:
    """Return, by table, a -D for each rule outside our chains that leads into one of them."""
    found: dict[str, list[str]] = {}
    for table, line in _table_lines(saved):
        if _jumps_into_own(line, instance):
            found.setdefault(table, []).append(f"-D{line[2:]}")
    return found


def find_own_lines(saved: str, instance: str) -> list[str]:
    """Return every rule of *instance* in the output of iptables-save, each with its table."""
    return [
        f"{table} {line}"
        for table, line in _table_lines(saved)
        if line.startswith("-A ") and (_is_own(line.split()[1], instance) or _jumps_into_own(line, instance))
    ]


def find_foreign_rule(saved: str, instance: str) -> str | None:
    """Return a rule in a chain named like ours that fullnat has not written, or None."""
    mark = f'--comment "{comment_prefix(instance)}'
    for _, line in _table_lines(saved):
        if line.startswith("-A ") and _is_own(line.split()[1], instance) and mark not in line:
            return line
    return None


_TARGET = re.compile(r" -[jg] (\S+)")


def _jumps_into_own(line: str, instance: str) -> bool:
    if not line.startswith("-A ") or _is_own(line.split()[1], instance):
        return False
    targets = _TARGET.findall(line)
    return bool(targets) and _is_own(targets[-1], instance)


def _is_own(chain: str, instance: str) -> bool:
    own = chain_name(instance)
    return chain == own or chain.startswith(f"{own}.")


def _table_lines(saved: str) -> Iterator[tuple[str, str]]:
    table = ""
    for line in saved.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith((":", "-A ")):
            yield table, line
