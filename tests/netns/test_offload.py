# SPDX-License-Identifier: Apache-2.0
"""Checksums on the wire: every mix of offloads, every kind of traffic; bytes and counters are compared.

 client                    director                     real server
CIP:cport  ---inbound--->  VIP:vport | LIP:lport  --->  RIP:rport
           <--outbound---            |            <---

What a sender leaves to its device, checksums and segmentation, reaches the director undone, and the
director's own devices may put packets together (GRO).  The director's devices have their checksum
offload off: so its kernel computes what goes out, and the receiver verifies it, while packets that
still wait for a device would pass a veth unverified.

The traffic is for any balancer that serves PORT, TCP and UDP, on the first VIPs.  StaticNat is one
without a director: queue.c and offload.h alone, which can tell what it was given.
"""

from __future__ import annotations

import itertools
import random
import socket
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

import namespace
from balancer import Balancer
from lab import Lab
from namespace import inside
from tests import features
from tests.netns.conversations import open_socket
from tests.netns.traffic import PROGRAMS, servers, vips

pytestmark = pytest.mark.requires("nfqueue", "ipset", "iptables", "ethtool", "gcc")

PORT = 9000
QUEUE, MARK = 7, 0x1
REPOSITORY = Path(__file__).resolve().parents[2]
DATA = random.Random(1).randbytes(4 << 20)
TIMEOUT = 5.0  # seconds for whatever is to arrive

UDP_SEGMENT, UDP_GRO = 103, 104  # linux/udp.h
IPV6_DSTOPTS = 59  # linux/in6.h
FOUR_NOPS = bytes((1, 1, 1, 1))  # IP options
SIX_BYTES_OF_PADDING = bytes((0, 0, 1, 4, 0, 0, 0, 0))  # a destination options header


# Balancers.


