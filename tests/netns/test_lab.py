# SPDX-License-Identifier: Apache-2.0
"""The lab itself: every drawing is true, and whatever happens to a lab, it can be removed.

 client                    director                     real server
CIP:cport  ---inbound--->  VIP:vport | LIP:lport  --->  RIP:rport
           <--outbound---            |            <---
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import namespace
import state
from lab import SWITCH, Lab
from namespace import LabError, Process
from topology import TOPOLOGIES
from wait import wait_until

LAB = Path(__file__).resolve().parents[2] / "netns-lab" / "lab.py"
RUN = f"u{os.getpid()}"
EVERY_LAB = pytest.mark.parametrize("lab", list(TOPOLOGIES), indirect=True)


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(LAB), *arguments], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.fixture
def by_hand() -> Iterator[str]:
    """A run id for the command line, whose lab is removed whatever the test did."""
    yield RUN
    Lab(run=RUN).down()
    assert namespace.existing(f"fn-{RUN}-") == []


def connects(lab: Lab, role: str, address: str, port: int = 80) -> bool:
    """Whether *role* gets a TCP connection to *address* within a second."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with namespace.inside(lab.namespace(role)), socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(1)
        try:
            connection.connect((address, port))
        except OSError:
            return False
        return True


def addresses(lab: Lab, kind: str) -> tuple[str, ...]:
    return (*getattr(lab, f"{kind}4"), *getattr(lab, f"{kind}6"))


@EVERY_LAB
def test_director_reaches_every_client_and_every_server(lab: Lab) -> None:
    for address in addresses(lab, "servers"):
        assert connects(lab, "director", address), address
    for address in addresses(lab, "clients"):
        lab.run("director", ["ping", "-n", "-c", "1", "-W", "2", address])


@EVERY_LAB
def test_servers_reach_the_director_and_not_the_client(lab: Lab) -> None:
    lip4 = lab.lips4[0]
    for role in lab.servers:
        lab.run(role, ["ping", "-n", "-c", "1", "-W", "2", lip4])
        for address in addresses(lab, "clients"):
            answer = lab.run(role, ["ping", "-n", "-c", "1", "-W", "1", address], check=False)
            assert (answer.returncode == 0) == (lab.topology.name == "one-arm"), answer.stdout


@EVERY_LAB
def test_client_reaches_no_vip_before_fullnat_runs(lab: Lab) -> None:
    vips = addresses(lab, "vips")
    with ThreadPoolExecutor(len(vips)) as pool:  # each attempt takes its whole second
        assert not any(pool.map(lambda vip: connects(lab, "client", vip), vips))


