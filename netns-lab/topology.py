# SPDX-License-Identifier: Apache-2.0
"""The lab's networks, as data: who stands where, with which addresses and routes.

A segment is a layer-2 network.  With two interfaces on it, it is one veth pair; with more, it is
a bridge in the `switch` namespace, so that no host of the drawing carries a bridge of its own.

The director forwards nothing and has no VIP: routes and addresses below are those of a machine
before fullnat starts on it, and what fullnat needs beyond them it sets itself.  VIPs and LIPs are
listed for whoever writes the balancer's configuration.  Only in one-arm can a server reach a client.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import ip_interface

Addresses = tuple[tuple[str, ...], ...]  # for each of several hosts, its own


@dataclass(frozen=True)
class Interface:
    """One network device of a host."""

    name: str
    segment: str
    addresses: tuple[str, ...]  # with prefix length, both families


@dataclass(frozen=True)
class Host:
    """One network namespace."""

    role: str
    interfaces: tuple[Interface, ...]
    routes: tuple[str, ...] = ()  # "DESTINATION via GATEWAY"; the family follows from the gateway
    forwards: bool = False

    def addresses(self, family: int) -> tuple[str, ...]:
        """The host's addresses of *family* (4 or 6), without prefix length."""
        found = (ip_interface(text) for device in self.interfaces for text in device.addresses)
        return tuple(str(address.ip) for address in found if address.version == family)


@dataclass(frozen=True)
class Topology:
    """A whole network, and the VIPs and LIPs that belong in it."""

    name: str
    drawing: str
    hosts: tuple[Host, ...]
    vips: tuple[str, ...]
    lips: tuple[str, ...]

    @property
    def clients(self) -> tuple[Host, ...]:
        """The hosts connections come from."""
        return tuple(host for host in self.hosts if host.role.startswith("client"))

    @property
    def servers(self) -> tuple[Host, ...]:
        """The real servers."""
        return tuple(host for host in self.hosts if host.role.startswith("server"))

    @property
    def segments(self) -> dict[str, tuple[tuple[str, str], ...]]:
        """Each segment's ends as (role, device), in the order of the hosts."""
        found: dict[str, tuple[tuple[str, str], ...]] = {}
        for host in self.hosts:
            for device in host.interfaces:
                found[device.segment] = (*found.get(device.segment, ()), (host.role, device.name))
        return found

    def only(self, clients: int, servers: int) -> Topology:
        """The same network with the first *clients* clients and the first *servers* servers.

        One of each turns the segments of two-arm into plain veth pairs: what the bench measures on.
        """
        spare = (*self.clients[clients:], *self.servers[servers:])
        return replace(self, hosts=tuple(host for host in self.hosts if host not in spare))


def _clients(
    segment: str, addresses: tuple[tuple[str, ...], ...], routes: tuple[str, ...] = ()
) -> tuple[Host, ...]:
    """client, client2, ...: one device eth0 on *segment*."""
    roles = ("client", "client2")
    return tuple(
        Host(role, (Interface("eth0", segment, own),), routes)
        for role, own in zip(roles, addresses, strict=True)
    )


def _servers(
    segment: str, addresses: tuple[tuple[str, ...], ...], routes: tuple[str, ...] = ()
) -> tuple[Host, ...]:
    """server1, server2, ...: one device eth0 on *segment*."""
    return tuple(
        Host(f"server{number}", (Interface("eth0", segment, own),), routes)
        for number, own in enumerate(addresses, start=1)
    )


_OUTSIDE_CLIENTS = (
    ("203.0.113.100/24", "2001:db8:1::100/64"),
    ("203.0.113.101/24", "2001:db8:1::101/64"),
)
_INSIDE_SERVERS = (
    ("198.19.0.11/24", "2001:db8:2::11/64"),
    ("198.19.0.12/24", "2001:db8:2::12/64"),
    ("198.19.0.13/24", "2001:db8:2::13/64"),
)
_INSIDE_LIPS = ("198.19.0.1", "198.19.0.2", "2001:db8:2::1", "2001:db8:2::2")


