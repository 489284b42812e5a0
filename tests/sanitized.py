# SPDX-License-Identifier: Apache-2.0
"""Have the tests use another build of the C extension: FULLNAT_NATIVE=FILE pytest -p tests.sanitized.

Imported before anything imports fullnat._native.  Where the sanitizers are preloaded, programs that
tests start are spared them.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_loader

import fullnat

NAME = "fullnat._native"


def load(path: str) -> None:
    """Make the file *path* fullnat._native."""
    loader = ExtensionFileLoader(NAME, path)
    spec = spec_from_loader(NAME, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    sys.modules[NAME] = module
    vars(fullnat)["_native"] = module


if path := os.environ.get("FULLNAT_NATIVE"):
    load(path)
PRELOADED = os.environ.pop("LD_PRELOAD", "")
