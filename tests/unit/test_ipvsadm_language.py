# SPDX-License-Identifier: Apache-2.0
"""ipvsadm's words: what they become, and what is said when they are none.

answers.json has what ipvsadm 1.31 said to each line of words.txt, with an empty table;
tools/record_ipvsadm.py recorded it.
"""

from __future__ import annotations

import errno
import json
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fullnat.core.addr import TCP, UDP, Endpoint, parse_endpoint
from fullnat.ipvsadm import commands as told
from fullnat.ipvsadm.answers import answer, status
from fullnat.ipvsadm.commands import (
    SCTP,
    Layout,
    Role,
    ServerSettings,
    ServiceAddress,
    ServiceSettings,
    Tunnel,
)
from fullnat.ipvsadm.language import Refused, parse
from fullnat.ipvsadm.restore import split_lines
from fullnat.ipvsadm.usage import VERSION, format_help
from fullnat.kernel.service import Forward, Fwmark, KernelPersistence, KernelServer

GOLDEN = Path(__file__).parent / "golden" / "ipvsadm"
ANSWERS: list[dict[str, Any]] = json.loads((GOLDEN / "answers.json").read_text())
REFUSALS: list[dict[str, Any]] = json.loads((GOLDEN / "refusals.json").read_text())
FROM_THE_KERNEL = {row["says"] for row in REFUSALS} | {"", "Operation not supported\n"}

VIP = parse_endpoint("203.0.113.10:80")
WEB = ServiceAddress(TCP, VIP)
WEB6 = ServiceAddress(TCP, parse_endpoint("[2001:db8::10]:80"))
RIP = parse_endpoint("198.19.0.11:8080")


class Book:
    """The names that the recording had."""

    def host(self, name: str) -> IPv4Address | None:
        return {"www.example.com": IPv4Address("203.0.113.10")}.get(name)

    def port(self, name: str, protocol: int) -> int | None:
        return {("http", TCP): 80, ("domain", UDP): 53, ("nothing", SCTP): 7}.get((name, protocol))


def read(line: str) -> told.Command:
    return parse(line.split(), Book())


# As ipvsadm does.


def name_of(row: dict[str, Any]) -> str:
    return " ".join(row["argv"])


def is_ours(row: dict[str, Any]) -> bool:
    """Whether we mean to differ: ipvsadm takes netmasks that are no prefix."""
    return {"255.255", "255.0.255.0"} & set(row["argv"]) != set()


@pytest.mark.parametrize("row", [row for row in ANSWERS if not is_ours(row)], ids=name_of)
def test_errors_and_exit_status_are_those_of_ipvsadm(row: dict[str, Any]) -> None:
    if row["says"] in FROM_THE_KERNEL:
        parse(row["argv"], Book())  # it got that far
        return
    with pytest.raises(Refused) as refused:
        parse(row["argv"], Book())
    assert (refused.value.text, refused.value.status) == (row["says"], row["status"])


def test_the_table_has_both() -> None:
    taken = [row for row in ANSWERS if row["says"] in FROM_THE_KERNEL]
    assert len(taken) > 80
    assert len(ANSWERS) - len(taken) > 120


@pytest.mark.parametrize("row", [row for row in ANSWERS if is_ours(row)], ids=name_of)
def test_a_netmask_is_a_prefix(row: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="illegal virtual server persistent mask specified"):
        parse(row["argv"])


def test_the_program_is_called_as_it_was() -> None:
    with pytest.raises(Refused, match="Try `fullnat ipvsadm -h' or 'fullnat ipvsadm --help' for"):
        parse(["foo"], program="fullnat ipvsadm")


_REASONS = {
    "already exists": errno.EEXIST,
    "Scheduler": errno.ENOENT,
    "No such service": errno.ESRCH,
    "Service not defined": errno.ESRCH,
    "No such destination": errno.ENOENT,
    "No daemon": errno.ESRCH,
    "No such device": errno.ENODEV,
    "out of range": errno.ERANGE,
    "Invalid operation": errno.EINVAL,
}


