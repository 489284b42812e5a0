# SPDX-License-Identifier: Apache-2.0
"""Engine `ebpf` as a director: a packet is the program's first, and the engine's if that leaves it alone.

    packet --BPF_PROG_TEST_RUN--> carried: what is left in the frame goes out
                              `-> left as it is --> the engine decides, as if it came from a queue

The program runs as the kernel verified it, on the maps the engine keeps its flows in, with the routes
of a namespace of its own.  What it would send is not sent.

It stamps flows with the kernel's clock, and tests have a time of their own.  So each stamp is first
compared with that clock, then set to the test's time where it lies, in the map.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address, ip_network
from pathlib import Path
from socket import if_nametoindex
from typing import NamedTuple

from fullnat.core.addr import TCP, IPAddress
from fullnat.core.director import Director
from fullnat.core.mtu import mss_of
from fullnat.core.packet import SYN, PacketView, key_endpoints, parse
from fullnat.core.reason import Reason
from fullnat.core.tcp import REOPENABLE, is_opening_syn
from fullnat.datapath.ebpf import PASSES, EbpfDatapath
from fullnat.host.fastpath import CHUNK, FastPath, remove_pins
from fullnat.host.libbpf import Ran
from fullnat.host.programs import run_program
from tests.vectors.directors import NativeDirector, Outcome, Twin

CLOCK_MONOTONIC_COARSE = 6  # linux/time.h; Python has no name for it

# linux/pkt_cls.h
UNSPEC, REDIRECT = -1, 7

MAC = bytes.fromhex("020000000001")  # both devices'
NEIGHBOUR = bytes.fromhex("020000000002")  # everybody else's
ETHERNET = 14
TYPES = {4: b"\x08\x00", 6: b"\x86\xdd"}
HEADERS = {4: 20, 6: 40}  # shorter packets BPF_PROG_TEST_RUN refuses

# The host that the program runs on: its addresses, and the MTU on the way to the first server.
CLIENTS = ("203.0.113.1/24", "203.0.113.10/32", "2001:db8:1::1/64", "2001:db8:1::10/128")
SERVERS = ("198.19.0.1/24", "2001:db8:2::1/64")
MTU, NARROW_MTU = 1500, 1400
NARROW = ("198.19.0.11", "2001:db8:2::11")
LOCAL = frozenset(ip_address(text.partition("/")[0]) for text in (*CLIENTS, *SERVERS))
SERVER_NETWORKS = tuple(ip_network(text, strict=False) for text in SERVERS)
NEIGHBOURS = {
    "clients": ("203.0.113.100", "203.0.113.254", "2001:db8:1::100", "2001:db8:1::fe"),
    "servers": ("198.19.0.11", "198.19.0.12", "2001:db8:2::11", "2001:db8:2::12"),
}  # others have to be asked for
BROADCAST = frozenset(ip_network(text, strict=False).broadcast_address for text in (CLIENTS[0], SERVERS[0]))

# struct fn_flow, csrc/core/flow_record.h: where its fields are.
_STRIDE = {4: 128, 6: 192}
_LAST_SEEN, _CREATED, _SLOT, _PROTOCOL, _KEYS = 32, 40, 68, 99, 104
_NO_SLOT = 0xFFFFFFFF


class Devices(NamedTuple):
    """The two devices of the host, by index: where clients are, and where servers are."""

    clients: int
    servers: int

    def receiving(self, packet: bytes) -> int:
        """Return the device that *packet* comes in by."""
        at, size = (12, 4) if packet[0] >> 4 == 4 else (8, 16)
        source = ip_address(packet[at : at + size])
        return self.servers if any(source in network for network in SERVER_NETWORKS) else self.clients


def build_host() -> Devices:
    """Make the current network namespace the host; devices lead nowhere."""
    lines = [
        "link set lo up",
        f"link add clients mtu {MTU} address {MAC.hex(':')} type veth "
        f"peer name servers mtu {MTU} address {MAC.hex(':')}",
    ]
    for device, addresses in (("clients", CLIENTS), ("servers", SERVERS)):
        lines.append(f"link set {device} up")
        lines += [f"address add {address} dev {device} nodad" for address in addresses if ":" in address]
        lines += [f"address add {address} dev {device}" for address in addresses if ":" not in address]
        lines += [
            f"neighbour add {address} lladdr {NEIGHBOUR.hex(':')} nud permanent dev {device}"
            for address in NEIGHBOURS[device]
        ]
    lines += [f"route add {address} dev servers mtu lock {NARROW_MTU}" for address in NARROW]
    lines += ["route add default via 203.0.113.254", "route add default via 2001:db8:1::fe dev clients"]
    run_program(["ip", "-batch", "-"], "\n".join(lines) + "\n")
    for name in ("ipv4/conf/all/forwarding", "ipv6/conf/all/forwarding"):
        Path("/proc/sys/net", name).write_text("1\n", encoding="ascii")
    return Devices(if_nametoindex("clients"), if_nametoindex("servers"))


def frame_of(packet: bytes, family: int = 0) -> bytes:
    """Return *packet* as the host receives it, as one of *family* (0: what it is)."""
    return MAC + bytes(6) + TYPES[family or packet[0] >> 4] + packet


def after_a_hop(packet: bytes) -> bytes:
    """Return *packet* as a router sends it on: RFC 1141 for the checksum, as the kernel does it."""
    if packet[0] >> 4 == 6:
        return packet[:7] + bytes((packet[7] - 1,)) + packet[8:]
    check = int.from_bytes(packet[10:12], "big") + 0x0100
    check = (check + (check >= 0xFFFF)) & 0xFFFF
    return packet[:8] + bytes((packet[8] - 1,)) + packet[9:10] + check.to_bytes(2, "big") + packet[12:]


class Program:
    """The program of a loaded fast path."""

    def __init__(self, fastpath: FastPath, devices: Devices) -> None:
        self._library = fastpath._library
        self._descriptor = fastpath._program
        self.devices = devices

    def run(self, frame: bytes, device: int, segments: int = 0, segment_size: int = 0) -> Ran:
        """Run it on *frame*; what it leaves to others it does not touch."""
        ran = self._library.run_on(
            self._descriptor, frame, device=device, segments=segments, segment_size=segment_size
        )
        assert ran.answer in (UNSPEC, REDIRECT)
        assert ran.answer == REDIRECT or ran.frame == frame
        return ran

    def carry(self, packet: bytes) -> bytes | None:
        """Return *packet* as it is sent on, or None when it is not."""
        frame = frame_of(packet)
        ran = self.run(frame, self.devices.receiving(packet))
        return packet_of(ran.frame, frame) if ran.answer == REDIRECT else None


def packet_of(frame: bytes, before: bytes) -> bytes:
    """Return the packet in a frame that was *before* the program had it; what stands behind is as it was.

    Before it is the header it came with, which bpf_redirect_neigh() is still to replace, or the next one.
    """
    at = ETHERNET + 2 if before[ETHERNET] >> 4 == 4 else ETHERNET + 4
    size = int.from_bytes(before[at : at + 2], "big") + (0 if before[ETHERNET] >> 4 == 4 else 40)
    end = ETHERNET + size
    assert len(frame) == len(before)
    assert frame[:12] in (before[:12], NEIGHBOUR + MAC)
    assert (frame[12:ETHERNET], frame[end:]) == (before[12:ETHERNET], before[end:])
    return frame[ETHERNET:end]


class FlowStamps:
    """When flows were last seen, where the program writes it: the first chunk of each family."""

    def __init__(self, fastpath: FastPath) -> None:
        self._library = fastpath._library
        names = ("entries", "changed4", "changed6", "chunks4", "chunks6")
        self._descriptors = dict(zip(names, fastpath.maps.descriptors, strict=False))
        self._chunks: dict[int, mmap.mmap] = {}

    def close(self) -> None:
        """Unmap the chunks."""
        for chunk in self._chunks.values():
            chunk.close()

    def take(self, view: PacketView, outbound: bool, now: int) -> int:
        """Return when the flow of *view* was last seen, and make it *now*."""
        return self._exchange(view, outbound, _LAST_SEEN, now)

    def set_created(self, view: PacketView, outbound: bool, created: int) -> None:
        """Make the flow of *view* another one, by when it was opened."""
        self._exchange(view, outbound, _CREATED, created)

    def _exchange(self, view: PacketView, outbound: bool, field: int, value: int) -> int:
        chunk = self._chunk(view.family)
        at = self._find(chunk, view, outbound) + field
        (old,) = struct.unpack_from("=q", chunk, at)
        struct.pack_into("=q", chunk, at, value)
        return int(old)

    @staticmethod
    def _find(chunk: mmap.mmap, view: PacketView, outbound: bool) -> int:
        """Return where the record of the flow begins; those that ended may have had the same key."""
        offset, at = _KEYS + outbound * len(view.key), -1
        while (at := chunk.find(view.key, at + 1)) >= 0:
            place = at - offset
            (slot,) = struct.unpack_from("=I", chunk, place + _SLOT)
            if (
                place % _STRIDE[view.family] == 0
                and slot != _NO_SLOT
                and chunk[place + _PROTOCOL] == view.protocol
            ):
                return place
        raise AssertionError("carried, and of no flow")

    def _chunk(self, family: int) -> mmap.mmap:
        if family not in self._chunks:
            number = self._library.read_map(self._descriptors[f"chunks{family}"], 4)
            of_chunk = self._library.calls.bpf_map_get_fd_by_id(ctypes.c_uint32.from_buffer_copy(number))
            descriptor = self._library.check("opening a chunk", of_chunk)
            self._chunks[family] = mmap.mmap(descriptor, CHUNK * _STRIDE[family])
            os.close(descriptor)
        return self._chunks[family]


class FastPathDirector(NativeDirector):
    """Program and engine, on the same flows."""

    def __init__(self, datapath: EbpfDatapath, program: Program, stamps: FlowStamps) -> None:
        super().__init__(datapath)
        self.program = program
        self.left: str | None = None  # why the program left the last packet alone; None: it carried it
        self.stamps = stamps

    def decide(self, packet: bytes, now: int) -> Outcome:
        """Return what became of *packet*; one that was carried is a hop further."""
        family = packet[0] >> 4 if packet else 0
        if family not in HEADERS or len(packet) < HEADERS[family]:
            self.left = "untranslated"  # the kernel itself would drop it: BPF_PROG_TEST_RUN refuses it
            return super().decide(packet, now)
        before, earliest = self._director.carried(), time.clock_gettime_ns(CLOCK_MONOTONIC_COARSE)
        out = self.program.carry(packet)
        inbound, outbound, *passed = map(int.__sub__, self._director.carried(), before)
        if out is None:
            assert (inbound, outbound, sum(passed)) == (0, 0, 1)
            self.left = PASSES[passed.index(1)]
            return super().decide(packet, now)
        assert (inbound + outbound, sum(passed)) == (1, 0)
        self.left = None
        stamp = self.stamps.take(parse(packet), bool(outbound), now)
        assert earliest <= stamp <= time.clock_gettime_ns(CLOCK_MONOTONIC_COARSE)
        self._director.servers()  # catches up with what the program did to states
        return Outcome(Reason.FLOW_INBOUND if inbound else Reason.FLOW_OUTBOUND, out, None, None, ())

    def as_forwarded(self, outcome: Outcome) -> Outcome:
        """Return *outcome*, another director's, of the last packet as it would be here."""
        if self.left is None and outcome.out is not None:
            return outcome._replace(out=after_a_hop(outcome.out))
        return outcome


