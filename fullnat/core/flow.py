# SPDX-License-Identifier: Apache-2.0
"""Flows and the table that finds and expires them.

      client                    director                     real server
     CIP:cport  ---inbound--->  VIP:vport | LIP:lport  --->  RIP:rport
                <--outbound---            |            <---

Theory.  A flow has two halves, one a direction; the table maps the key of each half to it, so one
lookup yields the direction, the rewrite and the flow.  Nothing is moved when a packet comes: the
packet only stamps last_seen.  Expiry is a calendar of lists, one list a second; a flow found there
before its time is put where its time now is, so a flow costs one move per timeout, not per packet.

Refused.  A heap ordered by deadline: log n for every packet.  Eviction of the least recently used
          when full: it ends live flows to admit new ones (RFC 6888, REQ-11).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from fullnat.core.addr import TCP, UDP, Endpoint
from fullnat.core.packet import key_endpoints, reverse_key
from fullnat.core.reason import Reason, Verdict
from fullnat.core.rewrite import Applicable, Rewrite
from fullnat.core.service import RealServer, VirtualService
from fullnat.core.tcp import TcpState, UdpState, state_name

_SLOT = 1_000_000_000  # nanoseconds of one list of the calendar
_NO_SLOT = -1  # of a flow that is not in the table


@dataclass(slots=True)
class Decision:
    """What an engine must do with one packet, and why.

    `half` is the flow and direction a forwarded packet belongs to.  `token` names a held packet,
    to be kept by the engine; `released` are packets held earlier, each with its decision.  A REPLY
    without `reply` is only dropped.
    """

    verdict: Verdict
    reason: Reason
    rewrite: Applicable | None = None
    half: Half | None = None
    reply: bytes | None = None
    token: int | None = None
    released: tuple[Release, ...] = ()


class Release(NamedTuple):
    """A packet held earlier, decided now."""

    token: int
    size: int  # bytes of the packet
    decision: Decision


class Half:
    """One direction of a flow."""

    __slots__ = ("bytes", "decision", "flow", "inbound", "key", "packets", "rewrite")

    def __init__(self, flow: Flow, inbound: bool, rewrite: Rewrite) -> None:
        self.flow = flow
        self.inbound = inbound
        self.key = rewrite.old_key
        self.rewrite = rewrite
        # One object for all packets of this direction: deciding them allocates nothing.
        reason = Reason.FLOW_INBOUND if inbound else Reason.FLOW_OUTBOUND
        self.decision = Decision(Verdict.FORWARD, reason, rewrite, self)
        self.packets = 0
        self.bytes = 0


class Flow:
    """One tracked connection of any protocol: both halves, its state and its idle timeout."""

    __slots__ = (
        "created",
        "held_mask",
        "inbound",
        "last_seen",
        "local",
        "one_packet",
        "outbound",
        "protocol",
        "server",
        "service",
        "slot",
        "state",
        "timeout",
    )

    def __init__(
        self,
        service: VirtualService,
        server: RealServer,
        local: Endpoint,
        inbound_key: bytes,
        outbound_key: bytes,
        now: int,
    ) -> None:
        """Make the flow whose client sends *inbound_key* and whose server answers *outbound_key*."""
        self.protocol = service.protocol
        self.service = service
        self.server = server
        self.local = local
        self.one_packet = service.one_packet
        self.held_mask: int | None = None  # prefix length of the persistence template it holds
        to_server = reverse_key(outbound_key)
        to_client = reverse_key(inbound_key)
        self.inbound = Half(self, True, Rewrite(inbound_key, to_server))
        self.outbound = Half(self, False, Rewrite(outbound_key, to_client))
        self.state: int = TcpState.SYN_SENT if self.protocol == TCP else UdpState.UNREPLIED
        self.created = now
        self.last_seen = now
        self.timeout = 0  # nanoseconds
        self.slot = 0

    @property
    def client(self) -> Endpoint:
        """CIP:cport."""
        return key_endpoints(self.inbound.key)[0]

    @property
    def virtual(self) -> Endpoint:
        """VIP:vport."""
        return key_endpoints(self.inbound.key)[1]

    @property
    def is_over(self) -> bool:
        """Whether it left the table."""
        return self.slot == _NO_SLOT

    @property
    def is_active(self) -> bool:
        """Whether IPVS would count it as active: TCP, and established."""
        return self.protocol == TCP and self.state == TcpState.ESTABLISHED

    @property
    def state_name(self) -> str:
        """The state in one word."""
        return state_name(self.protocol, self.state)


class FlowTable:
    """All flows, found by the key of a packet; at most *limit* of them."""

    def __init__(self, limit: int, now: int = 0) -> None:
        self.limit = limit
        self._halves: dict[int, dict[bytes, Half]] = {TCP: {}, UDP: {}}
        # One-packet scheduling: a client's datagrams go to many servers, one flow for each.
        self._one_packet: dict[tuple[bytes, RealServer], Flow] = {}
        self._calendar: dict[int, list[Flow]] = {}
        self._next_slot = now // _SLOT
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Flow]:
        """Iterate over a copy, so that flows may end meanwhile."""
        outbound = [half for table in self._halves.values() for half in table.values() if not half.inbound]
        return (half.flow for half in outbound)

    @property
    def is_full(self) -> bool:
        """Whether no flow can be added."""
        return self._count >= self.limit

    def find(self, protocol: int, key: bytes) -> Half | None:
        """Return the half that packets of *protocol* with *key* belong to."""
        table = self._halves.get(protocol)
        return table.get(key) if table is not None else None

    def find_one_packet(self, key: bytes, server: RealServer) -> Flow | None:
        """Return the flow that takes the datagrams of *key* scheduled to *server*."""
        return self._one_packet.get((key, server))

    def add(self, flow: Flow) -> None:
        """Add *flow*, whose timeout is set and whose keys are in no other flow."""
        table = self._halves[flow.protocol]
        table[flow.outbound.key] = flow.outbound
        if flow.one_packet:
            self._one_packet[flow.inbound.key, flow.server] = flow
        else:
            table[flow.inbound.key] = flow.inbound
        self._count += 1
        self._enter(flow)

    def remove(self, flow: Flow) -> None:
        """Take *flow* out; its calendar entry is left to be found stale."""
        table = self._halves[flow.protocol]
        del table[flow.outbound.key]
        if flow.one_packet:
            del self._one_packet[flow.inbound.key, flow.server]
        else:
            del table[flow.inbound.key]
        self._count -= 1
        flow.slot = _NO_SLOT

    def set_timeout(self, flow: Flow, timeout: int) -> None:
        """Give *flow* another idle timeout, counted from its last packet."""
        flow.timeout = timeout
        if _slot_of(flow) < flow.slot:
            self._enter(flow)

    def _enter(self, flow: Flow) -> None:
        flow.slot = max(_slot_of(flow), self._next_slot)
        self._calendar.setdefault(flow.slot, []).append(flow)

    def expire(self, now: int, budget: int = 1 << 62) -> list[Flow]:
        """Take out and return flows idle for their timeout, looking at about *budget* of them at most."""
        ended: list[Flow] = []
        current = now // _SLOT
        while self._next_slot <= current and budget > 0:
            slot = self._next_slot
            due = self._calendar.get(slot, [])
            while due and budget > 0:
                budget -= 1
                flow = due.pop()
                if flow.slot != slot:
                    continue  # removed, or entered elsewhere since
                if flow.last_seen + flow.timeout <= now:
                    self.remove(flow)
                    ended.append(flow)
                else:
                    flow.slot = max(_slot_of(flow), slot + 1)
                    self._calendar.setdefault(flow.slot, []).append(flow)
            if due:
                break
            self._calendar.pop(slot, None)
            self._next_slot = slot + 1
        return ended


def _slot_of(flow: Flow) -> int:
    """Return the first slot that begins when the flow has been idle for its timeout."""
    return -(-(flow.last_seen + flow.timeout) // _SLOT)
