# SPDX-License-Identifier: Apache-2.0
"""IPVS of a real kernel, brought to what is wanted line by line, with what is served left alone.

client              director                        server1
.100 ---outside--- .1  VIP .10   .1 ---inside--- .11   (its way back leads through the director)
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from fullnat.core.addr import TCP, UDP, parse_endpoint
from fullnat.host.errors import HostError
from fullnat.host.ipvs import differences, read_table, reconcile, refuse_foreign, remove
from fullnat.host.programs import run_program
from fullnat.kernel.ipvs import Table, desired
from fullnat.kernel.service import KernelServer, KernelService
from lab import Lab
from namespace import delete, inside, ip, write_sysctls
from tests.netns.conversations import Parrots, connect, tell
from wait import PATIENCE, wait_until

pytestmark = pytest.mark.requires("ipvs")

SERVICES, SERVERS = 200, 20
RECONCILE_SECONDS = 1.0 * PATIENCE
COUNTED_SECONDS = 5.0
PORT = 9000


@pytest.fixture
def alone() -> Iterator[None]:
    """Have this process meet IPVS in a namespace that has nothing else: a lab takes longer to build."""
    name = f"fn-t{os.getpid()}-ipvs"
    ip("netns", "add", name)
    try:
        ip("link", "set", "lo", "up", namespace=name)
        with inside(name):
            yield
    finally:
        delete(name)


@pytest.fixture
def lab() -> Iterator[Lab]:
    """One client, one server, and a director that routes, which this process is on."""
    with Lab(clients=1, servers=1) as built:
        built.up()
        for address in built.vips4 + built.vips6:
            built.run("director", ["ip", "address", "replace", address, "dev", "eth0", "nodad"])
        write_sysctls(
            built.namespace("director"), [("net/ipv4/ip_forward", 1), ("net/ipv6/conf/all/forwarding", 1)]
        )
        for family, via in ((4, built.lips4[0]), (6, built.lips6[0])):
            built.run("server1", ["ip", f"-{family}", "route", "add", "default", "via", via])
        with inside(built.namespace("director")):
            yield built


def crowd() -> list[KernelService]:
    """Many services, TCP and UDP, of either family, with many servers each."""
    services = []
    for number in range(SERVICES):
        vip, server = (
            ("[2001:db8:a::{:x}]:{}", "[2001:db8:b::{:x}]:80")
            if number % 2
            else ("203.0.113.{}:{}", "198.18.0.{}:80")
        )
        listen = parse_endpoint(vip.format(1 + number % 100, 1000 + number))
        servers = tuple(KernelServer(parse_endpoint(server.format(1 + at)), 10) for at in range(SERVERS))
        services.append(KernelService(listen, UDP if number % 4 > 1 else TCP, "wlc", servers))
    return services


def reweighted(service: KernelService, weight: int) -> KernelService:
    """Give the first server of *service* another weight."""
    first, *others = service.servers
    return replace(service, servers=(replace(first, weight=weight), *others))


def apply(wanted: Table) -> list[str]:
    """Make IPVS what is *wanted*, as an instance does to whom all of it belongs."""
    return reconcile(wanted, {*wanted, *read_table()}, lambda addresses: None)


@pytest.mark.usefixtures("alone")
def test_one_weight_of_four_thousand_is_one_line_within_a_second() -> None:
    services = crowd()
    wanted = desired(services)
    assert len(apply(wanted)) == SERVICES * (1 + SERVERS)
    services[SERVICES // 2] = reweighted(services[SERVICES // 2], 7)
    changed = desired(services)
    begin = time.monotonic()
    lines = reconcile(changed, changed, lambda addresses: None)
    took = time.monotonic() - begin
    print(f"one of {SERVICES * SERVERS} weights took {took:.2f} s")
    assert lines == ["-e -t 203.0.113.1:1100 -r 198.18.0.1:80 -m -w 7 -x 0 -y 0"]
    assert read_table() == changed
    assert took < RECONCILE_SECONDS


@pytest.mark.usefixtures("alone")
def test_what_is_as_wanted_is_not_asked_for_again() -> None:
    wanted = desired(crowd()[:4])
    apply(wanted)
    recorded: list[list[str]] = []
    assert reconcile(wanted, wanted, recorded.append) == []
    assert (recorded, differences(wanted)) == ([], [])


def service(vip: str, port: int, *servers: str, weight: int = 1) -> KernelService:
    """A TCP service with *servers*, all of the same weight."""
    machines = tuple(KernelServer(parse_endpoint(server), weight) for server in servers)
    return KernelService(parse_endpoint(f"{_bracketed(vip)}:{port}"), TCP, "rr", machines)


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def connections(lab: Lab) -> dict[str, int]:
    """How many connections each virtual service has counted."""
    listing = lab.run("director", ["ipvsadm", "-Ln", "--stats", "--exact"]).stdout
    rows = (line.split() for line in listing.splitlines())
    return {row[1]: int(row[2]) for row in rows if row[:1] == ["TCP"]}


def test_connections_and_counters_outlive_what_changes_around_them(lab: Lab) -> None:
    """Of a service that stays, and of one whose weight, scheduler and other servers change."""
    at = [(lab.vips4[0], lab.servers4[0]), (lab.vips6[0], lab.servers6[0])]
    stays = [service(vip, 80, f"{_bracketed(real)}:{PORT}") for vip, real in at]
    spare = [f"{_bracketed(real)}:{PORT + 1}" for _, real in at]
    varies = [service(vip, 81, f"{_bracketed(real)}:{PORT}", weight=5) for vip, real in at]
    goes = [service(lab.vips4[0], 82, f"{lab.servers4[0]}:{PORT}")]
    apply(desired([*stays, *varies, *goes]))
    parrots = Parrots(lab)
    parrots.add("server1", PORT)
    with parrots, ExitStack() as stack:
        talks = [stack.enter_context(connect(lab, "client", vip, port)) for vip, _ in at for port in (80, 81)]
        assert [tell(talk, "first") for talk in talks] == ["server1: first"] * 4
        served = {str(one.listen): 1 for one in (*stays, *varies)}
        # The kernel adds up the counters of its CPUs every other second.
        wait_until(lambda: connections(lab).items() >= served.items(), COUNTED_SECONDS, "connections counted")
        changed = [
            replace(
                reweighted(one, 0),
                scheduler="wlc",
                servers=(*reweighted(one, 0).servers, KernelServer(parse_endpoint(other))),
            )
            for one, other in zip(varies, spare, strict=True)
        ]
        comes = service(lab.vips6[0], 83, f"{_bracketed(lab.servers6[0])}:{PORT}")
        lines = apply(desired([*stays, *changed, comes]))
        assert not [line for line in lines if line.split()[2] in {str(one.listen) for one in stays}]
        assert [tell(talk, "again") for talk in talks] == ["server1: again"] * 4
        assert connections(lab) == served | {str(comes.listen): 0}


MINE = service("203.0.113.10", 80, "198.19.0.11:80")
FOREIGN = ["-A -t 203.0.113.99:80 -s lblc -p 77", "-a -t 203.0.113.99:80 -r 198.19.0.99:80 -g -w 9"]


@pytest.fixture
def others(alone: None) -> Table:
    """What somebody else has made."""
    run_program(["ipvsadm", "--restore"], "\n".join(FOREIGN) + "\n")
    return read_table()


def test_services_of_others_are_left_alone(others: Table) -> None:
    mine = desired([MINE])
    recorded: list[list[str]] = []
    refuse_foreign(mine, [])
    assert len(reconcile(mine, mine, recorded.append)) == 2
    assert recorded == [[*mine]]
    assert read_table() == {**others, **mine}
    assert reconcile({}, mine, recorded.append) == [f"-D {address}" for address in mine]
    assert read_table() == others
    reconcile(mine, mine, recorded.append)
    remove([*mine, "-t 203.0.113.98:80"])  # one of ours that somebody has removed already
    assert read_table() == others


def test_an_address_that_others_serve_is_refused(others: Table) -> None:
    """And not one that is on record as made by us."""
    mine = desired([MINE, service("203.0.113.99", 80, "198.19.0.11:80")])
    with pytest.raises(HostError, match=r"-t 203\.0\.113\.99:80 that is not fullnat's"):
        refuse_foreign(mine, [])
    refuse_foreign(mine, [*mine])
    assert read_table() == others


@pytest.mark.usefixtures("alone")
def test_a_line_that_the_kernel_refuses_is_told() -> None:
    """A real server of the other family is none for NAT."""
    with pytest.raises(HostError, match="IPVS refuses the services"):
        apply(desired([service("203.0.113.10", 80, "[2001:db8:2::11]:80")]))
