# SPDX-License-Identifier: Apache-2.0
"""Kernel full NAT: iptables DNAT and SNAT over conntrack.  The baseline that matters."""

from __future__ import annotations

from typing import ClassVar

from bench.peers.base import SERVICES, Peer, enable_forwarding


class Iptables(Peer):
    """One DNAT rule a service, one SNAT rule to the LIPs; conntrack as the kernel sets it up."""

    name: ClassVar[str] = "iptables"
    title: ClassVar[str] = "kernel full NAT: iptables DNAT + SNAT, conntrack"
    baseline: ClassVar[bool] = True
    tools: ClassVar[dict[str, str]] = {"iptables-restore": "iptables", "ip6tables-restore": "iptables"}

    def start(self) -> None:
        """Load the rules in one transaction."""
        plan = self.lab.plan
        server = plan.bracketed(plan.server)
        dnat = [
            f"-A PREROUTING -d {plan.vip} -p {protocol} --dport {port}"
            f" -j DNAT --to-destination {server}:{port}"
            for protocol, port in SERVICES
        ]
        rules = [
            "*nat",
            *dnat,
            f"-A POSTROUTING -d {plan.server} -j SNAT --to-source {plan.lips[0]}-{plan.lips[-1]}",
            "COMMIT",
        ]
        enable_forwarding(self.lab)
        restore = "iptables-restore" if plan.family == 4 else "ip6tables-restore"
        self.lab.director.run([restore], stdin="\n".join(rules) + "\n")
