# SPDX-License-Identifier: Apache-2.0
"""HostPlan: what fullnat needs of its host, as plain values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from fullnat.core.addr import PROTOCOL_NAMES, Endpoint, IPAddress, PortRange
from fullnat.host.errors import HostError
from fullnat.host.ports import other_ports
from fullnat.kernel.service import Fwmark, KernelService, LocalPool

# A chain is at most 28 characters long: FULLNAT-<instance>.guard; an ipset 31.
_INSTANCE = re.compile(r"[A-Za-z0-9_-]{1,14}")

_LAST_QUEUE = 65535

IPVS, IPTABLES = FALLBACKS = ("ipvs", "iptables")  # the kernel's own balancers, the richer one first


@dataclass(frozen=True)
class Fallback:
    """What the kernel serves by itself while no engine does."""

    kind: str  # one of FALLBACKS
    services: tuple[KernelService, ...]
    pool: LocalPool  # its ports are none of the engine's
    memory: int  # seconds a client's connection is known for after its last packet


@dataclass(frozen=True)
class HostPlan:
    """One instance: whose packets it takes and what it takes them with.

    *servers* are those replies are expected from, so one that is being drained stays in it.
    """

    instance: str
    queue: int  # NFQUEUE number, the first of as many as there are workers
    mark: int  # one bit: packets that fullnat has translated, and those it sends
    services: tuple[tuple[int, Endpoint], ...]  # protocol, VIP:vport
    servers: tuple[tuple[int, Endpoint], ...]  # protocol, RIP:rport
    lips: tuple[IPAddress, ...]
    port_range: PortRange  # of lports; disjoint from ip_local_port_range
    add_addresses: bool = True
    tune: bool = False  # devices for overload, see tuning.py
    workers: int = 1  # threads of the packet loop, a queue each
    has_fastpath: bool = False  # a program in the kernel forwards known flows, see fastpath.py
    more_queues: int = 0  # behind the workers': what the engine passes from one queue to another
    fallback: Fallback | None = None
    has_engine: bool = True  # else the fallback is all there is
    kernel_services: tuple[KernelService, ...] = ()  # by IPVS, beside the engine, which sees nothing of them

    def __post_init__(self) -> None:
        if not _INSTANCE.fullmatch(self.instance):
            raise HostError(
                f"an instance is named by 1 to 14 letters, digits, '-' and '_', not {self.instance!r}"
            )
        if self.mark.bit_count() != 1 or self.mark >= 1 << 32:
            raise HostError(f"a mark is one bit of 32, not {self.mark:#x}")
        if self.queues[-1] > _LAST_QUEUE:
            raise HostError(
                f"queues {self.queues[0]}-{self.queues[-1]} go beyond {_LAST_QUEUE}, the last: "
                "set another [engine] queue"
            )
        for service in self.kernel_services:
            if isinstance(service.listen, Fwmark) and service.listen.mark & self.mark:
                raise HostError(
                    f"{service}: its mark has {self.mark:#x} in it, by which fullnat knows its own packets: "
                    "choose another"
                )

    @property
    def queues(self) -> range:
        """The NFQUEUE numbers it binds."""
        return range(self.queue, self.queue + self.workers + self.more_queues)

    @cached_property
    def families(self) -> tuple[int, ...]:
        """4, 6 or both: those some service has."""
        families = {listen.family for _, listen in self.services}
        return tuple(sorted(families | {service.family for service in self.kernel_services}))

    @cached_property
    def vips(self) -> tuple[IPAddress, ...]:
        """The virtual addresses, each once, in the order of the services."""
        listens = (listen for _, listen in self.services)
        more = (service.listen for service in self.kernel_services if isinstance(service.listen, Endpoint))
        return tuple(dict.fromkeys(listen.address for listen in (*listens, *more)))

    @property
    def ipvs_services(self) -> tuple[KernelService, ...]:
        """All that IPVS is told of: the fallback's, and those beside the engine."""
        fallback = self.fallback
        behind = fallback.services if fallback is not None and fallback.kind == IPVS else ()
        return (*behind, *self.kernel_services)

    @property
    def kernel_pool(self) -> LocalPool:
        """Where connections of the services beside the engine come from; HostError when no port is left."""
        return LocalPool(self.lips, other_ports(self.port_range))


def service_name(protocol: int, endpoint: Endpoint) -> str:
    """Return tcp://203.0.113.10:80."""
    return f"{PROTOCOL_NAMES[protocol]}://{endpoint}"
