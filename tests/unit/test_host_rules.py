# SPDX-License-Identifier: Apache-2.0
"""Steering as text: golden rules and sets, and what is found again in the output of iptables-save."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from fullnat.core.addr import TCP, UDP, PortRange, parse_endpoint
from fullnat.host.conntrack import Connection
from fullnat.host.errors import HostError
from fullnat.host.plan import Fallback, HostPlan
from fullnat.host.rules import (
    Steering,
    parse_sets,
    plan_sets,
    render_held,
    render_rules,
    render_set_changes,
    render_sets,
)
from fullnat.host.saved_rules import find_foreign_rule, find_own_lines, render_removal
from fullnat.host.steering import SteeringRecord
from fullnat.kernel.service import Forward, Fwmark, KernelServer, KernelService, LocalPool

PLAN = HostPlan(
    instance="main",
    queue=1080,
    mark=0x4000000,
    services=((TCP, parse_endpoint("203.0.113.10:80")), (UDP, parse_endpoint("203.0.113.20:53"))),
    servers=((TCP, parse_endpoint("198.19.0.11:8080")), (UDP, parse_endpoint("198.19.0.11:53"))),
    lips=(ip_address("198.19.0.1"), ip_address("198.19.0.2")),
    port_range=PortRange(1024, 32767),
)
PLAN_V6 = replace(
    PLAN,
    services=((TCP, parse_endpoint("[2001:db8::10]:80")),),
    servers=((TCP, parse_endpoint("[2001:db8:1::11]:80")),),
    lips=(ip_address("2001:db8:1::1"),),
)
STEERING = Steering(PLAN, frozenset([ip_address("203.0.113.20")]), frozenset())

SETS = """\
create fn-main.v4.services hash:ip,port family inet maxelem 1048576
add fn-main.v4.services 203.0.113.10,tcp:80
add fn-main.v4.services 203.0.113.20,udp:53
create fn-main.v4.servers hash:ip,port family inet maxelem 1048576
add fn-main.v4.servers 198.19.0.11,tcp:8080
add fn-main.v4.servers 198.19.0.11,udp:53
create fn-main.v4.vips hash:ip family inet maxelem 1048576
add fn-main.v4.vips 203.0.113.10
add fn-main.v4.vips 203.0.113.20
create fn-main.v4.rips hash:ip family inet maxelem 1048576
add fn-main.v4.rips 198.19.0.11
create fn-main.v4.lips hash:ip family inet maxelem 1048576
add fn-main.v4.lips 198.19.0.1
add fn-main.v4.lips 198.19.0.2
create fn-main.v4.pings hash:ip family inet maxelem 1048576
add fn-main.v4.pings 203.0.113.20
"""

# The comment of each rule is left out here; a test of its own is about them.
RULES = """\
*raw
:FULLNAT-main - [0:0]
:FULLNAT-main.own - [0:0]
:FULLNAT-main.nfq - [0:0]
:FULLNAT-main.icmp - [0:0]
-A FULLNAT-main -m mark --mark 0x4000000/0x4000000 -g FULLNAT-main.own
-A FULLNAT-main -m set --match-set fn-main.v4.services dst,dst -g FULLNAT-main.nfq
-A FULLNAT-main -p tcp -m tcp --dport 1024:32767 -m set --match-set fn-main.v4.lips dst \
-m set --match-set fn-main.v4.servers src,src -g FULLNAT-main.nfq
-A FULLNAT-main -p udp -m udp --dport 1024:32767 -m set --match-set fn-main.v4.lips dst \
-m set --match-set fn-main.v4.servers src,src -g FULLNAT-main.nfq
-A FULLNAT-main -f -m set --match-set fn-main.v4.vips dst -j NFQUEUE --queue-num 1080
-A FULLNAT-main -f -m set --match-set fn-main.v4.lips dst -m set --match-set fn-main.v4.rips src \
-j NFQUEUE --queue-num 1080
-A FULLNAT-main -p icmp -m set --match-set fn-main.v4.vips dst -g FULLNAT-main.icmp
-A FULLNAT-main -p icmp -m set --match-set fn-main.v4.lips dst -g FULLNAT-main.icmp
-A FULLNAT-main.own -j CT --notrack
-A FULLNAT-main.nfq -j CT --notrack
-A FULLNAT-main.nfq -j NFQUEUE --queue-num 1080
-A FULLNAT-main.icmp -p icmp -m icmp --icmp-type 3 -j NFQUEUE --queue-num 1080
-A FULLNAT-main.icmp -p icmp -m icmp --icmp-type 4 -j NFQUEUE --queue-num 1080
-A FULLNAT-main.icmp -p icmp -m icmp --icmp-type 11 -j NFQUEUE --queue-num 1080
-A FULLNAT-main.icmp -p icmp -m icmp --icmp-type 12 -j NFQUEUE --queue-num 1080
-A FULLNAT-main.icmp -p icmp -m icmp --icmp-type 8 -m set --match-set fn-main.v4.pings dst \
-j NFQUEUE --queue-num 1080
-I PREROUTING 1 -j FULLNAT-main
-I OUTPUT 1 -j FULLNAT-main
COMMIT
*filter
:FULLNAT-main.pass - [0:0]
-A FULLNAT-main.pass -m mark --mark 0x4000000/0x4000000 -j ACCEPT
-I INPUT 1 -j FULLNAT-main.pass
-I OUTPUT 1 -j FULLNAT-main.pass
-I FORWARD 1 -j FULLNAT-main.pass
COMMIT
"""


def without_comments(text: str) -> str:
    lines = []
    for line in text.splitlines():
        head, comment, rest = line.partition('-m comment --comment "')
        lines.append(head + rest.partition('" ')[2] if comment else line)
    return "".join(f"{line}\n" for line in lines)


def test_the_sets_of_two_services() -> None:
    assert render_sets(plan_sets(STEERING)) == SETS


def test_the_rules_of_ipv4() -> None:
    assert without_comments(render_rules(STEERING, 4)) == RULES


def test_workers_have_a_queue_each() -> None:
    steering = replace(STEERING, plan=replace(PLAN, workers=3))
    wanted = RULES.replace("--queue-num 1080", "--queue-balance 1080:1082")
    assert without_comments(render_rules(steering, 4)) == wanted


def test_queues_beyond_the_last_are_refused() -> None:
    assert replace(PLAN, queue=65530, workers=5, more_queues=1).queues == range(65530, 65536)
    with pytest.raises(HostError, match=r"queues 65530-65536 go beyond 65535.*\[engine\] queue"):
        replace(PLAN, queue=65530, workers=6, more_queues=1)


def test_the_rules_of_ipv6_differ_in_fragments_and_icmp() -> None:
    def shape(text: str) -> set[str]:
        return set(text.replace(".v4.", ".v6.").splitlines())

    v6 = shape(without_comments(render_rules(Steering(PLAN_V6, frozenset(), frozenset()), 6)))
    assert v6 - shape(RULES) == {
        "-A FULLNAT-main -m frag -m set --match-set fn-main.v6.vips dst -j NFQUEUE --queue-num 1080",
        "-A FULLNAT-main -m frag -m set --match-set fn-main.v6.lips dst "
        "-m set --match-set fn-main.v6.rips src -j NFQUEUE --queue-num 1080",
        "-A FULLNAT-main -p ipv6-icmp -m set --match-set fn-main.v6.vips dst -g FULLNAT-main.icmp",
        "-A FULLNAT-main -p ipv6-icmp -m set --match-set fn-main.v6.lips dst -g FULLNAT-main.icmp",
        *(
            f"-A FULLNAT-main.icmp -p ipv6-icmp -m icmp6 --icmpv6-type {kind} -j NFQUEUE --queue-num 1080"
            for kind in (1, 2, 3, 4)
        ),
        "-A FULLNAT-main.icmp -p ipv6-icmp -m icmp6 --icmpv6-type 128 "
        "-m set --match-set fn-main.v6.pings dst -j NFQUEUE --queue-num 1080",
    }
    assert len(v6) == len(set(RULES.splitlines()))


def test_every_rule_says_whose_it_is() -> None:
    rules = [line for line in render_rules(STEERING, 4).splitlines() if line.startswith(("-A", "-I"))]
    assert len(rules) == 22
    assert all('-m comment --comment "fullnat main: ' in line for line in rules)


def test_a_host_that_fullnat_makes_forward_forwards_for_nobody_else() -> None:
    text = without_comments(render_rules(replace(STEERING, guarded=frozenset([4])), 4))
    added = [line for line in text.splitlines() if line not in RULES.splitlines()]
    assert added == [
        ":FULLNAT-main.guard - [0:0]",
        "-A FULLNAT-main.guard -m mark ! --mark 0x4000000/0x4000000 -j DROP",
        "-I FORWARD 1 -j FULLNAT-main.guard",
    ]
    # Inserted after it, so standing before it.
    assert text.index("-I FORWARD 1 -j FULLNAT-main.guard") < text.index("-I FORWARD 1 -j FULLNAT-main.pass")


FALLBACK = Fallback(
    "iptables",
    tuple(
        KernelService(listen, protocol, "rr", (KernelServer(server),))
        for (protocol, listen), (_, server) in zip(PLAN.services, PLAN.servers, strict=True)
    ),
    LocalPool(PLAN.lips, PortRange(32768, 65535)),
    memory=901,
)


@pytest.mark.parametrize("kind", ["iptables", "ipvs"])
def test_with_a_fallback_what_no_engine_takes_goes_on_as_it_came(kind: str) -> None:
    """Past every queue, and tracked: only the engine's own packets are not."""
    steering = replace(STEERING, plan=replace(PLAN, fallback=replace(FALLBACK, kind=kind)))
    rules = render_rules(steering, 4).splitlines()
    queued = [rule for rule in rules if "-j NFQUEUE" in rule]
    assert queued
    assert all(rule.endswith("--queue-bypass") for rule in queued)
    assert [rule.split()[1] for rule in rules if "--notrack" in rule] == ["FULLNAT-main.own"]
    assert "*nat" in rules
    assert sum("-j SNAT --to-source 198.19.0.1-198.19.0.2:32768-65535" in rule for rule in rules) == 2
    assert sum("-j DNAT" in rule for rule in rules) == (2 if kind == "iptables" else 0)


