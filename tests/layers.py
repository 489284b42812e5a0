# SPDX-License-Identifier: Apache-2.0
"""Who may import whom: `python tests/layers.py` checks every import of the package.

    core <- datapath.base <- datapath.* ;  core <- kernel <- host ;  core, datapath.base <- control
    control.daemon and control.build put everything together;  cli asks control

The core imports only the parts of the standard library that touch nothing outside, and cachetools.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# What a module may import of the package, by the longest prefix of its name.  A trailing dot means
# everything below.
ALLOWED: dict[str, tuple[str, ...]] = {
    "fullnat": (),
    "fullnat.core": ("fullnat.core.",),
    "fullnat.datapath": ("fullnat.core.", "fullnat.datapath.base", "fullnat.datapath.queue_table"),
    "fullnat.datapath.native": (
        "fullnat.core.",
        "fullnat.datapath.base",
        "fullnat.datapath.queue_table",
        "fullnat._native",
    ),
    "fullnat.datapath.ebpf": ("fullnat.core.", "fullnat.datapath.base", "fullnat.datapath.native"),
    "fullnat.host.host": ("fullnat.core.", "fullnat.datapath.base", "fullnat.host.", "fullnat.kernel."),
    "fullnat.host.fastpath": ("fullnat.core.", "fullnat.datapath.base", "fullnat.host."),
    "fullnat.host": ("fullnat.core.", "fullnat.host.", "fullnat.kernel."),
    "fullnat.kernel": ("fullnat.core.", "fullnat.kernel."),
    "fullnat.control": ("fullnat.core.", "fullnat.datapath.base", "fullnat.control.", "fullnat"),
    "fullnat.control.config": (
        "fullnat.core.",
        "fullnat.control.",
        "fullnat.health.check",
        "fullnat.kernel.",
    ),
    "fullnat.control.served": ("fullnat.core.", "fullnat.control.config.", "fullnat.health.check"),
    "fullnat.control.roster": (
        "fullnat.core.",
        "fullnat.datapath.base",
        "fullnat.control.",
        "fullnat.kernel.",
    ),
    "fullnat.control.watch": ("fullnat.core.", "fullnat.control.", "fullnat.health."),
    "fullnat.control.reload": (
        "fullnat.core.",
        "fullnat.control.",
        "fullnat.host.errors",
        "fullnat.host.plan",
    ),
    "fullnat.control.instance": (
        "fullnat.core.",
        "fullnat.datapath.base",
        "fullnat.control.",
        "fullnat.host.errors",
    ),
    "fullnat.control.api": (
        "fullnat.core.",
        "fullnat.datapath.base",
        "fullnat.control.",
        "fullnat.host.errors",
        "fullnat",
        "fullnat.web.connections",
    ),
    "fullnat.control.ipvsadm": (
        "fullnat.core.",
        "fullnat.datapath.base",
        "fullnat.control.",
        "fullnat.host.errors",
        "fullnat.ipvsadm.",
        "fullnat.kernel.",
    ),
    "fullnat.control.procfs": (
        "fullnat.core.",
        "fullnat.control.",
        "fullnat.host.errors",
        "fullnat.ipvsadm.",
    ),
    "fullnat.control.kernel": ("fullnat.core.", "fullnat.control.config.", "fullnat.kernel."),
    "fullnat.control.paths": ("fullnat.host.state",),
    "fullnat.control.build": (
        "fullnat.core.",
        "fullnat.datapath.base",
        "fullnat.control.config",
        "fullnat.control.kernel",
        "fullnat.control.served",
        "fullnat.host.plan",
    ),
    "fullnat.control.fallback": (
        "fullnat.core.",
        "fullnat.control.build",
        "fullnat.control.config.",
        "fullnat.control.kernel",
        "fullnat.datapath.base",
        "fullnat.host.",
        "fullnat.kernel.",
    ),
    "fullnat.control.ports": ("fullnat.core.", "fullnat.control.config.", "fullnat.host."),
    "fullnat.control.render": (
        "fullnat.core.",
        "fullnat.control.",
        "fullnat.host.errors",
        "fullnat.kernel.",
    ),
    "fullnat.control.stop": ("fullnat.control.", "fullnat.host.host"),
    "fullnat.control.doctor": ("fullnat.core.", "fullnat.control.", "fullnat.host.", "fullnat.kernel."),
    "fullnat.control.pulse": (
        "fullnat.control.notify",
        "fullnat.datapath.base",
        "fullnat.datapath.queue_table",
    ),
    "fullnat.control.engines": (
        "fullnat.core.",
        "fullnat.datapath.",
        "fullnat.host.",
        "fullnat.control.build",
        "fullnat.control.config.",
    ),
    "fullnat.control.daemon": (
        "fullnat.core.",
        "fullnat.datapath.",
        "fullnat.host.",
        "fullnat.control.",
        "fullnat.web.",
        "fullnat",
    ),
    "fullnat.health": ("fullnat.core.", "fullnat.health."),
    "fullnat.importers": ("fullnat.core.", "fullnat.importers."),
    "fullnat.ipvsadm": ("fullnat.core.", "fullnat.kernel.", "fullnat.ipvsadm."),
    "fullnat.web": ("fullnat.core.", "fullnat.web."),
    "fullnat.cli": (
        "fullnat.cli.",
        "fullnat.control.",
        "fullnat.datapath.base",
        "fullnat.host.errors",
        "fullnat.importers.",
        "fullnat.ipvsadm.",
        "fullnat",
    ),
    "fullnat.__main__": ("fullnat.cli",),
}

_PURE = """
    __future__ bisect cachetools collections dataclasses enum functools heapq ipaddress itertools
    math operator typing
"""
PURE = frozenset(_PURE.split())


def imports_of(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the line and the full name of every import; those for type checkers only are left out."""
    guarded = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.dump(block.test)
        for child in block.body
        for node in ast.walk(child)
    }
    for node in ast.walk(tree):
        if id(node) in guarded:
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                path = ROOT / name.replace(".", "/")
                is_module = any(path.with_suffix(suffix).exists() for suffix in (".py", ".pyi"))
                yield node.lineno, name if is_module else node.module


def is_allowed(module: str, imported: str) -> bool:
    """Whether *module* may import *imported*."""
    if not imported.startswith("fullnat"):
        return not module.startswith("fullnat.core") or imported.partition(".")[0] in PURE
    rule = max((prefix for prefix in ALLOWED if f"{module}.".startswith(f"{prefix}.")), key=len)
    allowed = ALLOWED[rule]
    below = tuple(name for name in allowed if name.endswith("."))
    return imported in allowed or f"{imported}.".startswith(below or "/")


def violations(root: Path = ROOT) -> list[str]:
    """Return a line for each import against the arrow."""
    found = []
    for path in sorted((root / "fullnat").rglob("*.py")):
        module = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        for line, imported in imports_of(ast.parse(path.read_text(encoding="utf-8"))):
            if not is_allowed(module, imported):
                found.append(f"{path.relative_to(root)}:{line}: {module} may not import {imported}")
    return found


if __name__ == "__main__":
    problems = violations()
    print("\n".join(problems) or "layers: every import follows the arrow")
    sys.exit(bool(problems))
