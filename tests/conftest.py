# SPDX-License-Identifier: Apache-2.0
"""For all tests: the lab's modules on the path, and the `requires` marker."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests import features

os.environ["PATH"] += ":/usr/sbin:/sbin"  # the path of an ordinary user, which `su` keeps, lacks them
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "netns-lab"))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "requires(*features): skip, or fail, where a feature is missing")
    features.required()  # a misspelt feature is told before any test runs


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("requires"):
        for feature in mark.args:
            features.demand(feature)
