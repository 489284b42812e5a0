# SPDX-License-Identifier: Apache-2.0
"""How the C extension is built; all else is in pyproject.toml.

It is optional: where there is no compiler the package is installed without it, and engine `native`
says so.  FULLNAT_SANITIZE=1 builds it with AddressSanitizer and UBSan, for `make test-sanitized`.
"""

import os
from pathlib import Path

from setuptools import Extension, setup

SOURCES = Path("fullnat/csrc")
SANITIZERS = [
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=undefined",
    "-fno-omit-frame-pointer",
    "-g",
]

warnings = ["-Wall", "-Wextra", "-Werror=implicit-function-declaration"]
flags = ["-pthread", *(SANITIZERS if os.environ.get("FULLNAT_SANITIZE") else ())]

setup(
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
