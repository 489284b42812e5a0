# SPDX-License-Identifier: Apache-2.0
"""Services that IPVS serves beside the engine: each forwarding mode, each scheduler, by address and by mark.

 client                    director                     real server
CIP:cport  ---inbound--->  VIP:vport  ---nat, dr, tun-->  sees CIP
           <--outbound---    (nat)    <-- or past it ---

On the servers only that is set which `fullnat doctor` says they need, in its own words.
"""

from __future__ import annotations

import json
import re
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from balancer import Balancer
from hoststate import HostState
from lab import Lab
from namespace import LabError
from tests.features import missing
from tests.netns.conversations import Parrots, connect, tell
from tests.netns.streams import ECHO, TRANSPORTS
from tests.netns.traffic import get, lips, servers, vips, wait_until

MARK = 7
MODES = [("two-arm", "fullnat"), ("two-arm", "nat"), ("one-arm", "dr"), ("one-arm", "tun")]
SCHEDULERS = (
    "rr",
    "wrr",
    "lc",
    "wlc",
    "lblc",
    "lblcr",
    "dh",
    "sh",
    "mh",
    "sed",
    "nq",
    "fo",
    "ovf",
)  # all of Debian's
FIRST_PORT = 9000
HALF = {"lab": {"topology": "two-arm", "clients": 1, "servers": 2}}

needs_ipvs = pytest.mark.requires("nfqueue", "ipvs", "ipset", "iptables", "nat")


@pytest.fixture
def datapath() -> str:
    """Any engine will do: it sees nothing of this."""
    return "auto"


@pytest.fixture
def _marked(lab: Lab) -> None:
    """What comes to the second virtual address is marked, which is an address of the director's."""
    for family in lab.families:
        program, vip = _tables(family), vips(lab, family)[1]
        rule = ["-d", vip, "-j", "MARK", "--set-mark", str(MARK)]
        # Never the source of what the director sends itself: servers have it too, and drop tunnels from it.
        options = ["nodad", "preferred_lft", "0"] if family == 6 else []
        lab.run("director", [program, "-t", "mangle", "-A", "PREROUTING", *rule])
        lab.run("director", ["ip", "address", "add", vip, "dev", "eth0", *options])


def _tables(family: int) -> str:
    return "iptables" if family == 4 else "ip6tables"


def config(lab: Lab, *services: str, fallback: str = "none") -> str:
    """A configuration with these [[service]] tables."""
    addresses = sorted(address for family in lab.families for address in lips(lab, family))
    head = ["version = 1", "[engine]", f'fallback = "{fallback}"', "[snat]", f"addresses = {addresses}"]
    return "\n".join([*head, *services])


def service(lab: Lab, family: int, listen: str, *lines: str, port: int | None = None) -> str:
    """A service with every server of *family*; at *port* if given."""
    text = ["[[service]]", f'listen = "{listen}"', 'scheduler = "rr"', *lines]
    for address in servers(lab, family):
        bracketed = f"[{address}]" if family == 6 else address
        text += ["[[service.server]]", f'address = "{bracketed}{f":{port}" if port else ""}"']
    return "\n".join(text)


def of_mode(lab: Lab, forward: str) -> list[str]:
    """A web site and an echo service by *forward*, and all that is marked."""
    found = []
    for family in lab.families:
        vip = vips(lab, family)[0]
        host, marked = (vip, "fwmark") if family == 4 else (f"[{vip}]", "fwmark6")
        line = f'forward = "{forward}"'
        found.append(service(lab, family, f"{marked}://{MARK}", line))
        if forward != "fullnat":  # else the engine's
            found += [
                service(lab, family, f"{listen}://{host}:{port}", line)
                for listen, port in (("tcp", 80), ("tcp", ECHO), ("udp", ECHO))
            ]
    return found


def follow_advice(lab: Lab, running: Balancer) -> None:
    """Do on the servers what the doctor says they need."""
    said = running.command("doctor", "-c", str(running.path), check=False).stdout
    lines = [line.partition(" needs ")[2] for line in said.splitlines() if " servers: " in line]
    done = re.findall(r"\b(?:(?:modprobe|ip) [^;()\n]+|net\.[\w.]+=\d)", "\n".join(dict.fromkeys(lines)))
    for step in dict.fromkeys(done):
        for family in lab.families:
            if ("VIP/32" in step and family == 6) or ("VIP/128" in step and family == 4):
                continue
            command = step.replace("VIP", vips(lab, family)[1]).split()
            if step.startswith("net."):
                command = ["sysctl", "-q", "-w", step]
            command += ["nodad"] if "addr add" in step and ":" in step else []
            for role in lab.servers:
                lab.run(role, [part if part != "add" else "replace" for part in command])


