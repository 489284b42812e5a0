# SPDX-License-Identifier: Apache-2.0
"""Which engine runs, and the line that says why."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fullnat.datapath.base import DatapathError, Unsupported
from fullnat.datapath.choice import PURE, choose


def host_without(*missing: str) -> tuple[Callable[[str], str], list[str]]:
    """What starts an engine there, and the engines that were tried."""
    tried: list[str] = []

    def start(name: str) -> str:
        tried.append(name)
        if name in missing:
            raise Unsupported(f"engine {name}", "not here")
        return name

    return start, tried


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PURE, raising=False)


def test_auto_is_the_fastest_that_starts() -> None:
    start, tried = host_without()
    assert choose("auto", start) == ("ebpf", "auto: the fastest that runs here")
    assert tried == ["ebpf"]


def test_auto_goes_on_to_the_next_and_says_why() -> None:
    start, tried = host_without("ebpf")
    assert choose("auto", start) == ("native", "auto: engine ebpf: not here")
    assert tried == ["ebpf", "native"]


def test_auto_says_of_each_why_not() -> None:
    start, tried = host_without("ebpf", "native")
    assert choose("auto", start) == ("python", "auto: engine ebpf: not here; engine native: not here")
    assert tried == ["ebpf", "native", "python"]


def test_where_none_starts_the_last_says_why() -> None:
    start, _ = host_without("ebpf", "native", "python")
    with pytest.raises(DatapathError, match="engine python: not here"):
        choose("auto", start)


@pytest.mark.parametrize("name", ["ebpf", "native", "python"])
def test_the_one_that_is_asked_for_is_the_only_one_tried(name: str) -> None:
    start, tried = host_without()
    assert choose(name, start) == (name, "chosen")
    refusing, _ = host_without(name)
    with pytest.raises(DatapathError, match=f"engine {name}: not here"):
        choose(name, refusing)
    assert tried == [name]


def test_the_environment_keeps_auto_to_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PURE, "1")
    start, tried = host_without()
    assert choose("auto", start) == ("python", "auto: FULLNAT_PURE=1 is set")
    assert tried == ["python"]
    assert choose("native", start) == ("native", "chosen")
