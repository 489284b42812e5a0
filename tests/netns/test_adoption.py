# SPDX-License-Identifier: Apache-2.0
"""Flows that outlive their engine: killed, stopped with --keep, upgraded; and an end that leaves nothing.

 client                    director                     real server
CIP:cport  ---inbound--->  VIP:vport | LIP:lport  --->  RIP:rport
           <--outbound---            |            <---
"""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import fullnat
from balancer import Balancer, program
from fullnat.host.fastpath import LAYOUT, pin_directory
from fullnat.host.libbpf import BpfObject, Filter, Libbpf
from hoststate import HostState
from lab import Lab
from namespace import cookie, inside, ip_batch, ip_json, processes_in
from tests.netns.conversations import Parrots, connect, is_reachable, tell
from tests.netns.streams import ECHO, TRANSPORTS, Streams, UdpFlows, echo_config, open_all, start_echo
from tests.netns.traffic import reasons, url_host, wait_until

pytestmark = pytest.mark.requires("nfqueue", "ipset", "iptables", "ebpf")

LONG = os.environ.get("FULLNAT_LONG") == "1"
KILLS = 100 if LONG else 12
CONNECTIONS = 500 if LONG else 100
FLOOD_KILLS, FLOOD = 3, 4000


Row = dict[str, Any]


@pytest.fixture
def datapath() -> str:
    """The engine whose flows outlive it."""
    return "ebpf"


def table(balancer: Balancer) -> dict[tuple[str, str], Row]:
    """The flows, by protocol and client."""
    shown = balancer.command("show", "flows", "--json", "--limit", "1000000").stdout
    return {(row["protocol"], row["client"]): row for row in json.loads(shown)}


def pins_of(lab: Lab) -> Path:
    """Where the maps of instance main are pinned."""
    return pin_directory("main", str(cookie(lab.namespace("director"))))


def attached(lab: Lab) -> list[str]:
    """What of tc's the devices of the director have: the text, but for what grows by itself."""
    return [
        line
        for device in ("eth0", "eth1", "spare")
        for what in (["qdisc", "show", "dev", device], ["filter", "show", "dev", device, "ingress"])
        for line in lab.run("director", ["tc", *what]).stdout.splitlines()
    ]


def is_loaded(lab: Lab, map_id: str) -> bool:
    """Whether the kernel still has map *map_id*: something pins it, or is attached and uses it."""
    return lab.run("director", ["bpftool", "map", "show", "id", map_id], check=False).returncode == 0


def map_ids(lab: Lab) -> list[str]:
    """The maps of instance main."""
    return [
        lab.run("director", ["bpftool", "map", "show", "pinned", str(pin)]).stdout.split(":")[0]
        for pin in pins_of(lab).iterdir()
        if not pin.name.startswith("link-") and pin.suffix != ".debug"  # the kernel's own
    ]


# Death.


def test_flows_go_on_without_an_engine_and_are_adopted_by_the_next(
    lab: Lab, balancer: Callable[..., Balancer], parrots: Parrots
) -> None:
    running = balancer(echo_config(lab))
    with ExitStack() as stack:
        talks = open_all(stack, lab)
        before = table(running)
        assert len(before) == len(talks)
        running.kill()
        heard = [[tell(talk, f"{number}") for number in range(10)] for talk in talks]
        assert all(len({answer.split(":")[0] for answer in answers}) == 1 for answers in heard)
        assert not is_reachable(lab, "client", lab.vips4[0], ECHO)
        running.start()
        ready = time.monotonic()
        after = table(running)
        assert time.monotonic() - ready < 1
        for client, old in before.items():
            new = after[client]
            assert (new["local"], new["server"]) == (old["local"], old["server"])
            assert new["age"] > old["age"]
            for way in ("packets_in", "packets_out"):
                if new["protocol"] == "udp":
                    assert new[way] == old[way] + 10
                else:
                    assert new[way] >= old[way] + 10
        stats = running.show("stats")
        assert (stats["flows_adopted"], stats["flows_ended_by_adoption"]) == (len(talks), 0)
        assert reasons(stats).get("flow_opened", 0) == 0
        assert sum(use["in_use"] for use in running.show("ports")) == len(talks)
        for talk in talks:
            assert tell(talk, "still here").endswith("still here")
        for vip in (lab.vips4[0], lab.vips6[0]):
            for kind in TRANSPORTS:
                with connect(lab, "client2", vip, ECHO, kind=kind) as fresh:
                    assert tell(fresh, "new").endswith("new")
        assert len(table(running)) == len(talks) + 4
        local = [(row["protocol"], row["local"], row["server"]) for row in table(running).values()]
        assert len(set(local)) == len(local)


