# SPDX-License-Identifier: Apache-2.0
"""What the lab has made, on disk: so that any shell can take it down, after a crash too.

One file a run, /run/fullnat-lab/<run>.json, written before the first namespace exists and gone
after the last.  Namespaces are found by their names; the file remembers what has no name.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from namespace import Process

DIRECTORY = Path("/run/fullnat-lab")


@dataclass
class State:
    """One run of the lab."""

    run: str
    topology: str
    directory: str  # scratch space: web server configurations and files, logs
    owner: Process | None  # whoever takes it down when done; None: a person
    processes: dict[str, list[Process]] = field(default_factory=dict)  # started by the lab, by role

    def save(self) -> None:
        """Write the file whole: a reader sees the old one or the new one."""
        DIRECTORY.mkdir(parents=True, exist_ok=True)
        fresh = _path(self.run).with_suffix(".new")
        fresh.write_text(json.dumps(asdict(self), indent=1) + "\n")
        os.replace(fresh, _path(self.run))

    def forget(self) -> None:
        """Remove the file, and the directory of such files if this was the last."""
        _path(self.run).unlink(missing_ok=True)
        if DIRECTORY.is_dir() and not any(DIRECTORY.iterdir()):
            DIRECTORY.rmdir()


def load(run: str) -> State | None:
    """The saved state of *run*, or None."""
    try:
        saved = json.loads(_path(run).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    saved["owner"] = saved["owner"] and Process(*saved["owner"])
    saved["processes"] = {
        role: [Process(*process) for process in processes] for role, processes in saved["processes"].items()
    }
    return State(**saved)


def runs() -> list[str]:
    """The ids of all runs with a file."""
    return sorted(path.stem for path in DIRECTORY.glob("*.json"))


def abandoned_runs() -> list[str]:
    """Runs whose owner has ended without taking them down."""
    found = []
    for run in runs():
        state = load(run)
        if state and state.owner and not state.owner.alive:
            found.append(run)
    return found


def _path(run: str) -> Path:
    return DIRECTORY / f"{run}.json"