@pytest.mark.parametrize("row", [row for row in REFUSALS if row["status"]], ids=name_of)
def test_a_refusal_of_the_kernel_is_told_as_ipvsadm_tells_it(row: dict[str, Any]) -> None:
    error = next(number for words, number in _REASONS.items() if words in row["says"])
    command = parse(row["argv"])
    assert (answer(command, error), status(command)) == (row["says"], row["status"])


def test_an_error_nobody_knows_is_named() -> None:
    assert answer(told.Clear(), errno.EDOM) == "EDOM\n"


# Services.


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("-t 203.0.113.10:80", WEB),
        ("--tcp-service=203.0.113.10:80", WEB),
        ("-t www.example.com:http", WEB),
        ("-u 203.0.113.10:domain", ServiceAddress(UDP, parse_endpoint("203.0.113.10:53"))),
        ("--sctp-service 203.0.113.10:nothing", ServiceAddress(SCTP, Endpoint(VIP.address, 7))),
        ("-t [2001:db8::10]:80", WEB6),
        ("-t 2001:db8::10", ServiceAddress(TCP, Endpoint(ip_address("2001:db8::10"), 0))),
        ("-t 203.0.113.10", ServiceAddress(TCP, Endpoint(VIP.address, 0))),
        ("-f 7", ServiceAddress(0, Fwmark(7))),
        ("-f 7 -6", ServiceAddress(0, Fwmark(7, 6))),
    ],
)
def test_service_addresses(words: str, expected: ServiceAddress) -> None:
    assert read(f"-D {words}") == told.DeleteService(expected)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", ServiceSettings()),
        ("-s rr", ServiceSettings("rr")),
        ("-p", ServiceSettings(persistence=KernelPersistence(360, 32))),
        ("-p 60 -M 255.255.255.0", ServiceSettings(persistence=KernelPersistence(60, 24))),
        ("-p 60 -M 0.0.0.0", ServiceSettings(persistence=KernelPersistence(60, 0))),
        ("-M 255.0.0.0", ServiceSettings()),
        ("-p 60 --pe sip", ServiceSettings(persistence=KernelPersistence(60, 32), engine="sip")),
        ("-s sh -b sh-port,sh-fallback", ServiceSettings("sh", frozenset({"sh-port", "sh-fallback"}))),
        ("-s sh -b flag-1", ServiceSettings("sh", frozenset({"sh-fallback"}))),
        ("-s mh --sched-flags=flag-2,flag-3", ServiceSettings("mh", frozenset({"mh-port", "flag-3"}))),
        ("-b flag-2", ServiceSettings("wlc", frozenset({"flag-2"}))),
    ],
)
def test_settings_of_services(words: str, expected: ServiceSettings) -> None:
    assert read(f"-A -t 203.0.113.10:80 {words}") == told.AddService(WEB, expected)
    assert read(f"-E -t 203.0.113.10:80 {words}") == told.EditService(WEB, expected)


def test_settings_that_depend_on_the_service() -> None:
    v6 = told.AddService(WEB6, ServiceSettings(persistence=KernelPersistence(60, 64)))
    assert read("-A -t [2001:db8::10]:80 -p 60 -M 64") == v6
    marked = ServiceAddress(0, Fwmark(7, 6))
    assert read("-A -f 7 -6 -p 9 -o") == told.AddService(
        marked, ServiceSettings(persistence=KernelPersistence(9, 128), one_packet=True)
    )


