# SPDX-License-Identifier: Apache-2.0
"""What IPVS forwards: let through, and by full NAT given a local address.

IPVS translates the destination only.  With net.ipv4.vs.conntrack its connections are known to
conntrack, and netfilter gives them a source on the way out, by the virtual service they belong to.

  nat     POSTROUTING -> FULLNAT-main.snat
            full NAT: connection of IPVS to a service, its source becomes LIP:lport
  filter  INPUT -> FULLNAT-main.enter            IPVS takes packets where the host would
            to a service                         marked if it is new, accepted
          FORWARD, OUTPUT -> FULLNAT-main.kernel
            connection of IPVS                   accepted
            dr, tun: what IPVS sends to a server accepted

Conntrack marks them, from their first packet in INPUT on: IPVS itself meets answers behind the filter
only, so there `-m ipvs` does not know them yet.  By dr and tun the answers do not come back here, and
conntrack, which sees half of a connection, knows none: those packets are told by IPVS having sent them.
"""

from __future__ import annotations

from collections.abc import Iterable

from fullnat.core.addr import PROTOCOL_NAMES, PROTOCOL_NUMBERS, Endpoint
from fullnat.kernel.iptables import Rules, is_marked, set_mark, sources_of
from fullnat.kernel.ipvs import address_of
from fullnat.kernel.names import RuleWriter, chain_name
from fullnat.kernel.service import Forward, KernelService, LocalPool

IPVS_COMMENT = "ipvsadm "  # before the address of a virtual service in the comment of a rule
SYSCTLS = {"net/ipv4/vs/conntrack": "1"}


def source_rules(instance: str, services: Iterable[KernelService], pool: LocalPool, family: int) -> Rules:
    """Return the rules for the full NAT services of *family*."""
    rule = RuleWriter(instance)
    chain = chain_name(instance, "snat")
    rules = []
    for service in services:
        if service.family != family or service.forward is not Forward.FULLNAT:
            continue
        for source, chance in sources_of(pool.of(family)):
            target = f"-j SNAT --to-source {source}:{pool.ports}"
            rules += [rule(match + chance, "from a local address", target) for match in _translated(service)]
    if not rules:
        return Rules()
    jump = f"-I POSTROUTING 1 {rule('', 'snat', f'-j {chain}')}"
    return Rules({"nat": {chain: rules}}, {"nat": [jump]})


def ipvs_rules(
    instance: str,
    services: Iterable[KernelService],
    pool: LocalPool,
    family: int,
    mark: int,
    to_services: str,
    on_new: str,
) -> Rules:
    """Return all rules that IPVS needs beside its services: *to_services* matches packets to them.

    Their connections bear *mark*, one bit.  *on_new* is a target that the first packet of one meets besides.
    """
    rule = RuleWriter(instance)
    enter = [
        rule(f"{to_services} -m conntrack --ctstate NEW", "new connection", on_new),
        rule(f"{to_services} -m conntrack --ctstate NEW", "its connection", set_mark(mark)),
        rule(to_services, "to IPVS", "-j ACCEPT"),
    ]
    return _with_accepts(source_rules(instance, services, pool, family), instance, mark, enter)


def served_rules(
    instance: str, services: Iterable[KernelService], pool: LocalPool, family: int, mark: int
) -> Rules:
    """Return the same without a set: for each service its own, with what ipvsadm calls it."""
    rule = RuleWriter(instance)
    mine = [service for service in services if service.family == family]
    enter = []
    for service in mine:
        if service.is_translated:
            new = f"{_to(service)} -m conntrack --ctstate NEW"
            enter.append(rule(new, "its connection", set_mark(mark)))
        enter.append(rule(_to(service), f"{IPVS_COMMENT}{address_of(service)}", "-j ACCEPT"))
    sent = [
        rule(f"{match} -m ipvs --ipvs", "sent to a server", "-j ACCEPT")
        for match in dict.fromkeys(match for service in mine for match in _sent(service))
    ]
    return _with_accepts(source_rules(instance, mine, pool, family), instance, mark, enter, sent)


def _with_accepts(
    rules: Rules, instance: str, mark: int, enter: list[str], sent: Iterable[str] = ()
) -> Rules:
    """Add what lets connections of IPVS pass, by the mark: in FORWARD `-m ipvs` does not know answers yet."""
    rule = RuleWriter(instance)
    rules.chains["filter"] = {
        chain_name(instance, "enter"): enter,
        chain_name(instance, "kernel"): [rule(is_marked(mark), "its connections", "-j ACCEPT"), *sent],
    }
    rules.jumps["filter"] = [
        f"-I {hook} 1 {rule('', part, f'-j {chain_name(instance, part)}')}"
        for hook, part in (("INPUT", "enter"), ("FORWARD", "kernel"), ("OUTPUT", "kernel"))
    ]
    return rules


def _to(service: KernelService) -> str:
    if isinstance(service.listen, Endpoint):
        name = PROTOCOL_NAMES[service.protocol]
        return f"-d {service.listen.address} -p {name} -m {name} --dport {service.listen.port}"
    return f"-m mark --mark {service.listen.mark:#x}"


def _sent(service: KernelService) -> list[str]:
    """Return the matches of packets that go to a server of *service* as they came, or in a tunnel."""
    if service.forward is Forward.DR:
        return [_to(service)]
    if service.forward is Forward.TUN:
        return [f"-d {server.endpoint.address}" for server in service.servers]
    return []


def _translated(service: KernelService) -> list[str]:
    """Return the matches of packets IPVS has translated for *service*; SNAT to ports wants a protocol."""
    if isinstance(service.listen, Endpoint):
        address, port = service.listen
        name = PROTOCOL_NAMES[service.protocol]
        return [f"-p {name} -m ipvs --vaddr {address} --vport {port} --vdir ORIGINAL"]
    marked = f"-m ipvs --ipvs --vdir ORIGINAL -m mark --mark {service.listen.mark:#x}"
    return [f"-p {name} {marked}" for name in PROTOCOL_NUMBERS]