@pytest.mark.parametrize("kind", ["iptables", "ipvs"])
def test_the_kernels_connections_are_known_before_services_are(kind: str) -> None:
    steering = replace(STEERING, plan=replace(PLAN, fallback=replace(FALLBACK, kind=kind)))
    rules = render_rules(steering, 4)
    assert rules.index("fn-main.v4.held src,src,dst") < rules.index("fn-main.v4.services dst,dst")
    assert "-j SET --add-set fn-main.v4.held src,src,dst --exist" in rules
    (held,) = [ipset for ipset in plan_sets(steering) if ipset.name == "fn-main.v4.held"]
    assert held.create_command == (
        "create fn-main.v4.held hash:ip,port,ip family inet maxelem 1048576 timeout 901"
    )


def test_what_the_kernel_has_put_into_a_set_stays_in_it() -> None:
    sets = plan_sets(replace(STEERING, plan=replace(PLAN, fallback=FALLBACK)))
    filled = [
        replace(one, members=frozenset({"203.0.113.9,tcp:5,203.0.113.10"})) if one.timeout else one
        for one in sets
    ]
    assert render_set_changes(filled, sets) == ("", "")


def test_a_fallback_that_is_no_longer_wanted_goes_with_its_table() -> None:
    steering = replace(STEERING, plan=replace(PLAN, fallback=FALLBACK))
    written = render_rules(steering, 4)
    saved = written.replace("-I PREROUTING 1", "-A PREROUTING").replace("-I POSTROUTING 1", "-A POSTROUTING")
    after = render_rules(STEERING, 4, saved)
    nat = after[after.index("*nat") :]
    chains = [line[1:].split()[0] for line in written.splitlines() if line.startswith(":") and ".r" in line]
    assert "-D PREROUTING" in nat
    assert "-D POSTROUTING" in nat
    assert all(f"-X {chain}" in nat for chain in chains)
    assert "-A FULLNAT" not in nat


