# SPDX-License-Identifier: Apache-2.0
"""The director: decides every packet.

    view --- key in a flow ------------------> forward as the flow says
         |-- to a service, may open a flow --> schedule, allocate a local port, open the flow
         |-- a fragment ---------------------> as the first of its datagram
         |-- ICMP error about a flow --------> relay to the end it concerns
         `-- anything else ------------------> pass, answer or drop, with the reason why

It does no I/O: the engine that asked carries the decision out.  Time is the caller's, monotonic
nanoseconds.  Each decision is counted here, once.
"""

from __future__ import annotations

from collections.abc import Iterable

from fullnat.core import icmp
from fullnat.core.addr import TCP, UDP, Endpoint
from fullnat.core.answer import Answers
from fullnat.core.ended import EndedFlows
from fullnat.core.flow import Decision, Flow, FlowTable, Half, Release
from fullnat.core.fragment import FragmentTable
from fullnat.core.ident import Identifications
from fullnat.core.lport import LocalPortPool
from fullnat.core.mtu import PathMtu, mss_of
from fullnat.core.packet import (
    RST,
    SYN,
    PacketView,
    build_key,
    key_addresses,
    key_destination,
    key_endpoints,
    reverse_key,
)
from fullnat.core.persist import PersistenceTable
from fullnat.core.pressure import UNLIMITED
from fullnat.core.reason import Reason, Verdict
from fullnat.core.rewrite import Applicable, ClampMss, Identify, Rewrite
from fullnat.core.sched.base import Request
from fullnat.core.service import RealServer, SchedulerError, VirtualService
from fullnat.core.tcp import REOPENABLE, TcpState, UdpState, is_opening_syn, next_state, state_timeout

_ESTABLISHED = TcpState.ESTABLISHED
_SYN_FIN_RST = 7


def _constant(reason: Reason) -> Decision:
    return Decision(reason.verdict, reason)