TWO_ARM = Topology(
    name="two-arm",
    drawing="""\
   client   .100 ::100                  director                  .11 ::11  real server1
   client2  .101 ::101 ---outside--- eth0      eth1 ---inside---  .12 ::12  real server2
                                     .1 ::1    .1 ::1             .13 ::13  real server3
                                     VIP .10 .11 ::10 ::11
                                               LIP .1 .2 ::1 ::2
   outside  203.0.113.0/24  2001:db8:1::/64       inside  198.19.0.0/24  2001:db8:2::/64
   The servers have no route to the outside, nor a default route.
""",
    hosts=(
        *_clients("outside", _OUTSIDE_CLIENTS),
        Host(
            "director",
            (
                Interface("eth0", "outside", ("203.0.113.1/24", "2001:db8:1::1/64")),
                Interface("eth1", "inside", ("198.19.0.1/24", "2001:db8:2::1/64")),
            ),
        ),
        *_servers("inside", _INSIDE_SERVERS),
    ),
    vips=("203.0.113.10", "203.0.113.11", "2001:db8:1::10", "2001:db8:1::11"),
    lips=_INSIDE_LIPS,
)


ONE_ARM = Topology(
    name="one-arm",
    drawing="""\
   client   .100 ::100 ---+                +--- .11 ::11  real server1
   client2  .101 ::101 ---+---  subnet  ---+--- .12 ::12  real server2
                               |           +--- .13 ::13  real server3
                           eth0 .1 ::1
                           director   VIP .110 .111 ::110 ::111   LIP .1 .2 ::1 ::2
   subnet  198.18.0.0/24  2001:db8:3::/64
   Clients and servers are neighbours: a server that saw CIP would answer past the director.
""",
    hosts=(
        *_clients(
            "subnet",
            (
                ("198.18.0.100/24", "2001:db8:3::100/64"),
                ("198.18.0.101/24", "2001:db8:3::101/64"),
            ),
        ),
        Host("director", (Interface("eth0", "subnet", ("198.18.0.1/24", "2001:db8:3::1/64")),)),
        *_servers(
            "subnet",
            (
                ("198.18.0.11/24", "2001:db8:3::11/64"),
                ("198.18.0.12/24", "2001:db8:3::12/64"),
                ("198.18.0.13/24", "2001:db8:3::13/64"),
            ),
        ),
    ),
    vips=("198.18.0.110", "198.18.0.111", "2001:db8:3::110", "2001:db8:3::111"),
    lips=("198.18.0.1", "198.18.0.2", "2001:db8:3::1", "2001:db8:3::2"),
)


ROUTED = Topology(
    name="routed",
    drawing="""\
   client  .100 ::100              director               router                 .11 ::11  real server1
   client2 .101 ::101 --outside-- eth0   eth1 ---wan--- eth0   eth1 ---remote--- .12 ::12  real server2
                                  .1 ::1 .1 ::1    .254 ::fe   .1 ::1            .13 ::13  real server3
                    VIP .10 .11 ::10 ::11
                                         LIP .1 .2 ::1 ::2
   outside  203.0.113.0/24  2001:db8:1::/64       wan  198.19.0.0/24  2001:db8:2::/64
                                               remote  198.19.8.0/24  2001:db8:4::/64
   The servers' default gateway is the router, and the router has no route to the outside.
   The MTU of a segment can be set: --mtu wan=1280.
""",
    hosts=(
        *_clients("outside", _OUTSIDE_CLIENTS),
        Host(
            "director",
            (
                Interface("eth0", "outside", ("203.0.113.1/24", "2001:db8:1::1/64")),
                Interface("eth1", "wan", ("198.19.0.1/24", "2001:db8:2::1/64")),
            ),
            routes=("198.19.8.0/24 via 198.19.0.254", "2001:db8:4::/64 via 2001:db8:2::fe"),
        ),
        Host(
            "router",
            (
                Interface("eth0", "wan", ("198.19.0.254/24", "2001:db8:2::fe/64")),
                Interface("eth1", "remote", ("198.19.8.1/24", "2001:db8:4::1/64")),
            ),
            forwards=True,
        ),
        *_servers(
            "remote",
            (
                ("198.19.8.11/24", "2001:db8:4::11/64"),
                ("198.19.8.12/24", "2001:db8:4::12/64"),
                ("198.19.8.13/24", "2001:db8:4::13/64"),
            ),
            routes=("default via 198.19.8.1", "default via 2001:db8:4::1"),
        ),
    ),
    vips=("203.0.113.10", "203.0.113.11", "2001:db8:1::10", "2001:db8:1::11"),
    lips=_INSIDE_LIPS,
)


