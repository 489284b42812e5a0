# SPDX-License-Identifier: Apache-2.0
"""The C extension: director and NFQUEUE loop of engine `native` (fullnat/csrc/native/).

Addresses are network-order bytes, 4 or 16; ports are host order; times are nanoseconds of the
monotonic clock.  Reasons, states and protocols are the values of the enumerations in fullnat.core.

Services and servers are known by numbers the caller chooses; one is in use for as long as flows are
shown by it.  A change is made as a whole or not at all: what is wrong with it is a TypeError or a
ValueError of one line.  Methods of a Director may be called while an Engine runs.

What is returned is copied in stretches, so long lists are no snapshot: each row is of one moment.
"""

from collections.abc import Iterable
from typing import Any, Final, final

from _typeshed import structseq

ABI: Final[int]  # changes with these signatures

class EngineError(RuntimeError):
    """The host cannot do what the engine needs; one line says what."""

# Rows: tuples whose items also have names.

@final
class Released(structseq[Any], tuple[int, int, bytes | None]):
    """A packet that was held, and what became of it."""

    __match_args__: Final = ("token", "reason", "out")

    token: Final[int]
    reason: Final[int]
    out: Final[bytes | None]  # the packet as it is sent on

@final
class Decision(
    structseq[Any],
    tuple[int | None, bytes | None, bytes | None, int | None, tuple[Released, ...], int | None],
):
    """What became of one packet."""

    __match_args__: Final = ("reason", "out", "reply", "token", "released", "service")

    reason: Final[int | None]  # None: the scheduler of *service* is to be asked, then answer()
    out: Final[bytes | None]  # the packet as it is sent on
    reply: Final[bytes | None]  # what is answered in its place
    token: Final[int | None]  # it is held under
    released: Final[tuple[Released, ...]]  # packets held before
    service: Final[int | None]

@final
class Flow(structseq[Any], tuple[int, int, int, bytes, bytes, int, int, int, int, int, int, int, int]):
    """One tracked connection."""

    __match_args__: Final = (
        "service",
        "server",
        "protocol",
        "inbound_key",
        "outbound_key",
        "state",
        "created",
        "last_seen",
        "timeout",
        "packets_in",
        "packets_out",
        "bytes_in",
        "bytes_out",
    )

    service: Final[int]
    server: Final[int]
    protocol: Final[int]
    inbound_key: Final[bytes]  # CIP, VIP, cport, vport
    outbound_key: Final[bytes]  # RIP, LIP, rport, lport
    state: Final[int]  # TcpState or UdpState, by the protocol
    created: Final[int]
    last_seen: Final[int]
    timeout: Final[int]  # idle for so long it ends
    packets_in: Final[int]  # inbound: client to server
    packets_out: Final[int]
    bytes_in: Final[int]
    bytes_out: Final[int]

@final
class Server(structseq[Any], tuple[int, int, int, bool, int, int, int, int, int]):
    """What is counted for one server."""

    __match_args__: Final = (
        "server",
        "active",
        "inactive",
        "overloaded",
        "connections",
        "packets_in",
        "packets_out",
        "bytes_in",
        "bytes_out",
    )

    server: Final[int]
    active: Final[int]  # flows
    inactive: Final[int]  # flows
    overloaded: Final[bool]
    connections: Final[int]  # flows so far
    packets_in: Final[int]
    packets_out: Final[int]
    bytes_in: Final[int]
    bytes_out: Final[int]

@final
class PortUse(structseq[Any], tuple[int, bytes, bytes, int, int, int, int]):
    """How the ports of one local address towards one server stand."""

    __match_args__: Final = ("protocol", "lip", "rip", "rport", "in_use", "resting", "capacity")

    protocol: Final[int]
    lip: Final[bytes]
    rip: Final[bytes]
    rport: Final[int]
    in_use: Final[int]
    resting: Final[int]
    capacity: Final[int]

