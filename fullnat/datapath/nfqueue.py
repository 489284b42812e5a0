# SPDX-License-Identifier: Apache-2.0
"""Engine `python`: NetfilterQueue under the daemon's loop, the director for each packet.

    kernel queue --recv--> NetfilterQueue --parse, decide--> verdict with the rewritten packet
                                                 `--answers of our own--> raw socket

Rules.
  1. A wake-up takes at most BATCH packets, so that timers and the control socket are served under
     any load.
  2. Packets come whole.  NetfilterQueue reads into 4096 bytes and asks the kernel for no more, but
     a datagram that the host reassembled may be larger: we read for it (run_socket takes any
     object with recv()), and set the queue's copy range ourselves.
  3. The kernel segments GSO packets before it queues them (the GSO flag is left off), so each
     packet has its full checksums and they can be updated by difference.
  4. Forwarded packets carry the mark, by which FORWARD rules tell them from what others send.
  5. When batches stay full the kernel is asked how many packets wait, and new flows are shed before
     it has to drop anyone's (core/pressure.py).
  6. A relayed ICMP error goes through the raw table once more, where the mark has it untracked: it
     was not before, for the errors that concern the host itself must stay tracked.  Not in OUTPUT:
     there only an accepted packet is routed again, and that is what the relay needs.  Behind a
     fallback nothing is untracked before, so that the kernel can track what we pass: all is repeated.

Refused.  Fail-open: an untranslated packet would reach the local stack, which resets the connection.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Protocol, cast

from netfilterqueue import NetfilterQueue, Packet

from fullnat.core.addr import IPAddress
from fullnat.core.director import Director
from fullnat.core.flow import Decision, Flow, Release
from fullnat.core.lport import PortUse
from fullnat.core.mtu import PathMtu
from fullnat.core.packet import PacketView, parse
from fullnat.core.pressure import Pressure
from fullnat.core.reason import Reason, Verdict
from fullnat.core.service import RealServer, VirtualService
from fullnat.datapath.base import DatapathError, FlowRecord, Route, Statistics, TemplateRecord
from fullnat.datapath.queue_table import Drops, read_drops, read_rows, require_free

BATCH = 64
LOOK_EVERY = 16  # full batches between two looks at how many wait
QUEUE_LENGTH = 8192  # packets the kernel keeps for us
_SOCKET_BUFFER = 32 << 20  # bytes; each queued packet is charged with about 1 KiB more than its size
_LARGEST_MESSAGE = 0xFFFF + 512  # an IP packet and the attributes around it

# linux/netfilter/nfnetlink_queue.h, linux/netlink.h
_QUEUE_CONFIG = 3 << 8 | 2  # NFNL_SUBSYS_QUEUE, NFQNL_MSG_CONFIG
_CONFIG_PARAMS = 2  # NFQA_CFG_PARAMS
_COPY_PACKET = 2  # NFQNL_COPY_PACKET
_LARGEST_COPY = 0xFFFF - 4  # NFQNL_MAX_COPY_RANGE
_NLM_F_REQUEST = 1
_NETLINK_NO_ENOBUFS = 5
_SOL_NETLINK = 270

_PREROUTING = 0  # NF_INET_PRE_ROUTING, linux/netfilter.h


class Sender(Protocol):
    """Sends whole IP packets of our own making."""

    errors: int

    def send(self, packet: bytes) -> bool:
        """Send *packet*; failures are counted, not raised."""
        ...


class _BatchReader:
    """What run_socket() reads from: ends a batch as if the socket were empty."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=os.dup(descriptor))
        self._socket.setblocking(False)
        self._recv = self._socket.recv
        self.left = 0

    def recv(self, _size: int) -> bytes:
        if self.left == 0:
            raise BlockingIOError(errno.EAGAIN, "batch done")
        self.left -= 1
        return self._recv(_LARGEST_MESSAGE)

    def send(self, message: bytes) -> None:
        self._socket.sendto(message, (0, 0))

    def setsockopt(self, level: int, option: int, value: int) -> None:
        self._socket.setsockopt(level, option, value)

    def close(self) -> None:
        self._socket.close()