class StaticNat:
    """Full NAT between one client and one server, by programs/static_nat.c and rules of our own."""

    def __init__(self, lab: Lab, program: Path, server: dict[int, str], lips: dict[int, str]) -> None:
        """Describe it; start() runs it.  It is told when *server* is the director itself."""
        self._lab = lab
        own = [
            address for role in lab.topology.hosts if role.role == "director" for address in addresses(role)
        ]
        self._argv = [str(program), str(QUEUE), str(MARK), "local" if server[4] in own else "forwarded"]
        self._paths = {
            4: (lab.clients4[0], lab.vips4[0], lips[4], server[4]),
            6: (lab.clients6[0], lab.vips6[0], lips[6], server[6]),
        }
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Prepare the director and run it until it is bound."""
        director = self._lab.namespace("director")
        namespace.write_sysctls(
            director,
            [
                ("net/ipv4/ip_forward", 1),
                ("net/ipv6/conf/all/forwarding", 1),
                ("net/ipv4/conf/all/accept_local", 1),
            ],
        )
        for family, (_, vip, lip, server) in self._paths.items():
            nodad = "" if family == 4 else " nodad"
            own = namespace.ip("address", "show", namespace=director)
            places = [(vip, "eth0"), (lip, "eth1")]
            wanted = [f"address add {at} dev {dev}{nodad}" for at, dev in places if f" {at}/" not in own]
            namespace.ip_batch(wanted, director)
            lines = ["*raw"]
            for hook, protocol in itertools.product(("PREROUTING", "OUTPUT"), ("tcp", "udp")):
                for match in (
                    f"-d {vip} -p {protocol} --dport",
                    f"-s {server} -d {lip} -p {protocol} --sport",
                ):
                    lines.append(f"-A {hook} {match} {PORT} -j CT --notrack")
                    lines.append(f"-A {hook} {match} {PORT} -j NFQUEUE --queue-num {QUEUE}")
            program = "iptables-restore" if family == 4 else "ip6tables-restore"
            self._lab.run("director", [program, "--noflush"], input="\n".join([*lines, "COMMIT", ""]))
        argv = [*self._argv, *self._paths[4], *self._paths[6]]
        self._process = self._lab.popen("director", argv, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def stop(self) -> Counter[str]:
        """End it and return what it counted: packets by protocol and offload, and errors."""
        assert self._process is not None
        self._process.terminate()
        output, _ = self._process.communicate(timeout=TIMEOUT)
        assert self._process.returncode == 0
        fields = (line.rsplit(" ", 1) for line in output.splitlines())
        return Counter({name: int(value) for name, value in fields})


def addresses(host: Any) -> list[str]:
    return [*host.addresses(4), *host.addresses(6)]


@pytest.fixture(scope="module")
def static_nat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    features.demand("gcc")
    program = tmp_path_factory.mktemp("static_nat") / "static_nat"
    queue = REPOSITORY / "fullnat" / "csrc" / "native" / "queue.c"
    options = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wconversion", "-Werror"]
    argv = ["gcc", *options, "-o", program, PROGRAMS / "static_nat.c", queue]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return program


# Traffic.


@dataclass(frozen=True)
class Ends:
    """Where traffic starts, and where it must arrive."""

    lab: Lab
    server_role: str
    server: str
    vip: str

    @property
    def is_ipv6(self) -> bool:
        return ":" in self.vip

    def open(self, stack: ExitStack, kind: int) -> tuple[socket.socket, socket.socket]:
        """Return a client and a server socket, the latter bound."""
        client = stack.enter_context(open_socket(self.lab, "client", self.vip, kind))
        server = stack.enter_context(open_socket(self.lab, self.server_role, self.server, kind))
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((self.server, PORT))
        for one in (client, server):
            one.settimeout(TIMEOUT)
            if kind == socket.SOCK_DGRAM:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        return client, server


def receive(source: socket.socket, size: int) -> bytes:
    """Return the next *size* bytes of a stream."""
    parts = []
    while size and (part := source.recv(min(size, 1 << 20))):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def talk(client: socket.socket, server: socket.socket, sizes: tuple[int, ...]) -> None:
    """Send as many bytes there and back as each of *sizes*."""
    for size in sizes:
        for source, sink in ((client, server), (server, client)):
            sender = Thread(target=source.sendall, args=(DATA[:size],))
            sender.start()
            assert receive(sink, size) == DATA[:size]
            sender.join()


def connected(
    ends: Ends, stack: ExitStack, prepare: Callable[[socket.socket], object] = lambda _: None
) -> tuple[socket.socket, socket.socket]:
    client, listener = ends.open(stack, socket.SOCK_STREAM)
    prepare(client)
    prepare(listener)
    listener.listen()
    client.connect((ends.vip, PORT))
    server = stack.enter_context(listener.accept()[0])
    server.settimeout(TIMEOUT)
    for one in (client, server):
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client, server


def tcp_small(ends: Ends) -> None:
    with ExitStack() as stack:
        talk(*connected(ends, stack), (1, 2, 3, 17, 100, 535, 1001))


def tcp_bulk(ends: Ends) -> None:
    with ExitStack() as stack:
        talk(*connected(ends, stack), (len(DATA),))


def tcp_with_options(ends: Ends) -> None:
    """The transport header is not where it is in other packets."""

    def prepare(one: socket.socket) -> None:
        if ends.is_ipv6:
            one.setsockopt(socket.IPPROTO_IPV6, IPV6_DSTOPTS, SIX_BYTES_OF_PADDING)
        else:
            one.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, FOUR_NOPS)

    with ExitStack() as stack:
        # No more than a segment: the kernel does not forward GSO packets with extension headers.
        talk(*connected(ends, stack, prepare), (1, 1001) if ends.is_ipv6 else (1, 1001, 200_003))


def exchange(ends: Ends, sizes: list[int], *, segment: int = 0, receive_segments: bool = False) -> None:
    """Send what *sizes* say there and back, each at once, as datagrams of *segment* bytes if given."""
    with ExitStack() as stack:
        client, server = ends.open(stack, socket.SOCK_DGRAM)
        client.connect((ends.vip, PORT))
        for one in (client, server):
            if segment:
                one.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, segment)
            if receive_segments:
                one.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        for size in sizes:
            client.send(DATA[:size])
        peer = None
        for size in sizes:
            received = b""
            while len(received) < size:
                part, peer = server.recvfrom(65535)
                received += part
                assert receive_segments or len(part) <= (segment or size)
            assert received == DATA[:size]
        assert peer is not None
        for size in sizes:
            server.sendto(DATA[:size], peer)
        for size in sizes:
            received = b""
            while len(received) < size:
                received += client.recv(65535)
            assert received == DATA[:size]


def udp_small(ends: Ends) -> None:
    exchange(ends, [1, 2, 3, 18, 63, 64, 511])


def udp_large(ends: Ends) -> None:
    exchange(ends, [1400] * 24 + [1399])


def udp_segments(ends: Ends) -> None:
    exchange(ends, [1200 * 20 + 77, 1200 * 2, 1200 * 40 + 1], segment=1200)


def udp_segments_beyond_a_message(ends: Ends) -> None:
    """An IP packet of 65535 bytes, which is four more than a message of the queue can hold."""
    exchange(ends, [65535 - (48 if ends.is_ipv6 else 28)], segment=1400)


def udp_segments_received_whole(ends: Ends) -> None:
    exchange(ends, [1200 * 20 + 77, 1200 * 2, 1200 * 40 + 1], segment=1200, receive_segments=True)


KINDS = [
    tcp_small,
    tcp_bulk,
    tcp_with_options,
    udp_small,
    udp_large,
    udp_segments,
    udp_segments_received_whole,
    udp_segments_beyond_a_message,
]
EVERY_KIND = pytest.mark.parametrize("send", KINDS, ids=lambda kind: kind.__name__)
EVERY_FAMILY = pytest.mark.parametrize("family", [4, 6])


def checksum_errors(lab: Lab, *roles: str) -> dict[str, int]:
    """The counters of wrong checksums of *roles*: those of snmp come as a line of names and one of values."""
    found: dict[str, int] = {}
    for role in roles:
        with inside(lab.namespace(role)):
            rows = [line.split() for line in Path("/proc/thread-self/net/snmp").read_text().splitlines()]
            rows6 = [line.split() for line in Path("/proc/thread-self/net/snmp6").read_text().splitlines()]
        for names, values in zip(rows[::2], rows[1::2], strict=True):
            found |= {f"{role} {names[0]}{n}": int(v) for n, v in zip(names[1:], values[1:], strict=True)}
        found |= {f"{role} {name}": int(value) for name, value in rows6}
    return {name: value for name, value in found.items() if "InCsumErrors" in name}


# The matrix.

BALANCERS = ("static NAT", "python", "native")
SENDERS = (
    "checksum gso",
    "checksum",
    "gso",
    "",
)  # what their devices do, or seem to: a veth leaves it undone
AGGREGATIONS = ("no gro", "gro", "gro list")  # of packets that come to the director
CELLS = list(itertools.product(BALANCERS, SENDERS, AGGREGATIONS))


def set_features(lab: Lab, role: str, device: str, **values: bool) -> None:
    words = [word for name, on in values.items() for word in (name.replace("_", "-"), "on" if on else "off")]
    lab.run(role, ["ethtool", "-K", device, *words])


def set_senders(lab: Lab, wanted: str) -> None:
    everything = dict.fromkeys(("tx", "tso", "gso", "tx_udp_segmentation"), True)
    refused = {} if "gso" in wanted else dict.fromkeys(("tso", "gso", "tx_udp_segmentation"), False)
    if "checksum" not in wanted:
        refused["tx"] = False
    for role in ("client", "server1"):
        set_features(lab, role, "eth0", **everything)
        if refused:
            set_features(lab, role, "eth0", **refused)


def set_aggregation(lab: Lab, wanted: str) -> None:
    on, is_list = wanted != "no gro", wanted == "gro list"
    for device in ("eth0", "eth1"):
        set_features(
            lab, "director", device, gro=on, rx_udp_gro_forwarding=on and not is_list, rx_gro_list=is_list
        )


@contextmanager
def static_nat_on(wire: Lab, program: Path) -> Iterator[None]:
    balancer = StaticNat(
        wire,
        program,
        {4: wire.servers4[0], 6: wire.servers6[0]},
        {4: wire.lips4[0], 6: wire.lips6[0]},
    )
    balancer.start()
    yield
    counted = balancer.stop()
    assert counted["errors"] == 0
    # Complete, left to the device, segments at once: each was there, or the matrix proves nothing.
    states = [f"{protocol} {offload}" for protocol in ("tcp", "udp") for offload in (0, 1, 3)]
    assert all(counted[state] for state in (*states, "passed on")), counted


@contextmanager
def fullnat_on(wire: Lab, datapath: str) -> Iterator[None]:
    tcp, udp = (wire.config(protocol=protocol, port=PORT, datapath=datapath) for protocol in ("tcp", "udp"))
    balancer = Balancer(wire, tcp + udp[udp.index("[[service]]") :])
    balancer.start()
    yield
    assert balancer.stop() == 0, balancer.log


@pytest.fixture(scope="module")
def wires(static_nat: Path) -> Iterator[Callable[[str], Lab]]:
    """A client, the director and one server on plain veth pairs, one such network for each balancer."""
    with ExitStack() as stack:
        built: dict[str, Lab] = {}

        def get(balancer: str) -> Lab:
            if balancer not in built:
                wire = built[balancer] = stack.enter_context(Lab("two-arm", clients=1, servers=1))
                wire.up()
                for device in ("eth0", "eth1"):
                    set_features(wire, "director", device, tx=False)
                is_static = balancer == "static NAT"
                stack.enter_context(
                    static_nat_on(wire, static_nat) if is_static else fullnat_on(wire, balancer)
                )
            return built[balancer]

        yield get


@pytest.fixture(scope="module", params=CELLS, ids=lambda cell: ", ".join(filter(None, cell)))
def wire(wires: Callable[[str], Lab], request: pytest.FixtureRequest) -> Lab:
    """The network of one cell of the matrix."""
    balancer, senders, aggregation = request.param
    lab = wires(balancer)
    set_senders(lab, senders)
    set_aggregation(lab, aggregation)
    return lab


@EVERY_FAMILY
@EVERY_KIND
def test_every_kind_of_traffic_arrives_intact(wire: Lab, send: Callable[[Ends], None], family: int) -> None:
    before = checksum_errors(wire, "client", "server1")
    send(Ends(wire, "server1", servers(wire, family)[0], vips(wire, family)[0]))
    assert checksum_errors(wire, "client", "server1") == before


# Delivered to the director itself.


@contextmanager
def static_nat_to(built: Lab, program: Path, own: dict[int, str], lips: dict[int, str]) -> Iterator[None]:
    balancer = StaticNat(built, program, own, lips)
    balancer.start()
    yield
    counted = balancer.stop()
    assert counted["errors"] == 0
    assert all(counted[state] for state in ("tcp 1", "tcp 3", "udp 1", "passed on")), counted


@contextmanager
def native_to(built: Lab, own: dict[int, str], lips: dict[int, str]) -> Iterator[None]:
    def end(address: str) -> str:
        return f"[{address}]:{PORT}" if ":" in address else f"{address}:{PORT}"

    text = f'version = 1\n[engine]\ndatapath = "native"\n[snat]\naddresses = ["{lips[4]}", "{lips[6]}"]\n'
    for family, address in own.items():
        for protocol in ("tcp", "udp"):
            text += f'[[service]]\nlisten = "{protocol}://{end(vips(built, family)[0])}"\n'
            text += f'[[service.server]]\naddress = "{end(address)}"\n'
    balancer = Balancer(built, text)
    balancer.start()
    yield
    assert balancer.stop() == 0, balancer.log


@pytest.fixture(scope="module", params=["static NAT", "native"])
def served_here(static_nat: Path, request: pytest.FixtureRequest) -> Iterator[Callable[[int], Ends]]:
    """The ends of traffic whose server is on the director."""
    with Lab("two-arm", clients=1, servers=1) as built:
        built.up()
        own = {4: built.lips4[0], 6: built.lips6[0]}
        lips = {4: built.lips4[1], 6: built.lips6[1]}
        is_static = request.param == "static NAT"
        with static_nat_to(built, static_nat, own, lips) if is_static else native_to(built, own, lips):
            yield lambda family: Ends(built, "director", own[family], vips(built, family)[0])


@EVERY_FAMILY
@EVERY_KIND
def test_a_server_on_the_director_gets_it_intact(
    served_here: Callable[[int], Ends], send: Callable[[Ends], None], family: int
) -> None:
    ends = served_here(family)
    before = checksum_errors(ends.lab, "client", "director")
    send(ends)
    assert checksum_errors(ends.lab, "client", "director") == before
