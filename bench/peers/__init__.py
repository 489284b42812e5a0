# SPDX-License-Identifier: Apache-2.0
"""Everything the bench compares, one file each.  A new peer is a class and a line here."""

from __future__ import annotations

from bench.peers.base import Peer
from bench.peers.ebpf import Ebpf
from bench.peers.haproxy import Haproxy
from bench.peers.iptables import Iptables
from bench.peers.ipvs import Ipvs, IpvsMasq
from bench.peers.native import Native, NativeTuned
from bench.peers.nft import Nft
from bench.peers.nginx import Nginx
from bench.peers.plain import Plain
from bench.peers.python import Python

PEERS: dict[str, type[Peer]] = {
    peer.name: peer
    for peer in (
        *(Plain, Iptables, Nft, Ipvs, IpvsMasq),
        *(Haproxy, Nginx),
        *(Python, Native, NativeTuned, Ebpf),
    )
}
