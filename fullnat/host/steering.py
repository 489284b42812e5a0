# SPDX-License-Identifier: Apache-2.0
"""Steering on the host: ipsets and rules installed, changed, verified and removed.

Order: sets, then per family one transaction of iptables-restore, which makes chains and jumps at
once; removal the other way round.  Changes are incremental or replace our chains in place, never
by taking a hook away, since the kernel drops what is queued when a hook goes.

What iptables prints differs between its versions and flavours, so verify() compares with what was
printed right after we wrote it, not with what we wrote.

A chain that carries our name and our comments is ours, left by a run that was killed, and is replaced
in place: packets that match both notice nothing.  Anything else under our names belongs to someone
else, and we refuse to start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fullnat.host import rules, saved_rules
from fullnat.host.conntrack import Connection
from fullnat.host.errors import HostError
from fullnat.host.features import explain_failure
from fullnat.host.nftables import Table
from fullnat.host.programs import ProgramError, concrete_program, run_program
from fullnat.host.rules import IpSet, Steering
from fullnat.kernel.names import chain_name

LOCK_WAIT = ("-w", "5")  # seconds to wait for the lock all of iptables share


@dataclass(frozen=True)
class SteeringRecord:
    """What the journal keeps, enough to remove everything without the plan."""

    instance: str
    sets: tuple[str, ...]
    programs: dict[int, tuple[str, str]]  # family -> iptables-save, iptables-restore, of one flavour
    tables: tuple[str, ...] = ("raw", "filter")

    @property
    def nft_tables(self) -> list[Table]:
        """The tables of nftables that have the rules: iptables makes those that are not there."""
        return [
            Table(family, name)
            for family, (save, _) in self.programs.items()
            if not save.endswith("-legacy-save")
            for name in self.tables
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        programs = {str(family): list(paths) for family, paths in self.programs.items()}
        return {
            "instance": self.instance,
            "sets": list(self.sets),
            "programs": programs,
            "tables": list(self.tables),
        }

    @classmethod
    def from_json(cls, detail: dict[str, Any]) -> SteeringRecord:
        """Return the record that to_json() wrote."""
        programs = {int(family): (save, restore) for family, (save, restore) in detail["programs"].items()}
        tables = detail.get("tables", cls.tables)  # a journal from before there were others has none
        return cls(detail["instance"], tuple(detail["sets"]), programs, tuple(tables))


def make_record(steering: Steering) -> SteeringRecord:
    """Return what it takes to remove *steering*; HostError when a program is missing."""
    names = tuple(ipset.name for ipset in rules.plan_sets(steering))
    programs = {
        family: (
            concrete_program(rules.SAVE_PROGRAMS[family]),
            concrete_program(rules.RESTORE_PROGRAMS[family]),
        )
        for family in steering.plan.families
    }
    return SteeringRecord(steering.plan.instance, names, programs, rules.tables(steering.plan))


class InstalledSteering:
    """The steering of one instance as it is on the host; InstalledSteering.install() makes it."""

    def __init__(self, steering: Steering, record: SteeringRecord) -> None:
        self._steering = steering
        self._record = record
        self._reference: dict[int, list[str]] = {}  # family -> our lines of iptables-save

    @classmethod
    def install(
        cls,
        steering: Steering,
        journal: Callable[[SteeringRecord], None],
        predecessors: Sequence[SteeringRecord] = (),
    ) -> InstalledSteering:
        """Make sets, chains and jumps.  What a failure leaves is for remove_steering().

        *journal* is called with the record before anything is made.  What *predecessors* of this
        instance have, whole or in part, is changed to ours, and what else they have is removed.
        """
        record = make_record(steering)
        saved = _save_all(_with_tables_of(record, predecessors))
        ours = bool(predecessors) or any(
            saved_rules.find_own_chains(text, record.instance) for text in saved.values()
        )
        _refuse_foreign(record, saved, ours)
        journal(record)
        installed = cls(steering, record)
        if ours:
            installed._restore_present_sets()
        else:
            _restore_sets(rules.render_sets(rules.plan_sets(steering)))
        installed._restore_rules(saved)
        for predecessor in predecessors:
            _remove_rest(predecessor, record)
        return installed

    def update(self, steering: Steering, journal: Callable[[SteeringRecord], None]) -> None:
        """Change what is installed to *steering*; packets that match both notice nothing."""
        old, old_record = self._steering, self._record
        record = make_record(steering)
        if record != old_record:
            journal(record)
        additions, deletions = rules.render_set_changes(rules.plan_sets(old), rules.plan_sets(steering))
        _restore_sets(additions)
        self._steering, self._record = steering, record
        changed = [
            family
            for family in record.programs
            if family not in old_record.programs
            or rules.render_rules(steering, family) != rules.render_rules(old, family)
        ]
        both = _with_tables_of(record, [old_record])
        self._restore_rules({family: _save(both, family) for family in changed})
        _restore_sets(deletions)
        _remove_rest(old_record, record)

    def verify(self) -> list[str]:
        """Return what is not as it was installed, a sentence each."""
        findings = [
            _describe_rules(family, lines, self._reference.get(family, []))
            for family, lines in self._damaged_rules().items()
        ]
        present = _read_sets(self._record.sets)
        for wanted in rules.plan_sets(self._steering):
            if wanted.name not in present:
                findings.append(f"ipset {wanted.name} is gone")
            elif wanted.timeout:
                continue
            elif (members := present[wanted.name]) != wanted.members:
                wrong = len(members ^ wanted.members)
                findings.append(f"ipset {wanted.name} differs in {wrong} of {len(wanted.members)} entries")
        return findings

    def hold(self, connections: Iterable[Connection]) -> None:
        """Put the clients' ends of *connections* into the set of those that the kernel has."""
        _restore_sets(rules.render_held(self._steering.plan, connections))

    def repair(self) -> None:
        """Make everything as it was installed, touching only what is not."""
        self._restore_present_sets()
        self._restore_rules({family: _save(self._record, family) for family in self._damaged_rules()})

    def _restore_present_sets(self) -> None:
        """Make the sets what they should be by what is missing in them and what is too many."""
        wanted = rules.plan_sets(self._steering)
        present = _read_sets(self._record.sets)
        found = [
            IpSet(ipset.name, ipset.kind, ipset.family, present[ipset.name], ipset.timeout)
            for ipset in wanted
            if ipset.name in present
        ]
        _restore_sets("".join(rules.render_set_changes(found, wanted)))

    def _damaged_rules(self) -> dict[int, list[str]]:
        """Return, for each family whose rules are not as installed, our lines of today."""
        today = {
            family: saved_rules.find_own_lines(text, self._record.instance)
            for family, text in _save_all(self._record).items()
        }
        return {family: lines for family, lines in today.items() if lines != self._reference.get(family)}

    def _restore_rules(self, saved: dict[int, str]) -> None:
        """Write the rules of each family in *saved*, which is what iptables-save printed just now."""
        for family, text in saved.items():
            try:
                _restore(self._record, family, rules.render_rules(self._steering, family, text))
            except ProgramError as error:
                raise explain_failure(
                    error,
                    family,
                    tables=self._record.tables,
                    restore=[self._record.programs[family][1], *LOCK_WAIT, "--noflush"],
                    chain=chain_name(self._record.instance, "probe"),
                    ipset=next(name for name in self._record.sets if f".v{family}." in name),
                ) from None
            self._reference[family] = saved_rules.find_own_lines(
                _save(self._record, family), self._record.instance
            )


