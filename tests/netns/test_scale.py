# SPDX-License-Identifier: Apache-2.0
"""Many services and many checks, beside connections that must not notice."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest

from balancer import Balancer
from lab import Lab
from tests.netns.conversations import connect, tell
from tests.netns.streams import ECHO, Streams, echo_config, start_echo
from tests.netns.traffic import get, wait_until
from wait import PATIENCE

pytestmark = pytest.mark.requires("nfqueue", "ipset", "iptables", "curl")

SERVICES, SERVERS = 200, 20
RELOAD_SECONDS, STATUS_SECONDS = 1.0, 0.2
CHECKED = 300
CHECK = 'health = { type = "http", interval = "1s", port = 80 }'


def crowd(lab: Lab) -> str:
    """Services that nobody asks, beside those of the streams."""
    blocks = []
    for number in range(SERVICES):
        vip, server = (
            (lab.vips4[0], lab.servers4[0]) if number % 2 else (f"[{lab.vips6[0]}]", f"[{lab.servers6[0]}]")
        )
        blocks.append(f'[[service]]\nname = "crowd-{number}"\nlisten = "tcp://{vip}:{10000 + number}"\n')
        blocks += [
            f'[[service.server]]\naddress = "{server}:{20000 + at}"\nweight = 10\n' for at in range(SERVERS)
        ]
    return "\n".join(blocks)


def test_one_weight_of_four_thousand_is_reloaded_within_a_second(
    lab: Lab, balancer: Callable[..., Balancer]
) -> None:
    start_echo(lab)
    streams_of, others = echo_config(lab), crowd(lab)
    running = balancer(f"{streams_of}\n{others}")
    took = []
    with Streams(lab, [lab.vips4[0], lab.vips6[0]], tcp=20, udp=20, rate=500) as streams:
        streams.go_on()
        for number in range(5):
            running.configure(f"{streams_of}\n{others}".replace("weight = 10", f"weight = {number + 1}", 1))
            assert running.process
            begun = time.monotonic()
            running.process.send_signal(signal.SIGHUP)
            wait_until(lambda number=number: running.log.count("kind=reloaded") > number, 10, "the reload")
            took.append(time.monotonic() - begun)
        report = streams.go_on()
    print(f"reloads took {[f'{seconds:.3f}' for seconds in took]} s")
    assert report.troubles == []
    assert report.resent == 0  # not one datagram
    assert sorted(took)[len(took) // 2] < RELOAD_SECONDS * PATIENCE
    weights = [row["weight"] for row in running.show("servers") if row["service"].startswith("crowd-")]
    assert (len(weights), sorted(weights)[:2]) == (SERVICES * SERVERS, [5, 10])


def test_many_checks_do_not_disturb_requests(lab: Lab, balancer: Callable[..., Balancer]) -> None:
    start_echo(lab)
    servers = "\n".join(
        f'[[service.server]]\naddress = "{address}:{20000 + at}"'
        for at in range(CHECKED // len(lab.servers4))
        for address in lab.servers4
    )
    checked = f'[[service]]\nname = "checked"\nlisten = "tcp://{lab.vips4[0]}:9999"\n{CHECK}\n{servers}\n'
    web = lab.config()
    running = balancer("\n".join([echo_config(lab), web[web.index("[[service]]") :], checked]))

    def rows() -> list[dict]:
        return [row for row in running.show("servers") if row["service"] == "checked"]

    wait_until(lambda: all(row["health"] == "up" for row in rows()), 20, "every server up")
    with Streams(lab, [lab.vips4[0], lab.vips6[0]], tcp=20, udp=20, rate=500) as streams:
        streams.go_on()
        before = sum(row["check"]["checks"] for row in rows())
        while sum(row["check"]["checks"] for row in rows()) < before + 3 * CHECKED:
            assert get(lab, lab.vips4[0], 20, parallel=4).count == 20
        report = streams.go_on()
    assert report.troubles == []
    assert report.resent == 0
    assert all(row["health"] == "up" and row["check"]["failures"] == 0 for row in rows())


def test_a_status_is_there_at_once(lab: Lab, balancer: Callable[..., Balancer]) -> None:
    start_echo(lab)
    running = balancer(f"{echo_config(lab)}\n{crowd(lab)}")
    with connect(lab, "client", lab.vips4[0], ECHO) as talk:
        tell(talk, "hello")
        took = []
        for _ in range(5):
            begun = time.monotonic()
            running.command("status")
            took.append(time.monotonic() - begun)
    print(f"status took {[f'{seconds:.3f}' for seconds in took]} s")
    assert sorted(took)[2] < STATUS_SECONDS * PATIENCE
