# SPDX-License-Identifier: Apache-2.0
"""Start, stop, death and return of the daemon: the host is always either as it was, or served.

 client                    director                     real server
CIP:cport  ---inbound--->  VIP:vport | LIP:lport  --->  RIP:rport
           <--outbound---            |            <---
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from netfilterqueue import NetfilterQueue

import namespace
from balancer import Balancer, program
from hoststate import HostState
from lab import Lab, runtime_files
from tests.netns.conftest import ENGINES
from tests.netns.conversations import Browser, ask, is_reachable
from tests.netns.traffic import servers, url_host, vips, wait_until
from wait import PATIENCE

pytestmark = pytest.mark.requires("nfqueue", "ipset", "iptables", "curl")

ONE_SERVER = {"topology": "two-arm", "servers": 1}
REPAIR_SECONDS = 15  # the host is checked every 10

EVERY_ENGINE = pytest.mark.parametrize("datapath", ENGINES)


@pytest.fixture
def datapath() -> str:
    """What most of this is about does not depend on the engine."""
    return "auto"


def state_of(lab: Lab) -> HostState:
    """The director as it is; without the random seed of each ipset, which no two starts share."""
    state = HostState.of(lab)
    lines = Counter[str]()
    for line, count in state.lines.items():
        lines[re.sub(r" initval \S+", "", line)] += count
    return HostState(lines, state.sysctls)


def changed(before: HostState, lab: Lab) -> list[str]:
    """What is different on the director from *before*."""
    return before.changes_to(state_of(lab))


def assert_serves(lab: Lab, config_vips: tuple[str, ...] | None = None) -> None:
    for vip in config_vips or (lab.vips4[0], lab.vips6[0]):
        assert ask(lab, "client", vip).client in (*lab.lips4, *lab.lips6)


def other(lab: Lab, *, name: str = "other", queue: int = 1090, lip: int = 1, vip: int = 1) -> str:
    """A configuration for a second instance; by default nothing of it meets the first's."""
    text = lab.config(lips=1, instance=name)
    for addresses, number in ((lab.lips4, lip), (lab.lips6, lip)):
        text = text.replace(f'"{addresses[0]}"', f'"{addresses[number]}"')
    for addresses in (lab.vips4, lab.vips6):
        text = text.replace(f"//{url_host(addresses[0])}:", f"//{url_host(addresses[vip])}:")
    return text.replace("[engine]", f"[engine]\nqueue = {queue}")


@pytest.fixture
def make(lab: Lab, datapath: str) -> Iterator[Callable[..., Balancer]]:
    """Describe balancers that the test starts, kills and stops itself; the host must end as it began."""
    before = state_of(lab)
    made: list[Balancer] = []

    def describe(config: str | None = None, name: str = "fullnat") -> Balancer:
        config = lab.config() if config is None else config
        made.append(Balancer(lab, config, name=name, arguments=["--datapath", datapath]))
        return made[-1]

    yield describe
    for one in made:
        if one.running:
            assert one.stop() == 0, one.log
    assert changed(before, lab) == []
    assert namespace.processes_in([lab.namespace("director")]) == []


# Start and stop.


@EVERY_ENGINE
def test_ready_within_a_second_and_says_with_what(
    lab: Lab, make: Callable[..., Balancer], datapath: str
) -> None:
    balancer = make()
    seconds = []
    for _ in range(5):  # the machine may be busy with something else
        seconds.append(balancer.start())
        assert balancer.stop() == 0
    assert min(seconds) < 1.0
    line = next(line for line in balancer.log.splitlines() if line.startswith("ready"))
    assert f"engine {datapath} (chosen; 1 worker)" in line
    for vip in (lab.vips4[0], lab.vips6[0]):
        assert f"tcp://{url_host(vip)}:80 (rr, 3 servers)" in line
    for lip in (*lab.lips4, *lab.lips6):
        assert lip in line
    assert "ports 1024-32767" in line


@EVERY_ENGINE
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_ends_it_with_a_summary_and_a_clean_host(
    lab: Lab, make: Callable[..., Balancer], number: signal.Signals
) -> None:
    before = state_of(lab)
    balancer = make()
    balancer.start()
    assert changed(before, lab) != []
    assert_serves(lab)
    with Browser(lab, "client", lab.vips4[0]) as browser:  # in the middle of a connection
        browser.ask()
        assert balancer.process is not None
        balancer.process.send_signal(number)
        assert balancer.process.wait(10) == 0
    assert changed(before, lab) == []
    summary = balancer.log.partition("\n")[2]
    assert "stopped after" in summary
    assert "flow_opened" in summary
    for server in lab.servers4:
        assert f"{server}:80" in summary


