# SPDX-License-Identifier: Apache-2.0
"""Steering as text: which packets reach the queue, as input of ipset and iptables-restore.

Everything is named after the instance, so several can live in one network namespace, and every
rule carries a comment that says whose it is.  The tables, for instance `main`:

  raw     PREROUTING, OUTPUT -> FULLNAT-main
            fullnat's own packet (mark)              -> .own    untracked, on its way
            to a service             VIP:vport       -> .nfq    untracked, to the queue
            reply of a server        RIP:rport->LIP  -> .nfq
            fragment to a VIP, or from a server to a LIP        -> queue
            ICMP error to a VIP or a LIP                        -> queue
            echo request to a VIP that no interface has         -> queue
  filter  INPUT, OUTPUT, FORWARD -> FULLNAT-main.pass
            fullnat's own packet (mark)              accepted
          FORWARD -> FULLNAT-main.guard              only when fullnat made this host forward
            any other packet                         dropped

Why raw, and both hooks.  After PREROUTING the kernel routes the rewritten packet, after OUTPUT it
routes it anew; later hooks do neither.  OUTPUT is for clients and servers on this host, and for the
kernel's own ICMP errors: when it cannot forward a rewritten packet it complains to that packet's
source, LIP, which is itself, and only translated in OUTPUT does the complaint reach the client.

Untracked.  Connection tracking would see half a connection on either side of the rewrite and leave
two entries that never close.  ICMP and fragments are queued without that, because they may belong
to a connection of the host itself, whose tracking must go on; an engine that translates one repeats
the hook (NF_REPEAT with the mark), and the first rule makes it untracked after all.  Where
connections are tracked, fragments are put together before raw and never come here.

Fragments.  Only the first has ports.  IPv4 `-f` matches the others; IPv6 `frag` matches them all, so
the first of a service's datagram takes the same way.

The mark.  It is on packets that fullnat has translated (set by the verdict) and on those it sends
itself (SO_MARK).  Accepting them makes a host whose FORWARD policy is DROP, and one that lets in only
established connections, forward for fullnat without a hole for anyone else.  All instances of a
network namespace share the bit, so that the guard of one lets the packets of another pass.

The guard.  A host that did not forward before must not become a router because a balancer was
started on it: whoever makes it forward drops what fullnat did not forward.

Several queues are one for each worker of the engine: --queue-balance sends what two addresses say to
each other to one of them, so a flow's directions may differ in it, and packets of one stay in order.

A queue has no bypass: a packet that no engine looks at must be lost, because the host would answer
it with a reset.

With a fallback it has one, and what no engine looks at goes on to the kernel's own full NAT
(kernel/iptables.py), which conntrack does: so nothing is untracked before the engine has taken it,
which then repeats the hook for every packet.  A connection that the kernel took stays with it:

  raw     a client's connection that the kernel has (set held)  -> .held   remembered anew, on its way
  nat     PREROUTING, OUTPUT -> .nat       new connection: put into the set, DNAT
          POSTROUTING -> .snat             SNAT, to ports that are none of the engine's
  filter  FORWARD -> .kernel               its connections accepted

What IPVS serves beside the engine is in no set, so nothing of it is queued; its rules: kernel/snat.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fullnat.core.addr import PROTOCOL_NAMES, Endpoint, IPAddress
from fullnat.host.conntrack import Connection
from fullnat.host.plan import IPVS, HostPlan
from fullnat.host.saved_rules import find_own_chains, find_own_jumps
from fullnat.kernel import iptables, snat
from fullnat.kernel.names import RuleWriter, chain_name
from fullnat.kernel.service import Forward

SAVE_PROGRAMS = {4: "iptables-save", 6: "ip6tables-save"}
RESTORE_PROGRAMS = {4: "iptables-restore", 6: "ip6tables-restore"}
_TABLES = ("raw", "filter")
_NAT_TABLES = ("nat",)  # only where needed: where this table is looked at, the kernel tracks connections

# core/icmp.py relays these; 4, source quench, it drops (RFC 6633).
_ICMP_ERRORS = {4: (3, 4, 11, 12), 6: (1, 2, 3, 4)}
_ECHO_REQUEST = {4: 8, 6: 128}
_ICMP_MATCH = {4: "-p icmp -m icmp --icmp-type", 6: "-p ipv6-icmp -m icmp6 --icmpv6-type"}
_ICMP_PROTOCOL = {4: "icmp", 6: "ipv6-icmp"}
_FRAGMENT_MATCH = {4: "-f", 6: "-m frag"}
_SET_FAMILY = {4: "inet", 6: "inet6"}
_SET_LIMIT = 1 << 20  # elements; the memory grows with what is in it, not with this

_HOOKS = {"raw": ("PREROUTING", "OUTPUT"), "filter": ("INPUT", "OUTPUT", "FORWARD")}


@dataclass(frozen=True, slots=True)
class IpSet:
    """An ipset and what is in it."""

    name: str
    kind: str
    family: int
    members: frozenset[str]
    timeout: int = 0  # seconds an element stays; 0: what is in it we say, otherwise rules do

    @property
    def create_command(self) -> str:
        """What ipset is told to make it."""
        timeout = f" timeout {self.timeout}" if self.timeout else ""
        return (
            f"create {self.name} {self.kind} family {_SET_FAMILY[self.family]} maxelem {_SET_LIMIT}{timeout}"
        )


@dataclass(frozen=True, slots=True)
class Steering:
    """What is to be steered."""

    plan: HostPlan
    pingable: frozenset[IPAddress]  # virtual addresses that no interface has: fullnat answers pings
    guarded: frozenset[int]  # families that forward only because of fullnat


def tables(plan: HostPlan) -> tuple[str, ...]:
    """Return the tables that have rules of *plan*."""
    by_ipvs = any(service.forward is Forward.FULLNAT for service in plan.kernel_services)
    return (*_TABLES, *_NAT_TABLES) if plan.fallback is not None or by_ipvs else _TABLES


def _set_name(instance: str, family: int, content: str) -> str:
    return f"fn-{instance}.v{family}.{content}"


def plan_sets(steering: Steering) -> list[IpSet]:
    """Return the ipsets of all families in use."""
    plan = steering.plan
    sets = []
    for family in plan.families:
        services = [item for item in plan.services if item[1].family == family]
        servers = [item for item in plan.servers if item[1].family == family]
        members: list[tuple[str, str, Iterable[str]]] = [
            ("services", "hash:ip,port", map(_ip_port, services)),
            ("servers", "hash:ip,port", map(_ip_port, servers)),
            ("vips", "hash:ip", (str(listen.address) for _, listen in services)),
            ("rips", "hash:ip", (str(endpoint.address) for _, endpoint in servers)),
            ("lips", "hash:ip", (str(lip) for lip in plan.lips if lip.version == family)),
            ("pings", "hash:ip", (str(vip) for vip in steering.pingable if vip.version == family)),
        ]
        sets += [
            IpSet(_set_name(plan.instance, family, content), kind, family, frozenset(values))
            for content, kind, values in members
        ]
        if plan.fallback is not None:
            name = _set_name(plan.instance, family, "held")
            sets.append(IpSet(name, "hash:ip,port,ip", family, frozenset(), plan.fallback.memory))
    return sets


def _ip_port(item: tuple[int, Endpoint]) -> str:
    protocol, endpoint = item
    return f"{endpoint.address},{PROTOCOL_NAMES[protocol]}:{endpoint.port}"


def render_sets(sets: Iterable[IpSet]) -> str:
    """Return the input of `ipset restore` that makes *sets*, which must not exist yet."""
    lines = []
    for ipset in sets:
        lines.append(ipset.create_command)
        lines += [f"add {ipset.name} {member}" for member in sorted(ipset.members)]
    return _text(lines)


def render_set_changes(old: Iterable[IpSet], new: Iterable[IpSet]) -> tuple[str, str]:
    """Return the inputs of `ipset restore` that lead from *old* to *new*: what to add, what to delete.

    Sets that only *new* has are made; those that only *old* has are left to be destroyed by name.
    """
    before = {ipset.name: ipset for ipset in old}
    additions, deletions = [], []
    for ipset in new:
        present: frozenset[str] = frozenset()
        if ipset.name in before and ipset.timeout:
            continue
        if ipset.name in before:
            present = before[ipset.name].members
        else:
            additions.append(ipset.create_command)
        additions += [f"add -exist {ipset.name} {member}" for member in sorted(ipset.members - present)]
        deletions += [f"del -exist {ipset.name} {member}" for member in sorted(present - ipset.members)]
    return _text(additions), _text(deletions)


def render_held(plan: HostPlan, connections: Iterable[Connection]) -> str:
    """Return the input of `ipset restore` that says the kernel has *connections*."""
    return _text(
        f"add -exist {_set_name(plan.instance, one.client.family, 'held')} "
        f"{one.client.address},{PROTOCOL_NAMES[one.protocol]}:{one.client.port},{one.virtual.address}"
        for one in connections
    )


def parse_sets(output: str) -> dict[str, frozenset[str]]:
    """Return the sets in the output of `ipset save`, by name, with their members."""
    members: dict[str, set[str]] = {}
    for line in output.splitlines():
        words = line.split()
        if words[:1] == ["create"]:
            members[words[1]] = set()
        elif words[:1] == ["add"]:
            members[words[1]].add(words[2])
    return {name: frozenset(values) for name, values in members.items()}


def render_rules(steering: Steering, family: int, saved: str = "") -> str:
    """Return the input of `iptables-restore --noflush` that makes the rules of one *family*.

    *saved* is what iptables-save prints now: jumps to our chains that are there already are taken
    out in the same transaction, so nothing is ever doubled or missing.
    """
    chains = {"filter": _filter_chains(steering, family)}
    jumps = {"filter": _filter_jumps(steering, family)}
    if steering.plan.has_engine:
        chains["raw"], jumps["raw"] = _raw_chains(steering, family), _raw_jumps(steering)
    kernel = _kernel_rules(steering.plan, family)
    present = find_own_chains(saved, steering.plan.instance)
    lines = []
    for table in dict.fromkeys([*tables(steering.plan), *present]):
        wanted = chains.get(table, {}) | kernel.chains.get(table, {})
        stale = sorted(set(present.get(table, ())) - set(wanted))
        lines.append(f"*{table}")
        lines += [f":{chain} - [0:0]" for chain in (*wanted, *stale)]
        lines += find_own_jumps(saved, steering.plan.instance).get(table, ())
        lines += [f"-A {chain} {rule}" for chain, rules in wanted.items() for rule in rules]
        lines += jumps.get(table, []) + kernel.jumps.get(table, [])
        lines += [f"-X {chain}" for chain in stale]
        lines.append("COMMIT")
    return _text(lines)


def _kernel_rules(plan: HostPlan, family: int) -> iptables.Rules:
    """Return what the kernel serves by: while no engine does, and beside it."""
    rules = _fallback_rules(plan, family)
    mine = [service for service in plan.kernel_services if service.family == family]
    if not mine:
        return rules
    return rules.joined(snat.served_rules(plan.instance, mine, plan.kernel_pool, family, plan.mark))


def _fallback_rules(plan: HostPlan, family: int) -> iptables.Rules:
    fallback = plan.fallback
    if fallback is None:
        return iptables.Rules()
    if fallback.kind == IPVS:
        services = f"-m set --match-set {_set_name(plan.instance, family, 'services')} dst,dst"
        return snat.ipvs_rules(
            plan.instance,
            fallback.services,
            fallback.pool,
            family,
            plan.mark,
            services,
            _hold(plan, family),
        )
    return iptables.full_nat_rules(
        plan.instance,
        fallback.services,
        fallback.pool,
        family,
        plan.mark,
        on_new=lambda service: (_hold(plan, service.family),),
    )


def _hold(plan: HostPlan, family: int) -> str:
    """Return the target that has the kernel keep a client's connection."""
    return f"-j SET --add-set {_set_name(plan.instance, family, 'held')} src,src,dst --exist"


