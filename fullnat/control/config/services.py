# SPDX-License-Identifier: Apache-2.0
"""Services: each [[service]] table becomes one of the engine's, or one that the kernel serves by IPVS.

The engine does full NAT of what comes to an address.  Packets that reach the servers in another way, or
that are a service by their mark, are the kernel's, and then only what IPVS has is accepted.
"""

from __future__ import annotations

from typing import Any

from fullnat.control.config.model import (
    AnyServiceConfig,
    KernelServiceConfig,
    OnDown,
    ServiceConfig,
)
from fullnat.control.config.pools import PoolBuilder
from fullnat.control.config.problems import Report
from fullnat.control.config.schema import Document, ServiceTable
from fullnat.control.config.timeouts import build_timeouts
from fullnat.control.config.toml_lines import KeyPath
from fullnat.control.config.values import Listen
from fullnat.control.config.wording import printable, value_text
from fullnat.control.schedulers import load_scheduler
from fullnat.core.addr import PROTOCOL_NAMES, TCP, Endpoint, IPAddress
from fullnat.core.sched.base import Scheduler
from fullnat.core.service import Persistence
from fullnat.core.timeouts import Timeouts
from fullnat.kernel.ipvs import SCHEDULERS
from fullnat.kernel.service import Forward, Fwmark

_BY_IPVS = "for a service that IPVS serves"


class ServiceBuilder:
    """Builds services one after the other, remembering what must not come twice."""

    def __init__(
        self, document: Document, addresses: list[IPAddress], timeouts: Timeouts, report: Report
    ) -> None:
        self._tables = document.service
        self._timeouts = timeouts
        self._report = report
        self._local_families = {address.version for address in addresses}
        self._are_locals_known = bool(addresses) and None not in document.snat.addresses
        self._names: dict[str, KeyPath] = {}
        self._listens: dict[Listen, KeyPath] = {}
        for index, table in enumerate(self._tables):
            if table.listen:
                self._listens.setdefault(table.listen, ("service", index, "listen"))

    def build(self, index: int) -> AnyServiceConfig | None:
        """Return the service *index*, or None where its listen was refused; check it in any case."""
        table = self._tables[index]
        loc: KeyPath = ("service", index)
        name = self._build_name(table, loc)
        scheduler = self._build_scheduler(table, loc)
        persistence = self._build_persistence(table, loc)
        timeouts = self._build_timeouts(table, loc)
        pools, sorry = PoolBuilder(table, self._listens, self._report, loc).build()
        self._check_listen(table, loc)
        self._check_one_packet(table, loc)
        if table.listen is None or scheduler is None:
            return None
        protocol, place = table.listen
        common: dict[str, Any] = {
            "name": name,
            "protocol": protocol,
            "scheduler_name": table.scheduler,
            "scheduler_flags": frozenset(flag for flag in table.scheduler_flags if flag is not None),
            "persistence": persistence,
            "one_packet": table.one_packet,
            "pools": pools,
            "sorry": sorry,
            "inhibit": table.inhibit,
            "slow_start": table.slow_start or 0,
            "on_down": OnDown(table.on_down),
            "reset_after": table.reset_after or 0,
        }
        forward = Forward(table.forward)
        if forward is Forward.FULLNAT and isinstance(place, Endpoint):
            return ServiceConfig(listen=place, scheduler=scheduler, timeouts=timeouts, **common)
        return KernelServiceConfig(listen=place, forward=forward, **common)

    def _build_name(self, table: ServiceTable, loc: KeyPath) -> str:
        loc = (*loc, "name")
        name = table.name or _default_name(table.listen)
        is_second_listen = table.listen is not None and self._listens[table.listen][:-1] != loc[:-1]
        if name and (table.name or not is_second_listen):  # else the listen is the mistake
            first = self._names.setdefault(name, loc)
            if first != loc:
                self._report.refuse_repeated(loc, first, "a name no other service has")
        return name

    def _build_timeouts(self, table: ServiceTable, loc: KeyPath) -> Timeouts:
        loc = (*loc, "timeouts")
        if _is_by_ipvs(table) and "timeouts" in table.model_fields_set:
            self._report.refuse(loc, f"none {_BY_IPVS}: it has its own, which ipvsadm --set changes")
            return self._timeouts
        port = table.listen.port if table.listen else None
        return build_timeouts(table.timeouts, self._timeouts, self._report, loc, port)

    def _check_listen(self, table: ServiceTable, loc: KeyPath) -> None:
        if table.listen is None:
            return
        listen_loc = (*loc, "listen")
        first = self._listens[table.listen]
        if first != listen_loc:
            self._report.refuse_repeated(listen_loc, first, "a listen no other service has")
        is_full_nat = table.forward == Forward.FULLNAT.value and not self._report.is_bad((*loc, "forward"))
        family = table.listen.family
        if is_full_nat and self._are_locals_known and family not in self._local_families:
            other = 6 if family == 4 else 4
            what = "address" if isinstance(table.listen.place, Endpoint) else "mark"
            self._report.refuse(
                listen_loc, f"an IPv{other} {what}, or this with an IPv{family} one in snat.addresses"
            )

    def _build_scheduler(self, table: ServiceTable, loc: KeyPath) -> type[Scheduler] | None:
        """Return the scheduler's class with its flags checked, or None if there is none to be had."""
        if self._report.is_bad((*loc, "scheduler")):
            return None
        if _is_by_ipvs(table) and table.scheduler not in SCHEDULERS:
            self._report.refuse((*loc, "scheduler"), f"{', '.join(sorted(SCHEDULERS))} {_BY_IPVS}")
            return None
        try:
            scheduler = load_scheduler(table.scheduler, self._report.path.parent)
        except ValueError as error:
            message = f"found {value_text(table.scheduler)}, {printable(str(error))}"
            self._report.error((*loc, "scheduler"), message)
            return None
        accepted = ", ".join(sorted(scheduler.accepted_flags)) or "none"
        for index, flag in enumerate(table.scheduler_flags):
            if flag is not None and flag not in scheduler.accepted_flags:
                self._report.refuse(
                    (*loc, "scheduler_flags", index),
                    f"{accepted} with scheduler {value_text(table.scheduler)}",
                )
        return scheduler

    def _build_persistence(self, table: ServiceTable, loc: KeyPath) -> Persistence | None:
        if table.persistence is None or table.listen is None:
            return None
        family = table.listen.family
        full = 32 if family == 4 else 128
        mask = table.persistence.mask
        if mask is not None and (mask.prefix > full or (mask.is_netmask and family == 6)):
            self._report.refuse((*loc, "persistence", "mask"), f"1-{full} for an IPv{family} service")
        return Persistence(table.persistence.timeout, mask.prefix if mask else full)

    def _check_one_packet(self, table: ServiceTable, loc: KeyPath) -> None:
        if not table.one_packet:
            return
        if table.listen and table.listen.protocol == TCP:
            self._report.refuse((*loc, "one_packet"), "false for a tcp:// service")
        if table.persistence:
            self._report.refuse((*loc, "one_packet"), "false for a service with persistence")


def _default_name(listen: Listen | None) -> str:
    """Return a name like tcp-203.0.113.10-80 or fwmark-7."""
    if listen is None:
        return ""
    if isinstance(listen.place, Fwmark):
        return str(listen.place).replace("://", "-")
    return f"{PROTOCOL_NAMES[listen.protocol]}-{listen.place.address}-{listen.place.port}"


def _is_by_ipvs(table: ServiceTable) -> bool:
    is_marked = table.listen is not None and isinstance(table.listen.place, Fwmark)
    return is_marked or table.forward != Forward.FULLNAT.value
