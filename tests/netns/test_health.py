# SPDX-License-Identifier: Apache-2.0
"""Health checks at work: a server that dies gets no more connections, and gets them again when it is back."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from balancer import Balancer
from lab import Lab
from tests.netns.conversations import is_reachable
from tests.netns.traffic import get, wait_until
from wait import PATIENCE

pytestmark = pytest.mark.requires("nfqueue", "ipset", "iptables", "curl")

CHECK = 'health = { type = "http", interval = "200ms", timeout = "100ms", rise = 2, fall = 3, jitter = 0 }'
REJECT = ["INPUT", "-p", "tcp", "--dport", "80", "-j", "REJECT", "--reject-with", "tcp-reset"]
DROP = ["INPUT", "-p", "tcp", "--dport", "80", "-j", "DROP"]


def events(running: Balancer, kind: str) -> list[dict[str, Any]]:
    """What happened of this kind so far."""
    lines = running.command("events", "--json").stdout.splitlines()
    return [event for event in map(json.loads, lines) if event["kind"] == kind]


def healthy(running: Balancer) -> Callable[[], bool]:
    """Whether every server was found up."""
    return lambda: all(row["health"] == "up" for row in running.show("servers"))


def iptables(lab: Lab, role: str, *words: str) -> None:
    for program in ("iptables", "ip6tables"):
        lab.run(role, [program, *words])


@pytest.mark.parametrize(("rule", "silence"), [(REJECT, 0), (DROP, 0.1)], ids=["refuses", "is silent"])
def test_a_server_that_dies_is_left_out_in_time_and_taken_back(
    lab: Lab, balancer: Callable[..., Balancer], rule: list[str], silence: float
) -> None:
    running = balancer(lab.config(service=CHECK))
    wait_until(healthy(running), 10, "every server up")
    assert get(lab, lab.vips4[0], 6).servers == {"server1": 2, "server2": 2, "server3": 2}
    iptables(lab, "server2", "-I", *rule)
    dead = time.time()
    wait_until(lambda: len(events(running, "server-down")) == 2, 5, "both addresses down")
    # interval * fall + 100 ms, and the timeout of the last where there is no answer to see
    for event in events(running, "server-down"):
        assert event["time"] - dead < (0.2 * 3 + silence + 0.1) * PATIENCE
        assert event["code"] in ("L4CON", "L4TOUT")
    for vip in (lab.vips4[0], lab.vips6[0]):
        assert get(lab, vip, 6).servers == {"server1": 3, "server3": 3}
    iptables(lab, "server2", "-F", "INPUT")
    wait_until(healthy(running), 10, "server2 up again")
    assert get(lab, lab.vips4[0], 6).servers == {"server1": 2, "server2": 2, "server3": 2}


def test_who_is_refused_by_a_dying_server_is_served_when_it_tries_again(
    lab: Lab, balancer: Callable[..., Balancer]
) -> None:
    running = balancer(lab.config(service=CHECK))
    wait_until(healthy(running), 10, "every server up")
    iptables(lab, "server2", "-I", *REJECT)
    for vip in (lab.vips4[0], lab.vips6[0]):
        tried = [is_reachable(lab, "client", vip) for _ in range(6)]
        assert tried.count(False) == 2  # each third, while nobody knows yet
        assert all(first or second for first, second in pairwise(tried))
    wait_until(lambda: len(events(running, "server-down")) == 2, 5, "both addresses down")


def test_the_servers_see_checks_come_from_a_local_address(
    lab: Lab, balancer: Callable[..., Balancer]
) -> None:
    running = balancer(lab.config(service=CHECK))
    for role in lab.servers:
        iptables(lab, role, "-N", "seen")
        iptables(lab, role, "-I", "INPUT", "-p", "tcp", "--dport", "80", "-j", "seen")
        lab.run(role, ["iptables", "-A", "seen", "-s", f"{lab.lips4[0]}/32", "-j", "RETURN"])
        lab.run(role, ["iptables", "-A", "seen", "-j", "DROP"])
    wait_until(lambda: all(row["check"]["checks"] > 10 for row in running.show("servers")), 10, "checks")
    assert events(running, "server-down") == []


def test_a_backup_pool_stands_in_and_hands_back(lab: Lab, balancer: Callable[..., Balancer]) -> None:
    text = lab.config(families=(4,), service=CHECK + "\nquorum = 2")
    head, *servers = text.split("\n  [[service.server]]\n")
    spare = '\n  [[service.backup]]\n  name = "spare"\n    [[service.backup.server]]\n  '
    running = balancer(
        f"{head}\n  [[service.server]]\n{servers[0]}\n  [[service.server]]\n{servers[1]}{spare}{servers[2]}"
    )
    wait_until(healthy(running), 10, "every server up")
    assert get(lab, lab.vips4[0], 4).servers == {"server1": 2, "server2": 2}
    iptables(lab, "server1", "-I", *REJECT)
    wait_until(lambda: events(running, "pool-serves"), 5, "the spare serves")
    assert get(lab, lab.vips4[0], 3).servers == {"server3": 3}
    iptables(lab, "server1", "-F", "INPUT")
    wait_until(lambda: len(events(running, "pool-serves")) == 2, 10, "the main pool serves")
    assert get(lab, lab.vips4[0], 4).servers == {"server1": 2, "server2": 2}


def test_connections_of_a_dead_server_are_reset_where_that_is_asked_for(
    lab: Lab, balancer: Callable[..., Balancer]
) -> None:
    running = balancer(lab.config(families=(4,), service=CHECK + '\non_down = "reset"'))
    wait_until(healthy(running), 10, "every server up")
    program = (
        "import socket\n"
        f"talks = [socket.create_connection(('{lab.vips4[0]}', 80)) for _ in range(3)]\n"
        "print('up', flush=True)\n"
        "ended = 0\n"
        "for talk in talks:\n"
        "    talk.settimeout(20)\n"
        "    try:\n"
        "        talk.recv(1)\n"
        "    except ConnectionResetError:\n"
        "        ended += 1\n"
        "    except TimeoutError:\n"
        "        pass\n"
        "    if ended:\n"
        "        break\n"
        "print(ended, flush=True)\n"
        "input()\n"
    )
    client = lab.popen("client", ["python3", "-c", program], stdin=-1, stdout=-1, text=True)
    assert client.stdout.readline() == "up\n"
    wait_until(lambda: sum(row["active"] for row in running.show("servers")) == 3, 5, "three connections")
    iptables(lab, "server1", "-I", *REJECT)
    assert client.stdout.readline() == "1\n"
    assert [event["ended"] for event in events(running, "flows-reset")] == [1]
    assert sum(row["active"] for row in running.show("servers")) == 2
    client.communicate("\n", timeout=10)
