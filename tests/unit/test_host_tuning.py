# SPDX-License-Identifier: Apache-2.0
"""Tuning on fake /sys trees: which devices, what is written, and that it is put back."""

from __future__ import annotations

import errno
import json
import socket
import struct
from contextlib import nullcontext
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from fullnat.core.addr import TCP, PortRange, parse_endpoint
from fullnat.host import napi
from fullnat.host.addresses import Interface, parse_interfaces
from fullnat.host.claims import Claims, find_conflict, make_claims
from fullnat.host.devices import Device, holders, mask_of, parse_kinds, receivers
from fullnat.host.errors import HostError
from fullnat.host.journal import Change, Journal
from fullnat.host.plan import HostPlan
from fullnat.host.state import StateDirectory
from fullnat.host.sysctl import ProcSys
from fullnat.host.sysfs import SysFs, parse_cpu_list, parse_links, require_own
from fullnat.host.tuning import (
    LOOP_PRIORITY,
    Tuning,
    apply_tunings,
    format_mask,
    plan_loop,
    plan_tunings,
    read_spread_cpus,
    undo_tuning,
)
from fullnat.host.undo import Kind, undo_changes, undo_journal


class FakeSysFs(SysFs):
    """A tree of files."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.root = root

    def add(self, name: str, index: int, *, queues: int = 1, mask: str = "0", lowers: str = "") -> None:
        device = self.root / "class/net" / name
        for queue in range(queues):
            (device / f"queues/rx-{queue}").mkdir(parents=True)
            (device / f"queues/rx-{queue}/rps_cpus").write_text(mask)
        (device / "ifindex").write_text(f"{index}\n")
        (device / "threaded").write_text("0")
        (device / "type").write_text("1\n")
        (device / "address").write_text(f"02:00:00:00:00:{index:02x}\n")
        for lower in lowers.split():
            (device / f"lower_{lower}").mkdir()


@pytest.fixture
def tree(tmp_path: Path) -> FakeSysFs:
    fake = FakeSysFs(tmp_path)
    fake.add("lo", 1)
    fake.add("eth0", 2)
    fake.add("eth1", 3, queues=2, mask="00000000,00000000")
    return fake


def device(name: str = "eth0", **changes: object) -> Device:
    ordinary = Device(name, 2, "0", {"rx-0": "0"}, has_napi=True, is_napi_certain=True)
    return replace(ordinary, **changes)  # type: ignore[arg-type]


def planned(*devices: Device, spread: tuple[int, ...] = (0,)) -> list[str]:
    return [f"{tuning.key}={tuning.new}" for tuning in plan_tunings(devices, spread)]


# CPUs and masks.


@pytest.mark.parametrize(
    ("text", "cpus"),
    [("0-3,6", {0, 1, 2, 3, 6}), ("0", {0}), ("", set()), ("(null)", set()), ("2-2\n", {2})],
)
def test_cpu_lists_are_read(text: str, cpus: set[int]) -> None:
    assert parse_cpu_list(text) == cpus


@pytest.mark.parametrize(
    ("cpus", "like", "mask"),
    [
        ({0}, "0", "1"),
        ({0, 1}, "00", "03"),
        ({4}, "0", "10"),
        ({33}, "00000000,00000000", "00000002,00000000"),
        ({0, 35}, "0,00000000", "8,00000001"),
    ],
)
def test_masks_are_written_as_the_kernel_prints_them(cpus: set[int], like: str, mask: str) -> None:
    assert format_mask(cpus, like) == mask
    assert mask_of(mask) == sum(1 << cpu for cpu in cpus)


@pytest.mark.parametrize(
    ("workers", "allowed", "cpus"),
    [(1, {0, 1}, (1,)), (2, {0, 1, 5, 7}, (5, 7)), (4, {0, 1}, (0, 1)), (1, {0}, (0,))],
)
def test_the_packet_loop_gets_the_last_cpus(workers: int, allowed: set[int], cpus: tuple[int, ...]) -> None:
    assert plan_loop(workers, allowed).cpus == cpus
    assert plan_loop(workers, allowed).priority == LOOP_PRIORITY == 1


@pytest.mark.parametrize(
    ("workers", "isolated", "spread"), [(1, "", {0, 1, 2}), (2, "", {0, 1}), (1, "1", {0, 2}), (4, "", set())]
)
def test_receiving_is_for_the_cpus_the_loop_leaves(
    tree: FakeSysFs, monkeypatch: pytest.MonkeyPatch, workers: int, isolated: str, spread: set[int]
) -> None:
    cpu = tree.root / "devices/system/cpu"
    cpu.mkdir(parents=True)
    (cpu / "online").write_text("0-3\n")
    (cpu / "isolated").write_text(f"{isolated}\n")
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1, 2, 3})
    assert read_spread_cpus(tree, workers) == spread


# What is planned.


def test_napi_goes_into_a_thread_and_rps_is_left() -> None:
    assert planned(device()) == ["eth0/threaded=1"]


def test_backlog_is_spread_on_every_queue() -> None:
    plain = device(has_napi=False, rps_cpus={"rx-0": "0", "rx-1": "0"})
    assert planned(plain, spread=(0, 2)) == ["eth0/queues/rx-0/rps_cpus=5", "eth0/queues/rx-1/rps_cpus=5"]


def test_a_veth_whose_napi_may_be_bypassed_gets_both() -> None:
    assert planned(device(is_napi_certain=False)) == ["eth0/threaded=1", "eth0/queues/rx-0/rps_cpus=1"]


def test_without_a_cpu_to_spare_nothing_is_spread() -> None:
    assert planned(device(has_napi=False), spread=()) == []


@pytest.mark.parametrize(
    "tuned",
    [
        device(threaded="1"),
        device(threaded="2"),  # threaded and busy polling
        device(threaded=None, has_napi=False, rps_cpus={}),  # a kernel without either
        device(has_napi=False, rps_cpus={"rx-0": "2"}),
        device(has_napi=False, rps_cpus={"rx-0": "0", "rx-1": "2"}),  # somebody's choice
    ],
)
def test_what_somebody_has_set_is_left(tuned: Device) -> None:
    assert planned(tuned) == []


# Which devices.


def interfaces(*lines: str) -> list[Interface]:
    entries = []
    for index, line in enumerate(lines, start=1):
        name, *addresses = line.split()
        flags = {"lo": ["LOOPBACK", "UP"], "down": []}.get(name, ["UP"])
        infos = [{"local": text.split("/")[0], "prefixlen": int(text.split("/")[1])} for text in addresses]
        entries.append({"ifindex": index, "ifname": name, "flags": flags, "addr_info": infos})
    return parse_interfaces(json.dumps(entries))


def test_devices_that_carry_or_cover_an_address_are_ours() -> None:
    host = interfaces("lo 127.0.0.1/8", "eth0 198.18.0.1/24", "eth1 198.19.0.1/24 2001:db8::1/64", "eth2")
    assert holders([ip_address("198.18.0.10")], host) == {"eth0"}
    assert holders([ip_address("198.19.0.1"), ip_address("2001:db8::9")], host) == {"eth1"}
    assert holders([ip_address("203.0.113.10")], host) == set()


def test_packets_come_up_through_the_lowest_devices(tree: FakeSysFs) -> None:
    tree.add("bond0", 4, lowers="eth0 eth1")
    tree.add("bond0.7", 5, lowers="bond0")
    tree.add("down", 6)
    host = interfaces("lo", "eth0", "eth1", "bond0", "bond0.7", "down")
    assert receivers(["bond0.7"], host, tree) == ["eth0", "eth1"]
    assert receivers(["lo", "down", "eth1", "gone"], host, tree) == ["eth1"]


def test_kinds_tell_native_xdp_and_leave_out_what_never_receives() -> None:
    def link(name: str, kind: str = "", mode: int = 0) -> dict[str, object]:
        info = {"linkinfo": {"info_kind": kind}} if kind else {}
        xdp = {"xdp": {"mode": mode, "attached": [{"mode": mode, "prog": {"id": 1}}]}} if mode else {}
        return {"ifname": name} | info | xdp

    listed = [link("eth0"), link("v0", "veth"), link("v1", "veth", 1), link("v2", "veth", 2), {}]
    kinds = parse_kinds(json.dumps([*listed, link("dummy0", "dummy")]))
    assert {name: (kind.kind, kind.has_native_xdp) for name, kind in kinds.items()} == {
        "eth0": ("", False),
        "v0": ("veth", False),
        "v1": ("veth", True),
        "v2": ("veth", False),  # generic XDP runs behind the backlog
    }


# Netlink.


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def test_napi_answers_are_read() -> None:
    bodies = [
        attribute(2, struct.pack("=I", 300)) + attribute(1, struct.pack("=I", 7)),
        attribute(1 | 0x8000, struct.pack("=I", 9)) + attribute(2, b"abc"),
        attribute(2, struct.pack("=I", 301)),
        b"",
        b"\0\0\0\0\0\0",  # a length shorter than its own field
    ]
    assert napi.napi_indexes(bodies) == {7, 9}


def test_a_kernel_that_does_not_know_the_family_cannot_say(monkeypatch: pytest.MonkeyPatch) -> None:
    error = struct.pack("=i", -errno.ENOENT) + b"\0" * 16
    answer = struct.pack("=IHHII", 16 + len(error), 2, 0, 1, 0) + error

    class OldKernel:
        def __init__(self, *family: int) -> None: ...
        def __enter__(self) -> OldKernel:
            return self

        def __exit__(self, *raised: object) -> None: ...
        def send(self, message: bytes) -> None: ...
        def recv(self, size: int) -> bytes:
            return answer

    monkeypatch.setattr(socket, "socket", OldKernel)
    assert napi.read_napi_indexes() is None


# The view of /sys.


def test_a_tree_shows_its_devices(tree: FakeSysFs) -> None:
    (tree.root / "class/net/bonding_masters").write_text("bond0\n")  # a file among the devices
    assert tree.names() == ["eth0", "eth1", "lo"]
    assert tree.receive_queues("eth1") == ["rx-0", "rx-1"]
    assert tree.find_name(3) == "eth1"
    assert tree.find_name(30) is None
    assert tree.read("eth0/threaded") == "0"
    assert tree.read("eth9/threaded") is None


def test_queues_are_in_the_order_of_their_numbers(tree: FakeSysFs) -> None:
    tree.add("eth2", 4, queues=11)
    assert tree.receive_queues("eth2")[-1] == "rx-10"


def links_of(tree: SysFs, **changes: str) -> str:
    return json.dumps(
        [
            {"ifname": name, "ifindex": index, "link_type": "ether", "address": changes.get(name, address)}
            for name, index, address in sorted(tree.links())
        ]
    )


def test_the_tree_of_another_namespace_is_refused(tree: FakeSysFs) -> None:
    assert require_own(tree, parse_links(links_of(tree)), "Operation not permitted") is tree
    foreign = parse_links(links_of(tree, eth0="02:00:00:00:00:ff"))
    with pytest.raises(HostError, match=r"^/sys shows another network namespace .*refused \(no way\): enter"):
        require_own(tree, foreign, "no way")
    with pytest.raises(HostError, match="another network namespace"):
        require_own(SysFs(tree.root / "nothing"), foreign, "no way")


def test_addresses_of_tunnels_are_not_compared(tree: FakeSysFs) -> None:
    """`ip` shows 198.18.0.1 where /sys has c6:12:00:01."""
    listed = json.loads(links_of(tree))
    (tree.root / "class/net/eth1/type").write_text("778\n")
    (gre,) = (entry for entry in listed if entry["ifname"] == "eth1")
    gre |= {"link_type": "gre", "address": "198.18.0.1"}
    assert tree.links() == parse_links(json.dumps(listed))
    gre["ifindex"] = 4
    assert tree.links() != parse_links(json.dumps(listed))


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.ENODEV, errno.ENOENT])
def test_what_is_not_for_a_device_now_is_no_error(
    tree: FakeSysFs, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(path: Path, text: str) -> int:
        raise OSError(code, "no")

    monkeypatch.setattr(Path, "write_text", refuse)
    assert not tree.write("eth0/threaded", "1")


def test_a_read_only_sys_is_told(tree: FakeSysFs, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, text: str) -> int:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(HostError, match=r"^cannot set /sys/class/net/eth0/threaded = 1.*: Read-only"):
        tree.write("eth0/threaded", "1")
    assert tree.takes("eth0/threaded") is None


def test_a_device_without_napi_takes_no_threaded(tree: FakeSysFs, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tree.takes("eth0/threaded") is True
    assert tree.takes("eth0/nothing") is False

    def refuse(path: Path, text: str) -> int:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(Path, "write_text", refuse)
    assert tree.takes("eth0/threaded") is False


# Applied and undone.


THREADED = Tuning("eth0", 2, "threaded", "0", "1")
SPREAD = Tuning("eth1", 3, "queues/rx-1/rps_cpus", "00000000,00000000", "00000000,00000001")


@pytest.fixture
def opened(tree: FakeSysFs, monkeypatch: pytest.MonkeyPatch) -> FakeSysFs:
    """Make *tree* what tuning finds as /sys."""
    monkeypatch.setattr("fullnat.host.tuning.open_sysfs", lambda: nullcontext(tree))
    return tree


def files(tree: FakeSysFs) -> dict[str, str]:
    return {str(path): path.read_text() for path in tree.root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("stop_after", range(3))
def test_undo_restores_every_value_wherever_the_process_died(opened: FakeSysFs, stop_after: int) -> None:
    before = files(opened)
    recorded: list[Tuning] = []
    apply_tunings([THREADED, SPREAD][:stop_after], recorded.append)
    assert (files(opened) != before) == bool(stop_after)
    for tuning in [*reversed(recorded), THREADED, SPREAD]:  # the last two: recorded, not yet written
        undo_tuning(tuning, opened)
    assert files(opened) == before


def test_each_change_is_recorded_before_it_is_made(opened: FakeSysFs) -> None:
    unwritten = []
    apply_tunings([THREADED, SPREAD], lambda one: unwritten.append(opened.read(one.key) == one.old))
    assert unwritten == [True, True]
    assert (opened.read(THREADED.key), opened.read(SPREAD.key)) == (THREADED.new, SPREAD.new)


def test_a_value_that_does_not_stick_is_told(opened: FakeSysFs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeSysFs, "write", lambda *args: True)
    with pytest.raises(HostError, match=r"^/sys/class/net/eth0/threaded was set to 1 and still reads 0$"):
        apply_tunings([THREADED], lambda one: None)


def test_what_lost_its_napi_meanwhile_is_left(opened: FakeSysFs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeSysFs, "write", lambda *args: False)
    apply_tunings([THREADED], lambda one: None)


def test_undo_leaves_what_someone_else_has_set_since(tree: FakeSysFs) -> None:
    tree.write("eth0/threaded", "2")
    undo_tuning(THREADED, tree)
    assert tree.read("eth0/threaded") == "2"


def test_undo_finds_a_device_that_was_renamed(opened: FakeSysFs) -> None:
    apply_tunings([THREADED], lambda one: None)
    (opened.root / "class/net/eth0").rename(opened.root / "class/net/wan")
    opened.add("eth0", 9)
    opened.write("eth0/threaded", "1")  # a new device of the old name, set by somebody
    undo_tuning(THREADED, opened)
    assert (opened.read("wan/threaded"), opened.read("eth0/threaded")) == ("0", "1")


def test_a_device_that_is_gone_is_no_error(opened: FakeSysFs) -> None:
    gone = Tuning("gone", 99, "threaded", "0", "1")
    before = files(opened)
    apply_tunings([gone], lambda one: None)
    undo_tuning(gone, opened)
    assert files(opened) == before


# The journal and other instances.


def test_the_journal_undoes_it(opened: FakeSysFs, tmp_path: Path) -> None:
    before = files(opened)
    journal = Journal(tmp_path / "main.journal")
    apply_tunings([THREADED, SPREAD], lambda one: journal.append(Change(Kind.TUNING, one.to_json())))
    (tmp_path / "state").mkdir()
    undo_journal(journal, StateDirectory(tmp_path / "state", "1"), ProcSys(tmp_path), [])
    assert files(opened) == before
    assert journal.changes() == []


PLAN = HostPlan(
    instance="main",
    queue=1080,
    mark=1,
    services=((TCP, parse_endpoint("198.18.0.10:80")),),
    servers=(),
    lips=(),
    port_range=PortRange(1024, 32767),
)


@pytest.mark.parametrize("tune", [True, False])
def test_a_living_instance_that_tunes_inherits_it(opened: FakeSysFs, tmp_path: Path, tune: bool) -> None:
    apply_tunings([THREADED], lambda one: None)
    heir = make_claims(replace(PLAN, instance="other", tune=tune), 1)
    state = StateDirectory(tmp_path, "1")
    change = Change(Kind.TUNING, THREADED.to_json())
    undo_changes([change], state, ProcSys(tmp_path), [heir])
    assert opened.read(THREADED.key) == ("1" if tune else "0")
    assert state.journal("other").changes() == ([change] if tune else [])


def test_claims_of_a_version_that_did_not_tune_are_read() -> None:
    old = json.loads(make_claims(PLAN, 1).to_json())
    del old["tune"], old["queues"]
    assert Claims.from_json(json.dumps(old)) == make_claims(PLAN, 1)


@pytest.mark.parametrize(
    ("queue", "workers", "taken"),
    [(1080, 1, 1080), (1079, 2, 1080), (1081, 1, 1081), (1082, 1, None), (1079, 1, None)],
)
def test_each_worker_has_a_queue(queue: int, workers: int, taken: int | None) -> None:
    mine = make_claims(replace(PLAN, instance="mine", services=(), queue=queue, workers=workers), 1)
    other = make_claims(replace(PLAN, instance="other", services=(), queue=1080, workers=2), 2)
    conflict = find_conflict(mine, [other])
    assert conflict == (
        taken and f"queue {taken} is taken by instance other (pid 2): give one of the two another number"
    )
