# SPDX-License-Identifier: Apache-2.0
"""offload.h and queue.c without a kernel: checksums against scapy, mutated messages under sanitizers."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP, UDP, IPOption_NOP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop
from scapy.packet import Packet, Raw

from fullnat.core.packet import parse
from tests import features
from tests.twins.core import HERE, compile_c
from tests.vectors.case import NETS, Net

MESSAGES = 300_000
GNU = "-std=gnu11"  # the queue calls the kernel; what is in core/ does not

NOT_READY, GSO, UNVERIFIED = 1, 2, 4
CHECK = {6: 16, 17: 6}  # where the checksum is in a TCP and a UDP header

Complete = Callable[..., bytes]


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Complete:
    """offload_complete() after a rewrite: complete(packet, new_key, offload, local) -> packet."""
    features.demand("gcc")
    path = tmp_path_factory.mktemp("offload") / "offload.so"
    compile_c(path, "-fPIC", "-shared", HERE / "offload_library.c")
    library = ctypes.CDLL(str(path))
    library.offload_rewrite.argtypes = [
        ctypes.c_char_p,
        ctypes.c_uint8,
        ctypes.c_bool,
        ctypes.c_char_p,
        ctypes.c_uint32,
    ]

    def call(packet: bytes, new_key: bytes, offload: int, local: bool = False) -> bytes:
        data = ctypes.create_string_buffer(packet, len(packet))
        library.offload_rewrite(new_key, offload, local, data, len(packet))
        return data.raw

    return call


def build(path: str, protocol: int, payload: bytes, with_options: bool) -> bytes:
    """Return a packet with the checksums scapy gives it; *path* as in tests.packets."""
    (source, sport), (destination, dport) = (end.rsplit(":", 1) for end in path.split(" > "))
    source, destination = source.strip("[]"), destination.strip("[]")
    head: Packet
    if ip_address(source).version == 4:
        head = IP(src=source, dst=destination, options=[IPOption_NOP()] * 4 if with_options else [])
    else:
        head = IPv6(src=source, dst=destination)
        if with_options:
            head = head / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt()
    transport = TCP if protocol == 6 else UDP
    return bytes(head / transport(sport=int(sport), dport=int(dport)) / Raw(payload))


def ones_sum(data: bytes) -> int:
    """RFC 1071, word for word."""
    total = sum(int.from_bytes(data[at : at + 2].ljust(2, b"\0"), "big") for at in range(0, len(data), 2))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def pseudo_sum(packet: bytes) -> int:
    view = parse(packet)
    length, addresses = len(packet) - view.l4, packet[12:20] if view.family == 4 else packet[8:40]
    return ones_sum(addresses + length.to_bytes(4, "big") + view.protocol.to_bytes(4, "big"))


def with_check(packet: bytes, value: int) -> bytes:
    view = parse(packet)
    at = view.l4 + CHECK[view.protocol]
    return packet[:at] + value.to_bytes(2, "big") + packet[at + 2 :]


def pairs() -> Iterator[tuple[bytes, bytes]]:
    """Each kind of packet as it comes, and as the server must get it."""
    for net in NETS:
        for protocol in CHECK:
            for with_options in (False, True):
                for size in (0, 1, 2, 3, 31, 32, 33, 1399, 1400, 64_000):
                    yield pair(
                        net, protocol, bytes(range(251)) * (size // 251) + bytes(size % 251), with_options
                    )


def pair(net: Net, protocol: int, payload: bytes, with_options: bool = False) -> tuple[bytes, bytes]:
    paths = (net.to_vip(), net.to_server())
    before, after = (build(path, protocol, payload, with_options) for path in paths)
    return before, after


@pytest.mark.requires("gcc")
@pytest.mark.parametrize("offload", [0, UNVERIFIED])
def test_a_complete_checksum_is_brought_up_to_date(complete: Complete, offload: int) -> None:
    for before, after in pairs():
        assert complete(before, parse(after).key, offload) == after


@pytest.mark.requires("gcc")
@pytest.mark.parametrize("local", [False, True])
def test_a_checksum_left_to_the_device_is_computed(complete: Complete, local: bool) -> None:
    for before, after in pairs():
        partial = with_check(before, pseudo_sum(before))
        assert complete(partial, parse(after).key, NOT_READY, local) == after


@pytest.mark.requires("gcc")
@pytest.mark.parametrize("offload", [GSO, GSO | NOT_READY])
def test_segments_delivered_here_get_one_checksum_for_all(complete: Complete, offload: int) -> None:
    for before, after in pairs():
        assert complete(with_check(before, pseudo_sum(before)), parse(after).key, offload, True) == after


@pytest.mark.requires("gcc")
@pytest.mark.parametrize("offload", [GSO, GSO | NOT_READY])
def test_datagrams_to_be_segmented_get_the_sum_of_the_pseudo_header(complete: Complete, offload: int) -> None:
    for before, after in pairs():
        done = complete(with_check(before, pseudo_sum(before)), parse(after).key, offload)
        expected = with_check(after, pseudo_sum(after))
        if parse(after).protocol == 17:
            assert done == expected
        else:  # the kernel writes it anew
            assert with_check(done, 0) == with_check(expected, 0)


@pytest.mark.requires("gcc")
@pytest.mark.parametrize("net", NETS)
def test_a_udp_checksum_of_zero_is_written_as_its_other_zero(complete: Complete, net: Net) -> None:
    _, after = pair(net, 17, b"\0\0")
    at = parse(after).l4 + CHECK[17]
    before, after = pair(net, 17, after[at : at + 2])
    assert after[at : at + 2] == b"\xff\xff"
    assert complete(with_check(before, pseudo_sum(before)), parse(after).key, NOT_READY) == after


@pytest.mark.requires("gcc", "asan")
def test_mutated_messages_under_sanitizers(tmp_path: Path) -> None:
    program = tmp_path / "offload_fuzz"
    sanitizers = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover")
    compile_c(program, GNU, *sanitizers, HERE / "offload_fuzz.c")
    done = subprocess.run([program, str(MESSAGES)], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    # packets, refusals, malformed, others; of the verdicts: rewritten, dropped, split off, unsent
    reached = [int(number) for number in done.stdout.split()]
    assert min(reached) >= 300, reached
