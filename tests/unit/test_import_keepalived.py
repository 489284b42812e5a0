# SPDX-License-Identifier: Apache-2.0
"""keepalived.conf: a row for each thing that may be said, and the line that tells what is wrong."""

# ruff: noqa: E501 (a row is a line, and reads like one)

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from fullnat.importers import Imported, ImporterError, convert

SERVER = "real_server 198.19.0.11 80 { }"


def imported(text: str, **options: Any) -> Imported:
    return convert("keepalived", text, "k.conf", **{"local_addresses": ["198.51.100.1"], **options})


def services(text: str, **options: Any) -> list[dict[str, Any]]:
    return tomllib.loads(imported(text, **options).text)["service"]


def service(body: str, head: str = "virtual_server 203.0.113.10 80") -> dict[str, Any]:
    return services(f"{head} {{\n{body}\n}}")[0]


def notes(text: str, **options: Any) -> list[str]:
    return [str(note) for note in imported(text, **options).notes]


@pytest.mark.parametrize(
    ("body", "key", "value"),
    [
        ("lvs_sched wrr", "scheduler", "wrr"),
        ("lb_algo lc", "scheduler", "lc"),
        ("", "scheduler", "wlc"),
        ("lvs_sched conhash", "scheduler", "mh"),
        ("lvs_sched unheard", "scheduler", "wlc"),
        ("lvs_sched mh\nmh-port\nflag-1", "scheduler_flags", ["mh-port", "mh-fallback"]),
        ("lvs_sched rr\nsh-port", "scheduler_flags", None),
        ("persistence_timeout 50", "persistence", {"timeout": "50s"}),
        ("persistence_timeout", "persistence", {"timeout": "360s"}),
        ("persistence_timeout 0", "persistence", None),
        (
            "persistence_timeout 9\npersistence_granularity 255.255.0.0",
            "persistence",
            {"timeout": "9s", "mask": 16},
        ),
        ("persistence_timeout 9\npersistence_granularity 255.255.255.255", "persistence", {"timeout": "9s"}),
        ("quorum 2\nhysteresis 1", "quorum", 2),
        ("quorum 2\nhysteresis 1", "hysteresis", 1),
        ("quorum 2\nhysteresis 2", "hysteresis", None),
        ("sorry_server 198.19.0.99", "sorry", "198.19.0.99:80"),
        ("sorry_server 198.19.0.99 8000", "sorry", "198.19.0.99:8000"),
        ("sorry_server 127.0.0.1 8000", "sorry", None),
        (f"inhibit_on_failure\n{SERVER}", "inhibit", True),
        (f"inhibit_on_failure no\n{SERVER}", "inhibit", None),
        ("ops", "one_packet", None),  # TCP
        ("establish_timeout 60", "timeouts", {"tcp_established": "60s"}),
        ("snmp_name shop", "name", "shop"),
    ],
)
def test_a_setting_of_a_service(body: str, key: str, value: object) -> None:
    assert service(body).get(key) == value


@pytest.mark.parametrize(
    ("body", "server"),
    [
        ("real_server 198.19.0.11 80 { }", {"address": "198.19.0.11"}),
        ("real_server 198.19.0.11 { }", {"address": "198.19.0.11"}),
        ("real_server 198.19.0.11 8080 { weight 0 }", {"address": "198.19.0.11:8080", "weight": 0}),
        ("real_server 198.19.0.11 8080{ weight 5\n}", {"address": "198.19.0.11:8080", "weight": 5}),
        ("lvs_method DR\nreal_server 198.19.0.11 8080 { }", {"address": "198.19.0.11"}),
        (
            "real_server 198.19.0.11 80 { uthreshold 9\nlthreshold 3\n}",
            {"address": "198.19.0.11", "upper": 9, "lower": 3},
        ),
        ("real_server 198.19.0.11 80 { lthreshold 3\n}", {"address": "198.19.0.11"}),
    ],
)
def test_a_server(body: str, server: dict[str, Any]) -> None:
    assert service(body)["server"] == [server]


TIMING = {"interval": "60s", "timeout": "5s", "rise": 1, "start": "up"}


