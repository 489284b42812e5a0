# SPDX-License-Identifier: Apache-2.0
"""For all tests: the lab's modules on the path, the `requires` marker, and tests chosen by it."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests import features

os.environ["PATH"] += ":/usr/sbin:/sbin"  # the path of an ordinary user, which `su` keeps, lacks them
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "netns-lab"))
# What a shell starts in the background ignores Ctrl-C, and so would every program that is tested with it.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--requiring", metavar="FEATURE", help="run only the tests that need FEATURE of the host"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "requires(*features): skip, or fail, where a feature is missing")
    features.required()  # a misspelt feature is told before any test runs
    if (feature := config.getoption("--requiring")) is not None:
        features.refuse_unknown([feature], "--requiring")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if (feature := config.getoption("--requiring")) is None:
        return
    others = [
        item for item in items if not any(feature in mark.args for mark in item.iter_markers("requires"))
    ]
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if item not in others]


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("requires"):
        for feature in mark.args:
            features.demand(feature)
