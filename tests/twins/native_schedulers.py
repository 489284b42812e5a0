# SPDX-License-Identifier: Apache-2.0
"""service.c and the schedulers of fullnat/csrc/native/ as a library: built with gcc, called with ctypes.

CService and CServer have the names of VirtualService and RealServer, so that a test can drive either.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ctypes import byref
from pathlib import Path

from fullnat.core.sched import Request
from fullnat.core.service import RealServer, VirtualService
from tests.twins.core import HEADERS, HERE, compile_c
from tests.twins.native_tables import CEndpoint, Pointer

NATIVE = HEADERS.parent / "native"
FLAGS = {"port": 1, "fallback": 2}  # what follows sh- or mh-: enum fn_scheduler_flag


def build(library: Path, *options: str) -> None:
    """Compile the schedulers and what the tests need beside them into *library*."""
    objects = []
    sources = [NATIVE / "service.c", NATIVE / "sched.c", *sorted((NATIVE / "sched").glob("*.c"))]
    for source in (HERE / "native_schedulers.c", *sources):
        objects.append(library.with_name(f"{source.parent.name}_{source.stem}.o"))
        trace = () if source.parent == HERE else ("-fsanitize-coverage=trace-pc",)
        compile_c(objects[-1], "-std=gnu11", *options, *trace, f"-I{NATIVE}", "-fPIC", "-c", source)
    wrap = "-Wl,--wrap=calloc,--wrap=free"
    compile_c(library, *options, "-shared", "-Wl,-z,defs", wrap, *objects)


class CRequest(ctypes.Structure):
    """struct fn_request."""

    _fields_ = (
        ("client", CEndpoint),
        ("virtual", CEndpoint),
        ("protocol", ctypes.c_uint8),
        ("now", ctypes.c_int64),
    )

    @staticmethod
    def of(request: Request) -> CRequest:
        return CRequest(
            CEndpoint.of(request.client), CEndpoint.of(request.virtual), request.protocol, request.now
        )


class CSettings(ctypes.Structure):
    """struct fn_server_settings."""

    _fields_ = (
        ("weight", ctypes.c_uint32),
        ("configured_weight", ctypes.c_uint32),
        ("upper", ctypes.c_uint32),
        ("lower", ctypes.c_uint32),
        ("may_keep", ctypes.c_bool),
    )

    @staticmethod
    def of(server: RealServer) -> CSettings:
        return CSettings(server.weight, server.configured_weight, server.upper, server.lower, True)


class CServer(ctypes.Structure):
    """struct fn_server, where it lies."""

    _fields_ = (
        ("service", ctypes.c_void_p),
        ("ports", ctypes.c_void_p),
        ("endpoint", CEndpoint),
        ("id", ctypes.c_uint32),
        ("holders", ctypes.c_uint32),
        ("position", ctypes.c_uint32),
        ("weight", ctypes.c_uint32),
        ("configured_weight", ctypes.c_uint32),
        ("upper", ctypes.c_uint32),
        ("lower", ctypes.c_uint32),
        ("active", ctypes.c_uint32),
        ("inactive", ctypes.c_uint32),
        ("counter", ctypes.c_uint16),
        ("overloaded", ctypes.c_bool),
        ("is_listed", ctypes.c_bool),
        ("may_keep", ctypes.c_bool),
        ("connections", ctypes.c_uint64),
        ("packets", ctypes.c_uint64 * 2),
        ("bytes", ctypes.c_uint64 * 2),
    )

    @property
    def at(self) -> Pointer:
        """Its address."""
        return ctypes.addressof(self)

    @property
    def flows(self) -> int:
        return int(self.active + self.inactive)


_POINTER, _U32, _BOOL = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_bool
_SIGNATURES = {
    "schedulers_live": (ctypes.c_int,),
    "schedulers_fail_after": (None, ctypes.c_int),
    "schedulers_allocations": (ctypes.c_uint64,),
    "schedulers_blocks": (ctypes.c_uint64,),
    "schedulers_server_size": (_U32,),
    "schedulers_request_size": (_U32,),
    "schedulers_name": (ctypes.c_char_p, _U32),
    "schedulers_schedule": (_POINTER, _POINTER, _POINTER),
    "schedulers_service_holders": (_U32, _POINTER),
    "schedulers_hold": (None, _POINTER),
    "fn_scheduler_create": (_POINTER, ctypes.c_char_p, ctypes.c_uint64, _U32),
    "fn_scheduler_destroy": (None, _POINTER),
    "fn_service_create": (_POINTER, _U32, ctypes.c_uint8, _POINTER, _POINTER),
    "fn_service_release": (None, _POINTER),
    "fn_server_create": (_POINTER, _POINTER, _U32, _POINTER, _POINTER),
    "fn_server_release": (None, _POINTER),
    "fn_service_set_servers": (_BOOL, _POINTER, _POINTER, _U32),
    "fn_service_set_server": (None, _POINTER, _POINTER),
    "fn_service_flow_opened": (None, _POINTER),
    "fn_service_flow_adopted": (None, _POINTER, _BOOL),
    "fn_service_flow_activated": (None, _POINTER),
    "fn_service_flow_deactivated": (None, _POINTER),
    "fn_service_flow_ended": (None, _POINTER, _BOOL),
}


class Library:
    """The library, and what it counts."""

    def __init__(self, path: Path) -> None:
        self.c = ctypes.CDLL(str(path))
        for name, (returned, *taken) in _SIGNATURES.items():
            function = getattr(self.c, name)
            function.restype, function.argtypes = returned, taken
        assert self.c.schedulers_server_size() == ctypes.sizeof(CServer)
        assert self.c.schedulers_request_size() == ctypes.sizeof(CRequest)

    @property
    def live(self) -> int:
        """How many pieces of memory are allocated."""
        return int(self.c.schedulers_live())

    @property
    def allocations(self) -> int:
        """How many were ever asked for."""
        return int(self.c.schedulers_allocations())

    @property
    def blocks(self) -> int:
        """How many basic blocks of code ever ran."""
        return int(self.c.schedulers_blocks())

    @contextmanager
    def memory_out_after(self, allocations: int) -> Iterator[None]:
        """Let so many allocations succeed, and no more."""
        self.c.schedulers_fail_after(allocations)
        try:
            yield
        finally:
            self.c.schedulers_fail_after(-1)

    def names(self) -> list[str]:
        """Return the names of the schedulers there are."""
        names: list[str] = []
        while name := self.c.schedulers_name(len(names)):
            names.append(name.decode())
        return names

    def create_scheduler(self, name: str, seed: int = 0, flags: int = 0) -> Pointer | None:
        scheduler: Pointer | None = self.c.fn_scheduler_create(name.encode(), seed, flags)
        return scheduler


class CScheduler:
    """struct fn_scheduler."""

    def __init__(self, library: Library, at: Pointer) -> None:
        self.library = library
        self.at = at

    def schedule(self, request: Request) -> CServer | None:
        """Return the server picked; a pick takes no memory."""
        asked, allocations = CRequest.of(request), self.library.allocations
        at = self.library.c.schedulers_schedule(self.at, byref(asked))
        assert self.library.allocations == allocations
        return CServer.from_address(at) if at else None


class CService:
    """struct fn_service: the C side of a VirtualService, without servers at first."""

    def __init__(self, library: Library, twin: VirtualService) -> None:
        self.library = library
        self.servers: list[CServer] = []
        flags = sum(FLAGS[flag.partition("-")[2]] for flag in twin.scheduler.flags)
        scheduler = library.create_scheduler(twin.scheduler.name, twin.scheduler.seed, flags)
        assert scheduler
        self.scheduler = CScheduler(library, scheduler)
        listen = CEndpoint.of(twin.listen)
        self.at = library.c.fn_service_create(1, twin.protocol, byref(listen), scheduler)
        assert self.at

    def release(self) -> None:
        """Take all servers out and let go, as who serves it does in the end."""
        assert self.set_servers([])
        self.library.c.fn_service_release(self.at)

    def create_server(self, number: int, twin: RealServer) -> CServer:
        """Return a server with one holder, the caller."""
        endpoint, settings = CEndpoint.of(twin.endpoint), CSettings.of(twin)
        at = self.library.c.fn_server_create(self.at, number, byref(endpoint), byref(settings))
        assert at
        return CServer.from_address(at)

    def hold(self, server: CServer) -> None:
        self.library.c.schedulers_hold(server.at)

    def release_server(self, server: CServer) -> None:
        self.library.c.fn_server_release(server.at)

    def set_servers(self, servers: Sequence[CServer]) -> bool:
        pointers = (ctypes.c_void_p * len(servers))(*(server.at for server in servers))
        done = bool(self.library.c.fn_service_set_servers(self.at, pointers, len(servers)))
        if done:
            self.servers = list(servers)
        return done

    def set_server(self, server: CServer, twin: RealServer) -> None:
        """Give *server* the settings of *twin*."""
        self.library.c.fn_service_set_server(server.at, byref(CSettings.of(twin)))

    def set_weight(self, server: CServer, weight: int) -> None:
        settings = CSettings(weight, weight, server.upper, server.lower, True)
        self.library.c.fn_service_set_server(server.at, byref(settings))

    def flow_opened(self, server: CServer) -> None:
        self.library.c.fn_service_flow_opened(server.at)

    def flow_adopted(self, server: CServer, is_active: bool) -> None:
        self.library.c.fn_service_flow_adopted(server.at, is_active)

    def flow_activated(self, server: CServer) -> None:
        self.library.c.fn_service_flow_activated(server.at)

    def flow_deactivated(self, server: CServer) -> None:
        self.library.c.fn_service_flow_deactivated(server.at)

    def flow_ended(self, server: CServer, was_active: bool) -> None:
        self.library.c.fn_service_flow_ended(server.at, was_active)