def advised(lab: Lab, balancer: Callable[..., Balancer], text: str) -> Balancer:
    """Start with *text*, on servers that have what they need."""
    follow_advice(lab, Balancer(lab, text, name="advice"))
    return balancer(text)


@contextmanager
def closed(lab: Lab) -> Iterator[None]:
    """Have the director drop what it does not know, but for finding neighbours."""
    policies = [
        (_tables(family), chain) for family in lab.families for chain in ("INPUT", "FORWARD", "OUTPUT")
    ]
    neighbours = ["-p", "ipv6-icmp", "-j", "ACCEPT"]
    for chain in ("INPUT", "OUTPUT"):
        lab.run("director", ["ip6tables", "-A", chain, *neighbours])
    for program, chain in policies:
        lab.run("director", [program, "-P", chain, "DROP"])
    try:
        yield
    finally:
        for program, chain in policies:
            lab.run("director", [program, "-P", chain, "ACCEPT"])
        for chain in ("INPUT", "OUTPUT"):
            lab.run("director", ["ip6tables", "-D", chain, *neighbours])


@contextmanager
def flock(lab: Lab) -> Iterator[None]:
    """Echo servers on each address of each server: datagrams are answered from where they came to."""
    everything = set(lab.vips4 + lab.vips6 + lab.servers4 + lab.servers6)
    with Parrots(lab) as parrots:
        for role in lab.servers:
            listing = lab.run(role, ["ip", "-j", "address", "show"]).stdout
            found = {info["local"] for device in json.loads(listing) for info in device["addr_info"]}
            for address in sorted(found & everything):
                for kind in TRANSPORTS:
                    parrots.add(role, ECHO, kind, address=address)
        yield


def who_answers(
    lab: Lab, vip: str, times: int, port: int = ECHO, kind: int = socket.SOCK_STREAM
) -> Counter[str]:
    """Connect *times*, talk twice, and count who answered."""
    answered: Counter[str] = Counter()
    for _ in range(times):
        with connect(lab, "client", vip, port, kind=kind) as talk:
            server, again = (tell(talk, text).partition(":")[0] for text in ("who?", "still?"))
            assert server == again
            answered[server] += 1
    return answered


def connections(lab: Lab) -> int:
    """How many connections IPVS of the director knows."""
    return len(lab.run("director", ["ipvsadm", "-Lnc"]).stdout.splitlines()) - 2


def virtual_services(lab: Lab) -> list[str]:
    """What IPVS of the director has."""
    return lab.run("director", ["ipvsadm", "-Sn"]).stdout.splitlines()


@needs_ipvs
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("_marked")
@pytest.mark.parametrize(
    ("lab", "forward"),
    [({"topology": topology, "clients": 1, "servers": 2}, forward) for topology, forward in MODES],
    indirect=["lab"],
    ids=[forward for _, forward in MODES],
)
def test_each_forwarding_mode_carries_traffic(
    lab: Lab, balancer: Callable[..., Balancer], forward: str
) -> None:
    """Also past a firewall that lets nothing else through."""
    running = advised(lab, balancer, config(lab, *of_mode(lab, forward)))
    assert f"; by IPVS: fwmark-{MARK} ({forward}, rr, 2 servers)" in running.log

    def carries_traffic() -> None:
        for family in lab.families:
            seen = lips(lab, family) if forward == "fullnat" else {(lab.clients4 + lab.clients6)[family == 6]}
            for vip in vips(lab, family)[forward == "fullnat" : 2]:
                answers = get(lab, vip, 2)
                assert (vip, sorted(answers.servers.values())) == (vip, [1, 1])
                assert answers.sources <= seen
                for kind in TRANSPORTS:
                    assert sorted(who_answers(lab, vip, 2, kind=kind).values()) == [1, 1]

    with flock(lab):
        carries_traffic()
        assert connections(lab)
        with closed(lab):
            carries_traffic()
    assert running.show("flows") == []
    status = json.loads(running.command("status", "--json").stdout)
    assert status["by_ipvs"][0] == f"fwmark-{MARK}"
    assert running.stop() == 0
    assert virtual_services(lab) == []


