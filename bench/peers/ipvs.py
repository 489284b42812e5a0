# SPDX-License-Identifier: Apache-2.0
"""Kernel LVS: IPVS NAT alone, and with netfilter's SNAT behind it, as full NAT is glued together by hand."""

from __future__ import annotations

from typing import ClassVar

from bench.peers.base import SERVICES, Peer, enable_forwarding
from bench.plan import Plan, Sources
from fullnat.host.errors import HostError
from fullnat.host.ipvs import read_table


class Lvs(Peer):
    """The virtual services; a subclass says how answers come back."""

    baseline: ClassVar[bool] = True
    tools: ClassVar[dict[str, str]] = {"ipvsadm": "ipvsadm"}

    @classmethod
    def missing(cls) -> str | None:
        """Say that the kernel has no IPVS."""
        try:
            read_table()
        except HostError as error:
            return str(error)
        return None

    def start(self) -> None:
        """Load the services; IPVS takes only what is for an address of the host."""
        plan, director = self.lab.plan, self.lab.director
        enable_forwarding(self.lab)
        director.ip(f"addr add {plan.vip}/{32 if plan.family == 4 else 128} dev lo")
        director.run(["ipvsadm", "--restore"], stdin=services(plan))


class Ipvs(Lvs):
    """The server sees the client, so its way back must lead through the director."""

    name: ClassVar[str] = "ipvs"
    title: ClassVar[str] = "kernel LVS-NAT: IPVS rr, the server routed back through the director"

    def start(self) -> None:
        """Give the server the route back too."""
        super().start()
        self.lab.server.ip(f"route add {self.lab.plan.client_net} via {self.lab.plan.inside}")

    @property
    def sources(self) -> Sources:
        """The client itself."""
        return Sources(self.lab.plan.client, self.lab.plan.client)


class IpvsMasq(Lvs):
    """Conntrack knows the connections of IPVS too, and gives them a LIP on the way out."""

    name: ClassVar[str] = "ipvs-masq"
    title: ClassVar[str] = "kernel full NAT: IPVS rr + vs.conntrack + iptables SNAT"
    tools: ClassVar[dict[str, str]] = Lvs.tools | {"iptables": "iptables", "ip6tables": "iptables"}

    def start(self) -> None:
        """Load the rule behind the services too."""
        super().start()
        plan, director = self.lab.plan, self.lab.director
        director.sysctl("net.ipv4.vs.conntrack", 1)  # for either family
        director.run(
            [
                *("iptables" if plan.family == 4 else "ip6tables", "-t", "nat", "-A", "POSTROUTING"),
                *("-m", "ipvs", "--vaddr", plan.vip, "--vdir", "ORIGINAL"),
                *("-j", "SNAT", "--to-source", f"{plan.lips[0]}-{plan.lips[-1]}"),
            ]
        )


def services(plan: Plan) -> str:
    """Return what ipvsadm is told."""
    lines = []
    for protocol, port in SERVICES:
        service = f"-{protocol[0]} {plan.bracketed(plan.vip)}:{port}"
        lines += [f"-A {service} -s rr", f"-a {service} -r {plan.bracketed(plan.server)}:{port} -m -w 1"]
    return "\n".join(lines) + "\n"