@pytest.mark.parametrize(
    ("check", "health"),
    [
        ("TCP_CHECK { }", {"type": "tcp", "fall": 2}),
        ("TCP_CHECK { retry 0\n}", {"type": "tcp", "fall": 1}),
        ("TCP_CHECK { nb_get_retry 3\n}", {"type": "tcp", "fall": 4}),
        ("TCP_CHECK { connect_port 80\n}", {"type": "tcp", "fall": 2}),
        ("TCP_CHECK { connect_port 81\n}", {"type": "tcp", "fall": 2, "port": 81}),
        ("TCP_CHECK { connect_ip 198.19.0.11\n}", {"type": "tcp", "fall": 2}),
        ("TCP_CHECK { connect_ip 198.19.9.9\n}", {"type": "tcp", "fall": 2, "address": "198.19.9.9"}),
        ("TCP_CHECK { connect_ip 127.0.0.1\n}", {"type": "tcp", "fall": 2}),
        ("TCP_CHECK { alpha\n}", {"type": "tcp", "fall": 2, "start": "down"}),
        ("TCP_CHECK { alpha off\n}", {"type": "tcp", "fall": 2}),
        (
            "TCP_CHECK { delay_loop 0.5\n}",
            {"type": "tcp", "fall": 2, "interval": "500ms", "timeout": "500ms"},
        ),
        ("PING_CHECK { }", {"type": "icmp", "fall": 2}),
        ("DNS_CHECK { }", {"type": "dns", "fall": 4, "name": ".", "query": "SOA"}),
        (
            "DNS_CHECK { type aaaa\nname a.example\n}",
            {"type": "dns", "fall": 4, "name": "a.example", "query": "AAAA"},
        ),
        ("SMTP_CHECK { helo_name lb1\n}", {"type": "smtp", "fall": 2, "helo": "lb1"}),
        ("SMTP_CHECK { host { connect_port 25\n}\n}", {"type": "smtp", "fall": 2, "port": 25}),
        ("UDP_CHECK { }", {"type": "udp", "fall": 2}),
        ("UDP_CHECK { payload A 1b2\n}", {"type": "udp", "fall": 2, "send_hex": "0a1b02"}),
        ("UDP_CHECK { require_reply\n}", {"type": "udp", "fall": 2, "expect": ""}),
        ("UDP_CHECK { require_reply 1Fxx\n}", {"type": "udp", "fall": 2, "expect": r"(?s)^\x1f."}),
        (
            "MISC_CHECK { misc_path /bin/x\n}",
            {"type": "script", "fall": 1, "timeout": "60s", "command": ["/bin/x"]},
        ),
        (
            "MISC_CHECK { misc_path \"/bin/x 'a b' c\"\nmisc_timeout 3\nmisc_dynamic\nretry 1\n}",
            {
                "type": "script",
                "fall": 2,
                "timeout": "3s",
                "command": ["/bin/x", "a b", "c"],
                "dynamic": True,
            },
        ),
        (
            "HTTP_GET { url { path /a\n}\n}",
            {"type": "http", "fall": 2, "path": "/a", "status": ["200-299"]},
        ),
        (
            "HTTP_GET { url { path a b\nstatus_code 200 301-302\nvirtualhost w.example\n}\n}",
            {"type": "http", "fall": 2, "path": "/a", "status": [200, "301-302"], "host": "w.example"},
        ),
        (
            "HTTP_GET { url { regex (\n}\n}",
            {"type": "http", "fall": 2, "path": "/", "status": ["200-299"]},
        ),
        (
            "SSL_GET { sni_name s.example\nurl { path /\nregex ok\nregex_options caseless dotall\n}\n}",
            {
                **{"type": "https", "fall": 2, "path": "/", "status": ["200-299"], "body": "(?is)ok"},
                **{"sni": "s.example", "verify": False},
            },
        ),
        ("PING_CHECK { }\nTCP_CHECK { }", {"type": "tcp", "fall": 2}),
    ],
)
def test_a_check(check: str, health: dict[str, Any]) -> None:
    got = service(f"real_server 198.19.0.11 80 {{\n{check}\n}}")
    assert got["health"] == TIMING | health
    assert "health" not in got["server"][0]


def test_a_file_check_has_the_path_of_its_track_file() -> None:
    got = services(
        "track_file load { file /run/load\n}\n"
        "virtual_server 203.0.113.10 80 {\nreal_server 198.19.0.11 80 {\nFILE_CHECK { track_file load\n}\n}\n}"
    )
    assert got[0]["health"] == {**TIMING, "type": "file", "timeout": "60s", "fall": 1, "path": "/run/load"}


def test_the_service_says_what_a_check_does_not() -> None:
    got = service(
        "delay_loop 9\nconnect_timeout 2\nretry 4\nalpha\nvirtualhost v.example\n"
        "real_server 198.19.0.11 80 {\nconnect_timeout 3\nHTTP_GET { url { path /\n}\n}\n}"
    )
    expected = {"interval": "9s", "timeout": "3s", "fall": 5, "start": "down", "host": "v.example"}
    assert expected.items() <= got["health"].items()


