# SPDX-License-Identifier: Apache-2.0
"""[service.health]: one row a mistake with the line it is told in, and what good tables become."""

# ruff: noqa: E501 (a row is a line, and reads like one)

from __future__ import annotations

import re
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from fullnat.control.config import ConfigError, load_config
from fullnat.control.config.health import KEYS, TYPES, HealthTable
from fullnat.core.addr import parse_endpoint
from fullnat.core.service import Health
from fullnat.core.timeouts import SECOND
from fullnat.health.check import (
    DnsOptions,
    FileOptions,
    HealthCheck,
    HttpOptions,
    ScriptOptions,
    SmtpOptions,
    Target,
    TlsOptions,
    UdpOptions,
)


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the checks of the servers and what is wrong, of a text that is the file c.toml."""
    monkeypatch.chdir(tmp_path)

    def load_text(text: str) -> tuple[list[HealthCheck | None], list[str]]:
        Path("c.toml").write_text(text)
        try:
            config = load_config(Path("c.toml"))
        except ConfigError as error:
            return [], [str(problem) for problem in error.problems]
        assert config.warnings == ()
        return [server.health for server in config.services[0].pools[0].servers], []

    return load_text


HEAD = 'version = 1\n[snat]\naddresses = ["198.19.0.1"]\n[[service]]\nlisten = "tcp://203.0.113.10:80"\n'
SERVER = '[[service.server]]\naddress = "198.19.0.11"\n'


def tables(service: str, server: str | None = None) -> str:
    """A service with a table of health whose keys begin on line 7, and a server, perhaps with one too."""
    own = "" if server is None else f"[service.server.health]\n{server}\n"
    return f"{HEAD}[service.health]\n{service}\n{SERVER}{own}"


MISTAKES = {
    "no type": ("rise = 2", ["c.toml:6: service[1].health.type: missing, accepted: " + ", ".join(f'"{t}"' for t in TYPES[:-1]) + ' or "off"']),
    "unknown type": ('type = "ldap"', ['c.toml:7: service[1].health.type: found "ldap", accepted: ' + ", ".join(f'"{t}"' for t in TYPES[:-1]) + ' or "off"']),
    "unknown key": ('type = "tcp"\nintervall = 2', ['c.toml:8: service[1].health.intervall: unknown key; did you mean "interval"?']),
    "key of another type": ('type = "icmp"\nport = 80', ['c.toml:8: service[1].health.port: not a key of type "icmp", accepted: address, fall, interval, jitter, rise, source, start, timeout, type']),
    "path of tcp": ('type = "tcp"\npath = "/"', ['c.toml:8: service[1].health.path: not a key of type "tcp", accepted: address, fall, interval, jitter, port, rise, source, start, timeout, type']),
    "timeout": ('type = "tcp"\ninterval = "1s"\ntimeout = "2s"', ['c.toml:9: service[1].health.timeout: found "2s", accepted: at most interval']),
    "interval below the default timeout": ('type = "tcp"\ninterval = "500ms"', ['c.toml:8: service[1].health.interval: found "500ms", accepted: at most interval']),
    "refused interval": ('type = "tcp"\ninterval = 0\ntimeout = "9s"', ['c.toml:8: service[1].health.interval: found 0, accepted: 1ms to 8760h, as seconds or as in "500ms", "2s", "5m", "1h"']),
    "jitter": ('type = "tcp"\njitter = 51', ["c.toml:8: service[1].health.jitter: found 51, accepted: 0-50"]),
    "start": ('type = "tcp"\nstart = "dead"', ['c.toml:8: service[1].health.start: found "dead", accepted: "unknown", "up" or "down"']),
    "rise": ('type = "tcp"\nrise = 0', ["c.toml:8: service[1].health.rise: found 0, accepted: 1-1000"]),
    "source of the other family": ('type = "tcp"\nsource = "2001:db8::1"', ['c.toml:8: service[1].health.source: found "2001:db8::1", accepted: an IPv4 address, as the one checked is']),
    "source unlike address": ('type = "tcp"\naddress = "2001:db8::2"\nsource = "198.19.0.1"', ['c.toml:9: service[1].health.source: found "198.19.0.1", accepted: an IPv6 address, as the one checked is']),
    "address": ('type = "tcp"\naddress = "127.0.0.1"', ['c.toml:8: service[1].health.address: found "127.0.0.1", accepted: a unicast address; 127.0.0.1 is loopback']),
    "no path": ('type = "http"\npath = "healthz"', ['c.toml:8: service[1].health.path: found "healthz", accepted: an absolute path like "/healthz"']),
    "blank in a path": ('type = "http"\npath = "/a b"', ['c.toml:8: service[1].health.path: found "/a b", accepted: a path without blanks, in ASCII']),
    "a line break in a path": ('type = "http"\npath = "/\\r\\nX: y"', ['c.toml:8: service[1].health.path: found "/\\r\\nX: y", accepted: an absolute path like "/healthz"']),
    "a line break in host": ('type = "http"\nhost = "a\\r\\nX: y"', ['c.toml:8: service[1].health.host: found "a\\r\\nX: y", accepted: a host name, with a port or not']),
    "body": ('type = "http"\nbody = "("', ['c.toml:8: service[1].health.body: found "(", accepted: a regular expression; missing ), unterminated subpattern at position 0']),
    "body beyond counting": (
        'type = "http"\nbody = "a{99999999999999999999}"',
        [
            'c.toml:8: service[1].health.body: found "a{99999999999999999999}", accepted: a regular expression; the repetition number is too large'
        ],
    ),
    "status": ('type = "http"\nstatus = ["299-200"]', ['c.toml:8: service[1].health.status[1]: found "299-200", accepted: codes like 200 or ranges like "200-299"']),
    "no status": ('type = "http"\nstatus = []', ["c.toml:8: service[1].health.status: found [], accepted: at least one code"]),
    "digest": ('type = "http"\ndigest = "md5:00"', ['c.toml:8: service[1].health.digest: found "md5:00", accepted: "sha256:" and 64 hexadecimal digits']),
    "body of HEAD": ('type = "http"\nmethod = "HEAD"\nbody = "x"', ['c.toml:8: service[1].health.method: found "HEAD", accepted: "GET" with body or digest']),
    "ca": ('type = "https"\nca = "absent.pem"', ['c.toml:8: service[1].health.ca: found "absent.pem", accepted: the path of a file that is there']),
    "verify of http": ('type = "http"\nverify = false', ['c.toml:8: service[1].health.verify: not a key of type "http", accepted: ' + ", ".join(sorted(KEYS["http"]))]),
    "domain": ('type = "dns"\nname = "a..b"', ['c.toml:8: service[1].health.name: found "a..b", accepted: a domain name']),
    "label": (f'type = "dns"\nname = "{"a" * 64}."', [f'c.toml:8: service[1].health.name: found "{"a" * 59}…", accepted: a domain name']),
    "rcode": ('type = "dns"\nrcode = "OK"', ['c.toml:8: service[1].health.rcode: found "OK", accepted: "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP" or "REFUSED"']),
    "send twice": ('type = "udp"\nsend = "a"\nsend_hex = "00"', ['c.toml:9: service[1].health.send_hex: found "00", accepted: send or send_hex, not both']),
    "half a byte": ('type = "udp"\nsend_hex = "0"', ['c.toml:8: service[1].health.send_hex: found "0", accepted: pairs of hexadecimal digits']),
    "no command": ('type = "script"', ["c.toml:6: service[1].health.command: missing, accepted: a list of strings: a program's absolute path, arguments"]),
    "relative command": ('type = "script"\ncommand = ["check.sh"]', ["c.toml:8: service[1].health.command: found a list, accepted: a program's absolute path first"]),
    "a command line": ('type = "script"\ncommand = "/bin/true -x"', ["c.toml:8: service[1].health.command: found \"/bin/true -x\", accepted: a list of strings: a program's absolute path, arguments"]),
    "no file": ('type = "file"', ["c.toml:6: service[1].health.path: missing, accepted: the absolute path of a file"]),
}  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES)
def test_every_mistake_is_one_line(load: Any, case: str) -> None:
    text, lines = MISTAKES[case]
    assert load(tables(text))[1] == lines
    assert load(tables(text, server=""))[1] == lines  # and is told once


GOOD = {
    'type = "tcp"': HealthCheck("tcp"),
    'type = "off"\npath = "/x"\ndynamic = true\ninterval = "1ms"': HealthCheck("off", interval=SECOND // 1000),
    'type = "icmp"\ninterval = 10\ntimeout = "500ms"\nrise = 3\nfall = 1\njitter = 0\nstart = "down"': HealthCheck("icmp", None, 10 * SECOND, SECOND // 2, 3, 1, 0, Health.DOWN),
    'type = "tcp"\naddress = "198.19.0.9"\nport = 81\nsource = "198.19.0.1"': HealthCheck("tcp", address=ip_address("198.19.0.9"), port=81, source=ip_address("198.19.0.1")),
    'type = "http"': HealthCheck("http", HttpOptions()),
    'type = "http"\npath = "/h?a=b"\nhost = "www.example:8080"\nmethod = "HEAD"\nstatus = [204, "300-302"]': HealthCheck("http", HttpOptions("/h?a=b", "www.example:8080", "HEAD", ((204, 204), (300, 302)))),
    f'type = "http"\nbody = "o+k"\ndigest = "sha256:{sha256(b"x").hexdigest()}"': HealthCheck("http", HttpOptions(body=re.compile(b"o+k"), digest=sha256(b"x").digest())),
    'type = "https"\nsni = "www.example"\nverify = false\nca = "ca.pem"': HealthCheck("https", HttpOptions(tls=TlsOptions("www.example", False, Path("ca.pem")))),
    'type = "dns"\nname = "example.org"\nquery = "AAAA"\nrcode = "NXDOMAIN"': HealthCheck("dns", DnsOptions("example.org", "AAAA", "NXDOMAIN")),
    'type = "udp"\nsend = "pi\\tng"\nexpect = "^pong"': HealthCheck("udp", UdpOptions(b"pi\tng", re.compile(b"^pong"))),
    'type = "udp"\nsend_hex = "00 ff"\nexpect = ""': HealthCheck("udp", UdpOptions(b"\0\xff", re.compile(b""))),
    'type = "smtp"\nhelo = "lb1.example"': HealthCheck("smtp", SmtpOptions("lb1.example")),
    'type = "script"\ncommand = ["/bin/check", "a b"]\ndynamic = true': HealthCheck("script", ScriptOptions(("/bin/check", "a b"), True)),
    'type = "file"\npath = "/run/my weight"': HealthCheck("file", FileOptions(Path("/run/my weight"))),
}  # fmt: skip


@pytest.mark.parametrize("text", GOOD)
def test_a_good_table_becomes_a_check(load: Any, text: str) -> None:
    Path("ca.pem").touch()
    assert load(tables(text)) == ([GOOD[text]], [])


MERGED = {
    "a key": ('type = "http"\npath = "/a"\nrise = 5', 'path = "/b"', HealthCheck("http", HttpOptions("/b"), rise=5)),
    "nothing": ('type = "tcp"\nport = 7', "", HealthCheck("tcp", port=7)),
    "another type": ('type = "http"\npath = "/a"\nrise = 5\nport = 81', 'type = "tcp"', HealthCheck("tcp", rise=5, port=81)),
    "https instead of http": ('type = "http"\npath = "/a"', 'type = "https"', HealthCheck("https", HttpOptions("/a", tls=TlsOptions()))),
    "a file is no page": ('type = "file"\npath = "/etc/a"', 'type = "http"', HealthCheck("http", HttpOptions("/"))),
    "off": ('type = "http"\npath = "/a"', 'type = "off"', HealthCheck("off")),
    "on": ('type = "off"\npath = "/a"\nrise = 7', 'type = "tcp"', HealthCheck("tcp", rise=7)),
    "one payload for another": ('type = "udp"\nsend = "a"', 'send_hex = "00"', HealthCheck("udp", UdpOptions(b"\0"))),
}  # fmt: skip


@pytest.mark.parametrize("case", MERGED)
def test_a_servers_table_lies_over_its_services(load: Any, case: str) -> None:
    service, server, check = MERGED[case]
    assert load(tables(service, server)) == ([check], [])


def test_a_servers_table_stands_alone_where_the_service_has_none(load: Any) -> None:
    other = SERVER.replace(".11", ".12")
    text = f'{HEAD}{SERVER}[service.server.health]\ntype = "tcp"\n{other}'
    assert load(text) == ([HealthCheck("tcp"), None], [])


def test_what_a_server_makes_wrong_is_told_at_its_own_key(load: Any) -> None:
    _, lines = load(tables('type = "tcp"\ninterval = "2s"', 'timeout = "3s"\npath = "/"'))
    assert lines == [
        'c.toml:12: service[1].server[1].health.timeout: found "3s", accepted: at most interval',
        'c.toml:13: service[1].server[1].health.path: not a key of type "tcp", accepted: '
        + ", ".join(sorted(KEYS["tcp"])),
    ]


def test_every_key_belongs_to_a_type() -> None:
    assert frozenset().union(*KEYS.values()) == HealthTable.model_fields.keys()


def test_the_target_comes_from_the_first_lip_of_its_family() -> None:
    lips = [ip_address(text) for text in ("2001:db8::1", "198.19.0.1", "198.19.0.2")]
    server = parse_endpoint("198.19.0.11:80")
    assert HealthCheck("tcp").target(server, lips) == Target(server.address, 80, lips[1])
    assert HealthCheck("tcp").target(server, lips[:1]).source is None
    other = ip_address("2001:db8::9")
    assert HealthCheck("tcp", address=other, port=81).target(server, lips) == Target(other, 81, lips[0])
    assert HealthCheck("tcp", source=lips[2]).target(server, lips).source == lips[2]
