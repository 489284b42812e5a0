# SPDX-License-Identifier: Apache-2.0
"""The parts of libbpf that fullnat uses, by ctypes.

libbpf loads the program that clang compiled when the package was built: it makes the maps, resolves
what the program refers to, and has the kernel verify it.  Debian's iproute2 brings it along, so a
gateway has it; there is no Python package for it that is kept up and finished.

What goes wrong is a BpfError of one line: what the call was for, what the kernel said, and the last
thing that libbpf said about it.
"""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path
from typing import NamedTuple

from fullnat.host.errors import HostError

LIBRARY = "libbpf.so.1"

# libbpf.h: where a filter is attached, and how.
_TC_INGRESS = 1
_TC_REPLACE = 1
_TCX_INGRESS = 46  # enum bpf_attach_type, linux/bpf.h


class BpfError(HostError):
    """The kernel or libbpf refused; one line says what and why."""

    def __init__(self, message: str, number: int = 0) -> None:
        super().__init__(message)
        self.number = number


class MissingLibraryError(BpfError):
    """libbpf is not installed."""


class _TcHook(ctypes.Structure):
    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("ifindex", ctypes.c_int),
        ("attach_point", ctypes.c_int),
        ("parent", ctypes.c_uint32),
        ("_pad", ctypes.c_uint32),
    )


class _TcOpts(ctypes.Structure):
    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("prog_fd", ctypes.c_int),
        ("flags", ctypes.c_uint32),
        ("prog_id", ctypes.c_uint32),
        ("handle", ctypes.c_uint32),
        ("priority", ctypes.c_uint32),
        ("_pad", ctypes.c_uint32),
    )


class _LinkInfo(ctypes.Structure):
    """The beginning of struct bpf_link_info, of a link to a device."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("prog_id", ctypes.c_uint32),
        ("_pad", ctypes.c_uint32),
        ("ifindex", ctypes.c_uint32),
        ("attach_type", ctypes.c_uint32),
    )


class _ProgramInfo(ctypes.Structure):
    """The beginning of struct bpf_prog_info."""

    _fields_ = (("type", ctypes.c_uint32), ("id", ctypes.c_uint32))


class _TestRun(ctypes.Structure):
    """struct bpf_test_run_opts."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("data_in", ctypes.c_char_p),
        ("data_out", ctypes.c_void_p),
        ("data_size_in", ctypes.c_uint32),
        ("data_size_out", ctypes.c_uint32),
        ("ctx_in", ctypes.c_void_p),
        ("ctx_out", ctypes.c_void_p),
        ("ctx_size_in", ctypes.c_uint32),
        ("ctx_size_out", ctypes.c_uint32),
        ("retval", ctypes.c_uint32),
        ("repeat", ctypes.c_int),
        ("duration", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("cpu", ctypes.c_uint32),
        ("batch_size", ctypes.c_uint32),
    )


class _SkBuff(ctypes.Structure):
    """struct __sk_buff, as far as what run_on() sets."""

    _fields_ = (
        ("_before", ctypes.c_uint32 * 10),
        ("ifindex", ctypes.c_uint32),
        ("_between", ctypes.c_uint32 * 30),
        ("gso_segs", ctypes.c_uint32),
        ("_sk", ctypes.c_uint64),
        ("gso_size", ctypes.c_uint32),
        ("_after", ctypes.c_uint32),
    )


class Ran(NamedTuple):
    """What a program made of a frame."""

    answer: int
    frame: bytes


_PRINT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
_POINTERS = ("bpf_object__open_file", "bpf_object__find_map_by_name", "bpf_object__find_program_by_name")


