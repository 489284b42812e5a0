# SPDX-License-Identifier: Apache-2.0
"""Labs and balancers for tests: built for one test, taken down after it, and nothing may be left."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

import state
from balancer import Balancer
from hoststate import HostState
from lab import Lab
from namespace import processes_in
from tests.netns.conversations import Parrots
from tests.netns.streams import ECHO, TRANSPORTS

HERE = Path(__file__).parent
BALANCERS = pytest.StashKey[list[Balancer]]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.netns)
            item.add_marker(pytest.mark.requires("root", "netns", "ipv6", "nginx"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """Put the log of every balancer of a failed test into its report."""
    report = (yield).get_result()
    if report.failed:
        for number, balancer in enumerate(item.stash.get(BALANCERS, []), start=1):
            report.sections.append((f"fullnat log {number}", balancer.log))


@pytest.fixture(scope="session", autouse=True)
def _sweep() -> None:
    """Take down the labs of test runs that were killed."""
    for run in state.abandoned_runs():
        Lab(run=run).down()


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A lab with web servers: two-arm, or what an indirect parameter says (a name or Lab's arguments)."""
    wanted = getattr(request, "param", "two-arm")
    with Lab(**wanted) if isinstance(wanted, dict) else Lab(wanted) as built:
        built.up(servers=True)
        yield built
    assert built.namespaces == []
    assert not built.directory.exists()
    assert state.load(built.id) is None


ENGINES = [
    "python",
    pytest.param("native", marks=pytest.mark.requires("native")),
    pytest.param("ebpf", marks=pytest.mark.requires("ebpf")),
]


@pytest.fixture(params=ENGINES)
def datapath(request: pytest.FixtureRequest) -> str:
    """The engine that is to run; a module that any engine will do for has a fixture of its own."""
    return str(request.param)


@pytest.fixture
def balancer(lab: Lab, datapath: str, request: pytest.FixtureRequest) -> Iterator[Callable[..., Balancer]]:
    """Start fullnat on the director with a configuration text, ready to serve; arguments are Balancer's.

    One that runs still at the end is stopped.  If the last thing that happened to all of them was an
    orderly end, the director must be as it was before: a test that ends in kill() is not asked that.
    """
    before = HostState.of(lab)
    started = request.node.stash.setdefault(BALANCERS, [])

    def start(config: str | None = None, **options: Any) -> Balancer:
        options.setdefault("arguments", ["--datapath", datapath])
        fresh = Balancer(lab, lab.config() if config is None else config, **options)
        started.append(fresh)
        fresh.start()
        return fresh

    yield start
    for one in started:
        if one.running:
            assert one.stop() == 0
    if started and all(one.status == 0 for one in started):
        left = [*before.changes_to(HostState.of(lab)), *map(str, processes_in([lab.namespace("director")]))]
        if left:
            pytest.fail("left on the director:\n" + "\n".join(left))


@pytest.fixture
def parrots(lab: Lab) -> Iterator[Parrots]:
    """Servers on ECHO of every real server, TCP and UDP."""
    flock = Parrots(lab)
    for role in lab.servers:
        for kind in TRANSPORTS:
            flock.add(role, ECHO, kind)
    with flock:
        yield flock