def test_flows_of_a_backup_pool_are_adopted_too(
    lab: Lab, balancer: Callable[..., Balancer], parrots: Parrots
) -> None:
    check = 'health = { type = "tcp", interval = "100ms", timeout = "50ms", rise = 1, fall = 2 }'
    head, *servers = lab.config(port=ECHO, families=(4,), service=check).split("\n  [[service.server]]\n")
    spare = '\n  [[service.backup]]\n  name = "spare"\n    [[service.backup.server]]\n  '
    running = balancer(f"{head}\n  [[service.server]]\n{servers[0]}{spare}{servers[2]}")
    lab.run("server1", ["iptables", "-I", "INPUT", "-p", "tcp", "-j", "REJECT", "--reject-with", "tcp-reset"])
    wait_until(lambda: "kind=pool-serves" in running.log, 10, "the spare serves")
    with connect(lab, "client", lab.vips4[0], ECHO) as talk:
        assert tell(talk, "hello").startswith("server3")
        running.kill()
        lab.run("server1", ["iptables", "-F", "INPUT"])
        running.start()
        assert running.show("stats")["flows_adopted"] == 1
        assert tell(talk, "still here").startswith("server3")
        with connect(lab, "client", lab.vips4[0], ECHO) as other:
            assert tell(other, "new").startswith("server1")


def test_an_adopted_flow_ends_when_it_is_over(
    lab: Lab, balancer: Callable[..., Balancer], parrots: Parrots
) -> None:
    timeouts = "[service.timeouts]\ntcp_reset = 1\ntcp_closing = 1"
    running = balancer(lab.config(port=ECHO, service=timeouts))
    with ExitStack() as stack:
        vips = (lab.vips4[0], lab.vips6[0])
        while_dead, after = (
            [stack.enter_context(connect(lab, "client", vip, ECHO)) for vip in vips] for _ in range(2)
        )
        for talk in (*while_dead, *after):
            tell(talk, "hello")
        running.kill()
        for talk in while_dead:
            talk.close()
        running.start()
        assert running.show("stats")["flows_adopted"] == 4
        wait_until(lambda: len(table(running)) == 2, 5, "the end of those that were closed meanwhile")
        for talk in after:
            tell(talk, "still here")
            talk.close()
        wait_until(lambda: not table(running), 5, "the end of those that were closed since")
    assert sum(use["in_use"] for use in running.show("ports")) == 0


@pytest.mark.timeout(900 if LONG else 120)
def test_killed_again_and_again_under_load(lab: Lab, balancer: Callable[..., Balancer]) -> None:
    start_echo(lab)
    running = balancer(echo_config(lab))
    vips = (lab.vips4[0], lab.vips6[0])
    with Streams(lab, vips, tcp=CONNECTIONS, udp=20) as streams:
        streams.go_on()
        before = table(running)
        assert len(before) == CONNECTIONS + 20
        for _ in range(KILLS):
            running.kill()
            streams.go_on()  # with nobody there
            running.start()
            assert running.show("stats")["flows_adopted"] == len(before)
        report = streams.go_on()
        after = table(running)
        assert report.troubles == []
        assert {client: row["local"] for client, row in after.items()} == {
            client: row["local"] for client, row in before.items()
        }
        print(
            f"{CONNECTIONS} connections, {KILLS} kills: {sum(report.rounds)} rounds, {report.resent} resent"
        )


def test_killed_at_any_moment_of_its_start_under_load(lab: Lab, balancer: Callable[..., Balancer]) -> None:
    start_echo(lab)
    running = balancer(echo_config(lab))
    with Streams(lab, (lab.vips4[0], lab.vips6[0]), tcp=CONNECTIONS, udp=20) as streams:
        streams.go_on()
        before = table(running)
        running.kill()
        command = [*program(), "run", "-c", str(running.path), *running.arguments]
        for moment in range(20, 60, 2):  # hundredths of a second: `ready` comes at some 50 of them
            child = lab.popen("director", command)
            with pytest.raises(subprocess.TimeoutExpired):
                child.wait(moment / 100)
            child.kill()
            child.wait()
            streams.go_on()
        running.start()
        report = streams.go_on()
        assert report.resent == 0
        assert running.show("stats")["flows_adopted"] == len(before)
        assert {client: row["local"] for client, row in table(running).items()} == {
            client: row["local"] for client, row in before.items()
        }


