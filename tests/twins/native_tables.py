# SPDX-License-Identifier: Apache-2.0
"""The tables of fullnat/csrc/native/ as a library: built with gcc, called with ctypes, in Python's words."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from ctypes import byref
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import NamedTuple

from fullnat.core.addr import Endpoint, IPAddress, PortRange
from fullnat.core.lport import PortUse
from fullnat.core.service import VirtualService
from tests.twins.core import HEADERS, HERE, compile_c

NATIVE = HEADERS.parent / "native"
SOURCES = ("flow", "flow_memory", "lport", "persist", "mtu", "ended")
ALLOCATORS = ("malloc", "calloc", "realloc", "aligned_alloc", "free", "mmap", "munmap")
SANITIZERS = ("-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
INBOUND, OUTBOUND = 0, 1
STRIDES = (128, 192)  # bytes from one place to the next, IPv4 and IPv6
SNAPSHOT_PLACES = 32
NOWHERE = 0xDEAD  # an address that is not mapped
NO_LIP = 0xFFFF
_INDEX = 0x1FFF_FFFF  # of a reference: which place of the family
WHICH_FLOW = 0x3FFF_FFFF  # of a reference, which in an entry also says which key

Pointer = int

_STEP = ctypes.CFUNCTYPE(None)
_ADOPTER = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)


def build(library: Path, *options: str) -> None:
    """Compile the tables and what the tests need beside them into *library*."""
    objects = []
    for source in (HERE / "native_tables.c", *(NATIVE / f"{name}.c" for name in SOURCES)):
        objects.append(library.with_name(f"{source.stem}.o"))
        trace = ("-fsanitize-coverage=trace-pc",) if source.stem == "flow" else ()
        compile_c(objects[-1], "-std=gnu11", *options, *trace, f"-I{NATIVE}", "-fPIC", "-c", source)
    wrap = "-Wl," + ",".join(f"--wrap={name}" for name in ALLOCATORS)
    compile_c(library, *options, "-shared", "-Wl,-z,defs", wrap, *objects)


class CAddress(ctypes.Structure):
    _fields_ = (("bytes", ctypes.c_uint8 * 16), ("size", ctypes.c_uint8))

    @staticmethod
    def of(address: IPAddress) -> CAddress:
        packed = address.packed
        return CAddress((ctypes.c_uint8 * 16)(*packed), len(packed))

    @property
    def address(self) -> IPAddress:
        assert not any(self.bytes[self.size :])
        return ip_address(bytes(self.bytes[: self.size]))


class CEndpoint(ctypes.Structure):
    _fields_ = (("address", CAddress), ("port", ctypes.c_uint16))

    @staticmethod
    def of(endpoint: Endpoint) -> CEndpoint:
        return CEndpoint(CAddress.of(endpoint.address), endpoint.port)

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(self.address.address, self.port)


class CHashKey(ctypes.Structure):
    _fields_ = (("words", ctypes.c_uint64 * 2),)


class CRewrite(ctypes.Structure):
    _fields_ = (
        ("new_key", ctypes.c_uint8 * 36),
        ("key_size", ctypes.c_uint8),
        ("ip_delta", ctypes.c_uint16),
        ("transport_delta", ctypes.c_uint16),
    )


class CFlow(ctypes.Structure):
    """struct fn_flow, without its keys."""

    _fields_ = (
        ("packets", ctypes.c_uint64 * 2),
        ("bytes", ctypes.c_uint64 * 2),
        ("last_seen", ctypes.c_int64),
        ("created", ctypes.c_int64),
        ("timeout", ctypes.c_int64),
        ("server", ctypes.c_void_p),
        ("state", ctypes.c_uint32),
        ("slot", ctypes.c_uint32),
        ("next", ctypes.c_uint32),
        ("previous", ctypes.c_uint32),
        ("reference", ctypes.c_uint32),
        ("counter", ctypes.c_uint16),
        ("lip", ctypes.c_uint16),
        ("ip_delta", ctypes.c_uint16 * 2),
        ("transport_delta", ctypes.c_uint16 * 2),
        ("mss", ctypes.c_uint16),
        ("noted", ctypes.c_uint8),
        ("protocol", ctypes.c_uint8),
        ("key_size", ctypes.c_uint8),
        ("one_packet", ctypes.c_bool),
        ("held_mask", ctypes.c_uint8),
    )


class CFlowOpening(ctypes.Structure):
    """struct fn_flow_opening."""

    _fields_ = (
        ("server", ctypes.c_void_p),
        ("inbound_key", ctypes.c_char_p),
        ("outbound_key", ctypes.c_char_p),
        ("key_size", ctypes.c_uint32),
        ("lip", ctypes.c_uint16),
        ("mss", ctypes.c_uint16),
        ("timeout", ctypes.c_int64),
    )


class CSharedMemory(ctypes.Structure):
    """struct tables_memory."""

    _fields_ = (
        ("entries", ctypes.c_void_p),
        ("places", ctypes.c_uint32),
        ("chunk_limit", ctypes.c_uint32),
        ("chunks", ctypes.POINTER(ctypes.c_void_p) * 2),
        ("changed", ctypes.POINTER(ctypes.c_uint64) * 2),
        ("waits", ctypes.c_uint32),
    )


class CPortUse(ctypes.Structure):
    _fields_ = (
        ("protocol", ctypes.c_uint8),
        ("lip", CAddress),
        ("real", CEndpoint),
        ("in_use", ctypes.c_uint32),
        ("resting", ctypes.c_uint32),
        ("capacity", ctypes.c_uint32),
    )


class CTemplateUse(ctypes.Structure):
    _fields_ = (
        ("server", ctypes.c_void_p),
        ("prefix", CAddress),
        ("prefix_length", ctypes.c_uint8),
        ("flows", ctypes.c_uint32),
        ("deadline", ctypes.c_int64),
    )


class CRoute(ctypes.Structure):
    _fields_ = (("network", CAddress), ("prefix_length", ctypes.c_uint8), ("mtu", ctypes.c_uint32))


# What each function returns and takes: p pointer, b bool, and integers by their bits, u unsigned.
_TYPES = {
    "p": ctypes.c_void_p,
    "b": ctypes.c_bool,
    "u8": ctypes.c_uint8,
    "u16": ctypes.c_uint16,
    "u32": ctypes.c_uint32,
    "u64": ctypes.c_uint64,
    "i32": ctypes.c_int,
    "i64": ctypes.c_int64,
    "": None,
    "rewrite": CRewrite,
}
_SIGNATURES = """
i32 tables_live
- tables_fail_after i32
p tables_service u8 p b b u8 i64
p tables_server p u32
- tables_set_timeout p i64
- tables_set_persistence p b u8
- tables_set_server p b b
u32 tables_holders p
- tables_free p
u32 tables_flow_size
p tables_flow_key p i32
b tables_flow_follow_tcp p i32 u8
b tables_flow_follow_udp p i32
- tables_flow_count p i32 u64 u64
b tables_flow_is_reopened p i32 u8
- tables_at_each_step p
p tables_memory_create u32
- tables_memory_destroy p
p tables_memory_lend p
p tables_memory_get_chunk p b u32
- tables_memory_give_back p
rewrite fn_flow_rewrite p i32
p fn_flow_memory_create u32
p fn_flow_table_create u32 p i64 p
- fn_flow_table_destroy p
u32 fn_flow_table_count p
u32 fn_flow_table_limit p
b fn_flow_table_is_full p
u64 fn_flow_table_hash p u8 p u32
- fn_flow_table_prefetch p u64
- fn_flow_table_prefetch_flow p u64
p fn_flow_table_find p u64 u8 p u32 p
p fn_flow_table_find_one_packet p p u32 p
p fn_flow_table_add p p i64
- fn_flow_table_remove p p
- fn_flow_table_free p p
b fn_flow_table_begin_reclaim p
- fn_flow_table_wait_for_readers p
- fn_flow_table_end_reclaim p
- fn_flow_table_prepare p
p fn_flow_table_next_changed p p
u32 fn_flow_table_adopt p p p
- fn_flow_table_set_timeout p p i64
p fn_flow_table_expire p i64 p
p fn_flow_table_walk p p
p fn_lport_pool_create p u32 u16 u16 i64 u64 p u32
- fn_lport_pool_destroy p
b fn_lport_pool_exclude p p u32
p fn_lport_pool_ports p u8 p
b fn_lport_pool_has p p
p fn_lport_pool_address p u16
b fn_lport_pool_allocate p p p i64 p p
b fn_lport_pool_claim p p p u16 p
- fn_lport_pool_release p p u16 u16 i64 i64
b fn_lport_pool_usage p p i64 p
p fn_persistence_table_create u32 p
- fn_persistence_table_destroy p
u32 fn_persistence_table_count p
p fn_persistence_table_find p p p i64
- fn_persistence_table_hold p p p i64
- fn_persistence_table_release p p p u8 i64
- fn_persistence_table_forget_server p p
u32 fn_persistence_table_expire p i64
b fn_persistence_table_walk p p p
p fn_ended_table_create u32 p
- fn_ended_table_destroy p
u32 fn_ended_table_count p
- fn_ended_table_add p p i64
b fn_ended_table_tell p p u32 i64 p
- fn_ended_table_expire p i64
p fn_path_mtu_create p u32
- fn_path_mtu_destroy p
u32 fn_path_mtu_find p p u32
"""


def load(path: Path) -> ctypes.CDLL:
    """Return the library with the types of its functions."""
    library = ctypes.CDLL(str(path))
    for line in _SIGNATURES.split("\n"):
        if line:
            returned, name, *taken = line.split()
            function = getattr(library, name)
            function.restype = _TYPES[returned.strip("-")]
            function.argtypes = [_TYPES[letter] for letter in taken]
    assert library.tables_flow_size() == ctypes.sizeof(CFlow)
    return library


class Tables:
    """The library, and the services and servers made for one test."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library
        self._live = self.live
        self._made: list[Pointer] = []
        self.counters: dict[Pointer, int] = {}  # of servers

    @property
    def live(self) -> int:
        """How many pieces of memory are in use."""
        live: int = self.library.tables_live()
        return live

    @contextmanager
    def memory_out_after(self, allocations: int) -> Iterator[None]:
        """Have memory run out after so many more *allocations*."""
        self.library.tables_fail_after(allocations)
        try:
            yield
        finally:
            self.library.tables_fail_after(-1)

    @contextmanager
    def at_each_step(self, call: Callable[[], None]) -> Iterator[None]:
        """Have *call* called at every step of a flow table; it may not use one itself."""
        hook = _STEP(call)
        self.library.tables_at_each_step(hook)
        try:
            yield
        finally:
            self.library.tables_at_each_step(None)

    def service(self, service: VirtualService) -> Pointer:
        """Return the C side of *service*, without servers."""
        listen = CEndpoint.of(service.listen)
        persistence = service.persistence
        made: Pointer = self.library.tables_service(
            service.protocol,
            byref(listen),
            service.one_packet,
            persistence is not None,
            persistence.mask if persistence else 0,
            persistence.timeout if persistence else 0,
        )
        self._made.append(made)
        return made

    def server(self, service: Pointer) -> Pointer:
        """Return a server of *service*."""
        made: Pointer = self.library.tables_server(service, len(self._made))
        self.counters[made] = len(self._made)
        self._made.append(made)
        return made

    def holders(self) -> int:
        """Return how often servers are held, all together."""
        return sum(self.library.tables_holders(server) for server in self.counters)

    def free(self) -> None:
        """Free services and servers; nothing holds one, and nothing else is left."""
        assert self.holders() == 0
        for made in self._made:
            self.library.tables_free(made)
        assert self.live == self._live


