# SPDX-License-Identifier: Apache-2.0
"""Host: everything fullnat changes outside itself, as one thing that is set up and put back.

    claim()     this process is the instance, and no other has what it claims
    set_up()    leftovers of the dead undone; then rules, sysctls, tuning, addresses: all or nothing
    update()    other services, servers or LIPs, without touching what stays
    verify()    what someone has changed since;  repair() makes it right again
    restore()   everything as it was found

Order.  Rules first, addresses last, and back the other way: an address is only there while packets
to it reach the queue, so neither start nor stop makes the host answer a client with a reset; and
the host only forwards while the guard (rules.py) is in place.  The engine binds its queue between
claim() and set_up().

Every change is in the journal before it is made.  A process that was killed leaves its journal, and
the next instance to be set up in the same network namespace undoes it, whoever wrote it.

Not thread-safe; calls run programs and take milliseconds, so a daemon makes them in one worker thread.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from fullnat.datapath.base import FlowMaps
from fullnat.host import addresses, ipvs, rules, sysctl, tuning
from fullnat.host.claims import Claims, find_conflict, make_claims
from fullnat.host.conntrack import Connection
from fullnat.host.errors import HostError, InstanceConflictError
from fullnat.host.fastpath import Attachment, FastPath, has_flows, pin_directory
from fullnat.host.journal import Change
from fullnat.host.nftables import find_absent
from fullnat.host.plan import HostPlan
from fullnat.host.privileges import require_privileges
from fullnat.host.routes import find_unrouted
from fullnat.host.rules import Steering
from fullnat.host.state import DEFAULT_DIRECTORY, StateDirectory
from fullnat.host.steering import InstalledSteering, SteeringRecord
from fullnat.host.sysctl import IP_FORWARD, ProcSys, Setting
from fullnat.host.tuning import Tuning
from fullnat.host.undo import Kind, is_needed_by, undo_changes, undo_journal
from fullnat.kernel.ipvs import desired
from fullnat.kernel.ipvs import plan as plan_lines


class _Needs:
    """What the plan comes to on the host as it is now."""

    def __init__(self, plan: HostPlan, kernel: ProcSys, guarded: Iterable[int]) -> None:
        interfaces = addresses.read_interfaces()
        self.additions = addresses.plan_additions(interfaces, plan.vips, plan.lips)
        absent = addresses.find_absent(interfaces, plan.vips, plan.lips)
        snapshot = kernel.snapshot()
        unrouted = find_unrouted(vip for vip in absent if vip.version == 4)
        self.ipvs = desired(plan.ipvs_services)
        self.unserved = ipvs.find_unserved(plan, plan.kernel_services, interfaces)
        is_translating = any(service.is_translated for service in plan.ipvs_services)
        self.settings = sysctl.plan_settings(
            snapshot, plan.families, unrouted_vip=bool(unrouted), ipvs=is_translating
        )
        turned_on = {family for family in plan.families if snapshot.get(IP_FORWARD[family]) == "0"}
        self.steering = Steering(plan, frozenset(absent), frozenset(turned_on.union(guarded)))
        self.tunings = tuning.read_tunings(plan) if plan.tune else []


def is_claimed(instance: str, directory: Path = DEFAULT_DIRECTORY) -> bool:
    """Whether a process is *instance* in this network namespace."""
    lock = StateDirectory(directory).lock(instance)
    if not lock.acquire():
        return True
    lock.release()
    return False


def clean_up(instance: str, directory: Path = DEFAULT_DIRECTORY) -> bool:
    """Undo what *instance*, which nobody is, left on the host; whether there was something."""
    require_privileges()
    state = StateDirectory(directory)
    journal = state.journal(instance)
    if not state.path.exists():
        return False
    with state.exclusive():
        if is_claimed(instance, directory) or not journal.changes():
            return False
        undo_journal(journal, state, ProcSys(), state.live_claims(besides=instance))
        state.sweep(instance)
    return True


def _refuse_unserved(needs: _Needs) -> None:
    if needs.unserved:
        raise HostError(needs.unserved)


class Host:
    """The host of one instance."""

    def __init__(self, plan: HostPlan, directory: Path = DEFAULT_DIRECTORY) -> None:
        self.plan = plan
        self._kernel = ProcSys()
        self._state = StateDirectory(directory)
        self._lock = self._state.lock(plan.instance)
        self._journal = self._state.journal(plan.instance)
        self._installed: InstalledSteering | None = None
        self._fastpath: FastPath | None = None  # between open_fastpath() and restore() or leave()
        self._inherits = False  # whether its maps were there

    def claim(self) -> None:
        """Become the instance; HostError when it runs already, or another has what it claims."""
        require_privileges()
        self._state.create()
        with self._state.exclusive():
            if not self._lock.acquire():
                raise InstanceConflictError(self._describe_holder())
            try:
                self._refuse_conflict(self.plan)
                if not self.plan.has_fastpath:
                    self._end_fastpath()
                self._lock.write(make_claims(self.plan, os.getpid()).to_json())
            except BaseException:
                self._lock.release()
                raise

    def open_fastpath(self, limit: int) -> FlowMaps:
        """Load the program of the fast path and return its maps; set_up() attaches it to the devices.

        Maps of a predecessor are taken over, with their flows; others are made for *limit* flows.
        """
        self._require_claim()
        pins = pin_directory(self.plan.instance, self._state.namespace)
        with self._state.exclusive():
            self._inherits = has_flows(pins)
            if not self._inherits:
                self._record_pins(pins)
            self._fastpath = FastPath(self.plan.instance, pins, limit)
            self._record_pins(pins)
        return self._fastpath.maps

    def give_up(self) -> None:
        """Let go of the claim instead of set_up(); what a predecessor left is left for another try."""
        if not self._lock.is_held:
            return
        if self.plan.has_fastpath and not self._inherits:
            with self._state.exclusive():
                self._end_fastpath()
        self.leave()

    def others(self) -> list[Claims]:
        """Return what the other living instances in this network namespace claim."""
        with self._state.exclusive():
            return self._heirs()

    def set_up(self) -> None:
        """Undo what dead instances left, then make every change; a failure undoes them all."""
        self._require_claim()
        with self._state.exclusive():
            self._recover()
            try:
                needs = self._needs()
                _refuse_unserved(needs)
                self._refuse_additions(needs)
                self._installed = InstalledSteering.install(
                    needs.steering, self._record_steering, self._steering_on_record()
                )
                self._apply(needs)
            except BaseException:
                self._installed = None
                # The cause is what the operator must see; what cannot be undone stays in the journal.
                with suppress(HostError):
                    undo_journal(self._journal, self._state, self._kernel, self._heirs())
                raise

    def update(self, plan: HostPlan) -> None:
        """Go over to *plan*; on HostError the old one stands."""
        installed, old = self._require_installed(), self.plan
        if plan.instance != old.instance:
            raise ValueError("an instance keeps its name")
        with self._state.exclusive():
            self._refuse_conflict(plan)
            try:
                self._go_over(plan, installed)
            except BaseException:
                with suppress(HostError):
                    self._go_over(old, installed)
                    installed.repair()
                raise

    def verify(self) -> list[str]:
        """Return what is no longer as it was set up, a sentence each."""
        installed = self._require_installed()
        needs = self._needs()
        return [
            *installed.verify(),
            *(
                f"{sysctl.sysctl_name(setting.key)} is {setting.old}, not {setting.new}"
                for setting in needs.settings
            ),
            *(f"/sys/class/net/{one.key} is {one.old}, not {one.new}" for one in needs.tunings),
            *(f"{addition.address} is gone from {addition.interface}" for addition in needs.additions),
            *(f"device {device} has no filter" for device in self._unattached()),
            *(ipvs.differences(needs.ipvs) if needs.ipvs else ()),
        ]

    def repair(self) -> list[str]:
        """Make everything right that verify() finds wrong, and return what that was."""
        installed = self._require_installed()
        with self._state.exclusive():
            findings = self.verify()
            if findings:
                installed.repair()
                needs = self._needs()
                installed.update(needs.steering, self._record_steering)
                self._apply(needs)
        return findings

    def restore(self) -> None:
        """Put everything back that this instance changed, and let go of the claim.  Safe to repeat.

        What another living instance needs as well is left to it.
        """
        if not self._lock.is_held:
            return
        try:
            with self._state.exclusive():
                undo_journal(self._journal, self._state, self._kernel, self._heirs())
        finally:
            self.leave()

    def hold(self, connections: list[Connection]) -> None:
        """Keep packets of *connections*, which the kernel has, from the engine to come."""
        self._require_installed().hold(connections)

    def leave(self) -> None:
        """Let go of the claim and leave everything as it is, for a successor of the same name."""
        if self._fastpath is not None:
            self._fastpath.close()
        self._fastpath = None
        self._installed = None
        self._lock.release()

    def render_text(self) -> str:
        """Return all that set_up() would do now, as text; needs no privileges."""
        needs = self._needs()
        programs = [f"# {rules.RESTORE_PROGRAMS[family]} --noflush" for family in self.plan.families]
        texts = [rules.render_rules(needs.steering, family) for family in self.plan.families]
        sections = [
            ("# ipset restore", rules.render_sets(rules.plan_sets(needs.steering))),
            *zip(programs, texts, strict=True),
            ("# sysctl", "".join(f"{setting}  # now {setting.old}\n" for setting in needs.settings)),
            ("# tuning", "".join(f"{one}  # now {one.old}\n" for one in needs.tunings)),
            ("# addresses", "".join(f"ip addr add {addition}\n" for addition in needs.additions)),
            ("# ipvsadm --restore", "".join(f"{line}\n" for line in plan_lines(needs.ipvs, {}))),
        ]
        return "\n".join(f"{title}\n{text}" for title, text in sections if text)

    def _needs(self) -> _Needs:
        return _Needs(self.plan, self._kernel, self._families_turned_on())

    def _apply(self, needs: _Needs) -> None:
        """Make sysctls, tuning and addresses what *needs* says."""
        self._refuse_additions(needs)
        sysctl.apply_settings(needs.settings, self._kernel, self._record_setting)
        tuning.apply_tunings(needs.tunings, self._record_tuning)
        for addition in needs.additions:
            self._record_once(Change(Kind.ADDRESS, addition.to_json()))
        addresses.apply_additions(needs.additions)
        ours = self._ipvs_on_record()
        if needs.ipvs or ours:
            ipvs.reconcile(needs.ipvs, ours, self._record_ipvs)
        if self._fastpath is not None:
            self._fastpath.attach(self._record_attachment)

    def _go_over(self, plan: HostPlan, installed: InstalledSteering) -> None:
        self.plan = plan
        needs = self._needs()
        _refuse_unserved(needs)
        self._refuse_additions(needs)
        installed.update(needs.steering, self._record_steering)
        self._apply(needs)
        self._drop_addresses()
        self._lock.write(make_claims(plan, os.getpid()).to_json())

    def _refuse_additions(self, needs: _Needs) -> None:
        if needs.ipvs:
            ipvs.refuse_foreign(needs.ipvs, self._ipvs_on_record())
        if not self.plan.add_addresses:
            addresses.refuse_additions(needs.additions)

    def _drop_addresses(self) -> None:
        """Take off the addresses we added and no longer need."""
        wanted = {str(address) for address in (*self.plan.vips, *self.plan.lips)}
        changes = self._journal.changes()
        unneeded = [
            change
            for change in changes
            if change.kind == Kind.ADDRESS and change.detail["address"] not in wanted
        ]
        if unneeded:
            undo_changes(unneeded, self._state, self._kernel, self._heirs())
            self._journal.replace([change for change in changes if change not in unneeded])

    def _record_steering(self, record: SteeringRecord) -> None:
        for table in find_absent(record.nft_tables):
            self._record_once(Change(Kind.TABLE, table.to_json()))
        self._journal.append(Change(Kind.STEERING, record.to_json()))

    def _steering_on_record(self) -> list[SteeringRecord]:
        return [
            SteeringRecord.from_json(change.detail)
            for change in self._journal.changes()
            if change.kind == Kind.STEERING
        ]

    def _record_setting(self, setting: Setting) -> None:
        self._record_once(Change(Kind.SYSCTL, setting.to_json()))

    def _record_tuning(self, one: Tuning) -> None:
        self._record_once(Change(Kind.TUNING, one.to_json()))

    def _record_pins(self, pins: Path) -> None:
        """Put *pins* on record with what their flows claim, in the place of a predecessor's."""
        detail = {"directory": str(pins), "claims": make_claims(self.plan, os.getpid()).to_json()}
        others = [change for change in self._journal.changes() if change.kind != Kind.PINS]
        self._journal.replace([*others, Change(Kind.PINS, detail)])

    def _record_attachment(self, attachment: Attachment) -> None:
        """Put *attachment* on record unless the device has one: what there was before it is known by then."""
        filters = [change.detail for change in self._journal.changes() if change.kind == Kind.FILTER]
        if not any(detail["index"] == attachment.index for detail in filters):
            self._journal.append(Change(Kind.FILTER, attachment.to_json()))

    def _unattached(self) -> list[str]:
        return [] if self._fastpath is None else self._fastpath.find_unattached()

    def _ipvs_on_record(self) -> set[str]:
        """Return where this instance has or had virtual services."""
        return {
            address
            for change in self._journal.changes()
            if change.kind == Kind.IPVS
            for address in change.detail["services"]
        }

    def _record_ipvs(self, services: list[str]) -> None:
        self._record_once(Change(Kind.IPVS, {"services": services}))

    def _record_once(self, change: Change) -> None:
        """Put *change* on record unless it is: someone may undo it as often as we repair it."""
        if change not in self._journal.changes():
            self._journal.append(change)

    def _families_turned_on(self) -> set[int]:
        """Return the families that forward because an instance in this namespace made them."""
        keys = {
            change.detail["key"]
            for instance in self._state.instances()
            for change in self._state.journal(instance).changes()
            if change.kind == Kind.SYSCTL
        }
        return {family for family, key in IP_FORWARD.items() if key in keys}

    def _recover(self) -> None:
        """Undo what dead instances in this namespace left, this one's predecessor first.

        What this one needs as well it takes over.  Another whose flows are still forwarded is not dead.
        """
        heirs = self._heirs()
        spared = {claims.instance for claims in (*heirs, *self._forwarded())} | {self.plan.instance}
        undo_journal(self._journal, self._state, self._kernel, heirs, self._takes_over)
        self._state.sweep(self.plan.instance)
        for instance in self._state.instances():
            if instance not in spared:
                undo_journal(self._state.journal(instance), self._state, self._kernel, heirs)
                self._state.sweep(instance)

    def _takes_over(self, change: Change) -> bool:
        """Whether what a predecessor changed is what set_up() would change."""
        if change.kind in (Kind.PINS, Kind.FILTER):
            return self.plan.has_fastpath
        # What of the latter two is not wanted now is taken out when what is wanted is there.
        return change.kind in (Kind.STEERING, Kind.IPVS) or is_needed_by(
            make_claims(self.plan, os.getpid()), change
        )

    def _end_fastpath(self) -> None:
        """Undo a fast path that goes on without an engine: the ports of its flows are given away again."""
        undo_journal(
            self._journal,
            self._state,
            self._kernel,
            [],
            keep=lambda change: change.kind not in (Kind.PINS, Kind.FILTER),
        )

    def _heirs(self) -> list[Claims]:
        """Return the other living instances in this network namespace."""
        return self._state.live_claims(besides=self.plan.instance)

    def _refuse_conflict(self, plan: HostPlan) -> None:
        mine = make_claims(plan, os.getpid())
        conflict = find_conflict(mine, self._heirs())
        if conflict is not None:
            raise InstanceConflictError(conflict)
        for left in self._forwarded():
            conflict = find_conflict(mine, [left])
            if conflict is not None:
                raise InstanceConflictError(
                    f"{conflict}; its process is gone and its flows go on until it is started again, "
                    f"or `fullnat stop --instance {left.instance}`"
                )

    def _forwarded(self) -> list[Claims]:
        """Return the other instances that are gone while the kernel goes on with their flows."""
        living = {claims.instance for claims in self._heirs()} | {self.plan.instance}
        return [
            Claims.from_json(change.detail["claims"])
            for instance in self._state.instances()
            if instance not in living
            for change in self._state.journal(instance).changes()
            if change.kind == Kind.PINS
        ]

    def _describe_holder(self) -> str:
        try:
            holder = f" as pid {Claims.from_json(self._lock.read()).pid}"
        except ValueError:
            holder = ""
        return (
            f"instance {self.plan.instance} already runs{holder} in this network namespace: "
            "stop it, or choose another instance name"
        )

    def _require_claim(self) -> None:
        if not self._lock.is_held:
            raise RuntimeError("claim() comes first")

    def _require_installed(self) -> InstalledSteering:
        if self._installed is None:
            raise RuntimeError("set_up() comes first")
        return self._installed
