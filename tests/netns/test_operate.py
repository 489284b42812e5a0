# SPDX-License-Identifier: Apache-2.0
"""Operating a director: drain, maintenance files, reload under load, ipvsadm's language, roles."""

from __future__ import annotations

import json
import random
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from balancer import Balancer
from lab import Lab
from tests.netns.conversations import connect, tell
from tests.netns.streams import ECHO, Streams, echo_config, start_echo
from tests.netns.traffic import get, wait_until

pytestmark = pytest.mark.requires("nfqueue", "ipset", "iptables", "curl")

RELOADS = 500
CHECK = 'health = { type = "tcp", interval = "200ms", timeout = "200ms", start = "up" }'


def row_of(running: Balancer, address: str) -> dict:
    """What is shown of the server at *address*."""
    return next(row for row in running.show("servers") if row["address"] == address)


def test_a_drained_server_keeps_its_connections_until_the_deadline(
    lab: Lab, balancer: Callable[..., Balancer]
) -> None:
    start_echo(lab)
    running = balancer(echo_config(lab, families=(4,)))
    address = f"{lab.servers4[0]}:{ECHO}"
    with connect(lab, "client", lab.vips4[0], ECHO) as talk:
        tell(talk, "hello")
        assert row_of(running, address)["active"] == 1
        running.command("drain", "tcp7-v4", address)
        for _ in range(4):
            with connect(lab, "client", lab.vips4[0], ECHO) as other:
                tell(other, "hello")
        assert row_of(running, address)["connections"] == 1
        tell(talk, "still here")
        assert row_of(running, address)["drain"]["left"] == 1
        running.command("drain", "tcp7-v4", address, "--deadline", "0.5s", "--wait", timeout=30)
        with pytest.raises(ConnectionResetError):
            talk.recv(1)
    running.command("enable", "tcp7-v4", address)
    assert row_of(running, address)["drain"] is None


def test_a_maintenance_file_drains(lab: Lab, balancer: Callable[..., Balancer], tmp_path: Path) -> None:
    folder = tmp_path / "maintenance.d"
    folder.mkdir()
    running = balancer(
        lab.config(families=(4,)).replace("version = 1", f'version = 1\nmaintenance = "{folder}"')
    )
    file = folder / lab.servers4[1]
    file.touch()
    wait_until(lambda: row_of(running, f"{lab.servers4[1]}:80")["admin"] == "drain", 5, "the drain")
    assert get(lab, lab.vips4[0], 4).servers == {"server1": 2, "server3": 2}
    file.unlink()
    wait_until(lambda: row_of(running, f"{lab.servers4[1]}:80")["admin"] == "enabled", 5, "its end")
    assert set(get(lab, lab.vips4[0], 6).servers) == {"server1", "server2", "server3"}


def changed(lab: Lab, chance: random.Random) -> str:
    """A configuration like the one the streams run through, but for what chance says."""
    text = echo_config(lab)
    text = text.replace(
        'scheduler = "rr"', f'scheduler = "{chance.choice(["rr", "wrr", "lc", "wlc", "sed", "mh"])}"'
    )
    text = re.sub(r'scheduler = "\w+"', rf"\g<0>\n{CHECK}", text, count=chance.randrange(1, 5))
    blocks = text.split("\n  [[service.server]]\n")
    for place in range(1, len(blocks)):
        lines = blocks[place].split("\n", 1)
        options = f"\n  weight = {chance.randrange(1, 9)}"
        if chance.random() < 0.3:
            options += f"\n  upper = {chance.randrange(500, 999)}"
        blocks[place] = lines[0] + options + ("\n" + lines[1] if len(lines) > 1 else "")
    if chance.random() < 0.5:
        text = "\n  [[service.server]]\n".join(blocks)
        return text.replace(
            "[snat]", "[timeouts]\ntcp_established = " + str(chance.randrange(600, 999)) + "\n[snat]"
        )
    extra = f'\n[[service]]\nname = "extra"\nlisten = "tcp://{lab.vips4[0]}:{chance.randrange(8000, 8004)}"\n'
    if chance.random() < 0.5:
        extra += CHECK + f'\n[[service.server]]\naddress = "{lab.servers4[0]}:{ECHO}"\n'
    return "\n  [[service.server]]\n".join(blocks) + extra