@needs_ipvs
def test_each_scheduler_carries_traffic(
    lab: Lab, balancer: Callable[..., Balancer], parrots: Parrots
) -> None:
    """All from one configuration."""
    text = config(
        lab,
        *(
            service(lab, family, f"{protocol}://{host}:{port}", 'forward = "nat"', port=ECHO).replace(
                'scheduler = "rr"', f'scheduler = "{scheduler}"'
            )
            for family, host in ((4, lab.vips4[0]), (6, f"[{lab.vips6[0]}]"))
            for protocol in ("tcp", "udp")
            for port, scheduler in enumerate(SCHEDULERS, FIRST_PORT)
        ),
    )
    advised(lab, balancer, text)
    saved = "\n".join(virtual_services(lab))
    for port, scheduler in enumerate(SCHEDULERS, FIRST_PORT):
        assert saved.count(f":{port} -s {scheduler}") == 4
        for vip in (lab.vips4[0], lab.vips6[0]):
            for kind in TRANSPORTS:
                answered = who_answers(lab, vip, 3, port, kind)
                assert set(answered) <= set(lab.servers)
                assert scheduler != "rr" or set(answered.values()) == {1}


@needs_ipvs
@pytest.mark.usefixtures("_marked")
@pytest.mark.parametrize("lab", [HALF["lab"]], indirect=True)
@pytest.mark.parametrize("fallback", ["none", "iptables", "ipvs"])
def test_they_go_on_beside_an_engine_and_its_fallback(
    lab: Lab, balancer: Callable[..., Balancer], fallback: str
) -> None:
    """The engine's death is none of theirs, nor is its return."""
    engines = [
        service(lab, family, f"tcp://{host}:80")
        for family, host in ((4, lab.vips4[0]), (6, f"[{lab.vips6[0]}]"))
    ]
    text = config(lab, *engines, *of_mode(lab, "fullnat"), fallback=fallback)
    running = balancer(text)

    def are_served(which: int) -> None:
        for family in lab.families:
            assert sorted(get(lab, vips(lab, family)[which], 4).servers.values()) == [2, 2]

    are_served(1)
    assert running.show("flows") == []
    are_served(0)
    assert len(running.show("flows")) == 4 * len(lab.families)
    with connect(lab, "client", lab.vips4[1], ECHO, kind=socket.SOCK_DGRAM) as talk, Parrots(lab) as parrots:
        for role in lab.servers:
            parrots.add(role, ECHO, socket.SOCK_DGRAM)
        before = tell(talk, "here?")
        running.kill()
        are_served(1)
        if fallback != "none":
            are_served(0)
        assert tell(talk, "here?") == before
        running.start()
        assert tell(talk, "here?") == before
    are_served(1)
    are_served(0)


@needs_ipvs
@pytest.mark.usefixtures("_marked")
@pytest.mark.parametrize("lab", [HALF["lab"]], indirect=True)
def test_what_somebody_else_takes_away_is_repaired_and_all_is_put_back(
    lab: Lab, balancer: Callable[..., Balancer]
) -> None:
    before = HostState.of(lab)
    running = balancer(config(lab, *of_mode(lab, "fullnat")))
    wanted = virtual_services(lab)
    lab.run("director", ["ipvsadm", "-C"])
    wait_until(lambda: "IPVS needs -A" in running.log, 20, "a repair")
    assert sorted(virtual_services(lab)) == sorted(wanted)
    running.kill()
    assert "put back" in running.command("stop").stdout
    assert virtual_services(lab) == []
    assert before.changes_to(HostState.of(lab)) == []


def refused(lab: Lab, text: str) -> str:
    """Return the one line that a start with *text* ends with."""
    alone = Balancer(lab, text, name="refused")
    before = len(alone.log)
    with pytest.raises(LabError, match="exit status 1"):
        alone.start()
    lines = alone.log[before:].splitlines()
    (line,) = [line for line in lines if not line.startswith("event=")]
    return line


@needs_ipvs
@pytest.mark.parametrize("lab", [HALF["lab"]], indirect=True)
def test_what_the_kernel_cannot_serve_is_one_line_and_changes_nothing(lab: Lab) -> None:
    before = HostState.of(lab)
    nat = service(lab, 4, f"tcp://{lab.vips4[0]}:80", 'forward = "nat"')
    twos = refused(lab, config(lab, nat.replace('"rr"', '"twos"')))
    assert f"tcp://{lab.vips4[0]}:80: IPVS refuses the services" in twos
    nowhere = refused(lab, config(lab, nat.replace(lab.vips4[0], "198.18.9.9")))
    assert nowhere.endswith("IPVS serves only addresses of the host: ip addr add 198.18.9.9/32 dev lo")
    assert before.changes_to(HostState.of(lab)) == []
    assert virtual_services(lab) == []


@pytest.mark.skipif(not missing("ipvs"), reason="this kernel has IPVS")
def test_a_kernel_without_ipvs_is_told_with_the_service_that_needs_it(lab: Lab) -> None:
    text = config(lab, service(lab, 4, f"fwmark://{MARK}"))
    assert refused(lab, text) == (
        f"fullnat: fwmark://{MARK}: the kernel has no IPVS: modprobe ip_vs (CONFIG_IP_VS)"
    )