DUAL_STACK = Topology(
    name="dual-stack",
    drawing="""\
   client  .100 ::100             uplink               director               .11 ::11  real server1
   client2 .101 ::101 --access-- eth0  eth1 --transit-- eth0  eth1 --inside-- .12 ::12  real server2
                                 .1 ::1  .1 ::1      .2 ::2   .1 ::1          .13 ::13  real server3
                                                              LIP .1 .2 ::1 ::2
   access   203.0.113.0/24  2001:db8:1::/64      transit  198.18.1.0/24  2001:db8:5::/64
                                                  inside  198.19.0.0/24  2001:db8:2::/64
   VIPs 198.18.100.10 .11 and 2001:db8:100::10 ::11 are on no interface: uplink routes them to the director.
   The servers have no route to the outside, nor a default route.
""",
    hosts=(
        *_clients(
            "access", _OUTSIDE_CLIENTS, routes=("default via 203.0.113.1", "default via 2001:db8:1::1")
        ),
        Host(
            "uplink",
            (
                Interface("eth0", "access", ("203.0.113.1/24", "2001:db8:1::1/64")),
                Interface("eth1", "transit", ("198.18.1.1/24", "2001:db8:5::1/64")),
            ),
            routes=("198.18.100.0/24 via 198.18.1.2", "2001:db8:100::/64 via 2001:db8:5::2"),
            forwards=True,
        ),
        Host(
            "director",
            (
                Interface("eth0", "transit", ("198.18.1.2/24", "2001:db8:5::2/64")),
                Interface("eth1", "inside", ("198.19.0.1/24", "2001:db8:2::1/64")),
            ),
            routes=("default via 198.18.1.1", "default via 2001:db8:5::1"),
        ),
        *_servers("inside", _INSIDE_SERVERS),
    ),
    vips=("198.18.100.10", "198.18.100.11", "2001:db8:100::10", "2001:db8:100::11"),
    lips=_INSIDE_LIPS,
)


HOWTO = Topology(
    name="howto",
    drawing="""\
   client  .10               director               router               .200  real server1
   client2 .11 --office-- eth0     eth1 --link-- eth0    eth1 --farm---  .201  real server2
                          .250     .1              .2    .1              .202  real server3
                          VIP .110 LIP .1
   office  192.168.10.0/24      link  172.18.0.0/30      farm  172.18.1.0/24
   The case the LVS HOWTO calls impossible: the servers are in another network, with a default gateway
   of their own that knows no way to the office, and nothing on them is changed.  IPv4 only.
""",
    hosts=(
        *_clients("office", (("192.168.10.10/24",), ("192.168.10.11/24",))),
        Host(
            "director",
            (
                Interface("eth0", "office", ("192.168.10.250/24",)),
                Interface("eth1", "link", ("172.18.0.1/30",)),
            ),
            routes=("172.18.1.0/24 via 172.18.0.2",),
        ),
        Host(
            "router",
            (
                Interface("eth0", "link", ("172.18.0.2/30",)),
                Interface("eth1", "farm", ("172.18.1.1/24",)),
            ),
            forwards=True,
        ),
        *_servers(
            "farm",
            (("172.18.1.200/24",), ("172.18.1.201/24",), ("172.18.1.202/24",)),
            routes=("default via 172.18.1.1",),
        ),
    ),
    vips=("192.168.10.110",),
    lips=("172.18.0.1",),
)


TOPOLOGIES = {topology.name: topology for topology in (TWO_ARM, ONE_ARM, ROUTED, DUAL_STACK, HOWTO)}
