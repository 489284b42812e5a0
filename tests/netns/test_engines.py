# SPDX-License-Identifier: Apache-2.0
"""Which engine runs, how many workers it has, and that a slow scheduler slows nobody else.

 client                    director                     real server
CIP:cport  ---inbound--->  VIP:vport | LIP:lport  --->  RIP:rport
           <--outbound---            |            <---
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest

from balancer import Balancer
from hoststate import HostState
from lab import Lab
from tests.netns.conversations import ask
from tests.netns.traffic import get, lips, reasons, vips

pytestmark = pytest.mark.requires("nfqueue", "ipset", "iptables", "curl")


@pytest.fixture
def datapath() -> str:
    """The best there is."""
    return "auto"


def queues(lab: Lab) -> list[int]:
    """The queues that are bound on the director."""
    table = lab.run("director", ["cat", "/proc/net/netfilter/nfnetlink_queue"]).stdout
    return sorted(int(line.split()[0]) for line in table.splitlines())


def threads(balancer: Balancer) -> dict[str, int]:
    """The threads of a running balancer: their names, and what the kernel numbers them."""
    assert balancer.process is not None
    names = Path(f"/proc/{balancer.process.pid}/task").glob("*/comm")
    return {name.read_text().strip(): int(name.parent.name) for name in names}


def configured(lab: Lab, *lines: str) -> str:
    """The lab's configuration with *lines* in [engine]."""
    return lab.config().replace("[engine]", "\n".join(["[engine]", *lines]))


@pytest.mark.requires("ebpf")
def test_auto_is_engine_ebpf(lab: Lab, balancer: Callable[..., Balancer]) -> None:
    running = balancer()
    assert "engine ebpf (auto: the fastest that runs here; 1 worker)" in running.log
    assert (
        "engine: ebpf\nwhy: auto: the fastest that runs here; 1 worker\n" in running.command("status").stdout
    )
    assert queues(lab) == [1080, 1081]
    ask(lab, "client", lab.vips4[0])
    seen = running.show("stats")
    assert seen["batches"] >= 1
    assert seen["packets_received"] > reasons(seen)["flow_opened"]  # the kernel's are among them


@pytest.fixture
def _no_libbpf(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have fullnat find no libbpf; `ip`, which needs it as well, still does."""
    absent = "import fullnat.host.libbpf as libbpf\nlibbpf.LIBRARY = 'libbpf.so.none'\n"
    (lab.directory / "sitecustomize.py").write_text(absent)
    monkeypatch.setenv("PYTHONPATH", str(lab.directory))


@pytest.mark.usefixtures("_no_libbpf")
def test_engine_ebpf_asked_for_and_not_to_be_had_is_one_line_and_a_clean_host(lab: Lab) -> None:
    before = HostState.of(lab)
    refused = Balancer(lab, lab.config())
    done = refused.command("run", "-c", str(refused.path), "--datapath", "ebpf", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    reason = "engine ebpf: libbpf.so.none is not installed; on Debian: apt-get install libbpf1"
    assert done.stderr == f"fullnat: {reason}\n"
    assert before.changes_to(HostState.of(lab)) == []


@pytest.mark.requires("native")
@pytest.mark.usefixtures("_no_libbpf")
def test_auto_goes_on_to_engine_native_and_says_why(lab: Lab, balancer: Callable[..., Balancer]) -> None:
    running = balancer()
    why = "auto: engine ebpf: libbpf.so.none is not installed; on Debian: apt-get install libbpf1; 1 worker"
    assert f"engine native ({why})" in running.log
    assert ask(lab, "client", lab.vips4[0]).client in lips(lab, 4)


def test_the_environment_keeps_auto_to_engine_python_with_one_queue(
    lab: Lab, balancer: Callable[..., Balancer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FULLNAT_PURE", "1")
    running = balancer(configured(lab, "workers = 2"))
    assert "engine python (auto: FULLNAT_PURE=1 is set; 1 worker)" in running.log
    assert queues(lab) == [1080]
    for family in lab.families:
        assert ask(lab, "client", vips(lab, family)[0]).client in lips(lab, family)


@pytest.mark.requires("native")
def test_workers_share_the_traffic_and_one_table(lab: Lab, balancer: Callable[..., Balancer]) -> None:
    running = balancer(configured(lab, "workers = 3"))
    assert "3 workers" in running.log
    assert queues(lab) == [1080, 1081, 1082, 1083]
    assert threads(running).keys() >= {"fullnat/1080", "fullnat/1081", "fullnat/1082", "fullnat/1083"}
    for family in lab.families:
        answers = get(lab, vips(lab, family)[0], 300, parallel=30)
        assert set(answers.servers.values()) == {100}
    seen = running.show("stats")
    assert set(reasons(seen)) <= {"flow_opened", "flow_reopened", "flow_inbound", "flow_outbound"}
    assert sum(reasons(seen).values()) == seen["packets_received"]
    assert seen["queue_dropped"] == seen["user_dropped"] == seen["send_failures"] == 0


@pytest.mark.parametrize(
    ("datapath", "policy"),
    [
        pytest.param("native", os.SCHED_OTHER, marks=pytest.mark.requires("native")),
        pytest.param("ebpf", os.SCHED_BATCH, marks=pytest.mark.requires("ebpf")),
    ],
)
def test_threads_that_get_first_packets_only_preempt_nobody(
    lab: Lab, balancer: Callable[..., Balancer], policy: int
) -> None:
    running = balancer(configured(lab))
    tasks = threads(running)
    for queue in (1080, 1081):
        assert os.sched_getscheduler(tasks[f"fullnat/{queue}"]) == policy
    assert running.process is not None
    assert os.sched_getscheduler(running.process.pid) == os.SCHED_OTHER  # Python itself


@pytest.mark.requires("native")
def test_tuned_threads_run_above_all_that_is_not_real_time(
    lab: Lab, balancer: Callable[..., Balancer]
) -> None:
    running = balancer(configured(lab, "tune = true"))
    tasks = threads(running)
    for queue in (1080, 1081):
        task = tasks[f"fullnat/{queue}"]
        assert os.sched_getscheduler(task) == os.SCHED_FIFO
        assert os.sched_getparam(task).sched_priority == 1
        assert os.sched_getaffinity(task) == {max(os.sched_getaffinity(0))}
    assert running.process is not None
    assert os.sched_getscheduler(running.process.pid) == os.SCHED_OTHER  # Python itself
    assert ask(lab, "client", lab.vips4[0]).client in lips(lab, 4)


SLEEPY = """\
import time

from fullnat.core.sched import Scheduler


class Sleepy(Scheduler):
    def schedule(self, request):
        time.sleep(2)
        return self.servers[0]
"""


@pytest.mark.requires("native")
def test_a_scheduler_that_sleeps_holds_up_nobody_elses_connections(
    lab: Lab, balancer: Callable[..., Balancer]
) -> None:
    (lab.directory / "sleepy.py").write_text(SLEEPY)
    slow = lab.config(scheduler="sleepy.py:Sleepy", port=8080, server_port=80, families=(4,))
    balancer(f"{lab.config()}\n{slow[slow.index('[[service]]') :]}")
    answers = []
    thread = Thread(target=lambda: answers.append(get(lab, lab.vips4[0], 1, port=8080)))
    thread.start()
    try:
        begun = time.monotonic()
        while thread.is_alive():
            asked = time.monotonic()
            assert ask(lab, "client2", lab.vips4[0]).client in lips(lab, 4)
            assert time.monotonic() - asked < 1
        assert time.monotonic() - begun > 1  # it did sleep
    finally:
        thread.join()
    assert answers[0].servers == {"server1": 1}
