# SPDX-License-Identifier: Apache-2.0
"""ldirectord.cf, ipvsadm-save and haproxy.cfg: a row for each thing that may be said."""

# ruff: noqa: E501 (a row is a line, and reads like one)

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from fullnat.importers import Imported, ImporterError, convert


def imported(source: str, text: str, **options: Any) -> Imported:
    return convert(source, text, "f", **{"local_addresses": ["198.51.100.1"], **options})


def services(source: str, text: str, **options: Any) -> list[dict[str, Any]]:
    return tomllib.loads(imported(source, text, **options).text).get("service", [])


def refusal(source: str, text: str) -> str:
    with pytest.raises(ImporterError) as caught:
        imported(source, text)
    assert "\n" not in str(caught.value)
    return str(caught.value)


VIRTUAL = "virtual=203.0.113.10:80\n\treal=198.19.0.11:80 masq\n"


@pytest.mark.parametrize(
    ("text", "health"),
    [
        (
            "",
            {
                "type": "http",
                "interval": "10s",
                "timeout": "10s",
                "fall": 1,
                "path": "/",
                "status": ["200-299"],
            },
        ),
        ("\tservice=none\n", {"type": "off"}),
        ("\tchecktype=on\n", {"type": "off"}),
        ("\tchecktype=ping\n", {"type": "icmp", "interval": "10s", "timeout": "5s", "fall": 1}),
        (
            "\tchecktype=connect\n\tcheckport=81\n",
            {"type": "tcp", "interval": "10s", "timeout": "5s", "fall": 1, "port": 81},
        ),
        (
            "\tservice=smtp\n\tnegotiatetimeout=4\n",
            {"type": "smtp", "interval": "10s", "timeout": "4s", "fall": 1},
        ),
        (
            "\tservice=imap\n\tchecktimeout=4\n",
            {"type": "tcp", "interval": "10s", "timeout": "4s", "fall": 1},
        ),
        (
            '\tservice=dns\n\trequest="198.19.0.1"\n\tfailurecount=3\n',
            {
                "type": "dns",
                "interval": "10s",
                "timeout": "10s",
                "fall": 3,
                "name": "198.19.0.1",
                "query": "PTR",
            },
        ),
        (
            "\tchecktype=external\n\tcheckcommand=/bin/x\n",
            {
                **{"type": "script", "interval": "10s", "timeout": "5s", "fall": 1},
                "command": ["/bin/x", "203.0.113.10", "80", "198.19.0.11", "80"],
            },
        ),
    ],
)
def test_a_check_of_ldirectord(text: str, health: dict[str, Any]) -> None:
    got = services("ldirectord", VIRTUAL + text)[0]["health"]
    got.pop("rise", None)
    assert got == health


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("", "scheduler", "wrr"),
        ("", "inhibit", True),
        ("\tquiescent=no\n", "inhibit", None),
        ("quiescent=no\n", "inhibit", None),
        ("fallback=198.19.0.99:81\n", "sorry", "198.19.0.99:81"),
        ("fallback=198.19.0.99 gate\n", "sorry", "198.19.0.99:80"),
        ("fallback=127.0.0.1:80\n", "sorry", None),
        ("\tpersistent=60\n\tnetmask=255.255.0.0\n", "persistence", {"timeout": "60s", "mask": 16}),
        (
            "\treal=198.19.0.12->198.19.0.13:81 masq 2\n",
            "server",
            [
                {"address": "198.19.0.11"},
                {"address": "198.19.0.12:81", "weight": 2},
                {"address": "198.19.0.13:81", "weight": 2},
            ],
        ),
    ],
)
def test_a_setting_of_ldirectord(text: str, key: str, value: object) -> None:
    assert services("ldirectord", VIRTUAL + text)[0].get(key) == value


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("nonsense", 'f:1: found "nonsense", accepted: KEY = VALUE'),
        ("\treal=198.19.0.11 masq", "f:1: real: it is indented, and no virtual= is above it"),
        ("virtual=", "f:1: virtual: a value is missing"),
        (
            "virtual=203.0.113.10:80\n\treal=198.19.0.11",
            "f:2: real: accepted: ADDRESS:PORT gate|masq|ipip [WEIGHT]",
        ),
        ("virtual=203.0.113.10:80\n\treal=198.19.0.11 masq x", 'f:2: real: found "x", accepted: 0-65535'),
        ('virtual=203.0.113.10:80\n\treal=198.19.0.11 masq "x', "f:2: real: a quote is not closed"),
        ("virtual=203.0.113.10:80\n\treal=198.19.0.1->198.20.0.1 masq", "f:2: real: found "),
        (VIRTUAL + "\tchecktype=guess", 'f:3: checktype: found "guess", accepted: '),
        (VIRTUAL + "\tquiescent=maybe", 'f:3: quiescent: found "maybe", accepted: yes or no'),
        (VIRTUAL + "\tprotocol=icmp", 'f:3: protocol: found "icmp", accepted: tcp or udp'),
    ],
)
def test_a_wrong_line_of_ldirectord(text: str, line: str) -> None:
    assert refusal("ldirectord", text).startswith(line)


