# SPDX-License-Identifier: Apache-2.0
"""fullnat/csrc/core/ as a library: built with gcc, called with ctypes, in the words of the Python core."""

from __future__ import annotations

import ctypes
import struct
import subprocess
from pathlib import Path
from typing import NamedTuple

from fullnat.core.icmp import QuotedPacket, RelayError
from fullnat.core.packet import Fragment, PacketView
from fullnat.core.reason import Reason
from fullnat.core.rewrite import Applicable, ClampMss, Identify, Rewrite

HERE = Path(__file__).resolve().parent
HEADERS = HERE.parent.parent / "fullnat" / "csrc" / "core"
STRICT = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Wconversion", "-Werror", f"-I{HEADERS}")

# struct fn_view and struct fn_quoted, as the compiler lays them out.
_VIEW = struct.Struct("@IIBBB?BB36s2x37sB?xHI")
_QUOTED = struct.Struct("@36sBB2xII")
_ANSWER_ROOM = 65536


def compile_c(output: Path, *arguments: str | Path) -> None:
    """Run gcc; a warning is an error, and an error fails the test with what gcc said."""
    done = subprocess.run(
        ["gcc", *STRICT, "-o", str(output), *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


class Parsed(NamedTuple):
    """What parse() finds, without the packet: the same from C and from Python."""

    length: int
    family: int
    protocol: int
    l4: int
    key: bytes
    flags: int
    divisible: bool
    fragment: Fragment | None
    malformed: Reason | None


def parsed_of(view: PacketView) -> Parsed:
    """Return what the Python core found."""
    return Parsed(
        len(view.data),
        view.family,
        view.protocol,
        view.l4,
        view.key,
        view.flags,
        view.divisible,
        view.fragment,
        view.malformed,
    )


class Core:
    """The C functions.  Those that take a packet parse it first, as the rule for a view is in C."""

    def __init__(self, library: Path) -> None:
        self.library = ctypes.CDLL(str(library))
        for name in ("ones_sum", "checksum", "difference", "update"):
            getattr(self.library, f"core_{name}").restype = ctypes.c_uint16
        for name in ("is_opening_syn", "is_reopenable", "is_error", "is_unwanted", "is_echo_request"):
            getattr(self.library, f"core_{name}").restype = ctypes.c_bool
        assert self.library.core_view_size() == _VIEW.size
        assert self.library.core_quoted_size() == _QUOTED.size
        self._view = ctypes.create_string_buffer(_VIEW.size)
        self._quoted = ctypes.create_string_buffer(_QUOTED.size)
        self._answer = ctypes.create_string_buffer(_ANSWER_ROOM)

    def parse(self, packet: bytes) -> Parsed:
        """Return what C finds in *packet*."""
        self.library.core_parse(packet, len(packet), self._view)
        (
            length,
            l4,
            family,
            protocol,
            flags,
            divisible,
            malformed,
            key_size,
            key,
            datagram,
            datagram_size,
            more,
            offset,
            header,
        ) = _VIEW.unpack(self._view)
        return Parsed(
            length,
            family,
            protocol,
            l4,
            key[:key_size],
            flags,
            divisible,
            Fragment(datagram[:datagram_size], offset, more, header) if datagram_size else None,
            None if malformed == len(Reason) else Reason(malformed),
        )

    def apply(self, rewrite: Applicable, packet: bytes) -> bytes:
        """Return what C makes of *packet* where Python would apply *rewrite*."""
        data = ctypes.create_string_buffer(packet, len(packet))
        length = self.parse(packet).length
        self._apply(rewrite, data)
        assert data.raw[length:] == packet[length:]  # behind the packet nothing is touched
        return data.raw[:length]

    def _apply(self, rewrite: Applicable, data: ctypes.Array[ctypes.c_char], plain: str = "apply") -> None:
        if isinstance(rewrite, Rewrite):
            keys = rewrite.old_key, rewrite.new_key, len(rewrite.new_key)
            getattr(self.library, f"core_{plain}")(*keys, self._view, data)
        elif isinstance(rewrite, ClampMss):
            self._apply(rewrite._base, data)
            self.library.core_clamp_mss(self._view, data, rewrite._limit)
        elif isinstance(rewrite, Identify):
            self._apply(rewrite._base, data, "apply" if rewrite._first else "apply_addresses")
            self.library.core_identify(self._view, data, rewrite._identification)
        else:
            assert isinstance(rewrite, RelayError)
            quoted = rewrite._quoted
            raw = _QUOTED.pack(quoted.key, len(quoted.key), quoted.protocol, quoted.ip, quoted.l4)
            self.library.core_relay_error(self._view, raw, rewrite._new_key, data)

    def holds(self, predicate: str, packet: bytes) -> bool:
        """Whether *predicate* of icmp.py holds for *packet*."""
        self.library.core_parse(packet, len(packet), self._view)
        return bool(getattr(self.library, f"core_{predicate}")(self._view, packet))

    def parse_error(self, packet: bytes) -> QuotedPacket | Reason:
        """Return the packet quoted in the error *packet*, or why there is none to be used."""
        self.library.core_parse(packet, len(packet), self._view)
        result = self.library.core_parse_error(self._view, packet, self._quoted)
        if result != len(Reason):
            return Reason(result)
        key, key_size, protocol, ip, l4 = _QUOTED.unpack(self._quoted)
        return QuotedPacket(key[:key_size], protocol, ip, l4)

    def build(self, answer: str, packet: bytes, *arguments: int) -> bytes:
        """Return the *answer* to *packet*: echo_reply, unreachable or reset."""
        self.library.core_parse(packet, len(packet), self._view)
        function = getattr(self.library, f"core_build_{answer}")
        return self._answer[: function(self._view, packet, *arguments, self._answer)]

    def reverse_key(self, key: bytes) -> bytes:
        """Return the key of the packets that answer those of *key*."""
        reverse = ctypes.create_string_buffer(len(key))
        self.library.core_reverse_key(reverse, key, len(key))
        return reverse.raw
