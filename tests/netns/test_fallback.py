# SPDX-License-Identifier: Apache-2.0
"""The kernel behind the engine: who serves when, what stays with whom, and nothing is left of it.

 client                    director                     real server
CIP:cport  ---inbound--->  VIP:vport | LIP:lport  --->  RIP:rport
           <--outbound---            |            <---
                           engine, or the kernel's own full NAT
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from balancer import STOP_SECONDS, Balancer
from hoststate import HostState
from lab import Lab
from namespace import LabError
from tests.netns.conftest import ENGINES
from tests.netns.conversations import Parrots, connect, tell
from tests.netns.knocking import Knocking
from tests.netns.streams import ECHO, TRANSPORTS, Streams, echo_config, open_all, start_echo
from tests.netns.traffic import get, lips, reasons, vips, wait_until
from wait import PATIENCE

pytestmark = pytest.mark.requires("nfqueue", "ipset", "iptables", "nat", "conntrack")

# Has the engines' queues.
HOLDER = """
import time
from netfilterqueue import NetfilterQueue
queues = [NetfilterQueue() for _ in range(2)]
for number, queue in enumerate(queues, 1080):
    queue.bind(number, lambda packet: packet.drop())
print("up", flush=True)
time.sleep(600)
"""

CHECK = 'health = { type = "tcp", interval = "100ms", timeout = "50ms", rise = 1, fall = 2 }'
PORTS = 31744  # of each local address, for an engine
OUTAGE = 0.1 * PATIENCE  # seconds from the first connection that is lost to the last


def kernel_packets(lab: Lab) -> int:
    """How many packets have opened a connection by the kernel's rules on the director."""
    packets = 0
    for family in lab.families:
        program = "iptables-save" if family == 4 else "ip6tables-save"
        for line in lab.run("director", [program, "-c", "-t", "nat"]).stdout.splitlines():
            if "-j SNAT" in line:
                packets += int(line[1:].partition(":")[0])
    return packets


def tracked(lab: Lab) -> int:
    """How many connections the director's kernel tracks: none of an engine's."""
    return int(lab.run("director", ["conntrack", "-C"]).stdout)


def hand_over(running: Balancer) -> None:
    """End it, and have the kernel go on."""
    assert "goes on" in running.command("stop", "--handover").stdout
    assert running.process is not None
    assert running.process.wait(STOP_SECONDS) == 0


@pytest.fixture(params=["iptables", pytest.param("ipvs", marks=pytest.mark.requires("ipvs"))])
def kind(request: pytest.FixtureRequest) -> str:
    """By what the kernel serves."""
    return str(request.param)


@pytest.fixture
def config(lab: Lab, kind: str) -> str:
    """A web site and an echo service, and the kernel behind them."""
    echo = echo_config(lab, fallback=kind)
    return f"{lab.config(fallback=kind)}\n{echo[echo.index('[[service]]') :]}"


def test_the_kernel_serves_while_no_engine_does(
    lab: Lab, balancer: Callable[..., Balancer], config: str
) -> None:
    running = balancer(config)
    for family in lab.families:
        vip = vips(lab, family)[0]
        assert get(lab, vip, 6).count == 6
    assert (tracked(lab), kernel_packets(lab)) == (0, 0)
    running.kill()
    for family in lab.families:
        vip = vips(lab, family)[0]
        answers = get(lab, vip, 12)
        assert sorted(answers.servers.values()) == [4, 4, 4]  # round robin it stays
        assert answers.sources <= lips(lab, family)
    assert kernel_packets(lab) == 12 * len(lab.families)
    running.start()
    for family in lab.families:
        assert get(lab, vips(lab, family)[0], 6).count == 6
    assert kernel_packets(lab) == 0  # its rules were written anew
    assert reasons(running.show("stats"))["flow_opened"] == 6 * len(lab.families)


def test_the_kernel_goes_on_with_those_that_were_up(
    lab: Lab, balancer: Callable[..., Balancer], kind: str
) -> None:
    running = balancer(lab.config(fallback=kind, service=CHECK))
    refuse = ["-p", "tcp", "--dport", "80", "-j", "REJECT", "--reject-with", "tcp-reset"]
    for command in ("iptables", "ip6tables"):
        lab.run("server2", [command, "-I", "INPUT", *refuse])
    wait_until(lambda: running.log.count("kind=server-down") == len(lab.families), 10, "server2 down")
    dead = (f"{lab.servers4[1]}:80", f"[{lab.servers6[1]}]:80")
    wait_until(lambda: not any(serves(lab, kind, server) for server in dead), 5, "the kernel knowing it")
    running.kill()
    for family in lab.families:
        assert get(lab, vips(lab, family)[0], 6).servers == {"server1": 3, "server3": 3}


