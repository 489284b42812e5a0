# SPDX-License-Identifier: Apache-2.0
"""`fullnat doctor`: what this host would lose or break, a line each with the remedy.

Nothing is changed: rules are tried in a network namespace of their own.  With a config it looks at
what that needs; without one at every device and every family the host has.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from fullnat.control.build import MARK, plan_host
from fullnat.control.config import Config
from fullnat.control.fallback import fallback_in_general, plan_fallback
from fullnat.control.fallback import find_refusal as find_fallback_refusal
from fullnat.core.addr import TCP, IPAddress, PortRange, parse_endpoint
from fullnat.host.addresses import Interface, read_interfaces
from fullnat.host.errors import HostError
from fullnat.host.facts import Facts, read_facts
from fullnat.host.fastpath import find_refusal
from fullnat.host.findings import (
    Finding,
    Level,
    Unknown,
    check_devices,
    check_ebpf,
    check_fallback,
    check_firewall,
    check_kernel,
    check_martians,
    check_native,
    check_ports,
    check_programs,
    check_queues,
    check_realtime,
    check_services,
    check_sysctls,
    note_needs,
)
from fullnat.host.ipvs import find_unserved
from fullnat.host.plan import FALLBACKS, HostPlan
from fullnat.host.ports import default_port_range, read_ip_local_port_range
from fullnat.host.trial import try_services
from fullnat.kernel.needs import needs
from fullnat.kernel.service import KernelService

_ANY_PORTS = PortRange(1024, 32767)
_IPV6 = Path("/proc/sys/net/ipv6")


def examine(config: Config | None) -> list[Finding]:
    """Return what was found on this host, for *config* or in general."""
    plan = plan_in_general(has_ipv6=_IPV6.exists()) if config is None else _plan(config)
    facts = read_facts(plan, every_device=config is None)
    engine = "auto" if config is None else config.engine.datapath
    return [
        *check_ebpf(find_refusal(), wanted=engine == "ebpf"),
        *check_native(import_failure("fullnat._native"), wanted=engine in ("ebpf", "native")),
        *_check_fallbacks(plan, config),
        *_check_services(plan),
        *diagnose(facts, plan, config.snat.ports if config else None),
    ]


def _check_fallbacks(plan: HostPlan, config: Config | None) -> list[Finding]:
    wanted = "auto" if config is None else config.engine.fallback
    if wanted == "none" or not plan.services:
        return []
    findings = []
    for kind in FALLBACKS:
        findings += check_fallback(kind, _refuse_fallback(plan, config, kind), wanted=kind == wanted)
    return findings


def _refuse_fallback(plan: HostPlan, config: Config | None, kind: str) -> str:
    """Return why the kernel cannot serve *plan* by *kind*, or why that was not tried; empty when it can."""
    try:
        if config is None:
            tried = replace(plan, fallback=fallback_in_general(plan, kind))
            return find_fallback_refusal(tried, is_example=True)
        fallback = plan_fallback(config, plan.port_range, kind)
        return find_fallback_refusal(replace(plan, fallback=fallback))
    except HostError as error:
        return str(error)
    except PermissionError:
        return "not looked at: that takes root"


def _check_services(plan: HostPlan) -> list[Finding]:
    """Look at what IPVS is to serve beside the engine."""
    if not plan.kernel_services:
        return []
    interfaces = read_interfaces()
    try:
        refusal: str | Unknown = try_services(plan.kernel_services)
    except PermissionError:
        refusal = Unknown("that takes root")
    services = plan.kernel_services
    return [
        *check_services(refusal or find_unserved(plan, services, interfaces)),
        *note_needs(needs(services, find_directors(services, interfaces))),
    ]


def find_directors(
    services: Iterable[KernelService], interfaces: Sequence[Interface]
) -> dict[int, IPAddress]:
    """Return the host's address in the network of the servers, by family."""
    found: dict[int, IPAddress] = {}
    for service in services:
        for server in service.servers:
            for interface in interfaces:
                for own in interface.addresses:
                    if server.endpoint.address in own.network:
                        found.setdefault(service.family, own.ip)
    return found


def diagnose(facts: Facts, plan: HostPlan, ports: PortRange | None) -> list[Finding]:
    """Return the findings that follow from *facts* for *plan*; *ports*: those the config asks for."""
    writable = facts.is_sysctl_writable
    return [
        *check_programs(facts.missing_programs),
        *check_kernel(facts.trial),
        *check_ports(ports, facts.ip_local_ports),
        *check_sysctls(facts.sysctls, plan.families, is_writable=writable),
        *check_martians(*facts.martians),
        *check_firewall(facts.chains, plan.mark),
        *check_devices(facts.devices, facts.spread, cpus=facts.cpus, tune=plan.tune),
        *check_realtime(facts.rt_runtime_us, facts.realtime_refusal, tune=plan.tune),
        *check_queues(facts.queues),
    ]


def has_problem(findings: Sequence[Finding]) -> bool:
    """Whether any of *findings* is a problem."""
    return any(finding.level is Level.PROBLEM for finding in findings)


def import_failure(module: str) -> str:
    """Return why *module* cannot be imported, as one line; empty when it can."""
    try:
        importlib.import_module(module)
    except ImportError as error:
        return " ".join(str(error).split())
    return ""


def _plan(config: Config) -> HostPlan:
    try:
        ports = config.snat.ports or default_port_range(read_ip_local_port_range())
    except HostError:
        ports = _ANY_PORTS  # check_ports() says that there are none
    return plan_host(config, ports, "native" if config.engine.datapath == "auto" else config.engine.datapath)


def plan_in_general(*, has_ipv6: bool) -> HostPlan:
    """Return a plan for nothing in particular, whose rules are of every kind there is."""
    texts = ("203.0.113.10:80", "[2001:db8::10]:80")[: 1 + has_ipv6]
    services = tuple((TCP, parse_endpoint(text)) for text in texts)
    return HostPlan(
        instance="doctor",
        queue=0,
        mark=MARK,
        services=services,
        servers=services,
        lips=(),
        port_range=_ANY_PORTS,
    )
