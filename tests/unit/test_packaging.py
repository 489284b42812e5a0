# SPDX-License-Identifier: Apache-2.0
"""What is shipped, and that it can be built: with a compiler, and without one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
CSRC = ROOT / "fullnat" / "csrc"
PIP = (sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", "install", "--quiet")
_BUILD_SDIST = "from setuptools.build_meta import build_sdist; print(build_sdist('.'))"


def run(*argv: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=False
    )


def succeed(*argv: str | Path, cwd: Path, **environment: str) -> str:
    done = run(*argv, cwd=cwd, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run_installed(target: Path, program: str) -> subprocess.CompletedProcess[str]:
    """Run *program* with what was installed in *target*; -S keeps the editable installation out."""
    libraries = sysconfig.get_path("purelib")
    return run(sys.executable, "-S", "-c", program, cwd=target, PYTHONPATH=libraries)


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, built from a copy without anything that was built before."""
    if int(version("setuptools").partition(".")[0]) < 77:
        pytest.fail("setuptools>=77 is needed for development: make setup")
    folder = tmp_path_factory.mktemp("source")
    shutil.copytree(
        ROOT / "fullnat", folder / "fullnat", ignore=shutil.ignore_patterns("*.so", "__pycache__")
    )
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    return folder / succeed(sys.executable, "-c", _BUILD_SDIST, cwd=folder).splitlines()[-1]


def install(sdist: Path, target: Path, **environment: str) -> None:
    options = ("--no-deps", "--no-index", "--no-build-isolation", "--no-compile", "--target", str(target))
    succeed(*PIP, *options, sdist, cwd=sdist.parent, **environment)


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_the_source_distribution_has_every_source(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        shipped = {name.partition("/")[2] for name in archive.getnames()}
    expected = {str(path.relative_to(ROOT)) for path in CSRC.rglob("*.[ch]")}
    assert expected
    assert expected <= shipped
    assert {"setup.py", "pyproject.toml", "fullnat/_native.pyi", "fullnat/py.typed"} <= shipped
    assert not [name for name in shipped if name.endswith(".so")]


def test_without_a_compiler_the_rest_is_installed(sdist: Path, tmp_path: Path) -> None:
    install(sdist, tmp_path, CC="/bin/false")
    assert not [name for name in files_below(tmp_path) if name.endswith((".so", ".c", ".h"))]
    program = "from fullnat.datapath.native import require_extension; require_extension()"
    last_line = run_installed(tmp_path, program).stderr.splitlines()[-1]
    assert last_line.startswith("fullnat.datapath.base.Unsupported: engine native: ")


@pytest.mark.requires("gcc")
def test_with_a_compiler_one_extension_for_all_versions_is_installed(sdist: Path, tmp_path: Path) -> None:
    install(sdist, tmp_path)
    assert {"fullnat/_native.abi3.so", "fullnat/_native.pyi", "fullnat/py.typed"} <= files_below(tmp_path)
    (tags,) = tmp_path.glob("fullnat-*.dist-info/WHEEL")
    assert "Tag: cp311-abi3-linux_" in tags.read_text(encoding="utf-8")
    imported = run_installed(tmp_path, "from fullnat import _native; print(_native.ABI)")
    assert imported.stdout.strip().isdigit(), imported.stderr
    symbols = succeed("nm", "-D", "--defined-only", tmp_path / "fullnat" / "_native.abi3.so", cwd=tmp_path)
    assert [line.split()[-1] for line in symbols.splitlines()] == ["PyInit__native"]


@pytest.mark.requires("gcc")
def test_the_extension_compiles_without_a_warning() -> None:
    options = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-fsyntax-only")
    include = f"-isystem{sysconfig.get_path('include')}"
    sources = sorted((CSRC / "native").rglob("*.c"))
    succeed("gcc", *options, include, "-DPy_LIMITED_API=0x030B0000", *sources, cwd=ROOT)
