# SPDX-License-Identifier: Apache-2.0
"""The kernel's own balancing, from the services of the config: rules and commands as text, pure.

service.py      what the kernel is to serve
iptables.py     DNAT and SNAT rules, chains per service and server
nft.py          the same as an nft script
ipvs.py         virtual services of IPVS: commands, and the way from what is there to what is wanted
snat.py         local addresses for what IPVS forwards
script.py       the shell around rules that puts them in place in one step
needs.py        what the real servers must have, by forwarding mode
"""
