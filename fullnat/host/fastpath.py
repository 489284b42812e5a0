# SPDX-License-Identifier: Apache-2.0
"""The fast path of an instance: a program in the kernel, and the maps it shares with the engine.

    bpffs: ...<instance>@<namespace>/  maps, by name; `identity` is pinned last
                                       link-<ifindex>, the program on a device: Linux 6.6 and later
    device: ingress (clsact)           a filter that is the program: before

Theory.  Maps live as long as they are pinned or a program uses them, links as long as they are
pinned, filters as long as their device.  So what is forwarded goes on being forwarded when the
engine is gone, and the next one finds every flow in the maps, and puts its own program in the place
of that one between two packets.

Rules.
  1. Maps are taken over as they are or not at all: of another layout, they are refused in one line.
     Sizes and the hash key are theirs; the engine adapts.
  2. Maps without an identity were being made when somebody was killed; they are made again.
  3. Every device that can carry IP by itself gets the program: Ethernet, not loopback, not part of
     another (a bridge port, a bond's member), whose packets come up through that one.
  4. What was there stays: of a device that had a clsact, or has others' filters, only ours is taken off.

The structures are those of csrc/core/fastpath_maps.h.
"""

from __future__ import annotations

import errno
import json
import os
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fullnat.datapath.base import FlowMaps
from fullnat.host.errors import HostError
from fullnat.host.libbpf import BpfError, BpfObject, Filter, Libbpf
from fullnat.host.programs import run_program
from fullnat.host.state import DEFAULT_DIRECTORY

LAYOUT = 1  # FN_FASTPATH_LAYOUT
CHUNK = 4096  # FN_FLOW_CHUNK
SERVER_COUNTERS = 4096  # and the first stands for none

SYSTEM_BPFFS = Path("/sys/fs/bpf")
_LINK = "link-"
_IDENTITY_PIN = "identity"
_PRIORITY = 0xF5  # of our filters among those of a device
_OBJECTS = Path(__file__).resolve().parent.parent
_PROGRAM, _PROBE = "_fastpath.bpf.o", "_probe.bpf.o"

_ENGINE_MAPS = ("entries", "changed4", "changed6", "chunks4", "chunks6", "servers", "counts")
_IDENTITY = struct.Struct("=II16s")  # struct fn_fastpath_identity
_SETTINGS = struct.Struct("=16sQII")  # struct fn_fastpath_settings
_IPV6_FLAG = 0x80  # FN_FASTPATH_IPV6_FLAG