class Libbpf:
    """The library."""

    def __init__(self) -> None:
        try:
            self.calls = ctypes.CDLL(LIBRARY, use_errno=True)
        except OSError:
            raise MissingLibraryError(
                f"{LIBRARY} is not installed; on Debian: apt-get install libbpf1"
            ) from None
        for name in _POINTERS:
            getattr(self.calls, name).restype = ctypes.c_void_p
        self._vsnprintf = ctypes.CDLL(None).vsnprintf
        self._said: list[str] = []
        self._listen = _PRINT(self._on_print)  # kept alive as long as the library may call it
        self.calls.libbpf_set_print(self._listen)

    def _on_print(self, level: int, text: bytes, arguments: int) -> int:
        """Keep warnings: level 0."""
        if level == 0:
            buffer = ctypes.create_string_buffer(4096)
            self._vsnprintf(buffer, len(buffer), text, ctypes.c_void_p(arguments))
            self._said += buffer.value.decode(errors="replace").splitlines()
        return 0

    def check(self, what: str, result: int) -> int:
        """Return *result* of a call for *what*, unless it is an error: then raise BpfError."""
        if result >= 0:
            self._said.clear()
            return result
        raise self.error(what, -result)

    def error(self, what: str, number: int) -> BpfError:
        """Return the error of a call for *what* that failed with errno *number*."""
        said = [line.strip() for line in self._said if line.strip()]
        self._said.clear()
        reason = next((line for line in said if line and not line.startswith("libbpf: --")), "")
        return BpfError(f"{what}: {os.strerror(number)}{f' ({reason})' if reason else ''}", number)

    def pointer(self, what: str, result: int | None) -> ctypes.c_void_p:
        """Return a pointer, unless it is NULL: then raise BpfError."""
        if result is None:
            raise self.error(what, ctypes.get_errno() or errno.EINVAL)
        self._said.clear()
        return ctypes.c_void_p(result)

    @property
    def possible_cpus(self) -> int:
        """How many values a counter of each CPU has."""
        return self.check("counting CPUs", self.calls.libbpf_num_possible_cpus())

    # Pins and maps.

    def pin(self, descriptor: int, path: Path) -> None:
        """Keep what *descriptor* stands for alive under *path*."""
        self.check(f"pinning {path}", self.calls.bpf_obj_pin(descriptor, str(path).encode()))

    def get_pinned(self, path: Path) -> int | None:
        """Return a descriptor of what is pinned under *path*, or None when nothing is."""
        descriptor: int = self.calls.bpf_obj_get(str(path).encode())
        if descriptor == -errno.ENOENT:
            return None
        return self.check(f"opening {path}", descriptor)

    def read_map(self, descriptor: int, size: int) -> bytes:
        """Return value 0, of *size* bytes, of a map."""
        key, value = ctypes.c_uint32(0), ctypes.create_string_buffer(size)
        result = self.calls.bpf_map_lookup_elem(descriptor, ctypes.byref(key), value)
        self.check("reading a map", result)
        return value.raw

    def write_map(self, descriptor: int, data: bytes) -> None:
        """Make *data* value 0 of a map."""
        key = ctypes.c_uint32(0)
        result = self.calls.bpf_map_update_elem(descriptor, ctypes.byref(key), data, ctypes.c_uint64(0))
        self.check("writing a map", result)

    def run(self, program: int, packet: bytes) -> int:
        """Run a program on *packet*, in the kernel, and return what it returns."""
        return self.run_on(program, packet).answer

    def run_on(
        self, program: int, frame: bytes, *, device: int = 1, segments: int = 0, segment_size: int = 0
    ) -> Ran:
        """Run a program on *frame* as if *device* had received it, and return what it left.

        The device is looked up in the network namespace of the calling thread; 1 is its loopback.  With
        *segments*, the frame stands for so many, of *segment_size* bytes of payload each.
        """
        context = _SkBuff(ifindex=device, gso_segs=segments, gso_size=segment_size)
        left = ctypes.create_string_buffer(len(frame))
        options = _TestRun(
            sz=ctypes.sizeof(_TestRun),
            data_in=frame,
            data_size_in=len(frame),
            data_out=ctypes.addressof(left),
            data_size_out=len(frame),
            ctx_in=ctypes.addressof(context),
            ctx_size_in=ctypes.sizeof(context),
            repeat=1,
        )
        self.check("running a program", self.calls.bpf_prog_test_run_opts(program, ctypes.byref(options)))
        return Ran(ctypes.c_int32(options.retval).value, left.raw[: options.data_size_out])

    # Links: programs on devices, from Linux 6.6 on.

    def link(self, program: int, index: int) -> int | None:
        """Return a new link that has *program* see what device *index* receives.

        None: the kernel has no such links.
        """
        descriptor: int = self.calls.bpf_link_create(program, index, _TCX_INGRESS, None)
        if descriptor == -errno.EINVAL:
            self._said.clear()
            return None
        return self.check(f"linking to device {index}", descriptor)

    def update_link(self, link: int, program: int) -> None:
        """Have *program* take the place of the one of *link*, between two packets."""
        self.check("updating a link", self.calls.bpf_link_update(link, program, None))

    def read_link(self, link: int) -> Link:
        """Return what a link is."""
        info, size = _LinkInfo(), ctypes.c_uint32(ctypes.sizeof(_LinkInfo))
        result = self.calls.bpf_obj_get_info_by_fd(link, ctypes.byref(info), ctypes.byref(size))
        self.check("reading a link", result)
        return Link(info.ifindex, info.prog_id)

    def read_program_id(self, program: int) -> int:
        """Return the number by which the kernel knows a program."""
        info, size = _ProgramInfo(), ctypes.c_uint32(ctypes.sizeof(_ProgramInfo))
        result = self.calls.bpf_obj_get_info_by_fd(program, ctypes.byref(info), ctypes.byref(size))
        self.check("reading a program", result)
        return int(info.id)

    # Filters on devices, on every kernel.

    def add_ingress(self, index: int) -> bool:
        """Make room for filters where device *index* receives; whether there was none."""
        hook = _ingress(index)
        result = self.calls.bpf_tc_hook_create(ctypes.byref(hook))
        if result == -errno.EEXIST:
            self._said.clear()
            return False
        self.check(f"adding clsact to device {index}", result)
        return True

    def attach(self, index: int, filter: Filter, program: int) -> None:
        """Have *program* see what device *index* receives, in the place of any under the same number."""
        hook, options = _ingress(index), _filter_options(filter, program, _TC_REPLACE)
        result = self.calls.bpf_tc_attach(ctypes.byref(hook), ctypes.byref(options))
        self.check(f"attaching to device {index}", result)

    def find_filter(self, index: int, filter: Filter) -> int | None:
        """Return the id of the program that is *filter* of device *index*, or None."""
        hook, options = _ingress(index), _filter_options(filter)
        result = self.calls.bpf_tc_query(ctypes.byref(hook), ctypes.byref(options))
        if result in (-errno.ENOENT, -errno.EINVAL, -errno.ENODEV):
            self._said.clear()
            return None
        self.check(f"asking for the filter of device {index}", result)
        return int(options.prog_id)

    def detach(self, index: int, filter: Filter) -> None:
        """Take *filter* off device *index*; nothing happens when it or the device is gone."""
        hook, options = _ingress(index), _filter_options(filter)
        result = self.calls.bpf_tc_detach(ctypes.byref(hook), ctypes.byref(options))
        if result not in (-errno.ENOENT, -errno.EINVAL, -errno.ENODEV):
            self.check(f"detaching from device {index}", result)
        self._said.clear()