def _raw_chains(steering: Steering, family: int) -> dict[str, list[str]]:
    plan = steering.plan
    queue = f"-j NFQUEUE {_queue_option(plan)}"
    rule = RuleWriter(plan.instance)
    to_own, to_nfq, to_icmp = (f"-g {chain_name(plan.instance, part)}" for part in ("own", "nfq", "icmp"))

    def match(content: str, direction: str) -> str:
        return f"-m set --match-set {_set_name(plan.instance, family, content)} {direction}"

    classify = [rule(_mark_match(plan), "its own packets", to_own)]
    if plan.fallback is not None:
        to_held = f"-g {chain_name(plan.instance, 'held')}"
        classify.append(rule(match("held", "src,src,dst"), "the kernel has it", to_held))
    classify.append(rule(match("services", "dst,dst"), "to a service", to_nfq))
    for protocol in ("tcp", "udp"):
        ports = f"-p {protocol} -m {protocol} --dport {plan.port_range.low}:{plan.port_range.high}"
        sides = f"{match('lips', 'dst')} {match('servers', 'src,src')}"
        classify.append(rule(f"{ports} {sides}", "reply of a server", to_nfq))
    fragment, icmp = _FRAGMENT_MATCH[family], f"-p {_ICMP_PROTOCOL[family]}"
    classify += [
        rule(f"{fragment} {match('vips', 'dst')}", "fragment to a VIP", queue),
        rule(f"{fragment} {match('lips', 'dst')} {match('rips', 'src')}", "fragment of a server", queue),
        rule(f"{icmp} {match('vips', 'dst')}", "ICMP to a VIP", to_icmp),
        rule(f"{icmp} {match('lips', 'dst')}", "ICMP to a LIP", to_icmp),
    ]
    errors = [rule(f"{_ICMP_MATCH[family]} {kind}", "error", queue) for kind in _ICMP_ERRORS[family]]
    ping = f"{_ICMP_MATCH[family]} {_ECHO_REQUEST[family]} {match('pings', 'dst')}"
    untracked = rule("", "untracked", "-j CT --notrack")
    chains = {
        chain_name(plan.instance): classify,
        chain_name(plan.instance, "own"): [untracked],
        chain_name(plan.instance, "nfq"): [untracked, rule("", "to the engine", queue)],
        chain_name(plan.instance, "icmp"): [*errors, rule(ping, "ping", queue)],
    }
    if plan.fallback is not None:
        chains[chain_name(plan.instance, "nfq")].remove(untracked)
        chains[chain_name(plan.instance, "held")] = [rule("", "remembered", _hold(plan, family))]
    return chains