class ForeignFlowsError(HostError):
    """Flows were left behind that this version cannot take over."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A filter on one device, with what it takes to undo it."""

    instance: str
    device: str
    index: int
    had_clsact: bool

    def to_json(self) -> dict[str, Any]:
        """Return the attachment as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, detail: dict[str, Any]) -> Attachment:
        """Return the attachment that to_json() wrote."""
        return cls(**detail)


def places(limit: int) -> int:
    """Return how many entries a table of *limit* flows has: fn_flow_memory_places()."""
    count = 4
    while count < 4 * limit:
        count *= 2
    return count


def chunks(limit: int) -> int:
    """Return how many chunks each family may have: fn_flow_memory_chunks()."""
    return limit // CHUNK + 2 + limit // CHUNK // 16


def pin_directory(instance: str, namespace: str) -> Path:
    """Return where the maps of *instance* are pinned.

    In the system's bpffs; where there is none (in a container, say) in one of the instance's own,
    which nobody else mounts or unmounts.
    """
    if _is_bpffs(SYSTEM_BPFFS):
        return SYSTEM_BPFFS / f"fullnat-{instance}@{namespace}".replace(".", "_")  # no dots in names there
    return DEFAULT_DIRECTORY / f"{instance}@{namespace}.bpf"


def _make_directory(pins: Path) -> None:
    try:
        pins.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise BpfError(f"cannot make {pins}: {error.strerror}") from None
    if pins.parent != SYSTEM_BPFFS and not _is_bpffs(pins):
        run_program(["mount", "-t", "bpf", "bpf", str(pins)])


def _is_bpffs(path: Path) -> bool:
    lines = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    return any(line.split()[1:3] == [str(path), "bpf"] for line in lines)


class FastPath:
    """The program and the maps of one instance, in this network namespace."""

    def __init__(self, instance: str, pins: Path, limit: int) -> None:
        """Load the program, with the maps that are under *pins*, or with new ones for *limit* flows."""
        self._library = Libbpf()
        self._instance = instance
        self._pins = pins
        self._filter = _filter_of(instance)
        _make_directory(pins)
        has_ipv6_flag = probe(self._library)
        self._object = BpfObject(self._library, _object_file(_PROGRAM))
        self._inherited: list[int] = []
        try:
            self.maps = self._load(has_ipv6_flag, limit)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of it; what is pinned and attached stays."""
        for descriptor in self._inherited:
            os.close(descriptor)
        self._inherited.clear()
        self._object.close()

    def _load(self, has_ipv6_flag: bool, limit: int) -> FlowMaps:
        identity = self._inherit()
        is_inherited = identity is not None
        limit, hash_key = identity or (limit, os.urandom(16))
        if not is_inherited:
            self._set_sizes(limit)
        settings = _SETTINGS.pack(
            hash_key,
            _IPV6_FLAG if has_ipv6_flag else 0,
            places(limit) - 1,
            not has_long_addresses(_read_links()),
        )
        self._object.set_data(".rodata.settings", settings)
        self._object.load()
        if not is_inherited:
            self._pin(limit, hash_key)
        return FlowMaps(
            descriptors=tuple(self._object.map_descriptor(name) for name in _ENGINE_MAPS),
            limit=limit,
            servers=SERVER_COUNTERS,
            cpus=self._library.possible_cpus,
            hash_key=hash_key,
            is_inherited=is_inherited,
        )

    def _inherit(self) -> tuple[int, bytes] | None:
        """Take the pinned maps over; return their limit and hash key, or None when there are none."""
        descriptor = self._library.get_pinned(self._pins / _IDENTITY_PIN)
        if descriptor is None:
            _unpin(self._pins)
            return None
        self._inherited.append(descriptor)
        layout, limit, hash_key = _IDENTITY.unpack(self._library.read_map(descriptor, _IDENTITY.size))
        if layout != LAYOUT:
            raise ForeignFlowsError(
                f"{self._pins} has flows of layout {layout}, and this version knows {LAYOUT}: go on with the "
                "version that made them, or end them with `fullnat stop`"
            )
        self._object.reuse("identity", descriptor)
        for name in _ENGINE_MAPS:
            descriptor = self._library.get_pinned(self._pins / name)
            if descriptor is None:
                raise ForeignFlowsError(f"{self._pins} lacks {name}: end its flows with `fullnat stop`")
            self._inherited.append(descriptor)
            self._object.reuse(name, descriptor)
        return limit, hash_key

    def _set_sizes(self, limit: int) -> None:
        self._object.set_entries("entries", places(limit))
        self._object.set_entries("servers", SERVER_COUNTERS)
        for family in (4, 6):
            self._object.set_entries(f"changed{family}", chunks(limit) * CHUNK // 64)
            self._object.set_entries(f"chunks{family}", chunks(limit))

    def _pin(self, limit: int, hash_key: bytes) -> None:
        identity = self._object.map_descriptor("identity")
        self._library.write_map(identity, _IDENTITY.pack(LAYOUT, limit, hash_key))
        for name in _ENGINE_MAPS:
            self._library.pin(self._object.map_descriptor(name), self._pins / name)
        self._library.pin(identity, self._pins / _IDENTITY_PIN)

    # Devices.

    def attach(self, record: Callable[[Attachment], None]) -> None:
        """Put the program on every device that can have it; a filter is handed to *record* before."""
        self._drop_dead_links()
        for name, index in read_ethernet_devices():
            try:
                if not self._link(index):
                    # Nobody else knows what was there before us: it is on record whatever happens next.
                    record(Attachment(self._instance, name, index, had_clsact=_has_clsact(name)))
                    self._library.add_ingress(index)
                    self._library.attach(index, self._filter, self._program)
            except BpfError as error:
                if error.number != errno.ENODEV:  # it went meanwhile
                    raise

    def find_unattached(self) -> list[str]:
        """Return the devices that should have our program and have not."""
        wanted = self._library.read_program_id(self._program)
        return [name for name, index in read_ethernet_devices() if self._attached_to(index) != wanted]

    @property
    def _program(self) -> int:
        return self._object.program_descriptor("fullnat")

    def _pin_of(self, index: int) -> Path:
        return self._pins / f"{_LINK}{index}"

    def _link(self, index: int) -> bool:
        """Link the program to a device, or update its link; False when the kernel has no links."""
        pin = self._pin_of(index)
        link = self._library.get_pinned(pin)
        if link is not None:
            with _closing(link):
                self._library.update_link(link, self._program)
            return True
        link = self._library.link(self._program, index)
        if link is None:
            return False
        with _closing(link):
            self._library.pin(link, pin)
        return True

    def _attached_to(self, index: int) -> int | None:
        """Return the id of our program on a device, or None."""
        link = self._library.get_pinned(self._pin_of(index))
        if link is None:
            return self._library.find_filter(index, self._filter)
        with _closing(link):
            found = self._library.read_link(link)
        return found.program if found.ifindex == index else None

    def _drop_dead_links(self) -> None:
        """Unpin the links whose device went."""
        for pin in self._pins.glob(f"{_LINK}*"):
            link = self._library.get_pinned(pin)
            if link is None:
                continue
            with _closing(link):
                is_dead = self._library.read_link(link).ifindex == 0
            if is_dead:
                pin.unlink(missing_ok=True)


@contextmanager
def _closing(descriptor: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(descriptor)


def detach(attachments: Iterable[Attachment]) -> None:
    """Take filters off, and the clsact where it came with them and has no other."""
    library = Libbpf()
    names = {index: name for name, index in read_ethernet_devices()}
    for attachment in attachments:
        name = names.get(attachment.index)
        if name is None:
            continue
        library.detach(attachment.index, _filter_of(attachment.instance))
        if not attachment.had_clsact and not _has_filters(name):
            run_program(["tc", "qdisc", "del", "dev", name, "clsact"])


def has_flows(pins: Path) -> bool:
    """Whether somebody's maps are under *pins*, whole."""
    return (pins / _IDENTITY_PIN).exists()


def remove_pins(pins: Path) -> None:
    """Unpin everything under *pins*: what nothing uses any more goes with it.  Safe to repeat."""
    _unpin(pins)
    if _is_bpffs(pins):
        run_program(["umount", str(pins)])
    with suppress(FileNotFoundError):
        pins.rmdir()


def _unpin(pins: Path) -> None:
    links = list(pins.glob(f"{_LINK}*"))  # first: no packet may find half of the maps
    for pin in [*links, pins / _IDENTITY_PIN, *(pins / name for name in _ENGINE_MAPS)]:
        pin.unlink(missing_ok=True)


def read_ethernet_devices() -> list[tuple[str, int]]:
    """Return name and ifindex of the devices that packets come up through."""
    return parse_ethernet_devices(_read_links())


def _read_links() -> str:
    return run_program(["ip", "-j", "link", "show"])


def parse_ethernet_devices(output: str) -> list[tuple[str, int]]:
    """Return the Ethernet devices in the output of `ip -j link show` that are part of no other."""
    return [
        (entry["ifname"], entry["ifindex"])
        for entry in json.loads(output)
        if entry and entry.get("link_type") == "ether" and "master" not in entry
    ]


def has_long_addresses(output: str) -> bool:
    """Whether a device in the output of `ip -j link show` has addresses that are no Ethernet header's.

    IP over InfiniBand has: neighbours there have addresses too, of 20 bytes.
    """
    return any(entry.get("link_type") == "infiniband" for entry in json.loads(output))


def _has_clsact(device: str) -> bool:
    return any(
        qdisc.get("kind") == "clsact"
        for qdisc in json.loads(run_program(["tc", "-j", "qdisc", "show", "dev", device]) or "[]")
    )


def _has_filters(device: str) -> bool:
    return any(
        json.loads(run_program(["tc", "-j", "filter", "show", "dev", device, way]) or "[]")
        for way in ("ingress", "egress")
    )


def _filter_of(instance: str) -> Filter:
    """Return the number of the filter of *instance*: two instances may share a device."""
    return Filter(_PRIORITY, zlib.crc32(instance.encode()) | 1)


def _object_file(name: str) -> Path:
    path = _OBJECTS / name
    if not path.exists():
        raise BpfError(
            f"fullnat was installed without {name}; pip install needs clang and libbpf-dev to build it"
        )
    return path


def find_refusal() -> str:
    """Return why this host can have no fast path, in a line with the remedy; empty when it can."""
    try:
        probe(Libbpf())
    except HostError as error:
        return str(error)
    return ""


def probe(library: Libbpf) -> bool:
    """Return whether the kernel's checksum helper has the flag for IPv6.

    BpfError where no program can be loaded.
    """
    program = BpfObject(library, _object_file(_PROBE))
    try:
        program.load()
        # Ethernet, and an IPv6 header with UDP.
        frame = bytes(12) + b"\x86\xdd" + b"\x60" + bytes(3) + b"\x00\x08\x11\x40" + bytes(32 + 8)
        return bool(library.run(program.program_descriptor("probe"), frame))
    finally:
        program.close()