class Link(NamedTuple):
    """Which program a link has, and where."""

    ifindex: int  # 0 when the device is gone
    program: int  # its id


class Filter(NamedTuple):
    """The number of a filter on a device."""

    priority: int
    handle: int


def _ingress(index: int) -> _TcHook:
    return _TcHook(sz=ctypes.sizeof(_TcHook), ifindex=index, attach_point=_TC_INGRESS)


def _filter_options(filter: Filter, program: int = 0, flags: int = 0) -> _TcOpts:
    return _TcOpts(
        sz=ctypes.sizeof(_TcOpts),
        prog_fd=program,
        flags=flags,
        handle=filter.handle,
        priority=filter.priority,
    )


class BpfObject:
    """A compiled object: its programs and maps, opened to be adjusted, then loaded into the kernel."""

    def __init__(self, library: Libbpf, path: Path) -> None:
        self._library = library
        self._calls = library.calls
        self._name = path.name
        opened = self._calls.bpf_object__open_file(str(path).encode(), None)
        self._object = library.pointer(f"opening {self._name}", opened)

    def close(self) -> None:
        """Let go of everything that is not pinned or attached."""
        self._calls.bpf_object__close(self._object)

    def set_data(self, map_name: str, data: bytes) -> None:
        """Have a section of constants begin as *data*; before load()."""
        result = self._calls.bpf_map__set_initial_value(self._map(map_name), data, ctypes.c_size_t(len(data)))
        self._library.check(f"setting {map_name}", result)

    def set_entries(self, map_name: str, count: int) -> None:
        """Give a map *count* entries; before load()."""
        result = self._calls.bpf_map__set_max_entries(self._map(map_name), ctypes.c_uint32(count))
        self._library.check(f"sizing map {map_name}", result)

    def reuse(self, map_name: str, descriptor: int) -> None:
        """Use a map that there is instead of a new one; before load()."""
        result = self._calls.bpf_map__reuse_fd(self._map(map_name), descriptor)
        self._library.check(f"taking over map {map_name}", result)

    def load(self) -> None:
        """Make the maps and have the kernel verify the programs."""
        self._library.check(f"loading {self._name}", self._calls.bpf_object__load(self._object))

    def map_descriptor(self, map_name: str) -> int:
        """Return the descriptor of a map, which close() ends; after load()."""
        return self._library.check(f"map {map_name}", self._calls.bpf_map__fd(self._map(map_name)))

    def program_descriptor(self, program_name: str) -> int:
        """Return the descriptor of a program, which close() ends; after load()."""
        found = self._calls.bpf_object__find_program_by_name(self._object, program_name.encode())
        program = self._library.pointer(f"program {program_name}", found)
        return self._library.check(f"program {program_name}", self._calls.bpf_program__fd(program))

    def _map(self, name: str) -> ctypes.c_void_p:
        found = self._calls.bpf_object__find_map_by_name(self._object, name.encode())
        return self._library.pointer(f"map {name}", found)