@EVERY_LAB
def test_director_is_an_ordinary_host(lab: Lab) -> None:
    sysctls = namespace.read_sysctls(
        lab.namespace("director"),
        ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv4/conf/*/rp_filter"],
    )
    assert len(sysctls) >= 5
    assert set(sysctls.values()) == {"0"}
    own = {device["ifname"] for device in namespace.ip_json("link", namespace=lab.namespace("director"))}
    assert own == ({"lo", "eth0"} if lab.topology.name == "one-arm" else {"lo", "eth0", "eth1"})


@pytest.mark.requires("curl")
def test_web_server_says_who_it_is_and_whom_it_sees(lab: Lab) -> None:
    (lab.directory / "files" / "hello").write_bytes(b"bytes" * 1000)
    for server, host in ((lab.servers4[1], lab.servers4[1]), (lab.servers6[1], f"[{lab.servers6[1]}]")):
        seen = lab.lips6[0] if ":" in server else lab.lips4[0]
        answer = lab.run("director", ["curl", "-sSg", f"http://{host}/"]).stdout.splitlines()
        assert answer[0] == "server: server2"
        assert answer[1].startswith(f"client: {seen} port ")
        headers = lab.run("director", ["curl", "-sSgi", f"http://{host}/close"]).stdout
        assert "Connection: close" in headers
        assert lab.run("director", ["curl", "-sSg", f"http://{host}/files/hello"]).stdout == "bytes" * 1000
    upload = lab.directory / "files" / "hello"
    lab.run("director", ["curl", "-sSgf", "-T", str(upload), f"http://{lab.servers4[2]}/upload/copy"])
    assert (lab.directory / "server3" / "upload" / "copy").read_bytes() == upload.read_bytes()


@pytest.mark.parametrize("lab", [{"topology": "routed", "mtu": {"wan": 1280, "remote": 1400}}], indirect=True)
def test_path_mtu_is_that_of_its_smallest_segment(lab: Lab) -> None:
    for length, arrives in ((1280, True), (1281, False)):
        payload = length - 20 - 8  # IPv4 and ICMP headers
        ping = ["ping", "-n", "-c", "1", "-W", "1", "-M", "do", "-s", str(payload), lab.servers4[0]]
        assert (lab.run("director", ping, check=False).returncode == 0) == arrives
    mtu = {
        (role, device["ifname"]): device["mtu"]
        for role in ("director", "router", "server1")
        for device in namespace.ip_json("link", namespace=lab.namespace(role))
    }
    assert mtu["director", "eth1"] == mtu["router", "eth0"] == 1280
    assert mtu["router", "eth1"] == mtu["server1", "eth0"] == 1400
    assert mtu["director", "eth0"] == 1500


@pytest.mark.parametrize("lab", [{"topology": "two-arm", "clients": 1, "servers": 1}], indirect=True)
def test_a_lab_of_one_client_and_one_server_has_no_bridge(lab: Lab) -> None:
    assert [device["ifname"] for device in namespace.ip_json("link", namespace=lab.namespace(SWITCH))] == [
        "lo"
    ]
    assert lab.clients == ("client",)
    assert connects(lab, "director", lab.servers4[0])


@pytest.mark.parametrize("name", list(TOPOLOGIES))
def test_config_names_all_servers_of_every_family(name: str) -> None:
    lab = Lab(name, run=RUN)
    config = tomllib.loads(lab.config(vips=2, weights=(3, 2, 1), service="persistence = { timeout = 60 }"))
    assert config["snat"]["addresses"] == [*lab.lips4, *lab.lips6]
    assert len(config["service"]) == len(lab.vips4 + lab.vips6)
    for service in config["service"]:
        assert [server["weight"] for server in service["server"]] == [3, 2, 1]
        assert service["persistence"] == {"timeout": 60}
    listening = [service["listen"] for service in config["service"]]
    assert listening[0] == f"tcp://{lab.vips4[0]}:80"
    assert all(f"tcp://[{vip}]:80" in listening for vip in lab.vips6)


def test_up_twice_is_one_lab(by_hand: str) -> None:
    for _ in range(2):
        assert command("up", "one-arm", "--run", by_hand, "--servers").returncode == 0
    here = state.load(by_hand)
    assert here is not None
    assert here.topology == "one-arm"
    answer = command("exec", "--run", by_hand, "client", "ping", "-n", "-c", "1", "198.18.0.11")
    assert answer.returncode == 0
    masters = [
        process
        for process in namespace.processes_in(namespace.existing(f"fn-{by_hand}-"))
        if "master" in process.command
    ]
    assert len(masters) == 3


def test_down_twice_leaves_nothing(by_hand: str) -> None:
    assert command("up", "two-arm", "--run", by_hand, "--servers").returncode == 0
    running = namespace.processes_in(namespace.existing(f"fn-{by_hand}-"))
    assert running
    assert "is down" in command("down", "--run", by_hand).stdout
    assert not any(process.alive for process in running)
    assert state.load(by_hand) is None
    again = command("down", "--run", by_hand)
    assert again.returncode == 0
    assert "no lab" in again.stdout


def test_up_after_an_interrupted_up(by_hand: str) -> None:
    first = subprocess.Popen([sys.executable, str(LAB), "up", "routed", "--run", by_hand, "--servers"])
    wait_until(lambda: namespace.existing(f"fn-{by_hand}-"), 10, "the first namespace")
    first.kill()
    first.wait()
    assert state.load(by_hand) is not None  # written before the first namespace
    assert command("up", "two-arm", "--run", by_hand, "--servers").returncode == 0
    assert f"fn-{by_hand}-router" not in namespace.existing(f"fn-{by_hand}-")
    assert command("exec", "--run", by_hand, "client", "ping", "-n", "-c", "1", "203.0.113.1").returncode == 0


def test_down_after_a_namespace_was_cut_short(by_hand: str) -> None:
    assert command("up", "howto", "--run", by_hand).returncode == 0
    (namespace.NETNS / f"fn-{by_hand}-extra").touch()  # what `ip netns add` leaves when killed half way
    assert command("down", "--run", by_hand).returncode == 0
    assert namespace.existing(f"fn-{by_hand}-") == []


def test_lab_of_a_killed_process_is_found_abandoned() -> None:
    script = f"import sys; sys.path.insert(0, {str(LAB.parent)!r})\nfrom lab import Lab\n"
    script += "lab = Lab('two-arm').up(servers=True); print(lab.id, flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout
        run = owner.stdout.readline().strip()
        assert run not in state.abandoned_runs()
        owner.kill()
    assert run in state.abandoned_runs()
    left = Lab(run=run)
    assert left.namespaces
    left.down()
    assert left.namespaces == []
    assert run not in state.runs()


def test_down_spares_a_process_that_has_a_recorded_pid_by_chance(lab: Lab) -> None:
    with subprocess.Popen(["sleep", "60"]) as stranger:
        process = Process.of(stranger.pid)
        assert process
        namespace.terminate([Process(process.pid, process.started - 1)])
        assert process.alive
        namespace.terminate([process])
        assert not process.alive


def test_a_program_that_ignores_sigterm_is_killed(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespace, "TERMINATE_SECONDS", 0.2)
    stubborn = lab.popen("client", ["sh", "-c", "trap '' TERM; while :; do read line; done"], stdin=None)
    lab.down()
    assert stubborn.returncode is not None


def test_unknown_names_are_answered_with_the_known_ones(by_hand: str) -> None:
    assert command("up", "three-arm").returncode == 2
    answer = command("exec", "--run", by_hand, "client", "true")
    assert answer.returncode == 1
    assert "no lab" in answer.stderr
    assert command("up", "howto", "--run", by_hand).returncode == 0
    answer = command("exec", "--run", by_hand, "clinet", "true")
    assert answer.returncode == 1
    assert "client2" in answer.stderr
    assert "fn-" in command("status", "--run", by_hand).stdout
    with pytest.raises(LabError, match="run id"):
        Lab(run="two-words")