def test_what_servers_have_in_common_is_written_once() -> None:
    got = service(
        "real_server 198.19.0.11 80 {\nTCP_CHECK { }\n}\n"
        "real_server 198.19.0.12 80 {\nTCP_CHECK { connect_port 81\n}\n}\n"
        "real_server 198.19.0.13 80 { }"
    )
    assert got["health"] == TIMING | {"type": "tcp", "fall": 2}
    assert [server.get("health") for server in got["server"]] == [None, {"port": 81}, {"type": "off"}]


def test_checks_of_different_types_have_nothing_in_common() -> None:
    got = service(
        "real_server 198.19.0.11 80 {\nTCP_CHECK { }\n}\nreal_server 198.19.0.12 80 {\nPING_CHECK { }\n}"
    )
    assert "health" not in got
    assert [server["health"]["type"] for server in got["server"]] == ["tcp", "icmp"]


@pytest.mark.parametrize(
    ("entry", "listens"),
    [
        ("203.0.113.1 80", ["tcp://203.0.113.1:80"]),
        ("203.0.113.1-3 80", [f"tcp://203.0.113.{last}:80" for last in (1, 2, 3)]),
        (
            "203.0.113.254-203.0.114.1 80",
            [f"tcp://203.0.{last}:80" for last in ("113.254", "113.255", "114.0", "114.1")],
        ),
        ("203.0.113.4/31 80", ["tcp://203.0.113.4:80", "tcp://203.0.113.5:80"]),
        ("2001:db8::a-c 80", [f"tcp://[2001:db8::{last}]:80" for last in "abc"]),
        ("fwmark 7", ["fwmark://7"]),
        ("fwmark 7 inet6", ["fwmark6://7"]),
        ("203.0.113.1", []),  # all ports
    ],
)
def test_an_entry_of_a_group(entry: str, listens: list[str]) -> None:
    text = f"virtual_server group g {{\n}}\nvirtual_server_group g {{\n{entry}\n}}"
    document = tomllib.loads(imported(text).text)
    assert [service["listen"] for service in document.get("service", [])] == listens


def test_a_mark_has_the_family_of_its_servers() -> None:
    body = "real_server 2001:db8:1::11 80 { }"
    assert service(body, "virtual_server fwmark 3")["listen"] == "fwmark6://3"
    assert service("ip_family inet6", "virtual_server fwmark 3")["listen"] == "fwmark6://3"
    assert service("", "virtual_server fwmark 3")["listen"] == "fwmark://3"


