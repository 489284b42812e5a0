# SPDX-License-Identifier: Apache-2.0
"""What ipvsadm lists, byte for byte as the real one did of an equal table."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fullnat.core.addr import TCP, UDP, Endpoint, parse_endpoint
from fullnat.ipvsadm.checks import FLAGS, FLAGS_OF
from fullnat.ipvsadm.columns import format_address, format_endpoint, format_number
from fullnat.ipvsadm.commands import (
    SCTP,
    AddServer,
    AddService,
    Layout,
    ListConnections,
    ListServices,
    Role,
    ServerSettings,
    ServiceAddress,
    ServiceSettings,
    SetTimeouts,
    StartDaemon,
    Tunnel,
)
from fullnat.ipvsadm.connections import format_connections
from fullnat.ipvsadm.extras import format_daemons, format_locals, format_timeouts
from fullnat.ipvsadm.language import parse
from fullnat.ipvsadm.order import sort_services
from fullnat.ipvsadm.output import format_services
from fullnat.ipvsadm.restore import split_lines
from fullnat.ipvsadm.save import save_services
from fullnat.ipvsadm.views import ConnectionView, LocalsView, LocalView, ServerView, ServiceView, Traffic
from fullnat.kernel.service import Forward, Fwmark, KernelPersistence, KernelServer
from tests.ipvsadm_table import EXPIRES, WEB, Hosts, connections, recorded, table


def listing(line: str) -> ListServices:
    command = parse(line.split())
    assert isinstance(command, ListServices)
    return command


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("list", "-L"),
        ("list-n", "-Ln"),
        ("list-nosort", "-Ln --nosort"),
        ("stats", "-Ln --stats"),
        ("stats-names", "-L --stats"),
        ("stats-exact", "-Ln --stats --exact"),
        ("rate", "-Ln --rate"),
        ("rate-exact", "-Ln --rate --exact"),
        ("thresholds", "-Ln --thresholds"),
        ("persistent-conn", "-Ln --persistent-conn"),
        ("tun-info", "-Ln --tun-info"),
    ],
)
def test_services_are_listed_as_ipvsadm_does(name: str, line: str) -> None:
    assert format_services(table(), listing(line), Hosts()) == recorded(name)


def test_one_service_has_no_line_about_ipvs() -> None:
    one = [view for view in table() if str(view.service) == WEB]
    assert format_services(one, listing("-Ln -t 203.0.113.10:80")) == recorded("list-one")


@pytest.mark.parametrize(("name", "line"), [("empty-list", "-Ln"), ("empty-stats", "-Ln --stats")])
def test_an_empty_table_has_its_title(name: str, line: str) -> None:
    assert format_services([], listing(line)) == recorded(name)


def test_the_table_is_saved_as_ipvsadm_does() -> None:
    assert save_services(table()) == recorded("save-n")
    assert save_services(table(), Hosts()) == recorded("save")
    assert save_services([]) == recorded("empty-save") == ""


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("connections", "-Lcn"),
        ("connections-names", "-Lc"),
        ("connections-persistent", "-Lcn --persistent-conn"),
    ],
)
def test_connections_are_listed_as_ipvsadm_does(name: str, line: str) -> None:
    command = parse(line.split())
    assert isinstance(command, ListConnections)
    assert format_connections(connections(EXPIRES[name]), command, Hosts()) == recorded(name)
    assert format_connections([], replace(command, numeric=True)) == recorded(
        f"empty-{name.removesuffix('-names')}"
    )


def test_an_hour_is_sixty_minutes_and_more_are_more() -> None:
    """And a template of a mark has that for its address."""
    mark = Endpoint(IPv4Address("0.0.0.7"), 0)
    view = ConnectionView(
        0, Endpoint(IPv4Address("203.0.113.1"), 0), mark, parse_endpoint("198.19.0.11:80"), "NONE", 10805
    )
    assert format_connections([view], ListConnections(numeric=True)).splitlines()[-1] == (
        "IP  180:05 NONE        203.0.113.1:0      0.0.0.7:0          198.19.0.11:80"
    )


def test_timeouts() -> None:
    assert format_timeouts(SetTimeouts(900, 120, 300)) == recorded("timeout")
    assert format_timeouts(SetTimeouts(100, 120, 30)) == recorded("timeout-set")


def test_daemons() -> None:
    master = StartDaemon(Role.MASTER, "outer", 7, 1472, ip_address("224.0.0.81"), 8848, 1)
    backup = StartDaemon(Role.BACKUP, "outer", 7, 1452, ip_address("ff02::81"), 8848, 1)
    assert format_daemons([master, backup]) == recorded("daemon-both")
    assert format_daemons([]) == recorded("daemon-none") == ""
    assert format_daemons([StartDaemon(Role.BACKUP)]) == "backup sync daemon (mcast=eth0, syncid=0)\n"


# What the recording has not.


@pytest.mark.parametrize(
    ("number", "short", "exact"),
    [
        (0, "        0", "        0"),
        (99_999_999, " 99999999", " 99999999"),
        (100_000_000, "  100000K", " 100000000"),
        (999_999_999, "  999999K", " 999999999"),
        (1_000_000_000, "    1000M", " 1000000000"),
        (99_999_999_999, "   99999M", " 99999999999"),
        (100_000_000_000, "     100G", " 100000000000"),
        (99_999_999_999_999, "   99999G", " 99999999999999"),
        (100_000_000_000_000, "     100T", " 100000000000000"),
        (2**64 - 1, "18446744T", " 18446744073709551615"),
    ],
)
def test_large_numbers_have_a_letter(number: int, short: str, exact: str) -> None:
    assert format_number(number, exact=False) == short
    assert format_number(number, exact=True) == exact


VIP = parse_endpoint("203.0.113.10:80")
ADDRESS = ServiceAddress(TCP, VIP)


def test_of_servers_connections_and_packets_a_second_are_never_shortened() -> None:
    rate = Traffic(123_456_789, 123_456_789, 0, 123_456_789, 0)
    server = ServerView(ServerSettings(KernelServer(parse_endpoint("198.19.0.11:80"))), rate=rate)
    view = ServiceView(ADDRESS, ServiceSettings(), (server,), rate=rate)
    assert format_services([view], listing("-L --rate")).splitlines()[3:] == [
        "TCP  203.0.113.10:80               123456K  123456K        0  123456K        0",
        "  -> 198.19.0.11:80               123456789 123456789        0  123456K        0",
    ]


def test_full_nat_is_called_as_dpvs_calls_it() -> None:
    server = ServerView(ServerSettings(KernelServer(parse_endpoint("198.19.0.11:80")), Forward.FULLNAT))
    view = ServiceView(ADDRESS, ServiceSettings(), (server,))
    assert format_services([view], listing("-Ln")).splitlines()[-1] == (
        "  -> 198.19.0.11:80               FullNat 1      0          0         "
    )
    assert save_services([view]).splitlines()[-1] == "-a -t 203.0.113.10:80 -r 198.19.0.11:80 -b -w 1"


def test_a_large_mark_is_printed_so_that_it_can_be_read_back() -> None:
    view = ServiceView(ServiceAddress(0, Fwmark(2**32 - 1)), ServiceSettings("rr"))
    assert format_services([view], listing("-L")).splitlines()[-1] == "FWM  4294967295 rr"
    assert save_services([view]) == "-A -f 4294967295 -s rr\n"


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("::1", "::1"),
        ("::ffff:203.0.113.10", "::ffff:203.0.113.10"),
        ("::203.0.113.10", "::203.0.113.10"),
        ("2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"),
        ("203.0.113.10", "203.0.113.10"),
    ],
)
def test_addresses_are_written_as_the_c_library_does(text: str, printed: str) -> None:
    assert format_address(ip_address(text)) == printed


def test_ports_of_marks_have_no_names() -> None:
    assert format_endpoint(VIP, 0, Hosts()) == "www.example.com:80"
    assert format_endpoint(VIP, TCP, Hosts()) == "www.example.com:http"


def test_the_order_is_by_the_sign_of_32_bits() -> None:
    services = [
        ServiceView(ServiceAddress(protocol, parse_endpoint(text)), ServiceSettings())
        for protocol, text in [
            (TCP, "10.0.0.1:80"),
            (TCP, "203.0.113.10:80"),
            (TCP, "203.0.113.10:443"),
            (UDP, "203.0.113.9:53"),
        ]
    ]
    found = [str(view.service.listen) for view in sort_services(services[::-1])]
    assert found == ["203.0.113.10:80", "203.0.113.10:443", "10.0.0.1:80", "203.0.113.9:53"]


def test_local_addresses_are_listed_as_dpvs_does() -> None:
    views = [
        LocalsView(ADDRESS, (LocalView(IPv4Address("198.19.0.1"), 3, 1234), LocalView(VIP.address))),
        LocalsView(ServiceAddress(0, Fwmark(7, 6))),
    ]
    assert format_locals(views).splitlines() == [
        "VIP:VPORT            TOTAL    SNAT_IP              CONFLICTS  CONNS     ",
        "203.0.113.10:80      2        ",
        "                              198.19.0.1           3          1234      ",
        "                              203.0.113.10         0          0         ",
        "FWM  7 IPv6          0        ",
    ]
    assert format_locals([]) == ""


# There and back.


def _endpoints(family: int, low: int) -> st.SearchStrategy[Endpoint]:
    addresses = st.ip_addresses(v=4 if family == 4 else 6)
    return st.builds(Endpoint, addresses, st.integers(low, 65535))


@st.composite
def _settings(draw: st.DrawFn, family: int, *, can_be_single: bool) -> ServiceSettings:
    scheduler = draw(st.sampled_from(["rr", "wlc", "sh", "mh", "nq"]))
    named = FLAGS_OF.get(scheduler, FLAGS)[: 2 if scheduler in FLAGS_OF else 3]
    persistence = st.builds(
        KernelPersistence,
        st.integers(1, 31 * 86400),
        st.integers(0, 32) if family == 4 else st.integers(1, 128),
    )
    kept = draw(st.none() | persistence)
    return ServiceSettings(
        scheduler,
        draw(st.frozensets(st.sampled_from(named))),
        kept,
        draw(st.sampled_from(["", "sip"])),
        can_be_single and draw(st.booleans()),
    )


_TUNNELS = st.sampled_from([Tunnel(), Tunnel("gue", 6080, "csum"), Tunnel("gre", 0, "nocsum")])


@st.composite
def _servers(draw: st.DrawFn, service: ServiceAddress) -> ServerView:
    forward = draw(st.sampled_from(Forward))
    endpoint = draw(_endpoints(service.listen.family, 0))
    if forward in (Forward.DR, Forward.TUN) and isinstance(service.listen, Endpoint):
        endpoint = Endpoint(endpoint.address, service.listen.port)
    tunnel = draw(_TUNNELS) if forward is Forward.TUN else None
    server = KernelServer(endpoint, draw(st.integers(0, 65535)))
    return ServerView(ServerSettings(server, forward, tunnel))


@st.composite
def _services(draw: st.DrawFn) -> ServiceView:
    family = draw(st.sampled_from([4, 6]))
    marks = st.builds(Fwmark, st.integers(1, 2**32 - 1), st.just(family))
    listen = draw(marks | _endpoints(family, 1))
    protocol = 0 if isinstance(listen, Fwmark) else draw(st.sampled_from([TCP, UDP, SCTP]))
    service = ServiceAddress(protocol, listen)
    settings = draw(_settings(family, can_be_single=protocol in (0, UDP)))
    return ServiceView(service, settings, tuple(draw(st.lists(_servers(service), max_size=3))))


@given(st.lists(_services(), max_size=4))
def test_what_is_saved_is_restored(services: list[ServiceView]) -> None:
    restored: list[tuple[AddService, list[AddServer]]] = []
    for words in split_lines(save_services(services).splitlines()):
        command = parse(words, is_line=True)
        if isinstance(command, AddService):
            restored.append((command, []))
        else:
            assert isinstance(command, AddServer)
            restored[-1][1].append(command)
    assert len(restored) == len(services)
    for view in services:
        expected = sorted(repr(AddServer(view.service, server.settings)) for server in view.servers)
        assert any(
            service == AddService(view.service, view.settings) and sorted(map(repr, servers)) == expected
            for service, servers in restored
        )


def test_every_layout_is_asked_for_by_an_option() -> None:
    for layout in Layout:
        assert listing(f"-L --{layout.value}" if layout.value else "-L").layout is layout
    assert format_address(IPv6Address("::")) == "::"
