# SPDX-License-Identifier: Apache-2.0
"""`fullnat render`: the scripts it prints, run on the director, and what clients then see.

The examples are those that balancing with iptables is taught by: `nth` over two and four servers,
`random` over five, `recent` for clients that stay, and an address that no interface has, used from
the balancer itself.
"""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from balancer import program
from hoststate import HostState
from lab import Lab
from tests.netns.conversations import Parrots, connect, tell
from tests.netns.streams import TRANSPORTS
from tests.netns.traffic import get, lips, servers, vips, wait_until

pytestmark = pytest.mark.requires("iptables", "nat")

FIRST_PORT = 9000
SERVERS = 5
NOWHERE = {4: "203.0.113.200", 6: "2001:db8:7::200"}  # addresses that no interface has
TOOLS = ["iptables", "nft"]
ALL_TOOLS = [*TOOLS, pytest.param("ipvsadm", marks=pytest.mark.requires("ipvs"))]


def config(
    lab: Lab,
    family: int,
    count: int,
    *,
    scheduler: str = "rr",
    vip: str = "",
    service: str = "",
    protocol: str = "tcp",
) -> str:
    """A service on port 80 with *count* of the flock's servers."""
    bracketed = "{}" if family == 4 else "[{}]"
    machines = servers(lab, family)
    lines = [
        "version = 1",
        "[snat]",
        f"addresses = {sorted(lips(lab, family))}",
        "[[service]]",
        f'listen = "{protocol}://{bracketed.format(vip or vips(lab, family)[0])}:80"',
        f'scheduler = "{scheduler}"',
        service,
    ]
    for number in range(count):
        address = bracketed.format(machines[number % len(machines)])
        lines += ["[[service.server]]", f'address = "{address}:{FIRST_PORT + number}"']
    return "\n".join(lines)


@pytest.fixture(params=[4, 6], ids=["v4", "v6"])
def family(request: pytest.FixtureRequest) -> int:
    """The one whose rules are loaded."""
    return int(request.param)


@pytest.fixture(autouse=True)
def _addresses(lab: Lab) -> None:
    """They are the director's, which scripts leave to whoever runs them."""
    for device, addresses in (("eth0", lab.vips4 + lab.vips6), ("eth1", lab.lips4 + lab.lips6)):
        for address in addresses:
            lab.run("director", ["ip", "address", "replace", address, "dev", device, "nodad"])


@pytest.fixture(autouse=True)
def _flock(lab: Lab) -> Iterator[None]:
    """Five servers, on what machines there are."""
    with Parrots(lab) as parrots:
        for number in range(SERVERS):
            role = lab.servers[number % len(lab.servers)]
            for kind in TRANSPORTS:
                parrots.add(role, FIRST_PORT + number, kind, name=str(number))
        yield


def rendered(lab: Lab, tool: str, text: str) -> str:
    """Return what `fullnat render` makes of *text* for *tool*."""
    path = lab.directory / "rendered.toml"
    path.write_text(text)
    return lab.run("director", [*program(), "render", tool, "-c", str(path)]).stdout


