# SPDX-License-Identifier: Apache-2.0
"""Errors find the end they concern: traceroute, narrow paths, dead servers, pings."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from balancer import Balancer
from lab import Lab
from tests.netns.traffic import Echo, Witness, ask, get, reasons, servers, url_host, vips

pytestmark = pytest.mark.requires("nfqueue", "ipset", "iptables")


def cached_mtu(lab: Lab, role: str, address: str) -> int | None:
    """The path MTU that the kernel of *role* has learned towards *address*."""
    shown = lab.run(role, ["ip", "route", "get", address]).stdout
    found = re.search(r"\bmtu (\d+)", shown)
    return int(found[1]) if found else None


@pytest.mark.parametrize(
    ("lab", "narrow"),
    [
        ({"topology": "two-arm", "servers": 1, "mtu": {"inside": 1280}}, "the director's own link"),
        ({"topology": "routed", "servers": 1, "mtu": {"remote": 1280}}, "a link behind a router"),
    ],
    ids=["own link", "behind a router"],
    indirect=["lab"],
)
def test_a_datagram_too_big_for_the_servers_path_is_reported_to_the_true_client(
    lab: Lab, balancer: Callable[..., Balancer], narrow: str
) -> None:
    witness = Witness(lab, "client")
    for family in lab.families:
        Echo(lab, "server1", servers(lab, family)[0])
    running = balancer(lab.config(protocol="udp", port=7))
    for family in lab.families:
        vip = vips(lab, family)[0]
        # The first is lost and teaches the client's kernel, which fragments the second.
        assert ask(lab, vip, 7, 1400)[0] in ("EMSGSIZE", "timeout"), narrow
        assert cached_mtu(lab, "client", vip) == 1280
        assert ask(lab, vip, 7, 1400) == ["same"]
    assert witness.complaints() == {}
    assert reasons(running.show("stats"))["icmp_relayed"] >= len(lab.families)


@pytest.mark.parametrize(
    "lab", [{"topology": "dual-stack", "servers": 1, "mtu": {"access": 1280}}], indirect=True
)
def test_an_answer_too_big_for_the_clients_path_is_reported_to_the_server(
    lab: Lab, balancer: Callable[..., Balancer]
) -> None:
    files = lab.directory / "files"
    files.mkdir(exist_ok=True)
    (files / "some").write_bytes(b"z" * 300_000)
    running = balancer()
    for family in lab.families:
        url = f"http://{url_host(vips(lab, family)[0])}/files/some"
        # The client's MSS says 1500 less headers, as if it did not know its own link.
        route = (f"{vips(lab, family)[0]}", "via", "203.0.113.1" if family == 4 else "2001:db8:1::1")
        lab.run("client", ["ip", f"-{family}", "route", "replace", *route, "advmss", "1440"])
        got = lab.run(
            "client",
            ["curl", "-sS", "-g", "--max-time", "20", "-o", "/dev/null", "-w", "%{size_download}", url],
        )
        assert got.stdout == "300000"
        learned = [cached_mtu(lab, "server1", lip) for lip in (lab.lips4 if family == 4 else lab.lips6)]
        assert 1280 in learned
    assert reasons(running.show("stats"))["icmp_relayed"] >= len(lab.families)


@pytest.mark.requires("traceroute")
@pytest.mark.parametrize("lab", [{"topology": "routed", "servers": 1}], indirect=True)
@pytest.mark.parametrize("method", [["-T", "-p", "80"], ["-U", "-p", "53"]], ids=["tcp", "udp"])
def test_traceroute_sees_the_way_to_the_server(
    lab: Lab, balancer: Callable[..., Balancer], method: list[str]
) -> None:
    web, dns = lab.config(), lab.config(protocol="udp", port=53)
    running = balancer(f"{web}\n{dns[dns.index('[[service]]') :]}")
    for family in lab.families:
        vip = vips(lab, family)[0]
        shown = lab.run("client", ["traceroute", "-n", "-q", "1", "-w", "2", *method, vip], timeout=60).stdout
        hops = [line.split()[1] for line in shown.splitlines()[1:]]
        # Director, router, server: they all speak as VIP, for the client talks to nobody else.
        assert hops == [vip, vip, vip]
    assert reasons(running.show("stats"))["icmp_relayed"] >= 2 * len(lab.families)


@pytest.mark.parametrize("lab", [{"topology": "two-arm", "servers": 2}], indirect=True)
def test_a_server_that_is_gone_fails_the_client_at_once(lab: Lab, balancer: Callable[..., Balancer]) -> None:
    lab.run("server2", ["ip", "link", "set", "eth0", "down"])
    running = balancer()
    answered = get(lab, lab.vips4[0], 1)
    assert answered.servers == {"server1": 1}
    failed = lab.run(
        "client", ["curl", "-sS", "--max-time", "20", f"http://{lab.vips4[0]}/"], check=False, timeout=30
    )
    assert failed.returncode == 7  # could not connect: host unreachable, long before the 20 s
    assert reasons(running.show("stats"))["icmp_relayed"] >= 1


@pytest.mark.requires("ping")
@pytest.mark.parametrize("lab", ["dual-stack", "two-arm"], indirect=True)
def test_virtual_addresses_answer_pings(lab: Lab, balancer: Callable[..., Balancer]) -> None:
    running = balancer()
    for family in lab.families:
        lab.run("client", ["ping", "-c", "2", "-i", "0.2", "-W", "2", vips(lab, family)[0]])
    answered = reasons(running.show("stats")).get("echo_answered", 0)
    # On an interface of the director the kernel answers; on none, we do.
    assert answered == (4 if lab.topology.name == "dual-stack" else 0)
