# SPDX-License-Identifier: Apache-2.0
"""Forward chains of others that drop what fullnat forwards, whatever fullnat's own chains say.

The kernel asks every chain of a hook, and the first drop decides: an accept holds for the chain it
is in and no other.  In the FORWARD of our own flavour of iptables our rule comes first; in a chain
of nft, or of the other flavour, there has to be a rule that accepts our mark.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fullnat.host.errors import HostError
from fullnat.host.programs import concrete_program, find_program, run_program
from fullnat.host.rules import SAVE_PROGRAMS

_FAMILIES = {"ip": (4,), "ip6": (6,), "inet": (4, 6)}  # of nft's tables
_COMMANDS = {4: "iptables-legacy", 6: "ip6tables-legacy"}
_LEGACY_TABLES = {4: "ip_tables_names", 6: "ip6_tables_names"}
_NET = Path("/proc/thread-self/net")


@dataclass(frozen=True, slots=True)
class ClosedChain:
    """A chain that drops forwarded packets by policy and has no rule that accepts ours."""

    program: str  # that shows and changes it
    place: str  # what the program calls it


def read_closed_chains(families: Collection[int], mark: int) -> list[ClosedChain]:
    """Return the closed chains of this network namespace; HostError when they cannot be listed."""
    is_legacy = concrete_program(SAVE_PROGRAMS[4]).endswith("-legacy-save")
    try:
        find_program("nft")
    except HostError:
        raise HostError("nft is not installed, so chains of nftables cannot be seen") from None
    ruleset = run_program(["nft", "--terse", "--json", "list", "ruleset"])
    closed = parse_ruleset(ruleset, families, mark, with_iptables=is_legacy)
    return closed if is_legacy else closed + _read_legacy(families, mark)


def parse_ruleset(
    output: str, families: Collection[int], mark: int, *, with_iptables: bool
) -> list[ClosedChain]:
    """Return the closed chains in the output of `nft -j list ruleset`.

    The FORWARD that iptables-nft made counts only *with_iptables*, that is, when ours is elsewhere.
    """
    objects = json.loads(output)["nftables"]
    opened = {_place(rule, "chain") for rule in _each(objects, "rule") if _accepts(rule["expr"], mark)}
    closed = []
    for chain in _each(objects, "chain"):
        place = _place(chain, "name")
        is_of_iptables = place in ("ip filter FORWARD", "ip6 filter FORWARD")
        if (
            (chain.get("hook"), chain.get("policy")) == ("forward", "drop")
            and not set(_FAMILIES.get(chain["family"], ())).isdisjoint(families)
            and place not in opened
            and (with_iptables or not is_of_iptables)
        ):
            closed.append(ClosedChain("nft", place))
    return closed


def parse_saved(output: str, command: str, mark: int) -> list[ClosedChain]:
    """Return the FORWARD of *command* if the output of its iptables-save has it closed."""
    accepts = re.compile(rf"^-A FORWARD .*--mark 0x0*{mark:x}/0x0*{mark:x}\b.* -j ACCEPT$", re.MULTILINE)
    is_closed = re.search(r"^:FORWARD DROP\b", output, re.MULTILINE) and not accepts.search(output)
    return [ClosedChain(command, "FORWARD")] if is_closed else []


def _read_legacy(families: Iterable[int], mark: int) -> list[ClosedChain]:
    """Return the closed chains of iptables-legacy, asked only where the kernel has its table already."""
    closed = []
    for family in families:
        tables = _NET / _LEGACY_TABLES[family]
        if tables.exists() and "filter" in tables.read_text().split():
            command = _COMMANDS[family]
            closed += parse_saved(run_program([f"{command}-save", "-t", "filter"]), command, mark)
    return closed


def _each(objects: Iterable[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [item[kind] for item in objects if kind in item]


def _place(item: dict[str, Any], chain: str) -> str:
    return f"{item['family']} {item['table']} {item[chain]}"


def _accepts(expressions: list[dict[str, Any]], mark: int) -> bool:
    """Whether a rule accepts what carries *mark*, and asks for nothing but that."""
    matches = [expression["match"] for expression in expressions if "match" in expression]
    ours = {"op": "==", "left": {"&": [{"meta": {"key": "mark"}}, mark]}, "right": mark}
    return any("accept" in expression for expression in expressions) and matches == [ours]