def execute(
    lab: Lab, tool: str, script: str, *, instead: dict[str, str] | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run *script* on the director; *instead* has shell scripts that take the place of programs."""
    interpreter = ["nft", "-f", "-"] if tool == "nft" else ["sh", "-s"]
    with tempfile.TemporaryDirectory(dir=lab.directory) as folder:
        for name, text in (instead or {}).items():
            program = Path(folder, name)
            program.write_text(f"#!/bin/sh\n{text}\n")
            program.chmod(0o755)
        command = ["env", f"PATH={folder}:{os.environ['PATH']}", *interpreter]
        return lab.run("director", command, input=script, check=check)


def state(lab: Lab) -> list[str]:
    """What scripts make on the director, without counters."""
    listings = [
        ["iptables-save"],
        ["ip6tables-save"],
        ["nft", "--stateless", "list", "tables"],
        ["ipvsadm", "-Sn"],
    ]
    texts = [lab.run("director", listing, check=False).stdout for listing in listings]
    tables = [
        ["nft", "--stateless", "list", "table", *table.split()[1:]] for table in texts.pop(2).splitlines()
    ]
    texts += [lab.run("director", table).stdout for table in tables if "fullnat" in table[-1]]
    lines = "".join(texts).splitlines()
    return [line for line in lines if line.startswith(("-A ", ":FULLNAT", "-a", "\t", "table"))]


def load(lab: Lab, tool: str, text: str) -> str:
    """Run on the director what *text* is rendered to for *tool*, and return it."""
    script = rendered(lab, tool, text)
    execute(lab, tool, script)
    for key in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):  # which the ruleset of nft cannot
        lab.run("director", ["sysctl", "-q", "-w", f"{key}=1"])
    return script


def ask(lab: Lab, vip: str, times: int, role: str = "client") -> Counter[str]:
    """Connect *times* and return how often each server answered."""
    answered: Counter[str] = Counter()
    for _ in range(times):
        with connect(lab, role, vip) as talk:
            answered[tell(talk, "who?").partition(":")[0]] += 1
    return answered


@pytest.mark.parametrize("tool", ALL_TOOLS)
@pytest.mark.parametrize("count", [2, 4])
def test_by_turns(lab: Lab, family: int, tool: str, count: int) -> None:
    load(lab, tool, config(lab, family, count))
    assert ask(lab, vips(lab, family)[0], 10 * count) == {str(number): 10 for number in range(count)}


@pytest.mark.parametrize("tool", TOOLS)
def test_by_chance(lab: Lab, family: int, tool: str) -> None:
    """Five servers, each a fifth: the chance of one outside these bounds is one in a million."""
    load(lab, tool, config(lab, family, SERVERS, scheduler="random"))
    answered = ask(lab, vips(lab, family)[0], 500)
    assert len(answered) == SERVERS
    assert all(53 <= count <= 155 for count in answered.values()), answered


@pytest.mark.parametrize("tool", TOOLS)
def test_by_weight(lab: Lab, family: int, tool: str) -> None:
    text = config(lab, family, 2, scheduler="wrr").replace(f':{FIRST_PORT}"', f':{FIRST_PORT}"\nweight = 4')
    load(lab, tool, text)
    answered = ask(lab, vips(lab, family)[0], 300)
    assert 205 <= answered["0"] <= 270, answered  # of 240, five standard deviations


@pytest.mark.parametrize("tool", ALL_TOOLS)
def test_a_client_stays(lab: Lab, family: int, tool: str) -> None:
    """And another may be elsewhere."""
    load(lab, tool, config(lab, family, SERVERS, service="persistence = { timeout = 60 }"))
    for role in ("client", "client2"):
        assert len(ask(lab, vips(lab, family)[0], 10, role)) == 1


def test_a_client_that_was_away_for_long_is_new(lab: Lab, family: int) -> None:
    load(lab, "iptables", config(lab, family, SERVERS, service="persistence = { timeout = 1 }"))
    (first,) = ask(lab, vips(lab, family)[0], 5)

    def is_elsewhere() -> bool:
        (server,) = ask(lab, vips(lab, family)[0], 1)
        return server != first

    # By turns the next one is another, once the second is over; each question renews it.
    wait_until(lambda: wait_a_second(lab) and is_elsewhere(), 10, "another server")


def wait_a_second(lab: Lab) -> bool:
    """Wait for what `recent` calls a second to be over: it counts the kernel's ticks."""
    lab.run("client", ["sleep", "1.1"])
    return True


@pytest.mark.parametrize("tool", TOOLS)
def test_an_address_no_interface_has_is_served_to_the_director_itself(
    lab: Lab, family: int, tool: str
) -> None:
    load(lab, tool, config(lab, family, 2, vip=NOWHERE[family]))
    lab.run("director", ["ip", f"-{family}", "route", "add", NOWHERE[family], "dev", "eth1"])
    assert ask(lab, NOWHERE[family], 10, "director") == {"0": 5, "1": 5}


@pytest.mark.parametrize("tool", ALL_TOOLS)
def test_servers_see_a_local_address(lab: Lab, family: int, tool: str) -> None:
    text = config(lab, family, 1).replace(f":{FIRST_PORT}", ":80")
    load(lab, tool, text)
    assert get(lab, vips(lab, family)[0], 10).sources <= lips(lab, family)


@pytest.mark.parametrize("tool", ALL_TOOLS)
def test_a_script_replaces_what_it_made_before(lab: Lab, family: int, tool: str) -> None:
    text = config(lab, family, 2)
    load(lab, tool, text)
    once, host = state(lab), HostState.of(lab)
    assert once
    load(lab, tool, text)
    assert host.changes_to(HostState.of(lab)) == []
    assert state(lab) == once
    load(lab, tool, config(lab, family, 4, vip=NOWHERE[family]))
    load(lab, tool, config(lab, 10 - family, 1))
    assert ask(lab, vips(lab, 10 - family)[0], 2) == {"0": 2}
    load(lab, tool, text)
    assert state(lab) == once
    assert ask(lab, vips(lab, family)[0], 10) == {"0": 5, "1": 5}


def test_only_a_syn_opens_a_connection(lab: Lab, family: int) -> None:
    """What belongs to none is answered by the host, and never reaches a server."""
    load(lab, "iptables", config(lab, family, 1))
    program = "iptables" if family == 4 else "ip6tables"
    with connect(lab, "client", vips(lab, family)[0]) as talk:
        tell(talk, "here")
        lab.run("director", ["conntrack", "-F", "-f", f"ipv{family}"])
        lab.run(lab.servers[0], [program, "-A", "INPUT", "-p", "tcp", "--dport", str(FIRST_PORT)])
        with pytest.raises(ConnectionResetError):
            tell(talk, "anybody?")
    listing = lab.run(lab.servers[0], [program, "-nvxL", "INPUT"]).stdout
    assert [line.split()[0] for line in listing.splitlines() if f"dpt:{FIRST_PORT}" in line] == ["0"]


@pytest.mark.parametrize("tool", ALL_TOOLS)
def test_datagrams(lab: Lab, family: int, tool: str) -> None:
    """Those of one socket stay on one server; each socket is another turn."""
    load(lab, tool, config(lab, family, 2, protocol="udp"))
    answered: Counter[str] = Counter()
    for _ in range(6):
        with connect(lab, "client", vips(lab, family)[0], kind=socket.SOCK_DGRAM) as talk:
            (server,) = {tell(talk, "who?").partition(":")[0] for _ in range(3)}
            answered[server] += 1
    assert answered == {"0": 3, "1": 3}


@pytest.mark.parametrize("tool", ALL_TOOLS)
def test_local_addresses_that_are_apart_are_all_used(lab: Lab, family: int, tool: str) -> None:
    """A rule each: which of two is chance, and a hundred times the same one in 10**30."""
    first, second = sorted(lips(lab, family))
    apart = {4: "198.19.0.5", 6: "2001:db8:2::5"}[family]
    lab.run("director", ["ip", "address", "add", apart, "dev", "eth1", "nodad"])
    load(lab, tool, config(lab, family, 1).replace(second, apart).replace(f":{FIRST_PORT}", ":80"))
    assert get(lab, vips(lab, family)[0], 100).sources == {first, apart}


@pytest.mark.parametrize("tool", ["iptables", pytest.param("ipvsadm", marks=pytest.mark.requires("ipvs"))])
def test_a_host_that_drops_what_it_does_not_know_lets_it_pass(lab: Lab, family: int, tool: str) -> None:
    program = "iptables" if family == 4 else "ip6tables"
    for chain in ("INPUT", "FORWARD", "OUTPUT"):
        lab.run("director", [program, "-P", chain, "DROP"])
    icmp = ["-p", "ipv6-icmp", "-j", "ACCEPT"]  # neighbours must be found
    for chain in ("INPUT", "OUTPUT") if family == 6 else ():
        lab.run("director", [program, "-A", chain, *icmp])
    load(lab, tool, config(lab, family, 2))
    assert ask(lab, vips(lab, family)[0], 4) == {"0": 2, "1": 2}


FAILURES = [
    ("iptables", {"ip6tables-restore": "exit 1"}),
    ("iptables", {"sysctl": "exit 1"}),
    pytest.param("ipvsadm", {"ip6tables-restore": "exit 1"}, marks=pytest.mark.requires("ipvs")),
    pytest.param(
        "ipvsadm",  # one line fails, once, and the exit status is 0 all the same
        {"ipvsadm": '[ "$1" = --restore -a ! -e "$0.done" ] || exec /usr/sbin/ipvsadm "$@"; touch "$0.done"\n'
         "sed 5s/-[at]/--no/ | /usr/sbin/ipvsadm --restore"},
        marks=pytest.mark.requires("ipvs"),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("tool", "instead"), FAILURES)
@pytest.mark.parametrize("again", [False, True], ids=["first", "again"])
def test_a_script_that_fails_leaves_all_as_it_was(
    lab: Lab, tool: str, instead: dict[str, str], again: bool
) -> None:
    if again:
        execute(lab, tool, rendered(lab, tool, both_families(lab, 2)))
    before = state(lab)
    assert bool(before) == again
    script = rendered(lab, tool, both_families(lab, 3))
    done = execute(lab, tool, script, instead=instead, check=False)
    assert done.returncode
    assert "all is as it was before" in done.stderr
    assert state(lab) == before
    execute(lab, tool, script)
    assert ask(lab, vips(lab, 4)[0], 3) == ask(lab, vips(lab, 6)[0], 3) == {"0": 1, "1": 1, "2": 1}


def both_families(lab: Lab, count: int) -> str:
    """A service for each."""
    one, other = config(lab, 4, count), config(lab, 6, count)
    addresses = sorted(lips(lab, 4) | lips(lab, 6))
    services = one.partition("[[service]]")[2], other.partition("[[service]]")[2]
    return "\n".join(
        ["version = 1", f"snat.addresses = {addresses}", *(f"[[service]]{text}" for text in services)]
    )


def test_fullnat_itself_is_not_replaced(lab: Lab) -> None:
    lab.run("director", ["iptables", "-t", "raw", "-N", "FULLNAT-main"])
    before = state(lab)
    done = execute(lab, "iptables", rendered(lab, "iptables", config(lab, 4, 1)), check=False)
    assert done.returncode == 1
    assert "fullnat stop --instance main" in done.stderr
    assert state(lab) == before