def remove_steering(record: SteeringRecord) -> None:
    """Take rules, then sets, off the host; what is gone already is no error.  Safe to repeat."""
    for family, text in _save_all(record).items():
        _restore(record, family, saved_rules.render_removal(text, record.instance))
    present = _list_sets()
    _restore_sets("".join(f"destroy {name}\n" for name in record.sets if name in present))


def _remove_rest(old: SteeringRecord, new: SteeringRecord) -> None:
    """Remove what *old* has and *new* has not: a family, or another flavour of iptables."""
    gone = {family: paths for family, paths in old.programs.items() if new.programs.get(family) != paths}
    sets = tuple(name for name in old.sets if name not in new.sets)
    if gone or sets:
        remove_steering(SteeringRecord(old.instance, sets, gone, old.tables))


def _with_tables_of(record: SteeringRecord, others: Iterable[SteeringRecord]) -> SteeringRecord:
    """Return *record* with the tables of *others* besides."""
    more = dict.fromkeys([*record.tables, *(table for other in others for table in other.tables)])
    return replace(record, tables=tuple(more))


def _refuse_foreign(record: SteeringRecord, saved: dict[int, str], ours: bool) -> None:
    for text in saved.values():
        foreign = saved_rules.find_foreign_rule(text, record.instance)
        if foreign is not None:
            raise HostError(
                f"a chain named as fullnat's holds a rule that is not: {foreign!r}; remove it, "
                "or choose another instance name"
            )
    present = frozenset() if ours else _list_sets()  # where the chains are ours, so are the sets
    taken = next((name for name in record.sets if name in present), None)
    if taken is not None:
        raise HostError(
            f"ipset {taken} exists and is not fullnat's: ipset destroy {taken}, "
            "or choose another instance name"
        )


def _describe_rules(family: int, lines: Sequence[str], reference: Sequence[str]) -> str:
    program = "iptables" if family == 4 else "ip6tables"
    missing = [line for line in reference if line not in lines]
    if missing:
        return f"{program}: {len(missing)} of {len(reference)} rules are gone, the first: {missing[0]}"
    return f"{program}: our rules are doubled, moved or added to"


def _save_all(record: SteeringRecord) -> dict[int, str]:
    return {family: _save(record, family) for family in record.programs}


def _save(record: SteeringRecord, family: int) -> str:
    program = record.programs[family][0]
    return "".join(run_program([program, "-t", table]) for table in record.tables)


def _restore(record: SteeringRecord, family: int, text: str) -> None:
    if text:
        run_program([record.programs[family][1], *LOCK_WAIT, "--noflush"], text)


def _restore_sets(text: str) -> None:
    if not text:
        return
    try:
        run_program(["ipset", "restore"], text)
    except ProgramError as error:
        if "Cannot open session" in error.message or "protocol version" in error.message:
            raise HostError("the kernel has no ipset: modprobe ip_set (CONFIG_IP_SET)") from None
        if "set type" in error.message:
            raise HostError(
                "the kernel lacks an ipset type: "
                "modprobe -a ip_set_hash_ip ip_set_hash_ipport ip_set_hash_ipportip "
                "(CONFIG_IP_SET_HASH_IP, CONFIG_IP_SET_HASH_IPPORT, CONFIG_IP_SET_HASH_IPPORTIP)"
            ) from None
        raise


def _list_sets() -> frozenset[str]:
    return frozenset(run_program(["ipset", "list", "-n"]).split())


def _read_sets(names: Iterable[str]) -> dict[str, frozenset[str]]:
    present = _list_sets()
    commands = "".join(f"save {name}\n" for name in names if name in present)
    return rules.parse_sets(run_program(["ipset", "restore"], commands)) if commands else {}