# Servers.


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("-m", ServerSettings(KernelServer(RIP), Forward.NAT)),
        ("-b", ServerSettings(KernelServer(RIP), Forward.FULLNAT)),
        ("--fullnat", ServerSettings(KernelServer(RIP), Forward.FULLNAT)),
        ("-bw3", ServerSettings(KernelServer(RIP, 3), Forward.FULLNAT)),
        ("", ServerSettings(KernelServer(Endpoint(RIP.address, 80)), Forward.DR)),
        ("-g", ServerSettings(KernelServer(Endpoint(RIP.address, 80)), Forward.DR)),
        ("-i", ServerSettings(KernelServer(Endpoint(RIP.address, 80)), Forward.TUN, Tunnel())),
        (
            "-i --tun-type gue --tun-port 6080 --tun-remcsum",
            ServerSettings(
                KernelServer(Endpoint(RIP.address, 80)), Forward.TUN, Tunnel("gue", 6080, "remcsum")
            ),
        ),
        ("-m -w 0 -x 10 -y 5", ServerSettings(KernelServer(RIP, 0, 10, 5), Forward.NAT)),
    ],
)
def test_settings_of_servers(words: str, expected: ServerSettings) -> None:
    line = f"-t 203.0.113.10:80 -r 198.19.0.11:8080 {words}"
    assert read(f"-a {line}") == told.AddServer(WEB, expected)
    assert read(f"-e {line}") == told.EditServer(WEB, expected)


@pytest.mark.parametrize(
    ("line", "endpoint"),
    [
        ("-d -t 203.0.113.10:80 -r 198.19.0.11", "198.19.0.11:80"),
        ("-d -t 203.0.113.10:80 -r 198.19.0.11:8080", "198.19.0.11:8080"),
        ("-d -r 198.19.0.11:8080 -t 203.0.113.10:80", "198.19.0.11:8080"),
    ],
)
def test_a_server_without_port_has_that_of_the_service(line: str, endpoint: str) -> None:
    assert read(line) == told.DeleteServer(WEB, parse_endpoint(endpoint))


def test_a_server_behind_a_mark_has_any_port() -> None:
    server = KernelServer(Endpoint(RIP.address, 0))
    assert read("-a -f 7 -r 198.19.0.11") == told.AddServer(
        ServiceAddress(0, Fwmark(7)), ServerSettings(server)
    )


def test_b_is_fullnat_of_servers_only() -> None:
    with pytest.raises(Refused, match="-b: missing argument"):
        read("-A -t 203.0.113.10:80 -b")
    with pytest.raises(Refused, match="multiple 'forwarding-method' options specified"):
        read("-a -t 203.0.113.10:80 -r 198.19.0.11 -b -m")
    with pytest.raises(Refused, match="Illegal 'forwarding-method' option with the 'add-service' command"):
        read("-A -t 203.0.113.10:80 --fullnat")


# Local addresses, as DPVS has them.


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "-P -t 203.0.113.10:80 -z 198.19.0.1 -F eth1",
            told.AddLocal(WEB, IPv4Address("198.19.0.1"), "eth1"),
        ),
        (
            "--add-laddr -t 203.0.113.10:80 --laddr=198.19.0.1",
            told.AddLocal(WEB, IPv4Address("198.19.0.1")),
        ),
        (
            "-Q -t 203.0.113.10:80 -z 198.19.0.1 --ifname eth1",
            told.DeleteLocal(WEB, IPv4Address("198.19.0.1"), "eth1"),
        ),
        ("-P -t [2001:db8::10]:80 -z 2001:db8::1", told.AddLocal(WEB6, ip_address("2001:db8::1"))),
        ("-G", told.ListLocal()),
        ("--get-laddr -t 203.0.113.10:80", told.ListLocal(WEB)),
    ],
)
def test_local_addresses(line: str, expected: told.Command) -> None:
    assert read(line) == expected


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("-P -z 198.19.0.1", "You need to supply the 'service-address' option for the 'add-laddr' command"),
        (
            "-Q -t 203.0.113.10:80",
            "You need to supply the 'local-address' option for the 'del-laddr' command",
        ),
        ("-P -t 203.0.113.10:80 -z 1", "illegal local address"),
        ("-G -z 198.19.0.1", "Illegal 'local-address' option with the 'get-laddr' command"),
        ("-L -F eth0", "Illegal 'ifname' option with the 'list' command"),
    ],
)
def test_local_addresses_that_are_none(line: str, says: str) -> None:
    with pytest.raises(Refused) as refused:
        read(line)
    assert (refused.value.text, refused.value.status) == (f"{says}\n", 2)


