# SPDX-License-Identifier: Apache-2.0
"""What the pure core costs by itself, without a kernel: python -m bench.core [FLOWS]

Prints microseconds for a packet of a known flow and for the first of a new one, bytes a flow, and
the longest pause of the garbage collector while FLOWS flows were opened.  Absolute figures of this
host, for finding out what an engine's time goes into; ratios between peers are bench/run.py's.
"""

from __future__ import annotations

import gc
import sys
import time
from ipaddress import ip_address
from pathlib import Path

from fullnat.core.addr import UDP, Endpoint, PortRange
from fullnat.core.director import Director
from fullnat.core.flow import FlowTable
from fullnat.core.fragment import FragmentTable
from fullnat.core.lport import LocalPortPool
from fullnat.core.packet import parse
from fullnat.core.persist import PersistenceTable
from fullnat.core.sched.rr import RoundRobin
from fullnat.core.service import RealServer, VirtualService
from fullnat.core.timeouts import PROFILES, SECOND

VIP = Endpoint(ip_address("203.0.113.10"), 53)
PAYLOAD = b"x" * 18  # a frame of 60 bytes
KNOWN = 300_000  # packets of known flows that are timed


def build() -> Director:
    """Return a director with one UDP service of three servers, and local ports to spare."""
    servers = [RealServer(Endpoint(ip_address(f"198.19.0.{host}"), 53)) for host in (11, 12, 13)]
    service = VirtualService("dns", UDP, VIP, RoundRobin(), PROFILES["lvs"], servers)
    lips = [ip_address(f"198.19.1.{host}") for host in range(1, 33)]
    pool = LocalPortPool(lips, PortRange(1024, 32767), 60 * SECOND, seed=1)
    return Director([service], FlowTable(10**7), pool, PersistenceTable(), FragmentTable(100), seed=1)


def datagram(number: int) -> bytes:
    """Return the datagram of the *number*-th client socket; its checksum is left out."""
    client = int(ip_address("198.18.0.0")) + number // 60_000
    ports = (1024 + number % 60_000).to_bytes(2, "big") + VIP.packed_port
    udp = ports + (8 + len(PAYLOAD)).to_bytes(2, "big") + b"\0\0" + PAYLOAD
    head = b"\x45\0" + (20 + len(udp)).to_bytes(2, "big") + b"\0\0\x40\0\x40\x11\0\0"
    return head + client.to_bytes(4, "big") + VIP.address.packed + udp


def carry(director: Director, packet: bytes, now: int) -> None:
    """Do with *packet* what an engine does."""
    view = parse(packet)
    rewrite = director.decide(view, now).rewrite
    assert rewrite is not None
    rewrite.apply(view)


def resident() -> int:
    """Return the resident memory of this process, bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def main() -> None:
    """Measure and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    packets = [datagram(number) for number in range(count)]
    director = build()
    pauses = [0.0]

    def watch(phase: str, _: object) -> None:
        if phase == "start":
            pauses.append(-time.perf_counter())
        else:
            pauses[-1] += time.perf_counter()

    gc.collect()
    before, begun = resident(), time.perf_counter()
    gc.callbacks.append(watch)
    for number, packet in enumerate(packets):
        carry(director, packet, number * 1000)
    opened = time.perf_counter() - begun
    gc.callbacks.remove(watch)
    assert len(director.flows) == count
    begun = time.perf_counter()
    for number in range(KNOWN):
        carry(director, packets[number % 1000], SECOND)
    known = time.perf_counter() - begun
    print(f"a packet of a known flow   {known / KNOWN * 1e6:.1f} us")
    print(f"the first packet of a flow {opened / count * 1e6:.1f} us")
    print(f"memory a flow              {(resident() - before) / count:.0f} bytes at {count} flows")
    print(f"longest garbage collection {max(pauses) * 1000:.0f} ms")


if __name__ == "__main__":
    main()
