# SPDX-License-Identifier: Apache-2.0
"""IPVS of this host: its virtual services read, and changed by ipvsadm(8) into what is wanted.

Only those of ours are touched: what is on record as made by an instance, and what it wants.  One that
somebody else has made at an address we want is refused before anything is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from fullnat.core.addr import Endpoint
from fullnat.host.addresses import Addition, Interface, find_absent
from fullnat.host.errors import HostError
from fullnat.host.plan import HostPlan
from fullnat.host.programs import ProgramError, run_program, run_tolerant
from fullnat.kernel.ipvs import Table, deletion, parse_rules
from fullnat.kernel.ipvs import plan as plan_lines
from fullnat.kernel.service import KernelService

_LISTINGS = (["ipvsadm", "-Sn"], ["ipvsadm", "-Ln", "--thresholds"])  # the first has no thresholds


def find_unserved(plan: HostPlan, services: Iterable[KernelService], interfaces: Sequence[Interface]) -> str:
    """Return which of *services* IPVS cannot serve, and why; empty when it can serve all of them."""
    absent = find_absent(interfaces, plan.vips, plan.lips)
    for service in services:
        if isinstance(service.listen, Endpoint) and service.listen.address in absent:
            address = service.listen.address
            return (
                f"{service}: no interface has {address}, and IPVS serves only addresses of the host: "
                f"ip addr add {Addition(address, 'lo', index=1)}"
            )
    return ""


def read_table() -> Table:
    """Return the virtual services there are; HostError where the kernel has no IPVS."""
    try:
        with ThreadPoolExecutor(len(_LISTINGS)) as pool:  # of many services each takes long
            return parse_rules(*pool.map(run_program, _LISTINGS))
    except ProgramError as error:
        if "Can't initialize ipvs" in error.message:
            raise HostError("the kernel has no IPVS: modprobe ip_vs (CONFIG_IP_VS)") from None
        raise


def refuse_foreign(wanted: Table, ours: Collection[str]) -> None:
    """Raise HostError when a service that is *wanted* is there and not one of *ours*."""
    foreign = next((address for address in read_table() if address in wanted and address not in ours), None)
    if foreign is not None:
        command = f"ipvsadm {deletion(foreign)}"
        raise HostError(f"IPVS has a virtual service {foreign} that is not fullnat's: {command}")


def reconcile(wanted: Table, ours: Collection[str], record: Callable[[list[str]], None]) -> list[str]:
    """Make what is *wanted* of what *ours* are; return the lines ipvsadm was given.

    *record* is called with the addresses that are ours from now on, before anything is changed.
    """
    present = {address: service for address, service in read_table().items() if address in ours}
    lines = plan_lines(wanted, present)
    if lines:
        record([*wanted])
        _restore(lines)
    return lines


def differences(wanted: Table) -> list[str]:
    """Return what is not as *wanted*, a sentence each."""
    there = read_table()
    present = {address: service for address, service in there.items() if address in wanted}
    return [f"IPVS needs {line}" for line in plan_lines(wanted, present)]


def remove(addresses: Iterable[str]) -> None:
    """Take the virtual services at *addresses* off, those that are still there.  Safe to repeat."""
    there = read_table()
    _restore([deletion(address) for address in addresses if address in there])


def _restore(lines: list[str]) -> None:
    """Have ipvsadm carry out *lines*; it goes on after one that fails, and tells so on stderr only."""
    if not lines:
        return
    done = run_tolerant(["ipvsadm", "--restore"], "".join(f"{line}\n" for line in lines))
    if done.returncode or done.stderr.strip():
        said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise HostError(f"IPVS refuses the services, ipvsadm says {said[0]!r}")