@pytest.mark.parametrize(
    ("text", "service"),
    [
        ("-A -t 203.0.113.10:80", {"listen": "tcp://203.0.113.10:80", "scheduler": "wlc"}),
        ("ipvsadm -At 203.0.113.10:80 -s rr", {"listen": "tcp://203.0.113.10:80", "scheduler": "rr"}),
        (
            "/sbin/ipvsadm -A -u [2001:db8::1]:domain -s rr",
            {"listen": "udp://[2001:db8::1]:53", "scheduler": "rr"},
        ),
        ("-A -f 9", {"listen": "fwmark://9", "scheduler": "wlc"}),
        ("-A -f 9 -6", {"listen": "fwmark6://9", "scheduler": "wlc"}),
        (
            "-A -t 203.0.113.10:80 -p -M 24",
            {
                "listen": "tcp://203.0.113.10:80",
                "scheduler": "wlc",
                "persistence": {"timeout": "300s", "mask": 24},
            },
        ),
        (
            "-A -t 203.0.113.10:80\n-a -t 203.0.113.10:80 -r 198.19.0.1 -m",
            {"listen": "tcp://203.0.113.10:80", "scheduler": "wlc", "server": [{"address": "198.19.0.1"}]},
        ),
    ],
)
def test_a_service_of_ipvsadm(text: str, service: dict[str, Any]) -> None:
    assert services("ipvsadm", text) == [service]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("hello", 'f:1: found "hello", accepted: a command as ipvsadm-save writes it, -A or -a'),
        ("-A", "f:1: a virtual service is missing: -t, -u or -f"),
        ("-A -t", "f:1: -t: a value is missing"),
        ("-A -t 203.0.113.10:80 -~", 'f:1: found "-~", accepted: an option of ipvsadm'),
        (
            "-A -t 203.0.113.10:80\n-A -t 203.0.113.10:80",
            "f:2: the virtual service tcp://203.0.113.10:80 is there already",
        ),
        (
            "-a -t 203.0.113.10:80 -r 198.19.0.1",
            "f:1: no -A before has the virtual service tcp://203.0.113.10:80",
        ),
        ("-A -t 203.0.113.10:80\n-a -t 203.0.113.10:80", "f:2: -a: -r ADDRESS:PORT is missing"),
        ("-A -f 0", 'f:1: -f: found "0", accepted: 1-4294967295'),
        ("-A -t 203.0.113.10:80 -p 0", 'f:1: -p: found "0", accepted: 1-31536000'),
        ("--set 1 2", "f:1: --set: accepted: --set TCP TCPFIN UDP, in seconds"),
        ("-A -t '", "f:1: a quote is not closed"),
    ],
)
def test_a_wrong_line_of_ipvsadm(text: str, line: str) -> None:
    assert refusal("ipvsadm", text) == line


def haproxy(body: str) -> list[dict[str, Any]]:
    return services("haproxy", f"listen web\nbind 203.0.113.10:80\n{body}")


