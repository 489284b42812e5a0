# SPDX-License-Identifier: Apache-2.0
"""Try on this kernel what a start would do, where it cannot hurt.

Rules, and services of IPVS, are tried in a network namespace of their own, which one thread enters and
which is gone with it; a scheduling policy on a thread that ends.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from fullnat.host import netlink
from fullnat.host.conntrack import Conntrack
from fullnat.host.errors import HostError
from fullnat.host.ipvs import reconcile
from fullnat.host.plan import IPVS, HostPlan
from fullnat.host.programs import run_program
from fullnat.host.rules import Steering
from fullnat.host.steering import InstalledSteering
from fullnat.kernel.ipvs import desired
from fullnat.kernel.service import KernelService

_CLONE_NEWNET = 0x40000000  # linux/sched.h
# linux/netfilter/nfnetlink_queue.h: NFQNL_MSG_CONFIG, NFQA_CFG_CMD, NFQNL_CFG_CMD_PF_BIND,
# which does nothing any more
_QUEUE_CONFIG, _CONFIG_COMMAND, _PF_BIND = 3 << 8 | 2, 1, 3
_QUEUES = Path("/proc/thread-self/net/netfilter/nfnetlink_queue")

Result = TypeVar("Result")


def try_steering(plan: HostPlan) -> str:
    """Return what the kernel lacks for the rules of *plan*, empty for nothing.

    PermissionError when this process may not make a network namespace.
    """
    return _in_thread(lambda: _try_steering(plan))


def try_services(services: Sequence[KernelService]) -> str:
    """Return which of *services* IPVS cannot have on this kernel, and why; empty when it can have all.

    PermissionError when this process may not make a network namespace.
    """
    return _in_thread(lambda: _try_services(services))


def try_realtime(priority: int) -> str:
    """Return why a thread of this process may not run SCHED_FIFO at *priority*, empty when it may."""
    return _in_thread(lambda: _try_realtime(priority))


def _enter_new_namespace() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET):
        code = ctypes.get_errno()
        raise PermissionError(code, os.strerror(code))


def _try_services(services: Sequence[KernelService]) -> str:
    _enter_new_namespace()
    with suppress(HostError):
        _have_ipvs(services)
        return ""
    for service in services:  # ipvsadm does not say which
        try:
            _have_ipvs([service], instead=services)
        except HostError as error:
            return f"{service}: {error}"
    return ""


def _have_ipvs(services: Iterable[KernelService], instead: Iterable[KernelService] = ()) -> None:
    """Have IPVS of this new namespace serve *services*, *instead* of what it has of those."""
    # Where no device was ever up the kernel has no routes, takes no address for unicast, and IPVS none for
    # a server's.
    run_program(["ip", "link", "set", "lo", "up"])
    reconcile(desired(services), desired(instead), lambda addresses: None)


def _try_steering(plan: HostPlan) -> str:
    _enter_new_namespace()
    _load_queues()
    if not _QUEUES.exists():
        return "the kernel lacks NFQUEUE (CONFIG_NETFILTER_NETLINK_QUEUE): modprobe nfnetlink_queue"
    every_rule = Steering(plan, pingable=frozenset(plan.vips), guarded=frozenset(plan.families))
    try:
        if plan.fallback is not None:
            _read_conntrack(plan.mark)
        if plan.fallback is not None and plan.fallback.kind == IPVS:
            _have_ipvs(plan.fallback.services)
        InstalledSteering.install(every_rule, lambda record: None)
    except HostError as error:
        return str(error)
    return ""


def _read_conntrack(mark: int) -> None:
    """Raise HostError unless the kernel can be asked for connections with *mark*, as a start does."""
    try:
        with Conntrack() as table:
            list(table.local_ends(mark))
    except OSError:
        raise HostError(
            "the kernel lacks ctnetlink: modprobe nf_conntrack_netlink (CONFIG_NF_CT_NETLINK)"
        ) from None


def _load_queues() -> None:
    """Have the kernel load the module that has NFQUEUE, if it is one: it does when it is spoken to."""
    command = netlink.attribute(_CONFIG_COMMAND, struct.pack("=BxH", _PF_BIND, 0))
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, netlink.NETFILTER) as kernel:
        kernel.send(netlink.netfilter_message(_QUEUE_CONFIG, 0, socket.AF_UNSPEC, command))


def _try_realtime(priority: int) -> str:
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except OSError as error:
        return str(error.strerror)
    return ""


def _in_thread(work: Callable[[], Result]) -> Result:
    with ThreadPoolExecutor(max_workers=1) as executor:
        return executor.submit(work).result()