def test_without_an_engine_nothing_goes_to_a_queue() -> None:
    rules = render_rules(replace(STEERING, plan=replace(PLAN, fallback=FALLBACK, has_engine=False)), 4)
    assert "NFQUEUE" not in rules
    assert "-j DNAT" in rules


BESIDE = (
    KernelService(Fwmark(7), 0, "rr", (KernelServer(parse_endpoint("198.19.0.11:1")._replace(port=0)),)),
    replace(FALLBACK.services[0], listen=parse_endpoint("203.0.113.30:80"), forward=Forward.NAT),
    replace(FALLBACK.services[0], listen=parse_endpoint("203.0.113.30:81"), forward=Forward.DR),
    replace(FALLBACK.services[0], listen=parse_endpoint("203.0.113.30:82"), forward=Forward.TUN),
)
BESIDE_RULES = """\
:FULLNAT-main.enter - [0:0]
:FULLNAT-main.kernel - [0:0]
-A FULLNAT-main.enter -m mark --mark 0x7 -m conntrack --ctstate NEW \
-j CONNMARK --set-xmark 0x4000000/0x4000000
-A FULLNAT-main.enter -m mark --mark 0x7 -j ACCEPT
-A FULLNAT-main.enter -d 203.0.113.30 -p tcp -m tcp --dport 80 -m conntrack --ctstate NEW \
-j CONNMARK --set-xmark 0x4000000/0x4000000
-A FULLNAT-main.enter -d 203.0.113.30 -p tcp -m tcp --dport 80 -j ACCEPT
-A FULLNAT-main.enter -d 203.0.113.30 -p tcp -m tcp --dport 81 -j ACCEPT
-A FULLNAT-main.enter -d 203.0.113.30 -p tcp -m tcp --dport 82 -j ACCEPT
-A FULLNAT-main.kernel -m connmark --mark 0x4000000/0x4000000 -j ACCEPT
-A FULLNAT-main.kernel -d 203.0.113.30 -p tcp -m tcp --dport 81 -m ipvs --ipvs -j ACCEPT
-A FULLNAT-main.kernel -d 198.19.0.11 -m ipvs --ipvs -j ACCEPT
-I INPUT 1 -j FULLNAT-main.enter
-I FORWARD 1 -j FULLNAT-main.kernel
-I OUTPUT 1 -j FULLNAT-main.kernel
*nat
:FULLNAT-main.snat - [0:0]
-A FULLNAT-main.snat -p tcp -m ipvs --ipvs --vdir ORIGINAL -m mark --mark 0x7 \
-j SNAT --to-source 198.19.0.1-198.19.0.2:32768-65535
-A FULLNAT-main.snat -p udp -m ipvs --ipvs --vdir ORIGINAL -m mark --mark 0x7 \
-j SNAT --to-source 198.19.0.1-198.19.0.2:32768-65535
-I POSTROUTING 1 -j FULLNAT-main.snat
"""


