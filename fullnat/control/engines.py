# SPDX-License-Identifier: Apache-2.0
"""Choosing the engine of a run, and starting it on a host that is its own."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from fullnat.control.build import MARK, build_director, build_setup
from fullnat.control.config import Config
from fullnat.core.addr import Endpoint, PortRange
from fullnat.core.service import VirtualService
from fullnat.datapath.base import Datapath, DatapathError, Setup, Unsupported
from fullnat.datapath.choice import choose
from fullnat.datapath.ebpf import EbpfDatapath
from fullnat.datapath.kernel import KernelDatapath
from fullnat.datapath.native import NativeDatapath, require_extension
from fullnat.datapath.nfqueue import NfqueueDatapath
from fullnat.host.conntrack import Conntrack
from fullnat.host.errors import HostError
from fullnat.host.fastpath import ForeignFlowsError
from fullnat.host.host import Host
from fullnat.host.plan import HostPlan
from fullnat.host.rawsock import RawSender
from fullnat.host.tuning import LoopSchedule, plan_loop

PlanFor = Callable[[str], HostPlan]  # what the host must be for the engine of this name


@dataclass(frozen=True, slots=True)
class Running:
    """An engine that takes packets, and what it came with."""

    engine: Datapath
    why: str  # this one
    host: Host  # claimed, and not set up yet
    sender: RawSender

    @property
    def keeps_flows(self) -> bool:
        """Whether they go on when the engine ends."""
        return self.engine.name in (EbpfDatapath.name, KernelDatapath.name)


def name_engine(datapath: str, plan_for: PlanFor) -> HostPlan:
    """Return what the host must be for the engine that *datapath* would choose, without starting it."""

    def plan(engine: str) -> HostPlan:
        if engine in (EbpfDatapath.name, NativeDatapath.name):
            require_extension()
        return plan_for(engine)

    return choose(datapath, plan)[0]


class EngineStarter:
    """Starts the engine that serves *services* of *config*."""

    def __init__(
        self,
        config: Config,
        ports: PortRange,
        services: Iterable[VirtualService],
        plan_for: PlanFor,
        seed: int,
    ) -> None:
        self._config = config
        self._ports = ports
        self._services = list(services)
        self._plan_for = plan_for
        self._seed = seed

    def start(self, datapath: str, in_its_place: str, loop: asyncio.AbstractEventLoop) -> Running:
        """Return the engine that runs; where none can, the kernel is, if it serves *in_its_place*."""
        try:
            running, why = choose(datapath, lambda name: self._start(name, loop))
        except DatapathError as refusal:
            if not in_its_place:
                raise
            why = f"{refusal}; {in_its_place} serves in its place"
            running = self._start(KernelDatapath.name, loop)
        else:
            workers = running.host.plan.workers
            why = f"{why}; {workers} worker{'s' if workers > 1 else ''}"
        return Running(running.engine, why, running.host, running.sender)

    def _start(self, name: str, loop: asyncio.AbstractEventLoop) -> Running:
        """Claim the instance and have engine *name* take packets; a failure leaves nothing behind."""
        host = Host(self._plan_for(name))
        host.claim()
        with ExitStack() as undo:
            undo.callback(host.give_up)
            sender = undo.enter_context(RawSender(MARK))
            engine = self._build(name, host, sender)
            engine.start(loop)
            undo.pop_all()
        return Running(engine, "", host, sender)

    def _build(self, name: str, host: Host, sender: RawSender) -> Datapath:
        if name == KernelDatapath.name:
            return KernelDatapath(self._services)
        has_fallback = host.plan.fallback is not None
        ends = self._foreign_ends() if has_fallback else []
        setup = build_setup(self._config, self._ports, self._seed, has_fallback, ends)
        if name == NfqueueDatapath.name:
            return self._build_python(setup, sender)
        *queues, segmented = host.plan.queues
        schedule = plan_loop(len(queues)) if self._config.engine.tune else LoopSchedule(0, ())
        build = _ebpf_builder(host, setup) if name == EbpfDatapath.name else _native_builder()
        return build(
            setup,
            self._services,
            queues=queues,
            segmented=segmented,
            mark=MARK,
            sockets=sender.descriptors,
            clock=time.monotonic_ns,
            priority=schedule.priority,
            cpus=schedule.cpus,
        )

    def _build_python(self, setup: Setup, sender: RawSender) -> Datapath:
        return NfqueueDatapath(
            build_director(setup, self._services, time.monotonic_ns()),
            sender,
            queue=self._config.engine.queue,
            mark=MARK,
            clock=time.monotonic_ns,
            repeats=setup.has_fallback,
        )

    def _foreign_ends(self) -> list[Endpoint]:
        """Return the local ends of connections that an engine before has handed to the kernel."""
        try:
            with Conntrack() as table:
                return [end for end in table.local_ends(MARK) if end.port in self._ports]
        except OSError as error:
            raise HostError(f"cannot read what the kernel tracks: {error.strerror}") from None


def _native_builder() -> Callable[..., NativeDatapath]:
    return partial(NativeDatapath, hash_key=os.urandom(16))


def _ebpf_builder(host: Host, setup: Setup) -> Callable[..., NativeDatapath]:
    """Return what makes engine `ebpf`, with the program loaded; Unsupported when that cannot be."""
    require_extension()
    try:
        return partial(EbpfDatapath, maps=host.open_fastpath(setup.flow_limit))
    except ForeignFlowsError:
        raise  # they are being forwarded: no other engine may give their ports away
    except HostError as error:
        raise Unsupported("engine ebpf", str(error)) from None