def hash_key(first: int, second: int) -> CHashKey:
    return CHashKey((ctypes.c_uint64 * 2)(first, second))


def reference_of(flow: Pointer) -> int:
    """Return what says which flow is meant, in an entry and in itself."""
    return int(CFlow.from_address(flow).reference) & WHICH_FLOW


class Snapshot(NamedTuple):
    """What lies in shared memory at one moment: entries, and the first places of each family."""

    entries: bytes
    places: tuple[bytes, bytes]

    def reachable(self) -> set[int]:
        """Return the references that who looks for their flows comes to."""
        entries = list(struct.iter_unpack("=II", self.entries))
        mask = len(entries) - 1

        def is_reached(at: int, home: int) -> bool:
            return all(entries[(home + step) & mask][1] for step in range((at - home) & mask))

        return {
            reference
            for at, (tag, reference) in enumerate(entries)
            if reference and is_reached(at, tag & mask)
        }

    def flow(self, reference: int) -> tuple[CFlow, bytes, bytes]:
        """Return the flow that is meant, its inbound key and its outbound one."""
        is_v6 = reference >> 29 & 1
        place = self.places[is_v6][(reference & _INDEX) * STRIDES[is_v6] :]
        flow = CFlow.from_buffer_copy(place)
        keys = place[ctypes.sizeof(CFlow) :]
        return flow, keys[: flow.key_size], keys[flow.key_size : 2 * flow.key_size]


