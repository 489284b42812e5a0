# SPDX-License-Identifier: Apache-2.0
"""What stands where in a topology: roles, addresses, and a fullnat configuration for it.

Needs neither root nor a lab that is up.
"""

from __future__ import annotations

from collections.abc import Sequence

from topology import Host, Topology


class Plan:
    """The names and addresses of one topology."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology

    @property
    def clients(self) -> tuple[str, ...]:
        """Roles of the clients."""
        return tuple(host.role for host in self.topology.clients)

    @property
    def servers(self) -> tuple[str, ...]:
        """Roles of the real servers."""
        return tuple(host.role for host in self.topology.servers)

    @property
    def families(self) -> tuple[int, ...]:
        """The address families of this topology."""
        return (4, 6) if self.vips6 else (4,)

    @property
    def vips4(self) -> tuple[str, ...]:
        """IPv4 VIPs."""
        return tuple(address for address in self.topology.vips if ":" not in address)

    @property
    def vips6(self) -> tuple[str, ...]:
        """IPv6 VIPs."""
        return tuple(address for address in self.topology.vips if ":" in address)

    @property
    def lips4(self) -> tuple[str, ...]:
        """IPv4 LIPs."""
        return tuple(address for address in self.topology.lips if ":" not in address)

    @property
    def lips6(self) -> tuple[str, ...]:
        """IPv6 LIPs."""
        return tuple(address for address in self.topology.lips if ":" in address)

    @property
    def clients4(self) -> tuple[str, ...]:
        """IPv4 addresses of the clients."""
        return _addresses(self.topology.clients, 4)

    @property
    def clients6(self) -> tuple[str, ...]:
        """IPv6 addresses of the clients."""
        return _addresses(self.topology.clients, 6)

    @property
    def servers4(self) -> tuple[str, ...]:
        """IPv4 addresses of the real servers."""
        return _addresses(self.topology.servers, 4)

    @property
    def servers6(self) -> tuple[str, ...]:
        """IPv6 addresses of the real servers."""
        return _addresses(self.topology.servers, 6)

    def config(
        self,
        *,
        scheduler: str = "rr",
        protocol: str = "tcp",
        port: int = 80,
        server_port: int | None = None,
        families: Sequence[int] | None = None,
        vips: int = 1,
        lips: int | None = None,
        datapath: str = "auto",
        weights: Sequence[int] = (),
        instance: str = "main",
        fallback: str = "none",
        service: str = "",
        extra: str = "",
    ) -> str:
        """A fullnat configuration for this topology, as TOML.

        One service for each of the first *vips* VIPs of each family, on *port*, towards every server
        (with *weights* if given); the first *lips* LIPs of each family.  *service* is put into every
        service as it stands, *extra* at the end.
        """
        families = self.families if families is None else families
        pools = {4: (self.vips4, self.lips4, self.servers4), 6: (self.vips6, self.lips6, self.servers6)}
        addresses = [f'"{address}"' for family in families for address in pools[family][1][:lips]]
        lines = [
            "version = 1",
            f'instance = "{instance}"',
            "",
            "[engine]",
            f'datapath = "{datapath}"',
            f'fallback = "{fallback}"',
            "",
            "[snat]",
            f"addresses = [{', '.join(addresses)}]",
        ]
        for family in families:
            for number, vip in enumerate(pools[family][0][:vips], start=1):
                name = f"{protocol}{port}-v{family}" + (f"-{number}" if number > 1 else "")
                listen = f"{protocol}://{_endpoint(vip, port)}"
                lines += ["", "[[service]]", f'name = "{name}"', f'listen = "{listen}"']
                lines += [f'scheduler = "{scheduler}"', *service.splitlines()]
                for index, server in enumerate(pools[family][2]):
                    lines += ["", "  [[service.server]]"]
                    lines += [f'  address = "{_endpoint(server, server_port or port)}"']
                    lines += [f"  weight = {weights[index]}"] if weights else []
        return "\n".join([*lines, "", *extra.splitlines()])


def _addresses(hosts: Sequence[Host], family: int) -> tuple[str, ...]:
    return tuple(address for host in hosts for address in host.addresses(family))


def _endpoint(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
