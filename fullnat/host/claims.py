# SPDX-License-Identifier: Apache-2.0
"""What an instance claims of the network namespace it runs in, and whether two claims collide."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from fullnat.host.plan import HostPlan, service_name


@dataclass(frozen=True, slots=True)
class Claims:
    """Kept in the instance's lock file; plain values, as JSON has them."""

    instance: str
    pid: int
    queue: int
    mark: int
    services: tuple[str, ...]  # tcp://203.0.113.10:80
    lips: tuple[str, ...]
    ports: tuple[int, int]  # low, high
    addresses: tuple[str, ...]  # VIPs and LIPs
    families: tuple[int, ...]
    tune: bool = False
    queues: int = 1  # as many numbers, from *queue* on

    def to_json(self) -> str:
        """Return the claims as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Claims:
        """Return the claims that to_json() wrote; ValueError when they are none."""
        fields: dict[str, Any] = json.loads(text)
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()
        }
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(str(error)) from None


def make_claims(plan: HostPlan, pid: int) -> Claims:
    """Return what an instance with *plan*, run by process *pid*, claims."""
    return Claims(
        instance=plan.instance,
        pid=pid,
        queue=plan.queue,
        mark=plan.mark,
        services=(
            *(service_name(protocol, listen) for protocol, listen in plan.services),
            *map(str, plan.kernel_services),
        ),
        lips=tuple(str(lip) for lip in plan.lips),
        ports=(plan.port_range.low, plan.port_range.high),
        addresses=tuple(str(address) for address in dict.fromkeys([*plan.vips, *plan.lips])),
        families=plan.families,
        tune=plan.tune,
        queues=len(plan.queues),
    )


def find_conflict(mine: Claims, others: Iterable[Claims]) -> str | None:
    """Return one line that names what another instance already has, or None."""
    for other in others:
        holder = f"instance {other.instance} (pid {other.pid})"
        for service in mine.services:
            if service in other.services:
                return f"{service} is served by {holder} already: stop it, or take the service out of one"
        if mine.ports[0] <= other.ports[1] and other.ports[0] <= mine.ports[1]:
            for lip in mine.lips:
                if lip in other.lips:
                    low, high = other.ports
                    return (
                        f"{holder} has ports {low}-{high} of {lip}: give one of the two another LIP or range"
                    )
        if mine.queue < other.queue + other.queues and other.queue < mine.queue + mine.queues:
            taken = max(mine.queue, other.queue)
            return f"queue {taken} is taken by {holder}: give one of the two another number"
        if mine.mark != other.mark:
            return f"{holder} marks packets with {other.mark:#x}: all instances of a host share one mark"
    return None