# Listings and the rest.


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", told.ListServices()),
        ("-Ln", told.ListServices(numeric=True)),
        ("-ln", told.ListServices(numeric=True)),
        ("-L --stats --exact", told.ListServices(layout=Layout.STATS, exact=True)),
        ("-LX --rate --sort", told.ListServices(layout=Layout.RATE, exact=True)),
        ("-L --tun-info --nosort", told.ListServices(layout=Layout.TUNNELS, sort=False)),
        ("-L --thresholds --rate", told.ListServices(layout=Layout.RATE)),
        ("-L -t 203.0.113.10:80 --persistent-conn", told.ListServices(WEB, Layout.PERSISTENT)),
        ("-Lcn", told.ListConnections(numeric=True)),
        ("-L --connection --persistent-conn", told.ListConnections(with_engine=True)),
        ("-L --timeout", told.ListTimeouts()),
        ("-L --daemon", told.ListDaemons()),
        ("-C", told.Clear()),
        ("-R", told.Restore()),
        ("-S", told.Save()),
        ("--save -n", told.Save(numeric=True)),
        ("-Z", told.Zero()),
        ("-Z -t 203.0.113.10:80", told.Zero(WEB)),
        ("--set 900 0 300", told.SetTimeouts(900, 0, 300)),
        ("-h", told.Help()),
        ("--help", told.Help()),
        ("-v", told.Version()),
        ("--start-daemon master", told.StartDaemon(Role.MASTER)),
        (
            "--start-daemon=backup --mcast-interface eth1 --syncid 7 --mcast-group ff02::81 --mcast-port 9 "
            "--mcast-ttl 3 --sync-maxlen 1000",
            told.StartDaemon(Role.BACKUP, "eth1", 7, 1000, ip_address("ff02::81"), 9, 3),
        ),
        ("--stop-daemon backup --syncid 3", told.StopDaemon(Role.BACKUP, 3)),
    ],
)
def test_commands(line: str, expected: told.Command) -> None:
    assert read(line) == expected


def outcome(argv: list[str]) -> tuple[bool, int]:
    """Whether an error ends its line, and the status."""
    try:
        parse(argv)
    except Refused as refused:
        return refused.text.endswith("\n"), refused.status
    return True, 0


@given(st.lists(st.text(max_size=12) | st.sampled_from(["-A", "-a", "-t", "-L", "-p", "-n", "--set"])))
def test_any_words_are_a_command_or_refused(argv: list[str]) -> None:
    assert outcome(argv) in [(True, 0), (True, 2), (True, 255)]


def test_without_a_resolver_names_are_none() -> None:
    with pytest.raises(Refused, match=r"illegal virtual server address\[:port\] specified"):
        parse(["-A", "-t", "www.example.com:80"])


# Restoring.


def test_lines_are_taken_apart_at_white_space() -> None:
    saved = "-A -t 203.0.113.10:80 -s rr\n\n  \n# a comment\nipvsadm\t-C\r\n-S"
    assert list(split_lines(saved.splitlines())) == [
        ["-A", "-t", "203.0.113.10:80", "-s", "rr"],
        ["-C"],
        ["-S"],
    ]


def test_a_restore_starts_no_other() -> None:
    with pytest.raises(Refused) as refused:
        parse(["-R"], is_line=True)
    assert (refused.value.status, refused.value.is_final) == (255, True)


@pytest.mark.parametrize(("line", "is_final"), [("-L -q", False), ("-A -f 0", True), ("foo", True)])
def test_a_word_that_is_no_option_does_not_end_a_restore(line: str, is_final: bool) -> None:
    with pytest.raises(Refused) as refused:
        parse(line.split(), is_line=True)
    assert refused.value.is_final is is_final


def test_help_and_version() -> None:
    assert VERSION == "ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v1.2.1)\n"
    assert format_help("fullnat ipvsadm").splitlines()[1].startswith("Usage: fullnat ipvsadm COMMAND")
    assert max(map(len, format_help().splitlines())) <= 110