class SharedMemory:
    """Flow memory that others read, and that outlives the tables on it as maps of the kernel do."""

    def __init__(self, tables: Tables, limit: int) -> None:
        self.library = tables.library
        self.at = self.library.tables_memory_create(limit)
        self._seen = CSharedMemory.from_address(self.at)

    def destroy(self) -> None:
        self.library.tables_memory_destroy(self.at)

    def lend(self) -> Pointer:
        """Return it for one more table."""
        memory: Pointer = self.library.tables_memory_lend(self.at)
        return memory

    @property
    def waits(self) -> int:
        """How often somebody waited for readers."""
        return int(self._seen.waits)

    def chunks(self, is_v6: bool) -> int:
        """Return how many there are."""
        return sum(bool(self._seen.chunks[is_v6][at]) for at in range(self._seen.chunk_limit))

    def references(self) -> list[int]:
        """Return those of all entries that are not empty."""
        entries = ctypes.string_at(self._seen.entries, 8 * self._seen.places)
        return [reference for _, reference in struct.iter_unpack("=II", entries) if reference]

    def set_changed(self, is_v6: bool, index: int) -> None:
        """Say that others changed the state of the flow of a place."""
        self._seen.changed[is_v6][index // 64] |= 1 << index % 64

    def is_changed(self, is_v6: bool, index: int) -> bool:
        return bool(self._seen.changed[is_v6][index // 64] >> index % 64 & 1)

    def snapshot(self) -> Snapshot:
        """Return what lies here."""
        chunks = (self._seen.chunks[is_v6][0] for is_v6 in (False, True))
        four, six = (
            ctypes.string_at(chunk, SNAPSHOT_PLACES * stride) if chunk else b""
            for chunk, stride in zip(chunks, STRIDES, strict=True)
        )
        return Snapshot(ctypes.string_at(self._seen.entries, 8 * self._seen.places), (four, six))

    def restore(self, snapshot: Snapshot) -> None:
        """Have *snapshot* lie here, of another process: where its servers were is nothing."""
        ctypes.memmove(self._seen.entries, snapshot.entries, len(snapshot.entries))
        lent = self.lend()
        for is_v6, (places, stride) in enumerate(zip(snapshot.places, STRIDES, strict=True)):
            if places:
                chunk = self.library.tables_memory_get_chunk(lent, is_v6, 0)
                ctypes.memmove(chunk, places, len(places))
                for at in range(0, len(places), stride):
                    CFlow.from_address(chunk + at).server = NOWHERE
        self.library.tables_memory_give_back(lent)


class CFlowTable:
    """struct fn_flow_table; a flow is the address of its struct fn_flow."""

    def __init__(
        self, tables: Tables, limit: int, key: CHashKey, now: int = 0, shared: SharedMemory | None = None
    ) -> None:
        self.library = tables.library
        memory = shared.lend() if shared else self.library.fn_flow_memory_create(limit)
        assert memory
        self.table = self.library.fn_flow_table_create(limit, byref(key), now, memory)
        assert self.table

    def destroy(self) -> None:
        self.library.fn_flow_table_destroy(self.table)

    def __len__(self) -> int:
        count: int = self.library.fn_flow_table_count(self.table)
        return count

    @property
    def is_full(self) -> bool:
        return bool(self.library.fn_flow_table_is_full(self.table))

    def hash(self, protocol: int, key: bytes) -> int:
        hashed: int = self.library.fn_flow_table_hash(self.table, protocol, key, len(key))
        return hashed

    def find(self, protocol: int, key: bytes) -> tuple[Pointer, bool] | None:
        """Return the flow, and whether *key* is its inbound one."""
        direction = ctypes.c_int(-1)
        hashed = self.hash(protocol, key)
        self.library.fn_flow_table_prefetch(self.table, hashed)
        self.library.fn_flow_table_prefetch_flow(self.table, hashed)
        flow = self.library.fn_flow_table_find(self.table, hashed, protocol, key, len(key), byref(direction))
        return (flow, direction.value == INBOUND) if flow else None

    def find_one_packet(self, key: bytes, server: Pointer) -> Pointer | None:
        flow: Pointer | None = self.library.fn_flow_table_find_one_packet(self.table, key, len(key), server)
        return flow

    def add(
        self, server: Pointer, inbound: bytes, outbound: bytes, lip: int, timeout: int, now: int, mss: int = 0
    ) -> Pointer | None:
        opening = CFlowOpening(server, inbound, outbound, len(inbound), lip, mss, timeout)
        flow: Pointer | None = self.library.fn_flow_table_add(self.table, byref(opening), now)
        return flow

    def remove(self, flow: Pointer) -> None:
        self.library.fn_flow_table_remove(self.table, flow)

    def free(self, flow: Pointer) -> None:
        self.library.fn_flow_table_free(self.table, flow)

    def adopt(self, adopter: Callable[[Pointer], Pointer | None]) -> int:
        """Take over what lies in the memory; *adopter* returns the server of each flow."""
        count: int = self.library.fn_flow_table_adopt(
            self.table, _ADOPTER(lambda _, flow: adopter(flow)), None
        )
        return count

    def begin_reclaim(self) -> bool:
        return bool(self.library.fn_flow_table_begin_reclaim(self.table))

    def wait_for_readers(self) -> None:
        self.library.fn_flow_table_wait_for_readers(self.table)

    def end_reclaim(self) -> None:
        self.library.fn_flow_table_end_reclaim(self.table)

    def prepare(self) -> None:
        self.library.fn_flow_table_prepare(self.table)

    def changed(self) -> Iterator[Pointer]:
        """Return the flows that others changed, each once."""
        cursor = ctypes.c_uint64(0)
        while flow := self.library.fn_flow_table_next_changed(self.table, byref(cursor)):
            yield flow

    def set_timeout(self, flow: Pointer, timeout: int) -> None:
        self.library.fn_flow_table_set_timeout(self.table, flow, timeout)

    def expire(self, now: int, budget: int = 1 << 62) -> list[Pointer]:
        left = ctypes.c_uint64(budget)
        ended = []
        while flow := self.library.fn_flow_table_expire(self.table, now, byref(left)):
            ended.append(flow)
            self.free(flow)
        return ended

    def walk(self) -> Iterator[Pointer]:
        cursor = ctypes.c_uint64(0)
        while flow := self.library.fn_flow_table_walk(self.table, byref(cursor)):
            yield flow

    def key(self, flow: Pointer, direction: int) -> bytes:
        at = self.library.tables_flow_key(flow, direction)
        return ctypes.string_at(at, CFlow.from_address(flow).key_size)

    def rewrite(self, flow: Pointer, direction: int) -> tuple[bytes, int, int]:
        rewrite = self.library.fn_flow_rewrite(flow, direction)
        return bytes(rewrite.new_key[: rewrite.key_size]), rewrite.ip_delta, rewrite.transport_delta


class CPool:
    """struct fn_lport_pool, with the methods of LocalPortPool."""

    def __init__(
        self,
        tables: Tables,
        addresses: Iterable[IPAddress],
        ports: PortRange,
        rest: int,
        seed: int,
        excluded: Iterable[Endpoint] = (),
    ) -> None:
        self.library = tables.library
        self.addresses = list(addresses)
        given = [CAddress.of(address) for address in self.addresses]
        left_out = [CEndpoint.of(endpoint) for endpoint in excluded]
        self.pool = self.library.fn_lport_pool_create(
            (CAddress * len(given))(*given),
            len(given),
            ports.low,
            ports.high,
            rest,
            seed,
            (CEndpoint * len(left_out))(*left_out),
            len(left_out),
        )
        assert self.pool

    def destroy(self) -> None:
        self.library.fn_lport_pool_destroy(self.pool)

    def exclude(self, excluded: Iterable[Endpoint]) -> bool:
        left_out = [CEndpoint.of(endpoint) for endpoint in excluded]
        return bool(
            self.library.fn_lport_pool_exclude(
                self.pool, (CEndpoint * len(left_out))(*left_out), len(left_out)
            )
        )

    def ports(self, protocol: int, real: Endpoint) -> Pointer | None:
        ports: Pointer | None = self.library.fn_lport_pool_ports(
            self.pool, protocol, byref(CEndpoint.of(real))
        )
        return ports

    def has(self, address: IPAddress) -> bool:
        return bool(self.library.fn_lport_pool_has(self.pool, byref(CAddress.of(address))))

    def allocate(self, protocol: int, client: IPAddress, real: Endpoint, now: int) -> Endpoint | None:
        lip, port = ctypes.c_uint16(), ctypes.c_uint16()
        ports = self.ports(protocol, real)
        if not self.library.fn_lport_pool_allocate(
            self.pool, ports, byref(CAddress.of(client)), now, byref(lip), byref(port)
        ):
            return None
        address = CAddress.from_address(self.library.fn_lport_pool_address(self.pool, lip.value))
        return Endpoint(address.address, port.value)

    def claim(self, protocol: int, local: Endpoint, real: Endpoint) -> bool:
        lip = ctypes.c_uint16(NO_LIP)
        claimed = self.library.fn_lport_pool_claim(
            self.pool, self.ports(protocol, real), byref(CAddress.of(local.address)), local.port, byref(lip)
        )
        assert not claimed or self.addresses[lip.value] == local.address
        return bool(claimed)

    def release(self, protocol: int, local: Endpoint, real: Endpoint, now: int, last_seen: int) -> None:
        lip = self.addresses.index(local.address)
        ports = self.ports(protocol, real)
        self.library.fn_lport_pool_release(self.pool, ports, lip, local.port, now, last_seen)

    def usage(self, now: int) -> Iterator[PortUse]:
        cursor, use = ctypes.c_uint64(0), CPortUse()
        while self.library.fn_lport_pool_usage(self.pool, byref(cursor), now, byref(use)):
            yield PortUse(
                use.protocol, use.lip.address, use.real.endpoint, use.in_use, use.resting, use.capacity
            )


class TemplateSeen(NamedTuple):
    """What can be seen of a template."""

    server: Pointer
    client: IPv4Network | IPv6Network
    flows: int
    deadline: int


class CPersistence:
    """struct fn_persistence_table."""

    def __init__(self, tables: Tables, capacity: int, key: CHashKey) -> None:
        self.library = tables.library
        self.table = self.library.fn_persistence_table_create(capacity, byref(key))
        assert self.table

    def destroy(self) -> None:
        self.library.fn_persistence_table_destroy(self.table)

    def __len__(self) -> int:
        count: int = self.library.fn_persistence_table_count(self.table)
        return count

    def __iter__(self) -> Iterator[TemplateSeen]:
        cursor, use = ctypes.c_uint64(0), CTemplateUse()
        while self.library.fn_persistence_table_walk(self.table, byref(cursor), byref(use)):
            client = ip_network((use.prefix.address, use.prefix_length))
            yield TemplateSeen(use.server, client, use.flows, use.deadline)

    def find(self, service: Pointer, client: IPAddress, now: int) -> Pointer | None:
        server: Pointer | None = self.library.fn_persistence_table_find(
            self.table, service, byref(CAddress.of(client)), now
        )
        return server

    def hold(self, server: Pointer, client: IPAddress, now: int) -> None:
        self.library.fn_persistence_table_hold(self.table, server, byref(CAddress.of(client)), now)

    def release(self, server: Pointer, client: IPAddress, mask: int, now: int) -> None:
        self.library.fn_persistence_table_release(self.table, server, byref(CAddress.of(client)), mask, now)

    def forget_server(self, server: Pointer) -> None:
        self.library.fn_persistence_table_forget_server(self.table, server)

    def expire(self, now: int) -> int:
        expired: int = self.library.fn_persistence_table_expire(self.table, now)
        return expired


class CEnded:
    """struct fn_ended_table."""

    def __init__(self, tables: Tables, limit: int, key: CHashKey) -> None:
        self.library = tables.library
        self.table = self.library.fn_ended_table_create(limit, byref(key))
        assert self.table

    def destroy(self) -> None:
        self.library.fn_ended_table_destroy(self.table)

    def __len__(self) -> int:
        count: int = self.library.fn_ended_table_count(self.table)
        return count

    def add(self, flow: Pointer, now: int) -> None:
        self.library.fn_ended_table_add(self.table, flow, now)

    def tell(self, key: bytes, now: int) -> bool | None:
        is_first = ctypes.c_bool(False)
        found = self.library.fn_ended_table_tell(self.table, key, len(key), now, byref(is_first))
        return is_first.value if found else None

    def expire(self, now: int) -> None:
        self.library.fn_ended_table_expire(self.table, now)


class CPathMtu:
    """struct fn_path_mtu."""

    def __init__(self, tables: Tables, routes: Iterable[tuple[IPv4Network | IPv6Network, int]]) -> None:
        self.library = tables.library
        given = [
            CRoute(CAddress.of(network.network_address), network.prefixlen, mtu) for network, mtu in routes
        ]
        self.path_mtu = self.library.fn_path_mtu_create((CRoute * len(given))(*given), len(given))
        assert self.path_mtu

    def destroy(self) -> None:
        self.library.fn_path_mtu_destroy(self.path_mtu)

    def find(self, address: bytes) -> int:
        mtu: int = self.library.fn_path_mtu_find(self.path_mtu, address, len(address))
        return mtu