@final
class Template(structseq[Any], tuple[int, bytes, int, int, int]):
    """One client prefix that stays on a server."""

    __match_args__: Final = ("server", "prefix", "prefix_length", "flows", "deadline")

    server: Final[int]
    prefix: Final[bytes]  # host bits 0
    prefix_length: Final[int]
    flows: Final[int]  # held by so many
    deadline: Final[int]  # may have passed while flows hold it

@final
class Totals(structseq[Any], tuple[int, int, int, int, int]):
    """How full the tables are."""

    __match_args__: Final = ("flows", "fragments", "fragments_held", "templates", "replies_suppressed")

    flows: Final[int]
    fragments: Final[int]  # datagrams remembered
    fragments_held: Final[int]  # packets that wait for the first of theirs
    templates: Final[int]
    replies_suppressed: Final[int]  # so far, because of the rate limit

@final
class Upcall(structseq[Any], tuple[int, int, bytes, int, int, bytes, bytes]):
    """A packet that waits for a scheduler in Python."""

    __match_args__: Final = ("token", "service", "cip", "cport", "protocol", "payload", "key")

    token: Final[int]  # to answer it by
    service: Final[int]
    cip: Final[bytes]
    cport: Final[int]
    protocol: Final[int]
    payload: Final[bytes]  # behind the TCP or UDP header
    key: Final[bytes]  # the same for all packets of one flow

@final
class Director:
    """Services, flows and tables of one instance, and what is decided by them."""

    def __new__(
        cls,
        *,
        flow_limit: int,
        persistence_limit: int,
        fragment_limit: int,
        addresses: Iterable[bytes],  # LIPs
        ports: tuple[int, int],  # the first and the last local port
        rest: int,
        has_fallback: bool,  # the kernel may have connections of our services
        seed: int,
        hash_key: bytes,  # 16, secret
        now: int,
        # Maps in the order of enum fn_fastpath_map, flows they have room for, counters of servers, CPUs.
        fastpath: tuple[Iterable[int], int, int, int] | None,
    ) -> Director: ...
    def add_service(
        self,
        service: int,
        *,
        protocol: int,
        address: bytes,
        port: int,
        scheduler: str | None,  # None: a class in Python, asked by upcall
        seed: int,
        flags: int,  # 1: port, 2: fallback
        timeouts: Iterable[int],  # in the order of fullnat.core.timeouts.Timeouts
        persistence: tuple[int, int] | None,  # timeout, prefix length
        one_packet: bool,
    ) -> None:
        """Serve one VIP:vport, for now without servers."""

    def change_service(
        self,
        service: int,
        *,
        scheduler: tuple[str | None, int, int] | None,  # name, seed, flags; None: the one it has goes on
        timeouts: Iterable[int],
        persistence: tuple[int, int] | None,
        one_packet: bool,
    ) -> None:
        """Give a service new settings; flows it has are not touched."""

    def remove_service(self, service: int, /) -> None:
        """Open no more flows for a service; those it has live on."""

    def set_servers(
        self,
        service: int,
        # server, address, port, weight, configured_weight, upper, lower, may_keep
        servers: Iterable[tuple[int, bytes, int, int, int, int, int, bool]],
    ) -> None:
        """Make *servers* the list a service schedules from.

        Those it has already keep flows and counts; those not named live on as long as their flows, and
        are shown until forget_servers().
        """

    def set_server(
        self,
        server: int,
        weight: int,  # effective
        configured_weight: int,
        upper: int,
        lower: int,
        may_keep: bool,  # persistence may return it
    ) -> None:
        """Give a server new settings; flows it has are not touched."""

    def set_path_mtu(self, routes: Iterable[tuple[bytes, int, int]], /) -> None:
        """Use these path MTUs from now on: network, prefix length, MTU."""

    def exclude(self, endpoints: Iterable[tuple[bytes, int]], /) -> None:
        """Hand out no local port that is one of *endpoints*: address, port."""

    def adopt(self, now: int) -> tuple[int, int]:
        """Take over the flows that the fast path has: how many, and how many were ended.

        Once, when services and servers are there, before anything is decided.
        """

    def admit(self, openings: int, /) -> None:
        """Open at most so many flows until the next call."""

    def decide(self, packet: bytes, now: int) -> Decision:
        """Decide one packet, and keep it if it is held; not once there is an engine."""

    def answer(self, packet: bytes, server: int | None, failed: bool, now: int) -> Decision:
        """Decide a packet for which a scheduler was asked; not once there is an engine."""

    def expire(self, now: int, budget: int) -> tuple[Released, ...]:
        """End idle flows, about *budget* looked at; return held packets that are dropped.

        Not once there is an engine, which has its own.
        """

    def counters(self) -> list[int]:
        """Return how many packets ended for each reason."""

    def carried(self) -> list[int]:
        """Return how many packets the fast path forwarded, inbound and outbound, and then how many it left
        to the engine or the host, by enum fn_fastpath_pass.
        """

    def servers(self) -> list[Server]:
        """Return what is counted for each server, also of those that left their list."""

    def forget_servers(self) -> list[Server]:
        """Forget servers that left their list and have no flows; return what was counted for them."""

    def end_flows(self, server: int, cursor: int, limit: int, now: int) -> tuple[list[Flow], int | None]:
        """End at most *limit* flows of a server from *cursor* (first 0) on.

        Returns them, as they were at their end, and the next cursor, None when there are no more.
        """

    def flows(self, cursor: int, limit: int) -> tuple[list[Flow], int | None]:
        """Return at most *limit* flows from *cursor* (first 0) on, and the next cursor, None at the end.

        A flow that lives throughout is met once, whatever else opens and ends meanwhile.
        """

    def ports(self, now: int) -> list[PortUse]:
        """Return how each local address stands towards each server that ever had a flow."""

    def templates(self) -> list[Template]:
        """Return the client prefixes that stay on a server."""

    def totals(self) -> Totals:
        """Return how full the tables are."""