def _raw_jumps(steering: Steering) -> list[str]:
    instance = steering.plan.instance
    jump = RuleWriter(instance)("", "steering", f"-j {chain_name(instance)}")
    return [f"-I {hook} 1 {jump}" for hook in _HOOKS["raw"]]


def _filter_chains(steering: Steering, family: int) -> dict[str, list[str]]:
    plan = steering.plan
    rule = RuleWriter(plan.instance)
    chains = {chain_name(plan.instance, "pass"): [rule(_mark_match(plan), "its own packets", "-j ACCEPT")]}
    if family in steering.guarded:
        others = _mark_match(plan, "! ")
        chains[chain_name(plan.instance, "guard")] = [rule(others, "forward for nobody else", "-j DROP")]
    return chains


def _filter_jumps(steering: Steering, family: int) -> list[str]:
    instance = steering.plan.instance
    rule = RuleWriter(instance)
    jumps = []
    if family in steering.guarded:
        guard = rule("", "guard", f"-j {chain_name(instance, 'guard')}")
        jumps.append(f"-I FORWARD 1 {guard}")
    pass_jump = rule("", "pass", f"-j {chain_name(instance, 'pass')}")
    return jumps + [f"-I {hook} 1 {pass_jump}" for hook in _HOOKS["filter"]]


def _queue_option(plan: HostPlan) -> str:
    bypass = "" if plan.fallback is None else " --queue-bypass"
    if plan.workers == 1:
        return f"--queue-num {plan.queue}{bypass}"
    return f"--queue-balance {plan.queue}:{plan.queue + plan.workers - 1}{bypass}"


def _mark_match(plan: HostPlan, negation: str = "") -> str:
    return f"-m mark {negation}--mark {plan.mark:#x}/{plan.mark:#x}"


def _text(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
