# SPDX-License-Identifier: Apache-2.0
"""Build: tables -> Config, with the checks that take two values to see, and the warnings.

A table may hold None for what was refused already.  A check that needs such a value is left out,
and all others are made, whether or not a Config comes of it.
"""

from __future__ import annotations

from fullnat.control.config.model import (
    ApiConfig,
    Config,
    EngineConfig,
    KernelServiceConfig,
    LimitsConfig,
    MetricsConfig,
    ServiceConfig,
    SnatConfig,
    WebConfig,
)
from fullnat.control.config.problems import Report
from fullnat.control.config.schema import Document, EngineTable, SnatTable, WebTable
from fullnat.control.config.services import ServiceBuilder
from fullnat.control.config.timeouts import build_timeouts
from fullnat.control.config.toml_lines import KeyPath
from fullnat.control.config.values import MAX_LOCAL_ADDRESSES
from fullnat.control.config.wording import key_text
from fullnat.core.addr import IPAddress
from fullnat.core.timeouts import PROFILES

_LAST_QUEUE = 65535


def build_config(document: Document, report: Report) -> Config:
    """Return the Config of *document*; with errors in the report it is good for nothing."""
    _check_engine(document.engine, report)
    addresses = _build_addresses(document.snat, report)
    timeouts = build_timeouts(document.timeouts, PROFILES["lvs"], report, ("timeouts",))
    builder = ServiceBuilder(document, addresses, timeouts, report)
    services = [builder.build(index) for index in range(len(document.service))]
    if not services and not report.is_bad(("service",)):
        report.warn((), "no [[service]]: nothing is balanced")
    return Config(
        path=report.path,
        instance=document.instance,
        engine=EngineConfig(**dict(document.engine)),
        snat=SnatConfig(tuple(addresses), document.snat.ports, document.snat.rest),
        timeouts=timeouts,
        limits=LimitsConfig(**dict(document.limits)),
        services=tuple(service for service in services if isinstance(service, ServiceConfig)),
        kernel_services=tuple(service for service in services if isinstance(service, KernelServiceConfig)),
        warnings=(),
        api=ApiConfig(*(tuple(names) for _, names in document.api)),
        web=_build_web(document.web, report),
        metrics=MetricsConfig(document.metrics.procfs),
        maintenance=document.maintenance,
    )


def _build_web(web: WebTable | None, report: Report) -> WebConfig | None:
    if web is None or web.listen is None:
        return None
    if not web.listen.address.is_loopback:
        report.warn(
            ("web", "listen"),
            f"{web.listen.address} is no loopback address: whoever reaches it sees page and metrics",
        )
    return WebConfig(web.listen, tuple(web.names))


def _check_engine(engine: EngineTable, report: Report) -> None:
    if engine.datapath == "python":
        if engine.workers > 1:
            report.refuse(("engine", "workers"), '1 with datapath "python"')
    elif engine.queue + engine.workers > _LAST_QUEUE:
        # Engine native has one queue more than workers: host/plan.py.
        last = _LAST_QUEUE - engine.workers
        report.refuse(("engine", "queue"), f"0-{last}, for {engine.workers + 1} queues are needed from it on")


def _build_addresses(snat: SnatTable, report: Report) -> list[IPAddress]:
    """Return every LIP once, in the file's order."""
    loc: KeyPath = ("snat", "addresses")
    first: dict[IPAddress, KeyPath] = {}
    total = 0
    for index, group in enumerate(snat.addresses):
        for address in group or ():
            total += 1
            if address in first:
                report.warn((*loc, index), f"{address} is in {key_text(first[address])} already")
            first.setdefault(address, (*loc, index))
    if not snat.addresses and not report.is_bad(loc):
        report.refuse(loc, "at least one address")
    if total > MAX_LOCAL_ADDRESSES:
        report.error(loc, f"found {total} addresses, accepted: at most {MAX_LOCAL_ADDRESSES}")
    return list(first)