@pytest.mark.parametrize(
    ("source", "addresses"),
    [
        ("$A=198.19.0.11\n$A 80", ["198.19.0.11:80"]),
        ("$N=1\n$A=198.19.0.1${N}\n${A} 80", ["198.19.0.11:80"]),
        ("~SEQ(N, 1, 3) 198.19.0.${N} 80", ["198.19.0.1:80", "198.19.0.2:80", "198.19.0.3:80"]),
        ("~SEQ(N, 2) 198.19.0.${N} 80", ["198.19.0.1:80", "198.19.0.2:80"]),
        ("~SEQ(N, 5, -2, 1) 198.19.0.${N} 80", ["198.19.0.5:80", "198.19.0.3:80", "198.19.0.1:80"]),
        ("~SEQx(N, 0x9, 0xa) 2001:db8:1::${N} 80", ["[2001:db8:1::9]:80", "[2001:db8:1::a]:80"]),
        ("~LST(N, 4, 7) 198.19.0.${N} 80", ["198.19.0.4:80", "198.19.0.7:80"]),
        ("~LST({A,B}, {1,2}, {3,4}) 198.19.${A}.${B} 80", ["198.19.1.2:80", "198.19.3.4:80"]),
        (
            "~SEQ(A,1,2) ~LST(B,5,6) 198.19.${A}.${B} 80",
            [f"198.19.{a}.{b}:80" for a in (1, 2) for b in (5, 6)],
        ),
        ("@one 198.19.0.1 80\n@two 198.19.0.2 80\n@^two 198.19.0.3 80", ["198.19.0.1:80", "198.19.0.3:80"]),
        ("198.19.0.${_HASH}1 80 # comment", []),
        ("$LINES= \\\n198.19.0.1 80 \\\n198.19.0.2 80\n$LINES", ["198.19.0.1:80", "198.19.0.2:80"]),
        ("198.19.0.1 \\\n80", ["198.19.0.1:80"]),
        ("include more", ["198.19.0.77:80"]),
        ('198.19.0.1 "80" ! comment', ["198.19.0.1:80"]),
    ],
)
def test_lines_are_worked_out(source: str, addresses: list[str]) -> None:
    text = f"virtual_server_group g {{\n{source}\n}}\nvirtual_server group g {{\n}}\n"
    options: dict[str, Any] = {
        "config_id": "one",
        "include": lambda _name, _path: [("more", "198.19.0.77 80\n")],
    }
    if not addresses:
        with pytest.raises(ImporterError):
            imported(text, **options)
        return
    assert [service["listen"] for service in services(text, **options)] == [
        f"tcp://{each}" for each in addresses
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("virtual_server", "k.conf:1: virtual_server: a value is missing"),
        ("virtual_server 203.0.113.10 http { }", 'k.conf:1: virtual_server: found "http", accepted: 0-65535'),
        (
            "virtual_server www 80 { }",
            'k.conf:1: virtual_server: found "www", accepted: an IPv4 or IPv6 address',
        ),
        (
            "virtual_server group g { }",
            'k.conf:1: virtual_server group: no virtual_server_group is named "g"',
        ),
        ("virtual_server fwmark { }", "k.conf:1: virtual_server fwmark: a value is missing"),
        ("\nvirtual_server 203.0.113.10 80 {", "k.conf:2: virtual_server: its { is not closed"),
        ("a\n}", "k.conf:2: a } without a {"),
        ("{", "k.conf:1: a { without a keyword"),
        ('a "b', "k.conf:1: a quote is not closed"),
        ("$A=$B $B\n$B=$A $A\n$A", "k.conf:3: "),
        ("~SEQ(A)", "k.conf:1: ~SEQ: accepted: "),
        ("~LST(A)", "k.conf:1: ~LST: accepted: "),
        ("~SEQ(A, 1, 99999999) x$A", "k.conf:1: the text expands to more than "),
        ("include", "k.conf:1: include: the name of a file is missing"),
        (
            "virtual_server_group g {\n10.0.0.0/8 80\n}\nvirtual_server group g { }",
            "k.conf:2: 10.0.0.0/8 is 16777216 ",
        ),
        ("global_defs { lvs_timeouts tcp\n}", "k.conf:1: lvs_timeouts: accepted: "),
    ],
)
def test_a_malformed_file_is_told_in_one_line(text: str, line: str) -> None:
    with pytest.raises(ImporterError) as caught:
        imported(text)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("quorum x", 'k.conf:2: quorum: found "x", accepted: 0-1000000'),
        ("lvs_method", "k.conf:2: lvs_method: a value is missing"),
        (
            "persistence_timeout 9\npersistence_granularity 255.0.255.0",
            'k.conf:3: persistence_granularity: found "255.0.2',
        ),
        ("real_server 198.19.0.11 80 {\nweight -1\n}", 'k.conf:3: weight: found "-1", accepted: 0-65535'),
        (
            "real_server 198.19.0.11 80 {\nTCP_CHECK {\nconnect_timeout 0x\n}\n}",
            'k.conf:4: connect_timeout: found "0x"',
        ),
        ("real_server 198.19.0.11 80 {\nMISC_CHECK {\n}\n}", "k.conf:3: MISC_CHECK: misc_path is missing"),
        (
            "real_server 198.19.0.11 80 {\nDNS_CHECK { type HINFO\n}\n}",
            'k.conf:3: type: found "HINFO", accepted: ',
        ),
        (
            "inhibit_on_failure maybe\nreal_server 198.19.0.11 80 { }",
            'k.conf:2: inhibit_on_failure: found "maybe"',
        ),
    ],
)
def test_a_wrong_value_is_told_with_its_line(body: str, line: str) -> None:
    with pytest.raises(ImporterError) as caught:
        imported(f"virtual_server 203.0.113.10 80 {{\n{body}\n}}")
    assert str(caught.value).startswith(line)


def test_what_comes_twice_is_left_out() -> None:
    text = f"virtual_server 203.0.113.10 80 {{\n{SERVER}\n{SERVER}\n}}\nvirtual_server 203.0.113.10 80 {{\n}}"
    assert len(services(text)[0]["server"]) == 1
    told = notes(text)
    assert "k.conf:3: not taken: server 198.19.0.11: the service has this server already" in told
    assert (
        "k.conf:5: not taken: service tcp://203.0.113.10:80: the service of line 1 has this listen already"
        in told
    )


def test_lines_for_other_machines_are_told() -> None:
    assert notes("@lb2 vrrp_instance x { }", config_id="lb1") == [
        'k.conf:1: not taken: a line for @lb2: the import was asked for the id "lb1"'
    ]


def test_no_secret_gets_into_the_notes() -> None:
    got = imported("vrrp_instance x {\nauthentication { auth_pass hunter2\n}\n}")
    assert "hunter2" not in got.text + "".join(map(str, got.notes))
