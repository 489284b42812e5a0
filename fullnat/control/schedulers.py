# SPDX-License-Identifier: Apache-2.0
"""Find the scheduler a config names: built in, in a Python file, or installed.

`wlc`                     one of core.sched.BUILTIN
`path/to/file.py:Class`   a class in a file; the path is relative to the config's directory
`some-name`               an entry point of group fullnat.schedulers, of an installed package

A file is compiled and run afresh each time, so that a reload takes up what changed, and nothing is
written beside it.  Whatever its code does wrong ends in one ValueError of one line that says where.
"""

from __future__ import annotations

import sys
import traceback
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

from fullnat.core.sched import BUILTIN, Scheduler

ENTRY_POINT_GROUP = "fullnat.schedulers"


def load_scheduler(spec: str, base_dir: Path) -> type[Scheduler]:
    """Return the scheduler class that *spec* names; ValueError says in one line what is wrong."""
    if spec in BUILTIN:
        return BUILTIN[spec]
    path, colon, class_name = spec.rpartition(":")
    if colon and path.endswith(".py"):
        return _from_file(base_dir / path, class_name)
    if spec.endswith(".py"):
        raise ValueError(f"{spec!r} names no class; write {spec}:Class")
    if colon:
        raise ValueError(f"{spec!r} is not path/to/file.py:Class: {path!r} does not end in .py")
    installed = {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
    if spec in installed:
        return _from_entry_point(installed[spec])
    names = sorted({*BUILTIN, *installed})
    raise ValueError(
        f"no scheduler is named {spec!r}{_did_you_mean(spec, names)}; "
        f"accepted: {', '.join(names)}, or path/to/file.py:Class"
    )


def _from_file(path: Path, class_name: str) -> type[Scheduler]:
    try:
        source = path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    module = _run(source, path)
    if class_name not in vars(module):
        names = sorted(name for name, value in vars(module).items() if _is_scheduler(value))
        offered = f"it has {', '.join(names)}" if names else "it has no scheduler at all"
        raise ValueError(f"{path} has no class {class_name!r}{_did_you_mean(class_name, names)}; {offered}")
    return _checked(vars(module)[class_name], f"{path}:{class_name}")


def _run(source: bytes, path: Path) -> ModuleType:
    """Return a module made of *source*."""
    # Known to sys.modules, as dataclasses and pickle expect, by a name no other file has.
    module = ModuleType(f"fullnat_scheduler:{path.resolve()}")
    module.__file__ = str(path)
    previous = sys.modules.get(module.__name__)
    sys.modules[module.__name__] = module
    try:
        exec(compile(source, str(path), "exec"), vars(module))
    except (Exception, SystemExit) as error:
        if previous is None:
            del sys.modules[module.__name__]
        else:
            sys.modules[module.__name__] = previous
        raise ValueError(f"{_place(error, path)}: {_describe(error)}") from None
    return module


def _from_entry_point(point: EntryPoint) -> type[Scheduler]:
    try:
        value = point.load()
    except (Exception, SystemExit) as error:
        where = f"scheduler {point.name!r} ({point.value})"
        raise ValueError(f"{where} cannot be imported: {_describe(error)}") from None
    return _checked(value, f"scheduler {point.name!r} ({point.value})")


def _checked(value: object, where: str) -> type[Scheduler]:
    """Return *value* if it is a scheduler that can schedule."""
    if not (isinstance(value, type) and issubclass(value, Scheduler)):
        raise ValueError(f"{where} is not a subclass of fullnat.core.sched.Scheduler")
    if value.schedule is Scheduler.schedule:
        raise ValueError(f"{where} does not define schedule()")
    return value


def _is_scheduler(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Scheduler) and value is not Scheduler


def _place(error: BaseException, path: Path) -> str:
    """Return file:line of what went wrong, in *path* if at all possible."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"{path}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    return f"{path}:{lines[-1]}" if lines else str(path)


def _describe(error: BaseException) -> str:
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    return " ".join(f"{type(error).__name__}: {message}".split())


def _did_you_mean(name: str, names: list[str]) -> str:
    close = get_close_matches(name, names, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