def test_an_impatient_ctrl_c_does_not_keep_it_from_cleaning_up(
    lab: Lab, make: Callable[..., Balancer]
) -> None:
    before = state_of(lab)
    balancer = make()
    balancer.start()
    assert balancer.process is not None
    while balancer.running:
        balancer.process.send_signal(signal.SIGINT)
    assert balancer.status in (0, -signal.SIGINT)  # the latter when one more meets Python's own end
    assert changed(before, lab) == []
    assert "Traceback" not in balancer.log
    assert "flows limit" in balancer.log  # the summary's last line


def test_on_a_terminal_one_line_follows_the_work(lab: Lab, make: Callable[..., Balancer]) -> None:
    balancer = make()
    argv = [*program(), "run", "-c", str(balancer.path), *balancer.arguments]
    ours, theirs = os.openpty()
    child = lab.popen("director", argv, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = ""

    def shows(text: str) -> bool:
        nonlocal shown
        with suppress(OSError):  # EIO once the other end is closed
            shown += os.read(ours, 65536).decode()
        return text in shown

    wait_until(lambda: shows("ready in"), 5, "the ready line")
    assert_serves(lab)
    wait_until(lambda: shows("2 flows, 2 new/s, "), 5, "the progress line")
    assert "\r" in shown
    child.send_signal(signal.SIGINT)
    wait_until(lambda: shows("flows limit"), 5, "the summary's last line")
    assert child.wait(10) == 0
    os.close(ours)
    assert "Traceback" not in shown


def starting(lab: Lab, balancer: Balancer) -> subprocess.Popen[str]:
    """Start it without waiting."""
    argv = [*program(), "run", "-c", str(balancer.path), *balancer.arguments]
    child: subprocess.Popen[str] = lab.popen(
        "director", argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return child


@pytest.mark.parametrize("moment", ["python runs", "the instance is claimed", "the first rule is set"])
def test_ctrl_c_during_the_start_leaves_the_host_clean(
    lab: Lab, make: Callable[..., Balancer], moment: str
) -> None:
    before = state_of(lab)
    reached: dict[str, Callable[[], object]] = {
        "python runs": lambda: Path(f"/proc/{child.pid}/exe").resolve().name.startswith("python"),
        "the instance is claimed": lambda: runtime_files(lab.namespace("director")),
        "the first rule is set": lambda: any(
            path.suffix == ".journal" for path in runtime_files(lab.namespace("director"))
        ),
    }
    child = starting(lab, make())
    wait_until(reached[moment], 5, moment)
    child.send_signal(signal.SIGINT)
    output, _ = child.communicate(timeout=10)
    assert changed(before, lab) == []
    if moment != "python runs":  # before our first line Python itself says what interrupted it
        assert "Traceback" not in output
    assert child.returncode in (0, 1, 130, -signal.SIGINT)


# Death and return.


def transfer(lab: Lab, vip: str) -> subprocess.Popen[bytes]:
    """Begin to fetch a big file, slowly, and return when it is under way."""
    big, got = lab.directory / "files" / "big", lab.directory / "got"
    with big.open("wb") as file:
        file.truncate(256 << 20)
    url = f"http://{url_host(vip)}/files/big"
    curl: subprocess.Popen[bytes] = lab.popen(
        "client", ["curl", "-sSg", "--limit-rate", "8M", "-o", str(got), url]
    )
    wait_until(lambda: got.exists() and got.stat().st_size > 1 << 20, 5, "the transfer being under way")
    return curl


@EVERY_ENGINE
@pytest.mark.parametrize("family", [4, 6])
def test_killed_in_the_middle_of_a_transfer_and_restarted(
    lab: Lab, make: Callable[..., Balancer], family: int
) -> None:
    before = state_of(lab)
    balancer = make()
    balancer.start()
    fresh = state_of(lab)
    curl = transfer(lab, vips(lab, family)[0])
    balancer.kill()
    assert changed(fresh, lab) == []  # nobody has put anything back
    assert curl.poll() is None
    assert not is_reachable(lab, "client", vips(lab, family)[0])
    balancer.start()
    assert changed(fresh, lab) == []
    assert_serves(lab)
    assert balancer.stop() == 0
    assert changed(before, lab) == []


def test_killed_twice_in_a_row(lab: Lab, make: Callable[..., Balancer]) -> None:
    before = state_of(lab)
    balancer = make()
    balancer.start()
    fresh = state_of(lab)
    for _ in range(2):
        balancer.kill()
        balancer.start()
        assert changed(fresh, lab) == []
    assert_serves(lab)
    assert balancer.stop() == 0
    assert changed(before, lab) == []


@EVERY_ENGINE
def test_killed_while_it_starts_and_started_again(lab: Lab, make: Callable[..., Balancer]) -> None:
    before = state_of(lab)
    balancer = make()
    balancer.start()
    fresh = state_of(lab)
    assert balancer.stop() == 0
    child = starting(lab, balancer)
    wait_until(
        lambda: any(path.suffix == ".journal" for path in runtime_files(lab.namespace("director"))),
        5,
        "the first change being on record",
    )
    child.kill()
    child.communicate()
    assert changed(before, lab) != []
    balancer.start()
    assert changed(fresh, lab) == []
    assert_serves(lab)


@pytest.mark.parametrize(("name", "datapath"), [("main", "auto"), ("main", "native"), ("other", "native")])
def test_killed_and_restarted_with_another_configuration(
    lab: Lab, make: Callable[..., Balancer], name: str
) -> None:
    second = make(other(lab, name=name).replace(':80"\nsch', ':8080"\nsch'), name="second")
    second.start()
    fresh = state_of(lab)
    assert second.stop() == 0
    first = make()
    first.start()
    first.kill()
    second.start()
    assert changed(fresh, lab) == []
    for vip in (lab.vips4[1], lab.vips6[1]):
        assert ask(lab, "client", vip, 8080).client in (lab.lips4[1], lab.lips6[1])
        assert not is_reachable(lab, "client", vip, 80)


@pytest.mark.requires("ebpf")
def test_killed_and_another_started_beside_its_flows(lab: Lab, make: Callable[..., Balancer]) -> None:
    first = make(lab.config(lips=1))
    second = make(other(lab).replace(':80"\nsch', ':8080"\nsch'), name="second")
    first.start()
    with Browser(lab, "client", lab.vips4[0]) as browser:
        browser.ask()
        first.kill()
        second.start()
        assert ask(lab, "client", lab.vips4[1], 8080).client == lab.lips4[1]
        browser.ask()  # the kernel goes on with it
        thief = make(lab.config(lips=1, instance="thief"), name="thief")
        done = thief.command("run", "-c", str(thief.path), check=False)
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert "its process is gone and its flows go on" in line
        assert "`fullnat stop --instance main`" in line
        browser.ask()
        first.command("stop")
        assert second.stop() == 0


def test_killed_with_both_families_and_restarted_with_one(lab: Lab, make: Callable[..., Balancer]) -> None:
    both, four = make(), make(lab.config(families=(4,)), name="four")
    four.start()
    fresh = state_of(lab)
    assert four.stop() == 0
    both.start()
    both.kill()
    four.start()
    # The tables themselves stay until the end: taking a hook away costs what is in the queue.
    assert [line for line in changed(fresh, lab) if "ip6tables: *" not in line] == []
    assert_serves(lab, (lab.vips4[0],))


# More than one.


def refused(lab: Lab, config: str, *needles: str) -> None:
    """Check that an instance with *config* is refused with one line, exit status 1 and no change."""
    before = state_of(lab)
    intruder = Balancer(lab, config, name="intruder")
    done = intruder.command("run", "-c", str(intruder.path), check=False)
    assert done.returncode == 1
    (line,) = [*done.stdout.splitlines(), *done.stderr.splitlines()]
    for needle in needles:
        assert needle in line
    assert changed(before, lab) == []
    assert_serves(lab)


def test_a_second_instance_of_the_same_name_is_refused(lab: Lab, make: Callable[..., Balancer]) -> None:
    first = make(lab.config(lips=1))
    first.start()
    assert first.process is not None
    refused(lab, other(lab, name="main"), "instance main already runs", f"pid {first.process.pid}", "stop it")
    assert first.show("services")


@pytest.mark.parametrize(
    ("options", "needles"),
    [
        ({"vip": 0}, ("tcp://203.0.113.10:80 is served by instance main", "stop it")),
        ({"lip": 0}, ("instance main", "198.19.0.1", "another LIP or range")),
        ({"queue": 1080}, ("queue 1080 is taken by instance main", "another number")),
    ],
    ids=["same service", "same LIP and ports", "same queue"],
)
def test_an_instance_that_collides_with_another_is_refused(
    lab: Lab, make: Callable[..., Balancer], options: dict[str, int], needles: tuple[str, ...]
) -> None:
    make(lab.config(lips=1)).start()
    refused(lab, other(lab, **options), *needles)  # type: ignore[arg-type]


@EVERY_ENGINE
def test_a_queue_of_another_program_is_refused(lab: Lab, make: Callable[..., Balancer]) -> None:
    balancer = make()
    before = state_of(lab)
    with namespace.inside(lab.namespace("director")):
        stranger = NetfilterQueue()
        stranger.bind(1080, lambda packet: packet.drop())
    try:
        done = balancer.command("run", "-c", str(balancer.path), *balancer.arguments, check=False)
    finally:
        stranger.unbind()
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "queue 1080 is bound by another program" in line
    assert "set another [engine] queue" in line
    assert changed(before, lab) == []


@EVERY_ENGINE
@pytest.mark.parametrize("last", ["stop", "kill"])
def test_two_instances_side_by_side_and_the_first_goes(
    lab: Lab, make: Callable[..., Balancer], last: str
) -> None:
    first, second = make(lab.config(lips=1)), make(other(lab), name="second")
    second.start()
    alone = state_of(lab)
    first.start()
    both = (lab.vips4[0], lab.vips6[0], lab.vips4[1], lab.vips6[1])
    assert_serves(lab, both)
    assert ask(lab, "client", lab.vips4[0]).client == lab.lips4[0]
    assert ask(lab, "client", lab.vips4[1]).client == lab.lips4[1]
    with Browser(lab, "client", lab.vips4[1]) as four, Browser(lab, "client", lab.vips6[1]) as six:
        here = four.ask(), six.ask()
        if last == "stop":
            assert first.stop() == 0
            assert changed(alone, lab) == []
        else:
            first.kill()
        assert (four.ask(), six.ask()) == here
        assert_serves(lab, both[2:])
        assert not is_reachable(lab, "client", lab.vips4[0])
        first.start()
        assert (four.ask(), six.ask()) == here
        assert_serves(lab, both)
    assert second.stop() == 0  # what it changed first and the other needs as well stays
    assert_serves(lab, both[:2])


# Nobody reads what it says.


def test_it_goes_on_when_nobody_reads_what_it_says(lab: Lab) -> None:
    before = state_of(lab)
    path = lab.directory / "fullnat.toml"
    path.write_text(lab.config())
    process = lab.popen(
        "director",
        [*program(), "run", "-c", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stderr
    assert process.stdout.readline().startswith("ready")
    process.stdout.close()
    process.stderr.close()
    lab.run("director", [*program(), "disable", "tcp80-v4", f"{lab.servers4[0]}:80"])  # is an event
    assert_serves(lab)
    process.terminate()
    assert process.wait(15 * PATIENCE) == 0
    assert changed(before, lab) == []


# What others do to the host.


def test_what_an_admin_undoes_is_repaired(lab: Lab, make: Callable[..., Balancer]) -> None:
    before = state_of(lab)
    balancer = make()
    balancer.start()
    fresh = state_of(lab)
    for command in (
        "iptables -t raw -F",
        "ip6tables -t raw -F PREROUTING",
        "iptables -t filter -F FORWARD",
        "ipset flush fn-main.v4.servers",
        f"ip address del {lab.vips4[0]}/32 dev eth0",
        "sysctl -q net.ipv4.ip_forward=0 net.ipv4.conf.all.accept_local=0 net.ipv6.conf.all.forwarding=0",
    ):
        lab.run("director", command.split())
    assert len(changed(fresh, lab)) >= 10
    begun = time.monotonic()
    wait_until(lambda: changed(fresh, lab) == [], REPAIR_SECONDS, "the host being repaired")
    assert time.monotonic() - begun < REPAIR_SECONDS
    wait_until(lambda: "kind=host-repaired" in balancer.log, 2, "the repair being told")
    assert_serves(lab)
    assert balancer.stop() == 0
    assert changed(before, lab) == []


# Servers that die.


@pytest.mark.parametrize("lab", [ONE_SERVER], indirect=True)
@pytest.mark.parametrize("family", [4, 6])
def test_a_dead_server_fails_the_client_at_once_and_is_used_again(
    lab: Lab, make: Callable[..., Balancer], family: int
) -> None:
    make().start()
    vip = vips(lab, family)[0]
    assert ask(lab, "client", vip).server == "server1"
    argv = lab.processes("server1")[0].command.partition("nginx: master process ")[2].split()
    namespace.terminate(namespace.processes_in([lab.namespace("server1")]))
    curl = [
        "curl",
        "-sSg",
        "--max-time",
        "5",
        "-o",
        "/dev/null",
        "-w",
        "%{time_total}",
        f"http://{url_host(vip)}/",
    ]
    done = lab.run("client", curl, check=False)
    assert done.returncode == 7, done.stderr  # refused
    assert float(done.stdout) < 0.5
    lab.popen("server1", argv)
    wait_until(lambda: is_reachable(lab, "director", servers(lab, family)[0]), 5, "nginx being back")
    assert ask(lab, "client", vip).server == "server1"
