# SPDX-License-Identifier: Apache-2.0
"""Datagrams of all sizes, whole and in fragments, in order and not, with and without reassembly."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from balancer import Balancer
from lab import Lab
from tests.netns.traffic import (
    Echo,
    Witness,
    ask,
    lips,
    reasons,
    send_raw,
    servers,
    vips,
    wait_until,
)
from tests.packets import fragments, udp

pytestmark = pytest.mark.requires("nfqueue", "ipset", "iptables")

# From one byte over DNS answers to the largest there are; those above the MTU come in fragments.
SIZES = (1, 512, 1232, 1472, 4096, 8192, 65000)

ONE_SERVER = {"topology": "two-arm", "servers": 1}


def echo_everywhere(lab: Lab) -> None:
    for family in lab.families:
        for number, address in enumerate(servers(lab, family), start=1):
            Echo(lab, f"server{number}", address)


@pytest.mark.parametrize("lab", ["two-arm", "one-arm", "routed", "dual-stack", "howto"], indirect=True)
def test_every_size_comes_back_the_same(lab: Lab, balancer: Callable[..., Balancer]) -> None:
    witnesses = [Witness(lab, role) for role in ("client", "server1", "server2", "server3")]
    echo_everywhere(lab)
    running = balancer(lab.config(protocol="udp", port=7))
    for family in lab.families:
        assert ask(lab, vips(lab, family)[0], 7, *SIZES) == ["same"] * len(SIZES)
    assert [witness.complaints() for witness in witnesses] == [{}, {}, {}, {}]
    seen = reasons(running.show("stats"))
    assert seen["flow_opened"] == len(lab.families)
    assert seen["fragment_forwarded"] > 80
    assert set(seen) <= {
        "flow_opened",
        "flow_inbound",
        "flow_outbound",
        "fragment_forwarded",
        "fragment_held",
    }


@pytest.fixture
def _reassembling(lab: Lab) -> None:
    """Any rule that needs conntrack brings defragmentation."""
    for program in ("iptables", "ip6tables"):
        lab.run("director", [program, "-A", "INPUT", "-m", "conntrack", "--ctstate", "INVALID", "-j", "DROP"])


@pytest.mark.usefixtures("_reassembling")
@pytest.mark.parametrize("lab", [ONE_SERVER], indirect=True)
def test_datagrams_that_the_host_reassembles_cross_too(lab: Lab, balancer: Callable[..., Balancer]) -> None:
    echo_everywhere(lab)
    running = balancer(lab.config(protocol="udp", port=7))
    for family in lab.families:
        assert ask(lab, vips(lab, family)[0], 7, *SIZES) == ["same"] * len(SIZES)
    seen = reasons(running.show("stats"))
    assert "fragment_forwarded" not in seen
    assert "truncated" not in seen
    tracked = lab.run("director", ["conntrack", "-L"]).stdout
    assert "dport=7" not in tracked


@pytest.mark.parametrize("lab", [ONE_SERVER], indirect=True)
@pytest.mark.parametrize("family", [4, 6])
def test_fragments_out_of_order_reach_the_server_as_one_datagram(
    lab: Lab, balancer: Callable[..., Balancer], family: int
) -> None:
    echo = Echo(lab, "server1", servers(lab, family)[0])
    running = balancer(lab.config(protocol="udp", port=7))
    client = (lab.clients4 if family == 4 else lab.clients6)[0]
    vip = vips(lab, family)[0]
    path = f"{client}:4000 > {vip}:7" if family == 4 else f"[{client}]:4000 > [{vip}]:7"
    pieces = fragments(udp(path, bytes(range(256)) * 16), 1000, 4711)
    send_raw(lab, "client", vip, [pieces[3], pieces[1], pieces[0], pieces[4], pieces[2]])
    ((peer, size),) = echo.peers(1)
    assert peer in lips(lab, family)
    assert size == 4096
    seen = reasons(running.show("stats"))
    assert seen["fragment_held"] == 2


@pytest.mark.parametrize("lab", [ONE_SERVER], indirect=True)
@pytest.mark.parametrize("family", [4, 6])
def test_two_clients_with_one_identification_do_not_mix(
    lab: Lab, balancer: Callable[..., Balancer], family: int
) -> None:
    echo = Echo(lab, "server1", servers(lab, family)[0])
    balancer(lab.config(protocol="udp", port=7, lips=1))
    vip = vips(lab, family)[0]
    sent = []
    for number, role in enumerate(("client", "client2")):
        client = (lab.clients4 if family == 4 else lab.clients6)[number]
        path = f"{client}:4000 > {vip}:7" if family == 4 else f"[{client}]:4000 > [{vip}]:7"
        sent.append((role, fragments(udp(path, bytes([number]) * (3000 + number)), 1000, 0x1234)))
    for turn in range(4):
        for role, pieces in sent:
            send_raw(lab, role, vip, pieces[turn : turn + 1])
    assert {size for _, size in echo.peers(2)} == {3000, 3001}


@pytest.mark.parametrize("lab", [ONE_SERVER], indirect=True)
@pytest.mark.parametrize("family", [4, 6])
def test_a_closed_port_behind_the_balancer_refuses_the_client(
    lab: Lab, balancer: Callable[..., Balancer], family: int
) -> None:
    running = balancer(lab.config(protocol="udp", port=7))
    assert ask(lab, vips(lab, family)[0], 7, 100) == ["ECONNREFUSED"]
    assert reasons(running.show("stats"))["icmp_relayed"] == 1


@pytest.mark.requires("iperf3")
@pytest.mark.parametrize("lab", [ONE_SERVER], indirect=True)
def test_iperf3_runs_both_ways(lab: Lab, balancer: Callable[..., Balancer]) -> None:
    log = lab.directory / "iperf3"
    lab.popen("server1", ["iperf3", "--server", "--forceflush", "--logfile", str(log)])
    wait_until(lambda: log.exists() and "listening" in log.read_text(), 5, "iperf3 listening")
    control = lab.config(protocol="tcp", port=5201)
    data = lab.config(protocol="udp", port=5201)
    services = data[data.index("[[service]]") :]
    running = balancer(f"{control}\n{services}")
    for family in lab.families:
        for direction in ([], ["--reverse"]):
            argv = [
                "iperf3",
                "--client",
                vips(lab, family)[0],
                "--udp",
                "--bitrate",
                "20M",
                "--bytes",
                "4M",
                *direction,
            ]
            lab.run("client", argv, timeout=30)
    assert set(reasons(running.show("stats"))) <= {
        "flow_opened",
        "flow_inbound",
        "flow_outbound",
        "icmp_relayed",
    }