class Director:
    """Services, flows and tables of one instance, and what is decided by them."""

    def __init__(
        self,
        services: Iterable[VirtualService],
        flows: FlowTable,
        pool: LocalPortPool,
        persistence: PersistenceTable,
        fragments: FragmentTable,
        *,
        seed: int,
        path_mtu: PathMtu | None = None,
        has_fallback: bool = False,
        foreign_ends: Iterable[Endpoint] = (),
    ) -> None:
        """Take the parts.

        With *has_fallback* the kernel, which serves while no engine does, may have connections of our
        services; *foreign_ends* are the local ends of those that it has from us.
        """
        self.services = {_service_key(service): service for service in services}
        self.flows = flows
        self.pool = pool
        self.persistence = persistence
        self.fragments = fragments
        self.path_mtu = path_mtu or PathMtu()
        self.counters = [0] * len(Reason)
        self.answers = Answers()
        self.ended = EndedFlows()
        self.openings = UNLIMITED  # new flows that may still be opened: see admit()
        self.scheduler_error = ""  # what the last failing scheduler said
        self._identifications = Identifications(seed)
        self._local_addresses = frozenset(address.packed for address in pool.addresses)
        self._has_fallback = has_fallback
        self._foreign_ends = tuple(foreign_ends)
        self._constants = [_constant(reason) for reason in Reason]

    def admit(self, openings: int) -> None:
        """Open at most so many flows until the next call; packets that would open more are dropped."""
        self.openings = openings

    def add_service(self, service: VirtualService) -> None:
        """Serve *service* as well; ValueError when another has its listen."""
        key = _service_key(service)
        if key in self.services:
            raise ValueError(f"{service} is served already")
        self.services[key] = service
        self._leave_out_listens()

    def remove_service(self, service: VirtualService) -> None:
        """Open no more flows for *service*, which loses its servers; the flows it has live on."""
        if self.services.get(_service_key(service)) is not service:
            raise ValueError(f"{service} is not served")
        del self.services[_service_key(service)]
        service.set_servers([])
        self._leave_out_listens()

    def _leave_out_listens(self) -> None:
        """Keep the local ports that services listen on from being handed out."""
        self.pool.exclude((*(service.listen for service in self.services.values()), *self._foreign_ends))

    def decide(self, view: PacketView, now: int) -> Decision:
        """Return what must happen to the packet *view*, and count it."""
        if view.key and view.fragment is None:
            half = self.flows.find(view.protocol, view.key)
            decision = self._open(view, now) if half is None else self._continue(half, view, now)
        else:
            decision = self._decide_special(view, now)
        self.counters[decision.reason] += 1
        return decision

    def expire(self, now: int, budget: int = 1 << 62) -> tuple[Release, ...]:
        """End idle flows (about *budget* looked at); return held packets to be dropped."""
        for flow in self.flows.expire(now, budget):
            self._finish(flow, now)
        self.persistence.expire(now)
        self.ended.expire(now)
        dropped = self.fragments.expire(now)
        for held in dropped:
            self.counters[held.decision.reason] += 1
        return dropped

    def end_flows(self, flows: Iterable[Flow], now: int) -> list[Flow]:
        """End those of *flows* that are not over yet, and return them."""
        ended = [flow for flow in flows if not flow.is_over]
        for flow in ended:
            self.flows.remove(flow)
            # It may be in full use: its port rests, however long it was silent.
            self.pool.release(flow.protocol, flow.local, flow.server.endpoint, now, now)
            self._uncount(flow, now)
            if flow.protocol == TCP:
                self.ended.add(flow, now)
        return ended

    # A packet of a known flow.

    def _continue(self, half: Half, view: PacketView, now: int) -> Decision:
        flow = half.flow
        if flow.protocol == TCP:
            if view.flags & _SYN_FIN_RST or flow.state != _ESTABLISHED:
                if half.inbound and flow.state in REOPENABLE and is_opening_syn(view.flags):
                    if not self.openings:
                        return self._constants[Reason.OVERLOADED]
                    return self._reopen(flow, view, now)
                self._follow_tcp(half, view.flags, now)
        elif flow.state == UdpState.UNREPLIED and not half.inbound:
            flow.state = UdpState.REPLIED
            self.flows.set_timeout(flow, flow.service.timeouts.udp)
        flow.last_seen = now
        self._count(half, len(view.data))
        if view.flags & SYN or view.divisible:
            return Decision(Verdict.FORWARD, half.decision.reason, self._rewrite(half, view), half)
        return half.decision

    def _follow_tcp(self, half: Half, flags: int, now: int) -> None:
        flow = half.flow
        state = next_state(flow.state, flags, half.inbound)
        if state == flow.state:
            return
        was_active, flow.state = flow.is_active, state
        flow.last_seen = now
        self.flows.set_timeout(flow, state_timeout(state, flow.service.timeouts))
        if flow.is_active and not was_active:
            flow.service.flow_activated(flow.server)
        elif was_active and not flow.is_active:
            flow.service.flow_deactivated(flow.server)

    @staticmethod
    def _count(half: Half, size: int) -> None:
        half.packets += 1
        half.bytes += size
        server = half.flow.server
        if half.inbound:
            server.packets_in += 1
            server.bytes_in += size
        else:
            server.packets_out += 1
            server.bytes_out += size

    def _rewrite(self, half: Half, view: PacketView) -> Applicable:
        """Return the rewrite for *view*, which is more than the plain one of its flow."""
        rewrite: Rewrite = half.rewrite
        if view.divisible:
            addresses = key_addresses(rewrite.new_key)
            return Identify(rewrite, self._identifications.next(addresses, view.protocol))
        if view.protocol == TCP and view.flags & SYN:
            mtu = min(self.path_mtu.find(view.saddr), self._mtu_towards(rewrite.new_key))
            return ClampMss(rewrite, mss_of(mtu, view.family))
        return rewrite

    def _mtu_towards(self, key: bytes) -> int:
        return self.path_mtu.find(key_destination(key)[:-2])

    # A packet that may open a flow.

    def _open(self, view: PacketView, now: int) -> Decision:
        farewell = self._answer_ended(view, now) if len(self.ended) else None
        if farewell is not None:
            return farewell
        service = self.services.get((view.protocol, key_destination(view.key)))
        if service is None:
            is_local = view.daddr in self._local_addresses
            return self._constants[Reason.NO_OUTBOUND_FLOW if is_local else Reason.NOT_SERVICE]
        if _is_martian(view.saddr):
            return self._constants[Reason.MARTIAN_SOURCE]
        if view.protocol == TCP and not is_opening_syn(view.flags):
            if self._has_fallback:
                return self._constants[Reason.KERNEL_FLOW]
            if view.flags & RST:
                return self._constants[Reason.STRAY_RESET]
            return self._refuse(view, Reason.NO_FLOW, now)
        if not self.openings and not service.one_packet:
            return self._constants[Reason.OVERLOADED]
        return self._open_flow(service, view, now, Reason.FLOW_OPENED)

    def _answer_ended(self, view: PacketView, now: int) -> Decision | None:
        """Return the decision that resets *view* if it is of a flow that we ended.

        A SYN is about the next connection, and a RST needs no answer (RFC 9293, section 3.5.2).
        """
        if view.protocol != TCP or view.flags & RST or is_opening_syn(view.flags):
            return None
        is_first = self.ended.tell(view.key, now)
        if is_first is None:
            return None
        return self.answers.refuse(view, Reason.FLOW_ENDED, now, is_due=is_first)

    def _open_flow(
        self,
        service: VirtualService,
        view: PacketView,
        now: int,
        reason: Reason,
        previous: Flow | None = None,
    ) -> Decision:
        """Open a flow for *view*; it takes over the local port of *previous* if the server is the same."""
        client, _ = key_endpoints(view.key)
        server = self._choose_server(service, client, view, now)
        if isinstance(server, Reason):
            return self._refuse(view, server, now)
        if service.one_packet:
            flow = self.flows.find_one_packet(view.key, server)
            if flow is not None:
                flow.last_seen = now
                self._count(flow.inbound, len(view.data))
                rewrite = self._rewrite(flow.inbound, view)
                return Decision(Verdict.FORWARD, Reason.FLOW_INBOUND, rewrite, flow.inbound)
            if not self.openings:
                return self._constants[Reason.OVERLOADED]
        if self.flows.is_full:
            return self._refuse(view, Reason.TABLE_FULL, now)
        local: Endpoint | None
        if previous is not None and previous.server is server:
            # The same client, server and ports: the client's own clock and sequence numbers go on,
            # which is what lets the server leave TIME-WAIT (RFC 6191).
            local = previous.local
        else:
            local = self.pool.allocate(service.protocol, client.address, server.endpoint, now)
        if local is None:
            return self._refuse(view, Reason.NO_LOCAL_PORT, now)
        flow = Flow(service, server, local, view.key, build_key(server.endpoint, local), now)
        timeouts = service.timeouts
        flow.timeout = timeouts.tcp_opening if service.protocol == TCP else timeouts.udp_unreplied
        self.flows.add(flow)
        self.openings -= 1
        service.flow_opened(server)
        if service.persistence is not None:
            self.persistence.hold(service, client.address, server, now)
            flow.held_mask = service.persistence.mask
        self._count(flow.inbound, len(view.data))
        return Decision(Verdict.FORWARD, reason, self._rewrite(flow.inbound, view), flow.inbound)

    def _choose_server(
        self, service: VirtualService, client: Endpoint, view: PacketView, now: int
    ) -> RealServer | Reason:
        if service.persistence is not None:
            server = self.persistence.find(service, client.address, now)
            if server is not None:
                return server
        try:
            server = service.schedule(Request(client, service.listen, service.protocol, view.payload, now))
        except SchedulerError as error:
            self.scheduler_error = str(error)
            return Reason.SCHEDULER_FAILED
        return Reason.NO_SERVER if server is None else server

    def _reopen(self, flow: Flow, view: PacketView, now: int) -> Decision:
        """Replace a flow that is closing by a new one for the SYN *view*."""
        self.flows.remove(flow)
        self._uncount(flow, now)
        decision = self._open_flow(flow.service, view, now, Reason.FLOW_REOPENED, previous=flow)
        if decision.half is None or decision.half.flow.server is not flow.server:
            self.pool.release(TCP, flow.local, flow.server.endpoint, now, flow.last_seen)
        return decision

    def _finish(self, flow: Flow, now: int) -> None:
        """Give back what a flow that left the table held."""
        self.pool.release(flow.protocol, flow.local, flow.server.endpoint, now, flow.last_seen)
        self._uncount(flow, now)

    def _uncount(self, flow: Flow, now: int) -> None:
        flow.service.flow_ended(flow.server, flow.is_active)
        if flow.held_mask is not None:
            self.persistence.release(flow.service, flow.client.address, flow.server, now, flow.held_mask)

    def _refuse(self, view: PacketView, reason: Reason, now: int) -> Decision:
        if reason.verdict is Verdict.REPLY:
            return self.answers.refuse(view, reason, now)
        return self._constants[reason]

    # Everything else.

    def _decide_special(self, view: PacketView, now: int) -> Decision:
        if view.malformed is not None:
            return self._constants[view.malformed]
        if view.fragment is not None:
            return self._decide_fragment(view, now)
        if icmp.is_error(view):
            return self._relay_error(view)
        if icmp.is_unwanted(view):
            return self._constants[Reason.ICMP_INVALID]
        if icmp.is_echo_request(view) and self._is_virtual(view.daddr) and not _is_martian(view.saddr):
            return self.answers.echo(view, now)
        return self._constants[Reason.NOT_TRANSLATED]

    def _is_virtual(self, address: bytes) -> bool:
        """Whether some service is at *address*: steering hands us the pings of those no interface has."""
        return any(service.listen.address.packed == address for service in self.services.values())

    def _relay_error(self, view: PacketView) -> Decision:
        quoted = icmp.parse_error(view)
        if isinstance(quoted, Reason):
            return self._constants[quoted]
        half = self.flows.find(quoted.protocol, reverse_key(quoted.key))
        if half is None:
            return self._constants[Reason.ICMP_UNRELATED]
        return Decision(
            Verdict.FORWARD, Reason.ICMP_RELAYED, icmp.RelayError(quoted, half.rewrite.new_key), half
        )

    def _decide_fragment(self, view: PacketView, now: int) -> Decision:
        assert view.fragment is not None
        if view.protocol not in (TCP, UDP):
            return self._constants[Reason.NOT_TRANSLATED]
        if view.fragment.offset:
            decision = self.fragments.decide_later(view, now)
            if decision.half is not None:
                self._count(decision.half, len(view.data))
            return decision
        half = self.flows.find(view.protocol, view.key)
        first = self._open(view, now) if half is None else self._continue(half, view, now)
        if first.half is not None:
            addresses = key_addresses(first.half.rewrite.new_key)
            identification = self._identifications.next(addresses, view.protocol)
            released = self.fragments.forward(view, first.half, identification, now)
            rewrite = Identify(first.half.rewrite, identification)
            first = Decision(Verdict.FORWARD, first.reason, rewrite, first.half)
        else:
            released = self.fragments.settle(view, first, now)
            first = Decision(first.verdict, first.reason, reply=first.reply)
        if released is None:
            return self._constants[Reason.FRAGMENT_LIMIT]
        for held in released:
            self.counters[held.decision.reason] += 1
            if held.decision.half is not None:
                self._count(held.decision.half, held.size)
        first.released = released
        return first


def _service_key(service: VirtualService) -> tuple[int, bytes]:
    return service.protocol, service.listen.address.packed + service.listen.packed_port


def _is_martian(address: bytes) -> bool:
    """Whether no host can have *address*: the kernel would drop it, had we not replaced it first.

    0/8, 127/8, multicast and above; ::, ::1 and ff00::/8 (RFC 6890).
    """
    if len(address) == 4:
        return address[0] in (0, 127) or address[0] >= 224
    return address[0] == 0xFF or (not any(address[:15]) and address[15] <= 1)