@pytest.mark.parametrize(
    ("body", "key", "value"),
    [
        ("", "scheduler", "wrr"),
        ("balance leastconn", "scheduler", "wlc"),
        ("balance first", "scheduler", "fo"),
        ("balance random", "scheduler", "twos"),
        ("balance random(1)", "scheduler", "random"),
        ("balance source", "scheduler_flags", ["sh-fallback"]),
        ("balance source\nhash-type consistent", "scheduler_flags", ["mh-fallback"]),
        ("balance rdp-cookie", "scheduler", "wlc"),
        ("timeout client 50s\ntimeout server 90000", "timeouts", {"tcp_established": "90s"}),
        ("timeout client 50s\ntimeout tunnel 1h", "timeouts", {"tcp_established": "3600s"}),
        ("stick-table type ip size 1m expire 5m\nstick on src", "persistence", {"timeout": "300s"}),
        ("stick-table type ip size 1m\nstick on src", "persistence", None),
        ("server a 198.19.0.1:80 on-marked-down shutdown-sessions", "on_down", "reset"),
        ("server a 198.19.0.1:80", "server", [{"address": "198.19.0.1"}]),
        ("server a 198.19.0.1:+1", "server", [{"address": "198.19.0.1:81"}]),
        (
            "server a 198.19.0.1 weight 9 maxconn 7",
            "server",
            [{"address": "198.19.0.1", "weight": 9, "upper": 7}],
        ),
        ("server a 198.19.0.1 disabled", "server", [{"address": "198.19.0.1", "weight": 0}]),
        (
            "server a 198.19.0.1 disabled\nserver b 198.19.0.2 enabled",
            "server",
            [{"address": "198.19.0.1", "weight": 0}, {"address": "198.19.0.2"}],
        ),
        ("server a 198.19.0.1 ssl", "server", None),
        (
            "server a 198.19.0.1 backup\nserver b 198.19.0.2 backup",
            "backup",
            [
                {"name": "a", "server": [{"address": "198.19.0.1"}]},
                {"name": "b", "server": [{"address": "198.19.0.2"}]},
            ],
        ),
        (
            "option allbackups\nserver a 198.19.0.1 backup\nserver b 198.19.0.2 backup",
            "backup",
            [{"name": "backup", "server": [{"address": "198.19.0.1"}, {"address": "198.19.0.2"}]}],
        ),
    ],
)
def test_a_setting_of_haproxy(body: str, key: str, value: object) -> None:
    assert haproxy(body)[0].get(key) == value


@pytest.mark.parametrize(
    ("body", "health"),
    [
        ("server a 198.19.0.1:80", None),
        ("server a 198.19.0.1:80 check", {"type": "tcp"}),
        ("default-server check\nserver a 198.19.0.1:80 no-check", None),
        (
            "default-server check inter 5s\nserver a 198.19.0.1:80",
            {"type": "tcp", "interval": "5s", "timeout": "5s"},
        ),
        (
            "timeout check 1s\nserver a 198.19.0.1:80 check rise 4 fall 5",
            {"type": "tcp", "timeout": "1s", "rise": 4, "fall": 5},
        ),
        (
            "server a 198.19.0.1:80 check port 81 addr 198.19.9.9",
            {"type": "tcp", "port": 81, "address": "198.19.9.9"},
        ),
        (
            "option httpchk\nserver a 198.19.0.1:80 check",
            {"type": "http", "path": "/", "status": ["200-399"]},
        ),
        (
            "option httpchk HEAD /x HTTP/1.1\\r\\nHost:\\ w.example\nserver a 198.19.0.1:80 check",
            {"type": "http", "path": "/x", "method": "HEAD", "host": "w.example", "status": ["200-399"]},
        ),
        (
            "option httpchk GET /x\nhttp-check expect status 200,204-206\nserver a 198.19.0.1:80 check",
            {"type": "http", "path": "/x", "status": [200, "204-206"]},
        ),
        (
            "option httpchk GET /x\nhttp-check expect string a.b\nserver a 198.19.0.1:80 check",
            {"type": "http", "path": "/x", "body": "a\\.b", "status": ["200-399"]},
        ),
        ("option smtpchk EHLO lb1\nserver a 198.19.0.1:80 check", {"type": "smtp", "helo": "lb1"}),
        ("option redis-check\nserver a 198.19.0.1:80 check", {"type": "tcp"}),
    ],
)
def test_a_check_of_haproxy(body: str, health: dict[str, Any] | None) -> None:
    basis = {"interval": "2s", "timeout": "2s", "rise": 2, "fall": 3, "start": "up"}
    assert haproxy(body)[0].get("health") == (basis | health if health else None)


