# SPDX-License-Identifier: Apache-2.0
"""Undo what a journal has on record, or leave it to a living instance that needs it as well."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from itertools import groupby
from pathlib import Path

from fullnat.host import ipvs
from fullnat.host.addresses import Addition, undo_additions
from fullnat.host.claims import Claims
from fullnat.host.errors import HostError
from fullnat.host.fastpath import Attachment, detach, remove_pins
from fullnat.host.journal import Change, Journal
from fullnat.host.nftables import Table, remove_empty
from fullnat.host.state import StateDirectory
from fullnat.host.steering import SteeringRecord, remove_steering
from fullnat.host.sysctl import Kernel, Setting, family_of, undo_setting
from fullnat.host.tuning import Tuning, undo_tunings


class Kind(StrEnum):
    """What a change is a change of; the journal's word for it."""

    STEERING = "steering"
    TABLE = "table"
    SYSCTL = "sysctl"
    TUNING = "tuning"
    ADDRESS = "address"
    PINS = "pins"
    FILTER = "filter"
    IPVS = "ipvs"


def undo_journal(
    journal: Journal,
    state: StateDirectory,
    kernel: Kernel,
    heirs: Sequence[Claims],
    keep: Callable[[Change], bool] = lambda change: False,
) -> None:
    """Undo all of *journal* but what is to be kept in it, newest change first; tables when they are empty.

    What fails stays in it as well, and is raised at the end.
    """
    changes = journal.changes()
    kept = [change for change in changes if keep(change)]
    failed: list[Change] = []
    errors = []
    undone = [change for change in reversed(changes) if change not in kept]
    undone.sort(key=lambda change: change.kind == Kind.TABLE)
    for _, group in groupby(undone, key=lambda change: change.kind):
        changes = list(group)
        try:
            undo_changes(changes, state, kernel, heirs)
        except HostError as error:
            failed = [*reversed(changes), *failed]
            errors.append(str(error))
    journal.replace([*kept, *failed])
    if errors:
        raise HostError(f"could not put back what was changed: {'; '.join(errors)}")


def undo_changes(
    changes: Sequence[Change], state: StateDirectory, kernel: Kernel, heirs: Sequence[Claims]
) -> None:
    """Undo *changes*, newest first; one that an heir needs goes to its journal instead."""
    additions: list[Addition] = []
    tunings: list[Tuning] = []
    attachments: list[Attachment] = []
    tables: list[Table] = []
    for change in changes:
        heir = next((claims for claims in heirs if is_needed_by(claims, change)), None)
        if heir is not None:
            state.journal(heir.instance).append(change)
        elif change.kind == Kind.STEERING:
            remove_steering(SteeringRecord.from_json(change.detail))
        elif change.kind == Kind.SYSCTL:
            undo_setting(Setting.from_json(change.detail), kernel)
        elif change.kind == Kind.TUNING:
            tunings.append(Tuning.from_json(change.detail))
        elif change.kind == Kind.FILTER:
            attachments.append(Attachment.from_json(change.detail))
        elif change.kind == Kind.TABLE:
            tables.append(Table.from_json(change.detail))
        elif change.kind == Kind.IPVS:
            ipvs.remove(change.detail["services"])
        elif change.kind == Kind.PINS:
            remove_pins(Path(change.detail["directory"]))
        else:
            additions.append(Addition.from_json(change.detail))
    if attachments:
        detach(attachments)
    if tunings:
        undo_tunings(tunings)
    if additions:
        undo_additions(additions)
    if tables:
        remove_empty(tables)


def is_needed_by(claims: Claims, change: Change) -> bool:
    """Whether the instance that made *claims* would have to make *change* itself, or miss it."""
    if change.kind == Kind.SYSCTL:
        return family_of(change.detail["key"]) in claims.families
    if change.kind == Kind.TUNING:
        return claims.tune
    if change.kind == Kind.TABLE:
        return True  # see nftables.py: none goes before the last instance
    return change.kind == Kind.ADDRESS and change.detail["address"] in claims.addresses