def test_what_ipvs_serves_beside_the_engine_is_let_through_and_never_queued() -> None:
    """Only full NAT needs a source, and only what comes back is known by conntrack."""
    steering = replace(STEERING, plan=replace(PLAN, kernel_services=BESIDE))
    assert plan_sets(steering) == plan_sets(STEERING)
    alone = render_rules(STEERING, 4).splitlines()
    rules = render_rules(steering, 4).splitlines()
    raw = slice(0, alone.index("*filter"))
    assert rules[raw] == alone[raw]
    added = "".join(f"{line}\n" for line in rules if line not in alone)
    assert without_comments(added) == BESIDE_RULES
    assert without_comments(render_rules(steering, 6)).count("-j ACCEPT") == 1  # its own packets


@pytest.mark.parametrize("kind", ["iptables", "ipvs"])
def test_beside_a_fallback_each_has_its_rules_and_none_comes_twice(kind: str) -> None:
    behind = replace(PLAN, fallback=replace(FALLBACK, kind=kind))
    rules = render_rules(replace(STEERING, plan=replace(behind, kernel_services=BESIDE)), 4).splitlines()
    assert set(render_rules(replace(STEERING, plan=behind), 4).splitlines()) <= set(rules)
    beside = replace(STEERING, plan=replace(PLAN, kernel_services=BESIDE))
    assert set(render_rules(beside, 4).splitlines()) - {
        line for line in render_rules(STEERING, 4).splitlines() if "NFQUEUE" in line or "notrack" in line
    } <= set(rules)
    jumps = [line for line in rules if line.startswith(("-I ", ":"))]
    assert len(jumps) == len(set(jumps))