def serves(lab: Lab, kind: str, server: str) -> bool:
    """Whether the kernel behind the engine would choose *server*."""
    if kind == "ipvs":
        lines = lab.run("director", ["ipvsadm", "-Sn"]).stdout.splitlines()
        return any(f"-r {server} " in line and "-w 0" not in line for line in lines)
    program = "ip6tables-save" if server.startswith("[") else "iptables-save"
    return f"--to-destination {server}" in lab.run("director", [program, "-t", "nat"]).stdout


def test_a_death_is_hardly_noticed(lab: Lab, balancer: Callable[..., Balancer], config: str) -> None:
    running = balancer(config)
    with Knocking(lab) as client:
        client.go_on(80)
        running.kill()
        client.go_on(160)
    assert client.outage < OUTAGE
    assert kernel_packets(lab) > 120


def test_a_planned_stop_and_the_return_are_hardly_noticed(
    lab: Lab, balancer: Callable[..., Balancer], config: str
) -> None:
    running = balancer(config)
    with Knocking(lab) as client:
        client.go_on(40)
        hand_over(running)
        client.go_on(80)
    assert client.outage < OUTAGE
    assert kernel_packets(lab) > 60
    with Knocking(lab) as client:
        client.go_on(40)
        running.start()
        client.go_on(80)
    assert client.outage < OUTAGE
    assert reasons(running.show("stats"))["flow_opened"] > 60


def test_what_the_kernel_took_stays_with_it(
    lab: Lab, balancer: Callable[..., Balancer], parrots: Parrots, config: str
) -> None:
    running = balancer(config)
    running.kill()
    with ExitStack() as stack:
        talks = open_all(stack, lab)
        before = [tell(talk, "first").split(":")[0] for talk in talks]
        running.start()
        for _ in range(5):
            assert [tell(talk, "again").split(":")[0] for talk in talks] == before
        assert kernel_packets(lab) == 0
        assert running.show("flows") == []
        for vip in (lab.vips4[0], lab.vips6[0]):
            for kind in TRANSPORTS:
                with connect(lab, "client2", vip, ECHO, kind=kind) as fresh:
                    assert tell(fresh, "new").endswith("new")
        assert len(running.show("flows")) == 4
        assert kernel_packets(lab) == 0


def test_a_planned_stop_hands_over_what_there_is(
    lab: Lab, balancer: Callable[..., Balancer], parrots: Parrots, config: str
) -> None:
    """And the next start leaves it where it is."""
    running = balancer(config)
    with ExitStack() as stack:
        talks = open_all(stack, lab)
        before = [tell(talk, "first").split(":")[0] for talk in talks]
        ends = {(row["protocol"], row["local"]) for row in running.show("flows")}
        hand_over(running)
        assert [tell(talk, "and on").split(":")[0] for talk in talks] == before
        for vip in (lab.vips4[0], lab.vips6[0]):
            for kind in TRANSPORTS:
                with connect(lab, "client2", vip, ECHO, kind=kind) as fresh:
                    assert tell(fresh, "new").endswith("new")
        running.start()
        assert [tell(talk, "still").split(":")[0] for talk in talks] == before
        later = open_all(stack, lab)
        assert len([tell(talk, "later") for talk in later]) == len(talks)
        assert [tell(talk, "still").split(":")[0] for talk in talks] == before
        rows = {(row["protocol"], row["local"]) for row in running.show("flows")}
        assert len(rows | ends) == len(talks) + len(later)
        if (
            running.show("stats").get("flows_adopted", 0) == 0
        ):  # the kernel has them: their ports are left out
            assert all(use["capacity"] < PORTS for use in running.show("ports"))


def test_streams_go_on_through_handover_and_return(lab: Lab, balancer: Callable[..., Balancer]) -> None:
    """None lost, none corrupted: what opens meanwhile, and what was there."""
    start_echo(lab)
    running = balancer(echo_config(lab, fallback="iptables"))
    with Streams(lab, (lab.vips4[0], lab.vips6[0]), tcp=40, udp=20) as streams:
        for _ in range(3):
            streams.go_on()
            hand_over(running)
            streams.go_on()
            running.start()
        streams.go_on()