@pytest.mark.parametrize(
    ("bind", "listens"),
    [
        ("203.0.113.10:80", ["tcp://203.0.113.10:80"]),
        ("ipv4@203.0.113.10:80", ["tcp://203.0.113.10:80"]),
        ("[2001:db8::1]:80,203.0.113.10:81", ["tcp://[2001:db8::1]:80", "tcp://203.0.113.10:81"]),
        ("2001:db8::1:80", ["tcp://[2001:db8::1]:80"]),
        ("203.0.113.10:80-82", [f"tcp://203.0.113.10:{port}" for port in (80, 81, 82)]),
        (":80", ["tcp://*:80"]),
        ("*:80", ["tcp://*:80"]),
        (":::80 v6only", ["tcp://*:80"]),
        ("203.0.113.10:443 ssl crt x", []),
        ("/run/x.sock", []),
        ("quic4@203.0.113.10:443", []),
    ],
)
def test_a_bind_of_haproxy(bind: str, listens: list[str]) -> None:
    assert [each["listen"] for each in services("haproxy", f"listen web\nbind {bind}\n")] == listens


def test_a_source_of_haproxy_is_a_local_address() -> None:
    text = "listen web\nbind 203.0.113.10:80\nsource 198.19.1.1\nserver a 198.19.0.1 source 198.19.1.2:1024-2000\n"
    document = tomllib.loads(imported("haproxy", text, local_addresses=()).text)
    assert document["snat"]["addresses"] == ["198.19.1.1", "198.19.1.2"]


def test_defaults_hold_for_what_follows_them() -> None:
    text = (
        "defaults\nbalance first\nlisten a\nbind 203.0.113.1:80\n"
        "defaults two\nbalance leastconn\nlisten b\nbind 203.0.113.2:80\n"
        "defaults three from two\ntimeout client 9s\nlisten c\nbind 203.0.113.3:80\nlisten d from two\nbind 203.0.113.4:80\n"
    )
    got = services("haproxy", text)
    assert [each["scheduler"] for each in got] == ["fo", "wlc", "wlc", "wlc"]
    assert [bool(each.get("timeouts")) for each in got] == [False, False, True, False]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("mode tcp", 'f:1: found "mode", accepted: a section such as defaults or listen'),
        ("listen", "f:1: listen: a value is missing"),
        (
            "listen a\nbind 203.0.113.1",
            'f:2: bind: found "203.0.113.1", accepted: ADDRESS:PORT or ADDRESS:PORT-PORT',
        ),
        ("listen a\nserver b\nbind :1", "f:2: server: accepted: server NAME ADDRESS:PORT"),
        ("listen a\nbind :1\nserver b 198.19.0.1 weight", 'f:3: "weight": a value is missing'),
        ("listen a\nbind :1\nserver b 198.19.0.1 weight 300", 'f:3: weight: found "300", accepted: 0-256'),
        ("listen a\nbind :1\nserver b 198.19.0.1 check inter x", "f:3: inter: found "),
        ("frontend a\nbind :1\ndefault_backend b", 'f:3: default_backend: no backend is named "b"'),
        ("listen a from b", 'f:1: from: no defaults before are named "b"'),
        ("listen a\n.if x", "f:2: .if: which lines count, only haproxy knows; import the file without it"),
        ('listen "', "f:1: a quote is not closed"),
    ],
)
def test_a_wrong_line_of_haproxy(text: str, line: str) -> None:
    assert refusal("haproxy", text).startswith(line)


def test_an_unknown_format_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="keepalived, ldirectord, ipvsadm, haproxy"):
        convert("nginx", "", "f")


def test_text_that_is_no_text_is_refused() -> None:
    assert refusal("ipvsadm", "\n\udc80") == "f:2: the text is not UTF-8"


def test_strings_are_escaped() -> None:
    got = services(
        "haproxy",
        'listen web\nbind 203.0.113.10:80\noption httpchk\nhttp-check expect rstring "a\\\\d\\"\\t"\nserver a 198.19.0.1 check\n',
    )
    assert got[0]["health"]["body"] == 'a\\d"\\t'
