# SPDX-License-Identifier: Apache-2.0
"""Kernel full NAT by nft: the server picked from a map by numgen, as balancers written in nft do it."""

from __future__ import annotations

from typing import ClassVar

from bench.peers.base import SERVICES, Peer, enable_forwarding
from bench.plan import Plan


class Nft(Peer):
    """A dnat map a service, one snat rule to the LIPs; conntrack as the kernel sets it up."""

    name: ClassVar[str] = "nft"
    title: ClassVar[str] = "kernel full NAT: nft, dnat to numgen map + snat, conntrack"
    tools: ClassVar[dict[str, str]] = {"nft": "nftables"}

    def start(self) -> None:
        """Load the ruleset in one transaction."""
        enable_forwarding(self.lab)
        self.lab.director.run(["nft", "-f", "-"], stdin=ruleset(self.lab.plan))


def ruleset(plan: Plan) -> str:
    """Return the rules that serve the lab."""
    ip = "ip" if plan.family == 4 else "ip6"
    dnat = [
        f"    {ip} daddr {plan.vip} {protocol} dport {port}"
        f" dnat {ip} to numgen inc mod 1 map {{ 0 : {plan.server} . {port} }}"
        for protocol, port in SERVICES
    ]
    return "\n".join(
        [
            f"table {ip} bench {{",
            "  chain prerouting {",
            "    type nat hook prerouting priority dstnat;",
            *dnat,
            "  }",
            "  chain postrouting {",
            "    type nat hook postrouting priority srcnat;",
            f"    {ip} daddr {plan.server} snat {ip} to {plan.lips[0]}-{plan.lips[-1]}",
            "  }",
            "}",
            "",
        ]
    )
