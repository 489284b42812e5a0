# SPDX-License-Identifier: Apache-2.0
"""The C core, built once a session."""

from __future__ import annotations

import pytest

from tests import features
from tests.twins.core import HERE, Core, compile_c


@pytest.fixture(scope="session")
def core(tmp_path_factory: pytest.TempPathFactory) -> Core:
    features.demand("gcc")
    library = tmp_path_factory.mktemp("core") / "core.so"
    compile_c(library, "-fPIC", "-shared", HERE / "core_library.c")
    return Core(library)
