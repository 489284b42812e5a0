# SPDX-License-Identifier: Apache-2.0
"""`[engine] tune = true` and `fullnat doctor` on a real kernel.

client side  198.18.0.0/24   fnt0 (GRO on, so it has NAPI) | director | fnt1 (none)   198.19.0.0/24

This process enters the director with setns(2), as nsenter(1) does, so its own /sys is that of another
namespace throughout.  What is asserted is read through `ip netns exec`, which mounts a fresh one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from balancer import Balancer, program
from fullnat.core.addr import TCP, parse_endpoint
from fullnat.host.host import Host
from fullnat.host.journal import Change, Journal
from fullnat.host.plan import HostPlan
from fullnat.host.tuning import plan_loop
from lab import Lab
from namespace import command, delete, inside, ip, ip_batch
from tests.netns.host.tools import PLAN, in_child, kill_myself

pytestmark = [
    pytest.mark.requires("nfqueue", "ipset", "iptables"),
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="RPS needs a second CPU"),
]

TUNED = replace(
    PLAN,
    services=((TCP, parse_endpoint("198.18.0.10:80")),),
    servers=((TCP, parse_endpoint("198.19.0.11:80")),),
    lips=(ip_address("198.19.0.2"),),
    tune=True,
)
OTHER = replace(
    TUNED,
    instance="other",
    queue=1081,
    services=((TCP, parse_endpoint("198.18.0.10:443")),),
    lips=(ip_address("198.19.0.3"),),
)
THREADED, SPREAD_0, SPREAD_1 = "fnt0/threaded", "fnt0/queues/rx-0/rps_cpus", "fnt1/queues/rx-0/rps_cpus"
BYSTANDER = "client/queues/rx-0/rps_cpus"  # of a device that no packet of ours comes in by
UNTUNED = {THREADED: 0, "fnt1/threaded": 0, SPREAD_0: 0, SPREAD_1: 0, BYSTANDER: 0}

Start = Callable[..., Host]


@pytest.fixture
def director() -> Iterator[str]:
    name = f"fnt-{os.getpid()}-director"
    ip("netns", "add", name)
    try:
        ip_batch(
            [
                "link set lo up",
                "link add fnt0 numrxqueues 1 type veth peer name client",
                "link add fnt1 numrxqueues 1 type veth peer name server",
                *(f"link set {device} up" for device in ("fnt0", "fnt1", "client", "server")),
                "addr add 198.18.0.1/24 dev fnt0",
                "addr add 198.19.0.1/24 dev fnt1",
            ],
            name,
        )
        set_gro(name, "on")
        yield name
    finally:
        delete(name)


@pytest.fixture
def start(director: str, tmp_path: Path) -> Iterator[Start]:
    """Set a host up with a plan, inside the director; what is still up at the end is restored."""
    hosts = []
    with inside(director):

        def set_up(plan: HostPlan = TUNED) -> Host:
            host = Host(plan, tmp_path / "state")
            host.claim()
            hosts.append(host)
            host.set_up()
            return host

        yield set_up
        for host in hosts:
            host.restore()


def set_gro(director: str, state: str) -> None:
    subprocess.run(command(director, ["ethtool", "-K", "fnt0", "gro", state]), check=True)


def in_director(director: str, *argv: str, **options: object) -> subprocess.CompletedProcess[str]:
    line = ["ip", "netns", "exec", director, *argv]
    return subprocess.run(line, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload,no-any-return]


def values(director: str) -> dict[str, int]:
    paths = [f"/sys/class/net/{key}" for key in UNTUNED]
    shown = in_director(director, "cat", *paths).stdout.split()
    return {key: int(text.replace(",", ""), 16) for key, text in zip(UNTUNED, shown, strict=True)}


def put(director: str, key: str, value: str) -> None:
    done = in_director(director, "sh", "-c", f"echo {value} > /sys/class/net/{key}")
    assert done.returncode == 0, done.stderr


def receiving_mask() -> int:
    """Every CPU but the one of the packet loop."""
    (loop,) = plan_loop(1).cpus
    return (1 << (os.cpu_count() or 1)) - 1 & ~(1 << loop)


def tuned() -> dict[str, int]:
    mask = receiving_mask()
    return UNTUNED | {THREADED: 1, SPREAD_0: mask, SPREAD_1: mask}


def test_devices_in_use_are_tuned_and_put_back(director: str, start: Start) -> None:
    mounts = Path("/proc/self/mountinfo").read_text()
    assert not Path("/sys/class/net/fnt0").exists()  # the trap: this is another namespace's
    assert values(director) == UNTUNED
    host = start()
    assert values(director) == tuned()
    assert host.verify() == []
    assert Path("/proc/self/mountinfo").read_text() == mounts
    host.restore()
    assert values(director) == UNTUNED


def test_without_tune_nothing_is_touched(director: str, start: Start) -> None:
    start(replace(TUNED, tune=False))
    assert values(director) == UNTUNED


def test_with_a_worker_on_every_cpu_nothing_is_spread(director: str, start: Start) -> None:
    start(replace(TUNED, workers=os.cpu_count() or 1))
    assert values(director) == UNTUNED | {THREADED: 1}


def test_what_a_killed_process_left_is_undone_by_the_next(director: str, start: Start) -> None:
    assert in_child(lambda: (start(), kill_myself())) == signal.SIGKILL
    assert values(director) == tuned()
    host = start(replace(TUNED, tune=False))
    assert values(director) == UNTUNED
    host.restore()
    assert in_child(lambda: (start(), kill_myself())) == signal.SIGKILL
    start().restore()
    assert values(director) == UNTUNED


def test_killed_at_any_change_it_is_undone(
    director: str, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = Journal.append
    records: list[Change] = []
    monkeypatch.setattr(
        Journal, "append", lambda self, change: records.append(change) or append(self, change)
    )
    start().restore()
    changes = [change for change in records if change.kind == "tuning"]
    assert len(changes) == 3
    for last in changes:

        def append_and_die(self: Journal, change: Change, last: Change = last) -> None:
            append(self, change)
            if change == last:
                kill_myself()

        monkeypatch.setattr(Journal, "append", append_and_die)
        assert in_child(start) == signal.SIGKILL
        monkeypatch.setattr(Journal, "append", append)
        start().restore()
        assert values(director) == UNTUNED


def test_what_someone_has_set_since_stays(director: str, start: Start) -> None:
    host = start()
    put(director, SPREAD_1, "3")
    assert host.verify() == []
    host.restore()
    assert values(director) == UNTUNED | {SPREAD_1: 3}


def test_what_someone_had_set_before_stays(director: str, start: Start) -> None:
    put(director, SPREAD_1, "3")
    put(director, THREADED, "1")
    host = start()
    assert values(director) == tuned() | {SPREAD_1: 3}
    host.restore()
    assert values(director) == UNTUNED | {SPREAD_1: 3, THREADED: 1}


def test_what_someone_turns_off_is_repaired(director: str, start: Start) -> None:
    host = start()
    put(director, THREADED, "0")
    assert host.verify() == ["/sys/class/net/fnt0/threaded is 0, not 1"]
    assert host.repair() == ["/sys/class/net/fnt0/threaded is 0, not 1"]
    assert values(director) == tuned()
    assert host.verify() == []
    host.restore()
    assert values(director) == UNTUNED


def test_napi_may_come_and_go(director: str, start: Start) -> None:
    set_gro(director, "off")
    host = start()
    assert values(director) == tuned() | {THREADED: 0}
    set_gro(director, "on")
    host.repair()
    assert values(director) == tuned()
    set_gro(director, "off")
    host.restore()  # the kernel takes no value for it now, and nothing runs in a thread
    assert values(director) | {THREADED: 0} == UNTUNED


def test_a_device_that_is_renamed_or_gone_is_no_obstacle(director: str, start: Start) -> None:
    host = start()
    ip_batch(["link set fnt0 down", "link set fnt0 name fnt9", "link set fnt9 up", "link del fnt1"], director)
    host.restore()
    shown = in_director(
        director, "cat", "/sys/class/net/fnt9/threaded", "/sys/class/net/fnt9/queues/rx-0/rps_cpus"
    )
    assert [int(text, 16) for text in shown.stdout.split()] == [0, 0]


def test_what_two_instances_need_stays_until_both_are_gone(director: str, start: Start) -> None:
    first, second = start(), start(OTHER)
    first.restore()
    assert values(director) == tuned()
    assert second.verify() == []
    second.restore()
    assert values(director) == UNTUNED


SET_UP = """
import sys; from pathlib import Path
sys.path[:0] = sys.argv[2:]
from fullnat.host.errors import HostError; from fullnat.host.host import Host
from tests.netns.test_tuning import TUNED
host = Host(TUNED, Path(sys.argv[1])); host.claim()
try:
    host.set_up(); input()