def test_clients_stay_with_their_server_as_long_as_their_flows_do(
    lab: Lab, balancer: Callable[..., Balancer], parrots: Parrots
) -> None:
    running = balancer(lab.config(port=ECHO, service='persistence = { timeout = "60s" }'))

    def server_of(client: str, vip: str) -> str:
        with connect(lab, client, vip, ECHO) as fresh:
            return tell(fresh, "hello").split(":")[0]

    with ExitStack() as stack:
        for client, vip in [(client, vip) for client in lab.clients for vip in (lab.vips4[0], lab.vips6[0])]:
            talk = stack.enter_context(connect(lab, client, vip, ECHO))
            server = tell(talk, "hello").split(":")[0]
            running.kill()
            running.start()
            assert {server_of(client, vip) for _ in range(4)} == {server}


@pytest.mark.timeout(240)
def test_killed_while_it_opens_flows_as_fast_as_it_can(lab: Lab, balancer: Callable[..., Balancer]) -> None:
    start_echo(lab)
    running = balancer(lab.config(protocol="udp", port=ECHO))
    with ExitStack() as stack:
        floods = [
            stack.enter_context(UdpFlows(lab, "client", vip, 20_000, FLOOD * FLOOD_KILLS))
            for vip in (lab.vips4[0], lab.vips6[0])
        ]
        for turn in range(FLOOD_KILLS):
            for flood in floods:
                flood.tell(f"send {turn * FLOOD} {(turn + 1) * FLOOD}")
            # Another opens the flows of the rest of them.
            wait_until(lambda: running.show("stats")["flows"] > turn * FLOOD + 500, 10, "the flood")  # noqa: B023
            running.kill()
            running.start()
            for flood in floods:
                assert flood.answer() == str(FLOOD)
            known = table(running)
            local = [(row["local"], row["server"]) for row in known.values()]
            assert len(set(local)) == len(local)
            assert running.show("stats")["flows"] == len(known)
            assert sum(use["in_use"] for use in running.show("ports")) == len(known)
            servers = running.show("servers")
            assert sum(row["active"] + row["inactive"] for row in servers) == len(known)
        for flood in floods:
            flood.answers(0)
            for begin in range(0, flood.count, 1000):
                flood.send(begin, begin + 1000)
                assert flood.answers(10) == 1000
        assert len(table(running)) == len(floods) * FLOOD * FLOOD_KILLS


# An end on purpose.


def test_stopped_to_be_upgraded_under_load(lab: Lab, balancer: Callable[..., Balancer]) -> None:
    start_echo(lab)
    running = balancer(echo_config(lab))
    with Streams(lab, (lab.vips4[0], lab.vips6[0]), tcp=CONNECTIONS, udp=20) as streams:
        streams.go_on()
        before = table(running)
        for _ in range(3):
            assert "its flows go on" in running.command("stop", "--keep").stdout
            assert running.process is not None
            assert running.process.wait(5) == 0
            streams.go_on()
            running.start()
            assert running.show("stats")["flows_adopted"] == CONNECTIONS + 20
        report = streams.go_on()
        assert report.resent == 0
        after = table(running)
        assert {client: row["local"] for client, row in after.items()} == {
            client: row["local"] for client, row in before.items()
        }
        assert all(after[client]["age"] > row["age"] for client, row in before.items())


def test_a_server_that_the_next_configuration_lacks_loses_its_flows_and_no_other_does(
    lab: Lab, balancer: Callable[..., Balancer], parrots: Parrots
) -> None:
    running = balancer(echo_config(lab))
    gone = (f"{lab.servers4[2]}:{ECHO}", f"[{lab.servers6[2]}]:{ECHO}")
    with ExitStack() as stack:
        talks = [talk for _ in lab.servers for talk in open_all(stack, lab)]
        before = table(running)
        running.command("stop", "--keep")
        assert running.process is not None
        assert running.process.wait(5) == 0
        assert {tell(talk, "hello").split(":")[0] for talk in talks} == set(lab.servers)
        running.configure(without_server(echo_config(lab), gone))
        running.start()
        stats = running.show("stats")
        assert (stats["flows_adopted"], stats["flows_ended_by_adoption"]) == (8, 4)
        assert table(running).keys() == {key for key, row in before.items() if row["server"] not in gone}
        for talk in talks:
            talk.settimeout(0.5)
            local = f"{url_host(talk.getsockname()[0])}:{talk.getsockname()[1]}"
            protocol = "tcp" if talk.type == socket.SOCK_STREAM else "udp"
            if before[protocol, local]["server"] not in gone:
                assert tell(talk, "still here").endswith("still here")
            elif protocol == "udp":  # a flow opens anew, to another
                assert not tell(talk, "who are you").startswith(lab.servers[2])
            else:
                talk.send(b"nobody knows me")
                with pytest.raises(OSError, match=r"reset|timed out"):
                    talk.recv(100)


