# SPDX-License-Identifier: Apache-2.0
"""Real requests through every topology and both families, counted at both ends.

 client                    director                     real server
CIP:cport  ---inbound--->  VIP:vport | LIP:lport  --->  RIP:rport
           <--outbound---            |            <---
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from balancer import Balancer
from fullnat.core.sched import BUILTIN
from lab import Lab
from tests.netns.traffic import Witness, get, lips, reasons, vips

pytestmark = pytest.mark.requires("nfqueue", "ipset", "iptables", "curl")

SEQUENTIAL, CONCURRENT = 1000, 200


@pytest.mark.parametrize("lab", ["two-arm", "one-arm", "routed", "dual-stack", "howto"], indirect=True)
def test_no_request_is_lost_and_the_round_is_exact(lab: Lab, balancer: Callable[..., Balancer]) -> None:
    witnesses = [Witness(lab, role) for role in ("client", "server1", "server2", "server3")]
    running = balancer(lab.config(scheduler="rr"))
    for family in lab.families:
        vip = vips(lab, family)[0]
        one_by_one = get(lab, vip, SEQUENTIAL)
        assert one_by_one.count == SEQUENTIAL
        turns = ["server1", "server2", "server3"]
        assert one_by_one.order == [turns[n % 3] for n in range(SEQUENTIAL)]
        at_once = get(lab, vip, CONCURRENT, parallel=CONCURRENT)
        assert at_once.count == CONCURRENT
        total = one_by_one.servers + at_once.servers
        assert set(total.values()) == {(SEQUENTIAL + CONCURRENT) // 3}
        assert one_by_one.sources | at_once.sources <= lips(lab, family)
    assert [witness.complaints() for witness in witnesses] == [{}, {}, {}, {}]

    requests = (SEQUENTIAL + CONCURRENT) * len(lab.families)
    seen = running.show("stats")
    assert reasons(seen)["flow_opened"] + reasons(seen).get("flow_reopened", 0) == requests
    assert set(reasons(seen)) <= {"flow_opened", "flow_reopened", "flow_inbound", "flow_outbound"}
    assert sum(reasons(seen).values()) == seen["packets_received"]
    assert seen["queue_dropped"] == seen["user_dropped"] == seen["send_failures"] == 0
    rows = running.show("servers")
    assert {row["connections"] for row in rows} == {(SEQUENTIAL + CONCURRENT) // 3}
    packets = sum(row["packets_in"] + row["packets_out"] for row in rows)
    assert packets == seen["packets_received"]


def test_both_clients_are_served_and_told_apart(lab: Lab, balancer: Callable[..., Balancer]) -> None:
    running = balancer()
    for family in lab.families:
        for role in ("client", "client2"):
            assert get(lab, vips(lab, family)[0], 30, role=role).count == 30
    clients = {flow["client"].rpartition(":")[0].strip("[]") for flow in running.show("flows")}
    assert clients == {*lab.clients4, *lab.clients6}


def test_every_scheduler_carries_traffic(lab: Lab, balancer: Callable[..., Balancer]) -> None:
    names = list(BUILTIN)
    services = []
    for number, name in enumerate(names):
        targets = "".join(f'[[service.server]]\naddress = "{server}:80"\n' for server in lab.servers4)
        listen = f"tcp://{lab.vips4[0]}:{8000 + number}"
        services.append(f'[[service]]\nname = "{name}"\nlisten = "{listen}"\nscheduler = "{name}"\n{targets}')
    head = f'version = 1\n[snat]\naddresses = ["{lab.lips4[0]}"]\n'
    running = balancer(head + "\n".join(services))
    for number in range(len(names)):
        assert get(lab, lab.vips4[0], 12, port=8000 + number).count == 12
    assert {row["name"]: row["connections"] for row in running.show("services")} == dict.fromkeys(names, 12)