except HostError as error:
    sys.exit(str(error))
finally:
    host.restore()
"""
WITHOUT_MOUNT = (
    "setpriv",
    "--bounding-set=-sys_admin",
    "--inh-caps=-sys_admin",
    sys.executable,
    "-c",
    SET_UP,
)


def test_the_wrong_sys_is_refused_with_one_line(director: str, tmp_path: Path) -> None:
    argv = [*WITHOUT_MOUNT, str(tmp_path / "state"), *sys.path]
    done = subprocess.run(command(director, argv), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("/sys shows another network namespace than this process is in")
    assert "ip netns exec" in line
    assert values(director) == UNTUNED
    assert not list((tmp_path / "state").iterdir())


def test_the_right_sys_is_used_where_none_can_be_mounted(director: str, tmp_path: Path) -> None:
    argv = ["ip", "netns", "exec", director, *WITHOUT_MOUNT, str(tmp_path / "state"), *sys.path]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        _, complaint = child.communicate("\n")
    assert (child.returncode, complaint) == (0, "")
    assert values(director) == UNTUNED


# The doctor.


def doctor(director: str, *arguments: str) -> tuple[int, list[str]]:
    done = subprocess.run(
        command(director, [*program(), "doctor", *arguments]), capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


def about(lines: list[str], subject: str) -> list[str]:
    """The lines about *subject*, each without it."""
    return [
        f"{line[:8].strip()}: {line[9:].removeprefix(subject + ': ')}" for line in lines if subject in line
    ]


def test_the_doctor_names_what_an_untuned_host_would_lose(director: str, start: Start) -> None:
    status, lines = doctor(director)
    assert status == 1
    (napi,) = about(lines, "fnt0")
    assert napi.startswith("problem: its NAPI polls in softirq")
    assert "echo 1 > /sys/class/net/fnt0/threaded" in napi
    (backlog,) = about(lines, "fnt1")
    assert backlog.startswith("problem: ")
    assert f"echo {receiving_mask():x} > /sys/class/net/fnt1/queues/rx-0/rps_cpus" in backlog
    start()
    _, lines = doctor(director)
    assert about(lines, "fnt0") == ["ok: its NAPI runs in a thread, RPS spreads its packets"]
    assert about(lines, "fnt1") == ["ok: RPS spreads its packets"]


def test_the_doctors_devices_can_be_had_by_hand(director: str) -> None:
    _, lines = doctor(director, "--json")
    findings = json.loads("\n".join(lines))
    remedies = [finding["remedy"] for finding in findings if finding["subject"] in ("fnt0", "fnt1")]
    for remedy in remedies:
        done = in_director(director, "sh", "-c", remedy.partition(", or ")[2])
        assert done.returncode == 0, done.stderr
    assert values(director) == tuned()


def test_the_doctor_finds_what_would_break(director: str, start: Start) -> None:
    def kernel() -> list[str]:
        return sorted(about(doctor(director)[1], "net.ipv4."))

    in_director(director, "sysctl", "-q", "net.ipv4.conf.fnt0.rp_filter=1", "net.ipv4.ip_forward=0")
    shown = kernel()
    assert any(line.startswith("note: net.ipv4.ip_forward: is 0, has to be 1") for line in shown)
    assert any(line.startswith("note: net.ipv4.conf.fnt0.rp_filter: is 1, has to be 2") for line in shown)
    start()
    assert kernel() == []


def test_the_doctors_remedy_opens_a_firewall(director: str) -> None:
    nft = "add table inet fw; add chain inet fw pass { type filter hook forward priority 0; policy drop; }"
    assert in_director(director, "nft", nft).returncode == 0
    assert in_director(director, "iptables", "-P", "FORWARD", "DROP").returncode == 0  # ours: no obstacle
    (finding,) = about(doctor(director)[1], "firewall")
    assert finding.startswith("problem: nft chain inet fw pass drops by policy")
    remedy = finding.partition("; ")[2]
    done = in_director(director, *remedy.split())
    assert done.returncode == 0, done.stderr
    (finding,) = about(doctor(director)[1], "firewall")
    assert finding.startswith("ok: ")


def test_the_doctor_changes_nothing(director: str) -> None:
    def state() -> list[str]:
        commands = (("nft", "list", "ruleset"), ("ipset", "save"), ("iptables-legacy-save",), ("ip", "addr"))
        return [in_director(director, *argv).stdout for argv in commands] + [str(values(director))]

    before = state()
    doctor(director)
    assert state() == before


def test_the_doctor_looks_at_the_queues_of_a_running_instance(
    lab: Lab, balancer: Callable[..., Balancer]
) -> None:
    running = balancer()
    done = running.command("doctor", "-c", str(running.path), check=False)
    assert about(done.stdout.splitlines(), "queue 1080") == ["ok: nothing dropped since the start"]
    assert about(done.stdout.splitlines(), "net.ipv4.") == []