@final
class Engine:
    """Threads that take packets from NFQUEUEs, have the director decide them, and carry it out.

    A director has one engine in its life.  Two threads may use it, but while one of them starts or stops
    it the other's calls are refused.
    """

    def __new__(
        cls,
        director: Director,
        *,
        queues: Iterable[int],  # a thread each
        segmented: int,  # one queue more: what the kernel must segment first
        mark: int,  # set on what is forwarded
        raw4: int,  # file descriptors of raw sockets, -1: none; the caller closes them
        raw6: int,
        priority: int,  # SCHED_FIFO; 0: as any thread
        cpus: Iterable[int],  # where the threads run, in turn; empty: anywhere
        repeats: bool,  # the hook, for all that is forwarded
    ) -> Engine: ...
    @property
    def upcall_fd(self) -> int:
        """Readable while upcalls wait."""

    def start(self) -> None:
        """Bind the queues of the calling thread's network namespace and start the threads.

        Raises EngineError when the host cannot.
        """

    def stop(self) -> None:
        """End the threads and unbind; what waits in the kernel is dropped by it."""

    def set_local_addresses(self, addresses: Iterable[bytes], /) -> None:
        """Take *addresses* as those of this host."""

    def expire(self, now: int, /) -> None:
        """End idle flows and drop fragments whose first never came."""

    def take_upcalls(self, limit: int, /) -> list[Upcall]:
        """Return packets that wait for a scheduler in Python, oldest first; each is to be answered."""

    def answer_upcalls(self, answers: Iterable[tuple[int, int | None, bool]], /) -> None:
        """Decide taken packets by what the schedulers chose: token, server or None, failed."""

    def statistics(self) -> dict[str, int]:
        """Return the counts so far, named as in struct fn_engine_statistics."""
