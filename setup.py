# SPDX-License-Identifier: Apache-2.0
"""How the C extension is built; all else is in pyproject.toml.

It is optional: where there is no compiler the package is installed without it, and engine `native`
says so.  FULLNAT_SANITIZE=1 builds it with AddressSanitizer and UBSan, for `make test-sanitized`.

So are the programs for the kernel (fullnat/csrc/bpf/), which clang compiles to objects beside the
extension, and without which engine `ebpf` does not run.  The gateway needs neither compiler.
"""

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCES = Path("fullnat/csrc")
SANITIZERS = [
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=undefined",
    "-fno-omit-frame-pointer",
    "-g",
]

warnings = ["-Wall", "-Wextra", "-Werror=implicit-function-declaration"]
flags = ["-pthread", *(SANITIZERS if os.environ.get("FULLNAT_SANITIZE") else ())]

BPF_OBJECTS = {"_fastpath.bpf.o": "fullnat.bpf.c", "_probe.bpf.o": "probe.bpf.c"}
BPF_FLAGS = [
    *("-target", "bpf", "-mcpu=v3", "-O2", "-g", "-std=gnu11", "-ffreestanding"),
    *("-Wall", "-Wextra", "-Werror", "-Wno-gnu", "-Wno-unused-function"),
    *("-idirafter", f"/usr/include/{sysconfig.get_config_var('MULTIARCH')}"),
]


class BuildExtension(build_ext):
    """The extension, and the programs for the kernel."""

    def run(self) -> None:
        """Compile all of it."""
        super().run()
        for name, source in BPF_OBJECTS.items():
            self._compile(SOURCES / "bpf" / source, name)

    def _compile(self, source: Path, name: str) -> None:
        package = Path(self.get_ext_fullpath("fullnat._native")).parent
        clang = shutil.which("clang") or "clang"
        try:
            subprocess.run([clang, *BPF_FLAGS, "-c", str(source), "-o", str(package / name)], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            (package / name).unlink(missing_ok=True)
            self.warn(f"engine ebpf will not run: {source} was not compiled: {error}")


setup(
    cmdclass={"build_ext": BuildExtension},
    ext_modules=[
        Extension(
            "fullnat._native",
            sources=sorted(map(str, SOURCES.glob("native/**/*.c"))),
            depends=["setup.py", *sorted(map(str, SOURCES.glob("**/*.h")))],
            define_macros=[("Py_LIMITED_API", "0x030B0000")],
            py_limited_api=True,
            extra_compile_args=["-std=gnu11", "-O2", "-fvisibility=hidden", *warnings, *flags],
            extra_link_args=flags,
            optional=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
