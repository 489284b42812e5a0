# SPDX-License-Identifier: Apache-2.0
"""More than the engine can carry: what is shed is new flows, by its reason, and known ones go on.

The engine is stopped while packets gather in its queue, so that there is overload on any machine.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable

import pytest

from balancer import Balancer
from lab import Lab
from tests.netns.conversations import Parrots, connect, tell
from tests.netns.traffic import reasons, send_raw, vips, wait_until
from tests.packets import udp
from tests.vectors.case import Net

pytestmark = pytest.mark.requires("nfqueue", "ipset", "iptables")

DNS = 53
FIRST_PORT, FLOOD = 10_000, 7000  # more than half of the queue, less than all of it


def flood_of(lab: Lab, family: int) -> list[bytes]:
    """The first datagram of many flows."""
    client = (lab.clients4 if family == 4 else lab.clients6)[0]
    vip = vips(lab, family)[0]
    net = Net(family, client, client, vip, "", (), "")
    return [udp(net.to_vip(cport=FIRST_PORT + number, vport=DNS)) for number in range(FLOOD)]


@pytest.mark.parametrize("lab", [{"topology": "two-arm", "servers": 1}], indirect=True)
@pytest.mark.parametrize("family", [4, 6])
def test_new_flows_are_shed_and_known_ones_served(
    lab: Lab, balancer: Callable[..., Balancer], family: int
) -> None:
    flood, vip = flood_of(lab, family), vips(lab, family)[0]
    with Parrots(lab) as parrots:
        parrots.add(lab.servers[0], DNS, socket.SOCK_DGRAM)
        running = balancer(lab.config(families=(family,), protocol="udp", port=DNS))
        with connect(lab, "client", vip, DNS, kind=socket.SOCK_DGRAM) as known:
            tell(known, "before")
            running.process.send_signal(signal.SIGSTOP)
            try:
                send_raw(lab, "client", vip, flood)
                known.send(b"meanwhile")
            finally:
                running.process.send_signal(signal.SIGCONT)
            assert known.recv(100)

            def counted() -> dict[str, int]:
                return reasons(running.show("stats"))

            wait_until(lambda: counted()["flow_opened"] + counted().get("overloaded", 0) == FLOOD + 1, 20)
            assert counted()["overloaded"] > 1000
            assert running.show("stats")["queue_dropped"] == 0
        with connect(lab, "client", vip, DNS, kind=socket.SOCK_DGRAM) as fresh:
            tell(fresh, "after")  # it passes