@contextmanager
def fastpath_director(twin: Twin, pins: Path, devices: Devices) -> Iterator[FastPathDirector]:
    """Load the program, with maps under *pins*, and give it an engine."""
    fastpath = FastPath("vectors", pins, twin.setup.flow_limit)
    stamps = FlowStamps(fastpath)
    try:
        datapath = EbpfDatapath(
            twin.setup,
            twin.services(),
            fastpath.maps,
            queues=[0],
            segmented=1,
            mark=0,
            sockets=(-1, -1),
            clock=lambda: 0,
        )
        datapath.set_path_mtu(twin.routes)
        yield FastPathDirector(datapath, Program(fastpath, devices), stamps)
    finally:
        stamps.close()
        fastpath.close()
        remove_pins(pins)


def why_left(director: Director, packet: bytes) -> str | None:
    """Return why the program leaves *packet* alone, were its flows those of *director*; None: it does not."""
    view = parse(packet)
    if view.malformed is not None or not view.key or view.fragment or view.l4 != HEADERS[view.family]:
        return "untranslated"
    if view.data[8 if view.family == 4 else 7] <= 1:
        return "expired"
    half = director.flows.find(view.protocol, view.key)
    if half is None:
        return "unknown"
    _, destination = key_endpoints(half.rewrite.new_key)
    if view.protocol == TCP:
        if half.inbound and half.flow.state in REOPENABLE and is_opening_syn(view.flags):
            return "reopened"
        if view.flags & SYN and _mss_of(view) > _mss_limit(director, view, destination.address):
            return "segment_size"
    if view.divisible:
        return "divisible"
    if destination.address in LOCAL | BROADCAST:
        return "unrouted"
    narrow = str(destination.address) in NARROW
    return "too_big" if len(view.data) > (NARROW_MTU if narrow else MTU) else None


def _mss_of(view: PacketView) -> int:
    """Return what the program takes for the MSS: it looks at the first option only."""
    header = view.data[view.l4 : len(view.data) - len(view.payload)]
    if len(header) == 20:
        return 0
    return int.from_bytes(header[22:24], "big") if header[20:22] == b"\x02\x04" else 0xFFFF


def _mss_limit(director: Director, view: PacketView, destination: IPAddress) -> int:
    mtu = min(director.path_mtu.find(view.saddr), director.path_mtu.find(destination.packed))
    return min(mss_of(mtu, view.family), 0xFFFF)