def test_five_hundred_reloads_lose_nothing(lab: Lab, balancer: Callable[..., Balancer]) -> None:
    start_echo(lab)
    running = balancer(echo_config(lab))
    chance = random.Random(4711)
    with Streams(lab, [lab.vips4[0], lab.vips6[0]], tcp=20, udp=20, rate=200) as streams:
        streams.go_on()
        connections = 0
        for number in range(RELOADS):
            running.configure(changed(lab, chance))
            if number % 10 == 0:
                running.command("reload")
            else:  # the way without a process for each
                assert running.process
                before = reloads(running)
                running.process.send_signal(signal.SIGHUP)
                wait_until(lambda before=before: reloads(running) > before, 10, f"reload {number}")
            now = (
                sum(row["connections"] for row in running.show("servers"))
                if number % 50 == 0
                else connections
            )
            assert now >= connections
            connections = now
        report = streams.go_on()
        assert report.troubles == []
        assert report.resent == 0
        rows = running.show("servers")
        # every stream was one connection, whatever its server was called meanwhile
        assert sum(row["connections"] for row in rows) == 40
        assert sum(row["active"] for row in rows) == 20
    failures = json.loads(running.command("status", "--json").stdout)["reload"]["failures"]
    assert failures == 0


def reloads(running: Balancer) -> int:
    """How many were carried out or refused, by what the log says."""
    return running.log.count("kind=reloaded") + running.log.count("kind=reload-refused")


def test_a_bad_config_changes_nothing_and_says_why(lab: Lab, balancer: Callable[..., Balancer]) -> None:
    running = balancer(lab.config())
    running.configure(lab.config().replace('"rr"', '"wrong"'))
    refused = running.command("reload", check=False)
    assert refused.returncode != 0
    assert 'scheduler: found "wrong"' in refused.stderr
    running.configure(lab.config().replace("[snat]", "[snat]\nrest = 5"))
    refused = running.command("reload", check=False)
    assert "this takes a restart: snat.rest 1m -> 5s" in refused.stderr
    assert get(lab, lab.vips4[0], 3).count == 3


def test_the_language_of_ipvsadm(lab: Lab, balancer: Callable[..., Balancer]) -> None:
    running = balancer(lab.config(families=(4,)))
    vip, (one, two, three) = lab.vips4[0], lab.servers4
    running.command("ipvsadm", "-A", "-t", f"{vip}:81", "-s", "wlc")
    for address in (one, two):
        running.command("ipvsadm", "-a", "-t", f"{vip}:81", "-r", f"{address}:80", "-m", "-w", "2")
    assert set(get(lab, vip, 6, port=81).servers) == {"server1", "server2"}
    running.command("ipvsadm", "-e", "-t", f"{vip}:81", "-r", f"{one}:80", "-m", "-w", "0")
    running.command("ipvsadm", "-d", "-t", f"{vip}:80", "-r", f"{three}:80")
    assert get(lab, vip, 4, port=81).servers == {"server2": 4}
    saved = running.command("ipvsadm", "-Sn").stdout
    assert saved.splitlines() == [
        f"-A -t {vip}:80 -s rr",
        f"-a -t {vip}:80 -r {one}:80 -m -w 1",
        f"-a -t {vip}:80 -r {two}:80 -m -w 1",
        f"-A -t {vip}:81 -s wlc",
        f"-a -t {vip}:81 -r {one}:80 -m -w 0",
        f"-a -t {vip}:81 -r {two}:80 -m -w 2",
    ]
    refused = running.command("ipvsadm", "-A", "-t", f"{vip}:81", check=False)
    assert (refused.returncode, refused.stderr) == (255, "Service already exists\n")
    running.command("ipvsadm", "-C")
    running.command("ipvsadm", "-R", input=saved)
    assert running.command("ipvsadm", "-Sn").stdout == saved
    assert get(lab, vip, 2, port=81).servers == {"server2": 2}