def test_without_full_nat_beside_the_engine_no_table_translates() -> None:
    steering = replace(STEERING, plan=replace(PLAN, kernel_services=BESIDE[1:]))
    assert "*nat" not in render_rules(steering, 4)


def test_a_mark_that_is_fullnats_own_is_refused() -> None:
    with pytest.raises(HostError, match="fwmark://67108865: its mark has 0x4000000 in it"):
        replace(PLAN, kernel_services=(replace(BESIDE[0], listen=Fwmark(PLAN.mark + 1)),))


def test_connections_that_are_handed_over_are_put_into_the_set() -> None:
    ends = map(parse_endpoint, ("203.0.113.9:5", "203.0.113.10:80", "198.19.0.1:1024", "198.19.0.11:8080"))
    assert render_held(PLAN, [Connection(TCP, *ends, timeout=1)]) == (
        "add -exist fn-main.v4.held 203.0.113.9,tcp:5,203.0.113.10\n"
    )


def test_each_family_has_its_own_members() -> None:
    both = replace(
        PLAN,
        services=PLAN.services + PLAN_V6.services,
        servers=PLAN.servers + PLAN_V6.servers,
        lips=PLAN.lips + PLAN_V6.lips,
    )
    sets = plan_sets(Steering(both, STEERING.pingable, frozenset()))
    assert [ipset for ipset in sets if ipset.family == 4] == plan_sets(STEERING)
    assert [ipset for ipset in sets if ipset.family == 6] == plan_sets(
        Steering(PLAN_V6, frozenset(), frozenset())
    )


def test_names_fit_the_kernel() -> None:
    longest = Steering(replace(PLAN, instance="x" * 14), frozenset(), frozenset([4]))
    assert max(len(ipset.name) for ipset in plan_sets(longest)) <= 31
    chains = [line[1:].split()[0] for line in render_rules(longest, 4).splitlines() if line[0] == ":"]
    assert max(map(len, chains)) <= 28


def test_set_changes_add_before_they_delete() -> None:
    moved = replace(
        STEERING, plan=replace(PLAN, servers=((TCP, parse_endpoint("198.19.0.12:8080")), PLAN.servers[1]))
    )
    additions, deletions = render_set_changes(plan_sets(STEERING), plan_sets(moved))
    assert additions == (
        "add -exist fn-main.v4.servers 198.19.0.12,tcp:8080\nadd -exist fn-main.v4.rips 198.19.0.12\n"
    )
    assert deletions == "del -exist fn-main.v4.servers 198.19.0.11,tcp:8080\n"


def test_a_new_family_gets_its_sets_and_the_old_one_is_left_to_be_destroyed() -> None:
    v6 = Steering(PLAN_V6, frozenset(), frozenset())
    additions, deletions = render_set_changes(plan_sets(STEERING), plan_sets(v6))
    assert additions.replace("add -exist", "add") == render_sets(plan_sets(v6))
    assert deletions == ""


def test_sets_are_read_back() -> None:
    saved = SETS.replace("maxelem", "hashsize 1024 maxelem").replace("1048576", "1048576 bucketsize 12")
    assert parse_sets(saved) == {ipset.name: ipset.members for ipset in plan_sets(STEERING)}