def without_server(config: str, addresses: tuple[str, ...]) -> str:
    """*config* without the servers that have *addresses*."""
    for address in addresses:
        config = config.replace(f'\n  [[service.server]]\n  address = "{address}"', "")
    return config


@pytest.fixture(params=["nothing", "clsact", "a filter"])
def _others(lab: Lab, request: pytest.FixtureRequest) -> None:
    """What a device of the director has of the administrator's before fullnat comes."""
    director = lab.namespace("director")
    ip_batch(["link add spare type veth peer name peer", "link set spare up", "link set peer up"], director)
    if request.param == "clsact":
        lab.run("director", ["tc", "qdisc", "add", "dev", "spare", "clsact"])
    elif request.param == "a filter":
        index = ip_json("link", "show", "dev", "spare", namespace=director)[0]["ifindex"]
        library = Libbpf()
        program = BpfObject(library, Path(fullnat.__file__).with_name("_probe.bpf.o"))
        program.load()
        with inside(director):
            library.add_ingress(index)
            library.attach(index, Filter(7, 1), program.program_descriptor("probe"))
        program.close()


@pytest.mark.usefixtures("_others")
@pytest.mark.parametrize("state", ["running", "killed", "kept"])
def test_stop_leaves_nothing(
    lab: Lab, balancer: Callable[..., Balancer], parrots: Parrots, state: str
) -> None:
    before, tc = HostState.of(lab), attached(lab)
    running = balancer(echo_config(lab))
    with ExitStack() as stack:
        open_all(stack, lab)
        pins, maps = pins_of(lab), map_ids(lab)
        assert len(maps) >= 8
        if state == "killed":
            running.kill()
        elif state == "kept":
            running.command("stop", "--keep")
        assert all(is_loaded(lab, one) for one in maps)
        running.command("stop")
        assert running.process is not None
        running.process.wait(5)
    assert not pins.exists()
    assert before.changes_to(HostState.of(lab)) == []
    assert attached(lab) == tc
    assert processes_in([lab.namespace("director")]) == []
    wait_until(lambda: not any(is_loaded(lab, one) for one in maps), 5, "the maps being gone")
    assert running.command("stop", check=False).returncode == 1  # nothing to end any more


@pytest.mark.requires("native")
@pytest.mark.parametrize("successor", ["native", "python"])
def test_another_engine_ends_the_fast_path_and_serves(
    lab: Lab, balancer: Callable[..., Balancer], parrots: Parrots, successor: str
) -> None:
    before = HostState.of(lab)
    running = balancer(echo_config(lab))
    with ExitStack() as stack:
        open_all(stack, lab)
        pins, maps = pins_of(lab), map_ids(lab)
        running.kill()
        running.arguments = ["--datapath", successor]
        running.start()
        assert not pins.exists()
        wait_until(lambda: not any(is_loaded(lab, one) for one in maps), 5, "the maps being gone")
        open_all(stack, lab)
        assert len(table(running)) == 4
    assert running.stop() == 0
    assert before.changes_to(HostState.of(lab)) == []


def test_keep_is_refused_where_nothing_would_go_on(lab: Lab, balancer: Callable[..., Balancer]) -> None:
    running = balancer(arguments=["--datapath", "python"])
    done = running.command("stop", "--keep", check=False)
    assert done.returncode == 1
    assert "cannot keep flows" in done.stderr
    assert running.running


# What it cannot take over.


@pytest.mark.parametrize("datapath", ["ebpf", "auto"])
def test_flows_of_another_layout_are_refused_and_go_on(
    lab: Lab, balancer: Callable[..., Balancer], parrots: Parrots
) -> None:
    running = balancer(echo_config(lab))
    with ExitStack() as stack:
        talks = open_all(stack, lab)
        running.kill()
        library = Libbpf()
        identity = library.get_pinned(pins_of(lab) / "identity")
        assert identity is not None
        stack.callback(os.close, identity)
        ours = library.read_map(identity, 24)
        library.write_map(identity, struct.pack("=I", LAYOUT + 1) + ours[4:])
        for _ in range(2):
            done = running.command("run", "-c", str(running.path), *running.arguments, check=False)
            assert done.returncode == 1
            (line,) = done.stderr.splitlines()
            assert f"layout {LAYOUT + 1}" in line
            assert f"this version knows {LAYOUT}" in line
            assert "fullnat stop" in line
            for talk in talks:
                assert tell(talk, "still here").endswith("still here")
        library.write_map(identity, ours)
        running.start()
        assert running.show("stats")["flows_adopted"] == len(talks)
        for talk in talks:
            assert tell(talk, "still here").endswith("still here")