@pytest.mark.parametrize("datapath", ENGINES[:2])
def test_a_connection_nobody_knows_is_reset(
    lab: Lab, balancer: Callable[..., Balancer], parrots: Parrots, config: str
) -> None:
    """One that an engine had which keeps none; both ends are told."""
    running = balancer(config)
    with ExitStack() as stack:
        talks = [
            stack.enter_context(connect(lab, "client", vip, ECHO)) for vip in (lab.vips4[0], lab.vips6[0])
        ]
        for talk in talks:
            tell(talk, "here")
        running.kill()
        for talk in talks:
            with pytest.raises(ConnectionResetError):
                tell(talk, "anybody?")


def test_clients_on_the_director_itself(
    lab: Lab, balancer: Callable[..., Balancer], parrots: Parrots, config: str
) -> None:
    running = balancer(config)

    def talk_to_all() -> None:
        for vip in (lab.vips4[0], lab.vips6[0]):
            for kind in TRANSPORTS:
                with connect(lab, "director", vip, ECHO, kind=kind) as talk:
                    assert tell(talk, "from here").endswith("from here")

    talk_to_all()
    assert (tracked(lab), kernel_packets(lab)) == (0, 0)
    running.kill()
    talk_to_all()
    assert kernel_packets(lab) == 4


def test_a_client_that_stays_on_its_server_does_so_in_the_kernel(
    lab: Lab, balancer: Callable[..., Balancer]
) -> None:
    service = "persistence = { timeout = 60 }"
    running = balancer(lab.config(scheduler="wrr", service=service, fallback="iptables"))
    running.kill()
    for family in lab.families:
        for client in ("client", "client2"):
            answers = get(lab, vips(lab, family)[0], 10, role=client)
            assert list(answers.servers.values()) == [10]


def test_the_host_is_as_it_was_after_a_kill_and_a_stop(
    lab: Lab, balancer: Callable[..., Balancer], config: str
) -> None:
    before = HostState.of(lab)
    running = balancer(config)
    running.kill()
    assert get(lab, lab.vips4[0], 3).count == 3
    assert "put back" in running.command("stop").stdout
    assert before.changes_to(HostState.of(lab)) == []


def test_a_reload_of_rules_by_somebody_else_is_repaired(
    lab: Lab, balancer: Callable[..., Balancer], config: str
) -> None:
    """The chains of the fallback are looked after like all others."""
    running = balancer(config)
    lab.run("director", ["iptables", "-t", "nat", "-F"])
    lab.run("director", ["iptables", "-t", "nat", "-X"])

    wait_until(lambda: "kind=host-repaired" in running.log, 20, "a repair")
    running.kill()
    assert get(lab, lab.vips4[0], 3).count == 3


def test_where_no_engine_can_run_the_kernel_serves_alone(
    lab: Lab, balancer: Callable[..., Balancer], config: str
) -> None:
    """Somebody else has the queue."""
    holder = lab.popen("director", [sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, text=True)
    assert holder.stdout
    assert holder.stdout.readline() == "up\n"
    running = balancer(config)
    assert "engine kernel" in running.log
    assert json.loads(running.command("status", "--json").stdout)["engine"] == "kernel"
    for family in lab.families:
        assert get(lab, vips(lab, family)[0], 6).count == 6
    assert kernel_packets(lab) == 6 * len(lab.families)
    assert running.show("flows") == []
    assert running.stop() == 0
    holder.terminate()
    holder.wait(10)
    holder.stdout.close()


def test_without_a_fallback_that_is_an_error_in_one_line(lab: Lab, datapath: str) -> None:
    holder = lab.popen("director", [sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, text=True)
    assert holder.stdout
    assert holder.stdout.readline() == "up\n"
    alone = Balancer(lab, lab.config(fallback="none"), arguments=["--datapath", datapath])
    with pytest.raises(LabError, match="exit status 1"):
        alone.start()
    assert len(alone.log.splitlines()) == 1
    holder.terminate()
    holder.wait(10)
    holder.stdout.close()


def test_no_fallback_is_a_blackout(lab: Lab, balancer: Callable[..., Balancer]) -> None:
    """As the config says."""
    running = balancer(lab.config(fallback="none"))
    assert "fallback: none" in running.log
    running.kill()
    with pytest.raises(TimeoutError):
        connect(lab, "client", lab.vips4[0], timeout=0.3)
