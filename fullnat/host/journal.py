# SPDX-License-Identifier: Apache-2.0
"""Journal: what a process has changed on its host, on disk before it is changed.

A process that is killed puts nothing back; the next one does, from the journal.  It is a file of
JSON lines, the first of which says to which boot it belongs: a journal of an earlier boot describes
a host that no longer is, and counts as empty.  A last line that is not whole was being written when
the process died, so its change was never made.

Nobody keeps a copy in memory: another instance may append to a journal (undo.py), so each reads the
file, under the lock of the network namespace (state.py).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Change:
    """One change, and what it takes to undo it."""

    kind: str
    detail: dict[str, Any]  # JSON values


class Journal:
    """The changes one instance has made in one network namespace."""

    def __init__(self, path: Path, boot: str | None = None) -> None:
        self._path = path
        self._header = {"journal": "fullnat", "version": 1, "boot": boot or _BOOT_ID.read_text().strip()}

    def append(self, change: Change) -> None:
        """Put *change* on record; once this returns, the death of the process cannot undo that."""
        text = self._read()
        if self._parse(text) is None or not text.endswith("\n"):
            self.replace([*self.changes(), change])
            return
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(_line({"kind": change.kind, **change.detail}))

    def changes(self) -> list[Change]:
        """Return the changes on record, oldest first."""
        lines = self._parse(self._read()) or []
        return [Change(line.pop("kind"), line) for line in lines[1:]]

    def replace(self, changes: list[Change]) -> None:
        """Make *changes* all that is on record, at once."""
        if not changes:
            self.clear()
            return
        lines = [self._header, *({"kind": change.kind, **change.detail} for change in changes)]
        new = self._path.with_suffix(".journal-new")
        new.write_text("".join(map(_line, lines)), encoding="utf-8")
        new.replace(self._path)

    def clear(self) -> None:
        """Take everything off record."""
        self._path.unlink(missing_ok=True)

    def _read(self) -> str:
        try:
            return self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""

    def _parse(self, text: str) -> list[dict[str, Any]] | None:
        """Return the whole lines of *text*, header first, or None when it is not of this boot."""
        lines = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
        return lines if lines[:1] == [self._header] else None


def _line(values: dict[str, Any]) -> str:
    return json.dumps(values) + "\n"