class NfqueueDatapath:
    """The reference engine."""

    name = "python"

    def __init__(
        self,
        director: Director,
        sender: Sender,
        *,
        queue: int,
        mark: int,
        clock: Callable[[], int],
        repeats: bool = False,
    ) -> None:
        """Serve NFQUEUE number *queue*; *clock* returns monotonic nanoseconds.

        With *repeats* all that is forwarded goes through the raw table once more (rule 6).
        """
        self._director = director
        self._sender = sender
        self._queue = queue
        self._mark = mark
        self._repeats = repeats
        self._clock = clock
        self._netfilter: NetfilterQueue | None = None
        self._reader: _BatchReader | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._held: dict[int, tuple[Packet, PacketView]] = {}
        self._pressure = Pressure(QUEUE_LENGTH)
        self._full_batches = 0  # in a row
        self._received = 0
        self._drops = Drops()  # what the kernel had counted when the queue was unbound

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Bind the queue; packets are taken whenever *loop* finds it readable."""
        require_free([self._queue])
        netfilter = NetfilterQueue()
        try:
            netfilter.bind(self._queue, self._on_packet, max_len=QUEUE_LENGTH, sock_len=_SOCKET_BUFFER // 2)
        except OSError as error:
            raise DatapathError(f"queue {self._queue} cannot be bound: {error}") from error
        reader = _BatchReader(netfilter.get_fd())
        reader.setsockopt(_SOL_NETLINK, _NETLINK_NO_ENOBUFS, 1)
        reader.send(_copy_whole_packets(self._queue))
        self._netfilter, self._reader, self._loop = netfilter, reader, loop
        loop.add_reader(netfilter.get_fd(), self._on_readable)

    def stop(self) -> None:
        """Unbind the queue."""
        if self._netfilter is None or self._reader is None or self._loop is None:
            return
        self._loop.remove_reader(self._netfilter.get_fd())
        self._held.clear()
        self._drops = read_drops([self._queue])
        self._netfilter.unbind()
        self._reader.close()
        self._netfilter = None

    async def expire(self, now: int) -> None:
        """End idle flows; drop fragments whose first never came."""
        for held in self._director.expire(now, budget=20_000):
            self._release(held)

    @property
    def services(self) -> Sequence[VirtualService]:
        """What is served."""
        return list(self._director.services.values())

    def refresh(self) -> None:
        """Do nothing: the director counts in these very objects."""

    def flows(self, limit: int | None = None) -> Iterator[FlowRecord]:
        """Yield the flows, at most *limit* of them."""
        # A list, for flows may open and end between two.
        return map(flow_record, list(islice(self._director.flows, limit)))

    def ports(self, now: int) -> Iterator[PortUse]:
        """Yield how each local address stands towards each server that ever had a flow."""
        return self._director.pool.usage(now)

    def templates(self) -> Iterator[TemplateRecord]:
        """Yield the persistence templates."""
        for template in self._director.persistence:
            yield TemplateRecord(
                template.service, template.client, template.server, template.flows, template.deadline
            )

    def statistics(self) -> Statistics:
        """Return what the director, the kernel and we counted."""
        director = self._director
        drops = self._drops if self._netfilter is None else read_drops([self._queue])
        return Statistics(
            reasons=director.counters,
            flows_limit=director.flows.limit,
            received=self._received,
            queue_dropped=drops.queue,
            user_dropped=drops.user,
            send_failures=self._sender.errors,
            replies_suppressed=director.answers.suppressed,
            flows=len(director.flows),
            fragments=len(director.fragments),
            fragments_held=director.fragments.held,
            persistence=len(director.persistence),
            scheduler_error=director.scheduler_error,
        )

    def add_service(self, service: VirtualService) -> None:
        """Serve *service* as well."""
        self._director.add_service(service)

    def remove_service(self, service: VirtualService) -> None:
        """Open no more flows for *service*."""
        self._director.remove_service(service)

    def set_servers(self, service: VirtualService, servers: list[RealServer]) -> None:
        """Make *servers* those of *service*."""
        service.set_servers(servers)

    def service_changed(self, service: VirtualService) -> None:
        """Do nothing: the director reads this very object."""

    async def end_flows(self, server: RealServer) -> AsyncIterator[Sequence[FlowRecord]]:
        """End the flows of *server*, a handful between two batches of packets."""
        flows = [flow for flow in self._director.flows if flow.server is server]
        for start in range(0, len(flows), BATCH):
            ended = self._director.end_flows(flows[start : start + BATCH], self._clock())
            yield list(map(flow_record, ended))
            await asyncio.sleep(0)
        self._director.fragments.forget_server(server)

    def server_changed(self, service: VirtualService, server: RealServer) -> None:
        """Do nothing: the director reads this very object."""

    def set_path_mtu(self, routes: Iterable[Route]) -> None:
        """Clamp MSS by *routes* from now on."""
        self._director.path_mtu = PathMtu(routes)

    def set_local_addresses(self, addresses: Iterable[IPAddress]) -> None:
        """Do nothing: every packet is complete, whatever it goes to."""

    def _on_readable(self) -> None:
        assert self._netfilter is not None
        assert self._reader is not None
        self._director.admit(self._pressure.openings)
        self._reader.left = BATCH
        self._netfilter.run_socket(cast(socket.socket, self._reader))
        self._feel_pressure(is_full=self._reader.left == 0)

    def _feel_pressure(self, *, is_full: bool) -> None:
        """Ask the kernel how many packets wait after many full batches; one that is not took all."""
        self._full_batches = self._full_batches + 1 if is_full else 0
        if not is_full:
            self._pressure.note(0)
        elif self._full_batches % LOOK_EVERY == 0:
            self._pressure.note(sum(row.waiting for row in read_rows([self._queue])))

    def _on_packet(self, packet: Packet) -> None:
        self._received += 1
        view = parse(packet.get_payload())
        decision = self._director.decide(view, self._clock())
        if decision.verdict is Verdict.HOLD:
            assert decision.token is not None
            self._held[decision.token] = packet, view
            return
        self._carry_out(packet, view, decision)
        for held in decision.released:
            self._release(held)

    def _release(self, held: Release) -> None:
        packet, view = self._held.pop(held.token)
        self._carry_out(packet, view, held.decision)

    def _carry_out(self, packet: Packet, view: PacketView, decision: Decision) -> None:
        verdict = decision.verdict
        if verdict is Verdict.FORWARD:
            assert decision.rewrite is not None
            packet.set_payload(decision.rewrite.apply(view))
            packet.set_mark(packet.get_mark() | self._mark)
            if self._repeats or (decision.reason is Reason.ICMP_RELAYED and packet.hook == _PREROUTING):
                packet.repeat()
            else:
                packet.accept()
        elif verdict is Verdict.PASS:
            packet.accept()
        else:
            packet.drop()
            if decision.reply is not None:
                self._sender.send(decision.reply)


def _copy_whole_packets(queue: int) -> bytes:
    """Return the message that sets the copy range of *queue* to the largest there is."""
    params = struct.pack("!IB", _LARGEST_COPY, _COPY_PACKET)
    attribute = struct.pack("=HH", 4 + len(params), _CONFIG_PARAMS) + params.ljust(8, b"\0")
    body = struct.pack("!BBH", socket.AF_UNSPEC, 0, queue) + attribute
    return struct.pack("=IHHII", 16 + len(body), _QUEUE_CONFIG, _NLM_F_REQUEST, 0, 0) + body


def flow_record(flow: Flow) -> FlowRecord:
    """Return what is shown of *flow*."""
    return FlowRecord(
        flow.service,
        flow.server,
        flow.client,
        flow.local,
        flow.state_name,
        flow.created,
        flow.last_seen,
        flow.timeout,
        flow.inbound.packets,
        flow.outbound.packets,
        flow.inbound.bytes,
        flow.outbound.bytes,
    )
