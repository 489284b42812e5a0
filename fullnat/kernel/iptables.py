# SPDX-License-Identifier: Apache-2.0
"""Full NAT by netfilter: the services of one family as chains of iptables.

For instance `main`:

  nat     PREROUTING, OUTPUT -> FULLNAT-main.nat
            new connection to a service            -> .s0      a chain a service
              client that was on a server lately   -> .r0      a chain a server, `recent` remembers
              one in n, or by chance               -> .r0
                its connection is marked, its destination becomes RIP:rport
          POSTROUTING -> FULLNAT-main.snat
            marked connection to a service, its source becomes LIP:lport
  filter  FORWARD -> FULLNAT-main.kernel
            marked connection                      accepted

Conntrack does the same to all packets of a connection once its first one came through here, and to
the ICMP errors about it.  OUTPUT is for clients on the director itself.

Only a SYN opens a TCP connection: what belongs to a connection that conntrack does not know is
answered with a reset by the host, as it should be, and not sent to a server that never heard of it.

The mark is one bit of the connection's: others may use the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network

from fullnat.core.addr import PROTOCOL_NAMES, TCP, Endpoint, IPAddress
from fullnat.kernel.names import RuleWriter, chain_name
from fullnat.kernel.service import KernelServer, KernelService, LocalPool
from fullnat.kernel.shares import differences as shared_differences
from fullnat.kernel.shares import shares

_OPENING = {TCP: " --syn"}


@dataclass
class Rules:
    """Chains of an instance with their rules, and the jumps into them; by table."""

    chains: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    jumps: dict[str, list[str]] = field(default_factory=dict)

    def joined(self, other: Rules) -> Rules:
        """Return both: what chains of the same name have one after the other, and once what is in both."""
        chains = {table: dict(named) for table, named in self.chains.items()}
        for table, named in other.chains.items():
            mine = chains.setdefault(table, {})
            for chain, rules in named.items():
                mine[chain] = [*dict.fromkeys([*mine.get(chain, ()), *rules])]
        jumps = {
            table: [*dict.fromkeys([*self.jumps.get(table, ()), *other.jumps.get(table, ())])]
            for table in dict.fromkeys([*self.jumps, *other.jumps])
        }
        return Rules(chains, jumps)

    def text(self) -> str:
        """Return them as input of iptables-restore --noflush, on a host that has none of them."""
        lines = []
        for table, chains in self.chains.items():
            lines.append(f"*{table}")
            lines += [f":{chain} - [0:0]" for chain in chains]
            lines += [f"-A {chain} {rule}" for chain, rules in chains.items() for rule in rules]
            lines += self.jumps.get(table, ())
            lines.append("COMMIT")
        return "".join(f"{line}\n" for line in lines)


def full_nat_rules(
    instance: str,
    services: Iterable[KernelService],
    pool: LocalPool,
    family: int,
    mark: int,
    on_new: Callable[[KernelService], Sequence[str]] = lambda service: (),
) -> Rules:
    """Return the rules for the services of *family*, whose connections bear *mark*, one bit.

    *on_new* may name targets that the first packet of a connection meets besides.
    """
    writer = _Writer(instance, mark)
    mine = [service for service in services if service.family == family]
    entry = [writer.entry(number, service) for number, service in enumerate(mine)]
    nat = {chain_name(instance, "nat"): entry}
    for number, service in enumerate(mine):
        nat |= writer.service_chains(number, service, on_new(service))
    nat[chain_name(instance, "snat")] = [
        rule for service in mine for rule in writer.sources(service, pool.of(family), pool)
    ]
    accept = writer.rule(writer.marked, "its connections", "-j ACCEPT")
    return Rules(
        {"nat": nat, "filter": {chain_name(instance, "kernel"): [accept]}},
        {
            "nat": [
                *(writer.jump(hook, "nat") for hook in ("PREROUTING", "OUTPUT")),
                writer.jump("POSTROUTING", "snat"),
            ],
            "filter": [writer.jump("FORWARD", "kernel")],
        },
    )


def is_marked(mark: int) -> str:
    """Return the match of connections that bear *mark*, one bit."""
    return f"-m connmark --mark {mark:#x}/{mark:#x}"


def set_mark(mark: int) -> str:
    """Return the target that puts *mark*, one bit, on a connection."""
    return f"-j CONNMARK --set-xmark {mark:#x}/{mark:#x}"


class _Writer:
    """Writes the rules of one instance and family."""

    def __init__(self, instance: str, mark: int) -> None:
        self.rule = RuleWriter(instance)
        self._instance = instance
        self.marked = is_marked(mark)
        self._set_mark = set_mark(mark)
        self._servers = 0

    def jump(self, hook: str, part: str) -> str:
        return f"-I {hook} 1 {self.rule('', part, f'-j {chain_name(self._instance, part)}')}"

    def entry(self, number: int, service: KernelService) -> str:
        opening = _OPENING.get(service.protocol, "")
        return self.rule(
            f"-d {_endpoint(service).address} {_ports(service)}{opening}",
            f"to {service}",
            f"-g {chain_name(self._instance, f's{number}')}",
        )

    def service_chains(
        self, number: int, service: KernelService, on_new: Sequence[str]
    ) -> dict[str, list[str]]:
        """Return the chain of a service, and those of its servers."""
        picks: list[str] = [self.rule("", "new connection", target) for target in on_new]
        again: list[str] = []
        by_share: list[str] = []
        chains: dict[str, list[str]] = {}
        for share in shares(service):
            part = f"r{self._servers}"
            chain = chain_name(self._instance, part)
            self._servers += 1
            if service.persistence is not None:
                seconds = f"--update --seconds {service.persistence.timeout}"
                again.append(
                    self.rule(f"{self._recent(service, share.server)} {seconds}", "as before", f"-g {chain}")
                )
            by_share.append(self.rule(share.match, "pick", f"-g {chain}"))
            chains[chain] = self._server_rules(service, share.server)
        return {chain_name(self._instance, f"s{number}"): picks + again + by_share, **chains}

    def _server_rules(self, service: KernelService, server: KernelServer) -> list[str]:
        rules = [self.rule("", "its connection", self._set_mark)]
        if service.persistence is not None:
            rules.append(self.rule(f"{self._recent(service, server)} --set", "remembered", ""))
        protocol = f"-p {PROTOCOL_NAMES[service.protocol]}"
        return [*rules, self.rule(protocol, "to the server", f"-j DNAT --to-destination {server.endpoint}")]

    def _recent(self, service: KernelService, server: KernelServer) -> str:
        """Return the match on the list of *server*'s clients.

        A list outlives rules that are replaced in one step, with its mask: so its name says whose it is,
        and the mask.
        """
        assert service.persistence is not None
        clients = f"{PROTOCOL_NAMES[service.protocol]}-{service.listen}-{service.persistence.mask}"
        memory = f"fullnat-{self._instance}-{clients}-{server.endpoint}"
        zero = "0.0.0.0" if service.family == 4 else "::"
        mask = ip_network(f"{zero}/{service.persistence.mask}").netmask
        return f"-m recent --name {memory} --mask {mask} --rsource"

    def sources(self, service: KernelService, addresses: Sequence[IPAddress], pool: LocalPool) -> list[str]:
        """Return the rules that give connections of *service* their source: a range of addresses each."""
        listen = _endpoint(service)
        match = (
            f"-p {PROTOCOL_NAMES[service.protocol]} {self.marked} -m conntrack "
            f"--ctorigdst {listen.address} --ctorigdstport {listen.port}"
        )
        return [
            self.rule(match + chance, "from a local address", f"-j SNAT --to-source {source}:{pool.ports}")
            for source, chance in sources_of(addresses)
        ]


def differences(service: KernelService) -> list[str]:
    """Return what these rules do otherwise than the config says, a clause each."""
    found = shared_differences(service)
    if service.persistence is not None:
        found.append("persistence remembers 100 clients a server (more: modprobe xt_recent ip_list_tot=N)")
    return found


def sources_of(addresses: Sequence[IPAddress]) -> list[tuple[str, str]]:
    """Return the ranges that *addresses* are made of, as SNAT writes them, each with the match for its part.

    SNAT takes one range a rule, and chooses in it.
    """
    found, left = [], len(addresses)
    for first, last in consecutive(addresses):
        size = int(last) - int(first) + 1
        chance = f" -m statistic --mode random --probability {size / left:.11f}" if size < left else ""
        left -= size
        found.append((_range(first, last), chance))
    return found


def consecutive(addresses: Iterable[IPAddress]) -> list[tuple[IPAddress, IPAddress]]:
    """Return the ranges, first and last, that *addresses* are made of."""
    ranges: list[tuple[IPAddress, IPAddress]] = []
    for address in sorted(addresses, key=int):
        if ranges and int(ranges[-1][1]) + 1 == int(address):
            ranges[-1] = (ranges[-1][0], address)
        else:
            ranges.append((address, address))
    return ranges


def _range(first: IPAddress, last: IPAddress) -> str:
    text = str(first) if first == last else f"{first}-{last}"
    return f"[{text}]" if first.version == 6 else text


def _endpoint(service: KernelService) -> Endpoint:
    assert isinstance(service.listen, Endpoint)
    return service.listen


def _ports(service: KernelService) -> str:
    name = PROTOCOL_NAMES[service.protocol]
    return f"-p {name} -m {name} --dport {_endpoint(service).port}"
