# SPDX-License-Identifier: Apache-2.0
"""What a balancer may change on its host, read from outside: to see that it gave everything back."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from lab import Lab, runtime_files
from namespace import read_sysctls

_COMMANDS = {
    "iptables": ("iptables-save",),
    "ip6tables": ("ip6tables-save",),
    "ipset": ("ipset", "save"),
    "address": ("ip", "-oneline", "address", "show"),
    "route": ("ip", "-4", "route", "show", "table", "all"),
    "route6": ("ip", "-6", "route", "show", "table", "all"),
    "rule": ("ip", "-4", "rule", "show"),
    "rule6": ("ip", "-6", "rule", "show"),
    "proxy": ("ip", "-4", "neighbour", "show", "proxy"),
    "proxy6": ("ip", "-6", "neighbour", "show", "proxy"),
    "qdisc": ("tc", "qdisc", "show"),
}
_VOLATILE_SYSCTLS = ("net/netfilter/nf_conntrack_count",)


@dataclass(frozen=True)
class HostState:
    """Rules, sets, addresses, routes, files and sysctls of one of the lab's machines at one moment."""

    lines: Counter[str]  # counted, so that a doubled rule is a difference
    sysctls: dict[str, str]

    @classmethod
    def of(cls, lab: Lab, role: str = "director") -> HostState:
        """Read the state of *role*."""
        lines: Counter[str] = Counter()
        for what, argv in _COMMANDS.items():
            text = lab.run(role, argv).stdout
            found = _rules(text) if argv[0].endswith("tables-save") else text.splitlines()
            lines.update(f"{what}: {' '.join(line.split())}" for line in found)
        lines.update(f"file: {path}" for path in runtime_files(lab.namespace(role)))
        sysctls = read_sysctls(lab.namespace(role), ["net/**/*"])
        return cls(lines, {name: value for name, value in sysctls.items() if name not in _VOLATILE_SYSCTLS})

    def changes_to(self, later: HostState) -> list[str]:
        """What is different *later*, a line each; empty when everything is as it was."""
        added = [f"added    {line}" for line in (later.lines - self.lines).elements()]
        missing = [f"missing  {line}" for line in (self.lines - later.lines).elements()]
        changed = [
            f"changed  {name}: {value} -> {later.sysctls[name]}"
            for name, value in self.sysctls.items()  # a module that was loaded since has more of them
            if name in later.sysctls and later.sysctls[name] != value
        ]
        return added + missing + changed


def _rules(text: str) -> list[str]:
    """The rules, own chains and tables of an iptables-save listing; legacy ones cannot be given up."""
    found, table, is_legacy = [], "", False
    for line in text.splitlines():
        if line.startswith("# Generated"):
            is_legacy = "(nf_tables)" not in line
        elif line.startswith("*"):
            table = line[1:]
            found += [] if is_legacy else [line]
        elif line.startswith("-A"):
            found.append(f"{table} {line}")
        elif line.startswith(":") and " ACCEPT " not in line:
            found.append(f"{table} {line.partition(' [')[0]}")  # without its counters
    return found