SAVED = """\
# Generated by iptables-save v1.8.9 on Sat Nov 21 06:30:14 2026
*raw
:PREROUTING ACCEPT [12:840]
:OUTPUT ACCEPT [0:0]
:FULLNAT-main - [0:0]
:FULLNAT-main.nfq - [0:0]
:FULLNAT-main-2 - [0:0]
:KEEP - [0:0]
-A PREROUTING -m comment --comment "fullnat main: steering" -j FULLNAT-main
-A PREROUTING -s 192.0.2.1/32 -j KEEP
-A PREROUTING -m comment --comment "fullnat main: steering" -j FULLNAT-main
-A PREROUTING -m comment --comment "fullnat main-2: steering" -j FULLNAT-main-2
-A KEEP -m comment --comment " -j FULLNAT-main" -j ACCEPT
-A KEEP -g FULLNAT-main.nfq
-A FULLNAT-main -m comment --comment "fullnat main: to a service" -g FULLNAT-main.nfq
-A FULLNAT-main.nfq -m comment --comment "fullnat main: to the engine" -j NFQUEUE --queue-num 1080
COMMIT
*filter
:FORWARD DROP [0:0]
:FULLNAT-main.pass - [0:0]
-A FORWARD -m comment --comment "fullnat main: pass" -j FULLNAT-main.pass
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
-A PREROUTING -p tcp -j REDIRECT
COMMIT
"""


def test_removal_takes_out_what_is_ours_every_time_it_occurs_and_nothing_else() -> None:
    assert (
        render_removal(SAVED, "main")
        == """\
*raw
-D PREROUTING -m comment --comment "fullnat main: steering" -j FULLNAT-main
-D PREROUTING -m comment --comment "fullnat main: steering" -j FULLNAT-main
-D KEEP -g FULLNAT-main.nfq
-F FULLNAT-main
-F FULLNAT-main.nfq
-X FULLNAT-main
-X FULLNAT-main.nfq
COMMIT
*filter
-D FORWARD -m comment --comment "fullnat main: pass" -j FULLNAT-main.pass
-F FULLNAT-main.pass
-X FULLNAT-main.pass
COMMIT
"""
    )


def test_nothing_of_ours_is_nothing_to_remove() -> None:
    assert render_removal(SAVED, "mai") == ""
    assert render_removal("", "main") == ""


def test_rules_written_over_others_take_their_jumps_and_needless_chains_out() -> None:
    guarded = SAVED.replace(
        ":FULLNAT-main.pass - [0:0]", ":FULLNAT-main.pass - [0:0]\n:FULLNAT-main.guard - [0:0]"
    )
    lines = render_rules(STEERING, 4, guarded).splitlines()
    assert lines.count('-D PREROUTING -m comment --comment "fullnat main: steering" -j FULLNAT-main') == 2
    assert lines.count("-X FULLNAT-main.guard") == 1
    assert lines.count(":FULLNAT-main.guard - [0:0]") == 1
    assert not any("KEEP" in line and "nfq" not in line for line in lines)


def test_our_lines_are_those_in_our_chains_and_those_that_lead_there() -> None:
    assert find_own_lines(SAVED, "main-2") == [
        'raw -A PREROUTING -m comment --comment "fullnat main-2: steering" -j FULLNAT-main-2'
    ]
    assert len(find_own_lines(SAVED, "main")) == 6


@pytest.mark.parametrize(
    ("rule", "is_foreign"),
    [
        ("-A FULLNAT-main -j ACCEPT", True),
        ('-A FULLNAT-main.nfq -m comment --comment "fullnat main-2: x" -j ACCEPT', True),
        ('-A FULLNAT-main -m comment --comment "fullnat main: of an older version" -j ACCEPT', False),
        ("-A KEEP -j DROP", False),
    ],
)
def test_a_rule_of_someone_else_in_a_chain_of_our_name_is_found(rule: str, is_foreign: bool) -> None:
    text = f"*raw\n:FULLNAT-main - [0:0]\n{rule}\nCOMMIT\n"
    assert find_foreign_rule(text, "main") == (rule if is_foreign else None)


def test_a_record_from_before_the_fallback_has_the_tables_of_then() -> None:
    record = SteeringRecord("main", ("fn-main.v4.lips",), {4: ("iptables-save", "iptables-restore")})
    detail = record.to_json()
    assert SteeringRecord.from_json(detail) == record
    del detail["tables"]
    assert SteeringRecord.from_json(detail) == record
