# SPDX-License-Identifier: Apache-2.0
"""IPVS as text: the way from what is there to what is wanted, and back from what ipvsadm prints."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fullnat.core.addr import TCP, UDP, parse_endpoint
from fullnat.kernel import ipvs
from fullnat.kernel.ipvs import IpvsServer, IpvsService, desired, parse_rules, plan
from fullnat.kernel.service import Forward, Fwmark, KernelPersistence, KernelServer, KernelService

WEB = KernelService(
    listen=parse_endpoint("203.0.113.10:80"),
    protocol=TCP,
    scheduler="wrr",
    servers=(
        KernelServer(parse_endpoint("198.19.0.11:8080"), weight=3, upper=100, lower=50),
        KernelServer(parse_endpoint("198.19.0.12:8080"), weight=0),
    ),
)
DNS = KernelService(
    listen=parse_endpoint("[2001:db8::10]:53"),
    protocol=UDP,
    scheduler="sh",
    flags=frozenset({"sh-port", "sh-fallback"}),
    persistence=KernelPersistence(60, 64),
    one_packet=True,
    servers=(KernelServer(parse_endpoint("[2001:db8:1::11]:53")),),
)


# What is wanted.


def test_services_are_written_as_ipvsadm_is_told_of_them() -> None:
    assert plan(desired([WEB, DNS]), {}) == [
        "-A -t 203.0.113.10:80 -s wrr",
        "-a -t 203.0.113.10:80 -r 198.19.0.11:8080 -m -w 3 -x 100 -y 50",
        "-a -t 203.0.113.10:80 -r 198.19.0.12:8080 -m -w 0 -x 0 -y 0",
        "-A -u [2001:db8::10]:53 -s sh -b sh-fallback,sh-port -p 60 -M 64 -o",
        "-a -u [2001:db8::10]:53 -r [2001:db8:1::11]:53 -m -w 1 -x 0 -y 0",
    ]


@pytest.mark.parametrize(
    ("forward", "method"),
    [(Forward.FULLNAT, "-m"), (Forward.NAT, "-m"), (Forward.DR, "-g"), (Forward.TUN, "-i")],
)
def test_each_forwarding_mode_has_its_method(forward: Forward, method: str) -> None:
    (service,) = desired([replace(WEB, forward=forward)]).values()
    assert {server.method for server in service.servers.values()} == {method}


@pytest.mark.parametrize("forward", [Forward.DR, Forward.TUN])
def test_only_nat_changes_the_port(forward: Forward) -> None:
    """As ipvsadm has it: else what it prints would never be what was wanted."""
    direct = replace(WEB, forward=forward)
    (service,) = desired([direct]).values()
    assert list(service.servers) == ["198.19.0.11:80", "198.19.0.12:80"]
    assert ipvs.differences(direct) == [
        f"server 198.19.0.{host}:8080 is reached at port 80, which {forward.value} keeps" for host in (11, 12)
    ]
    marked = replace(direct, listen=Fwmark(7), protocol=0)
    (service,) = desired([marked]).values()
    assert list(service.servers) == ["198.19.0.11:8080", "198.19.0.12:8080"]
    assert ipvs.differences(replace(marked, forward=forward)) == []


@pytest.mark.parametrize(("family", "address"), [(4, "-f 7"), (6, "-f 7 -6")])
def test_a_mark_is_a_service(family: int, address: str) -> None:
    marked = replace(WEB, listen=Fwmark(7, family), protocol=0, servers=())
    assert plan(desired([marked]), {}) == [f"-A {address} -s wrr"]


@pytest.mark.parametrize(("mask", "written"), [(24, "-M 255.255.255.0"), (32, "")])
def test_whole_addresses_need_no_mask(mask: int, written: str) -> None:
    (service,) = desired([replace(WEB, persistence=KernelPersistence(300, mask))]).values()
    assert service.options == " ".join(filter(None, ["-s wrr -p 300", written]))


def test_a_scheduler_that_ipvs_does_not_have_becomes_another() -> None:
    random = replace(WEB, scheduler="random")
    (service,) = desired([random]).values()
    assert service.scheduler == "wlc"
    assert ipvs.differences(random) == ["scheduler random becomes wlc"]
    assert ipvs.differences(WEB) == []


# The way there.

servers = st.builds(
    IpvsServer,
    method=st.sampled_from(["-m", "-g", "-i"]),
    weight=st.integers(0, 3),
    upper=st.integers(0, 2),
    lower=st.integers(0, 2),
)
services = st.builds(
    IpvsService,
    scheduler=st.sampled_from(["rr", "wlc", "sh"]),
    flags=st.sets(st.sampled_from(["sh-port", "sh-fallback"])).map(frozenset),
    timeout=st.integers(0, 1),
    mask=st.sampled_from(["", "255.255.255.0"]),
    one_packet=st.booleans(),
    servers=st.dictionaries(st.sampled_from(["192.0.2.1:80", "192.0.2.2:80", "[2001:db8::1]:80"]), servers),
)
tables = st.dictionaries(
    st.sampled_from(["-t 203.0.113.1:80", "-u 203.0.113.1:80", "-t [2001:db8::1]:80", "-f 1", "-f 1 -6"]),
    services,
)


def carry_out(lines: list[str], table: dict[str, IpvsService]) -> dict[str, IpvsService]:
    """What `ipvsadm --restore` makes of *table*; a line that it would refuse fails."""
    table = dict(table)
    for line in lines:
        command, *words = line.split()
        size = 3 if words[0] == "-f" and words[2:3] == ["-6"] else 2
        address, options = " ".join(words[:size]), " ".join(words[size:])
        if command == "-D":
            del table[address]
        elif command in ("-A", "-E"):
            assert (address in table) == (command == "-E")
            old = table[address].servers if command == "-E" else {}
            table[address] = replace(parse_rules(f"-A {address} {options}", "")[address], servers=old)
        else:
            held = dict(table[address].servers)
            name = words[size + 1]
            assert (name in held) == (command != "-a")
            if command == "-d":
                del held[name]
            else:
                read = parse_rules(f"-A {address} -s rr\n-a {address} {options}", "")
                held[name] = read[address].servers[name]
            table[address] = replace(table[address], servers=held)
    return table


def differing(wanted: dict[str, IpvsService], present: dict[str, IpvsService]) -> int:
    """How many services and servers are not as they should be; those of a service that goes, go with it."""
    count = len(present.keys() - wanted.keys())
    for address, service in wanted.items():
        there = present.get(address)
        count += there is None or replace(there, servers={}) != replace(service, servers={})
        held = there.servers if there else {}
        count += sum(held.get(name) != server for name, server in service.servers.items())
        count += len(held.keys() - service.servers.keys())
    return count


@given(tables, tables)
def test_a_plan_leads_from_anything_to_what_is_wanted_in_as_few_lines_as_can_be(
    wanted: dict[str, IpvsService], present: dict[str, IpvsService]
) -> None:
    lines = plan(wanted, present)
    assert carry_out(lines, present) == wanted
    assert len(lines) == differing(wanted, present)


def test_one_weight_among_thousands_is_one_line_and_no_time() -> None:
    def table(weight: int) -> dict[str, IpvsService]:
        return desired(
            KernelService(
                listen=parse_endpoint(f"203.0.113.10:{1000 + number}"),
                protocol=TCP,
                scheduler="wlc",
                servers=tuple(
                    KernelServer(
                        parse_endpoint(f"198.19.0.{at + 1}:80"), weight=weight if number == at == 7 else 1
                    )
                    for at in range(20)
                ),
            )
            for number in range(200)
        )

    begun = time.process_time()
    assert plan(table(2), table(1)) == ["-e -t 203.0.113.10:1007 -r 198.19.0.8:80 -m -w 2 -x 0 -y 0"]
    assert time.process_time() - begun < 1


# What ipvsadm prints.

SAVED = """\
-A -t 203.0.113.10:80 -s wrr
-a -t 203.0.113.10:80 -r 198.19.0.11:8080 -m -w 3
-a -t 203.0.113.10:80 -r 198.19.0.12:8080 -m -w 0
-A -u [2001:db8::10]:53 -s sh -p 60 -M 64 -o -b sh-fallback,sh-port
-a -u [2001:db8::10]:53 -r [2001:db8:1::11]:53 -m -w 1
-A -f 7 -6 -s rr
-a -f 7 -6 -r [2001:db8:1::11]:0 -i -w 2 --tun-type ipip
"""
THRESHOLDS = """\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port            Uthreshold Lthreshold ActiveConn InActConn
  -> RemoteAddress:Port
TCP  203.0.113.10:80 wrr
  -> 198.19.0.11:8080             100        50         0          0
  -> 198.19.0.12:8080             0          0          0          0
UDP  [2001:db8::10]:53 sh (sh-fallback,sh-port) persistent 60 mask 64 ops
  -> [2001:db8:1::11]:53          0          0          0          0
FWM  7 IPv6 rr
  -> [2001:db8:1::11]:0           9          1          0          0
"""


def test_what_ipvsadm_prints_is_what_was_wanted() -> None:
    server = KernelServer(parse_endpoint("[2001:db8:1::11]:53")._replace(port=0), weight=2, upper=9, lower=1)
    marked = KernelService(Fwmark(7, 6), 0, "rr", (server,), forward=Forward.TUN)
    assert parse_rules(SAVED, THRESHOLDS) == desired([WEB, DNS, marked])
