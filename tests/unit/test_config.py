# SPDX-License-Identifier: Apache-2.0
"""Config files: one row a mistake with the exact line it is told in, and what good files become."""

# ruff: noqa: E501 (a row is a line, and reads like one)

from __future__ import annotations

import re
from dataclasses import fields
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fullnat.control.config import Config, ConfigError, Problem, json_schema, load_config, services, supported
from fullnat.control.config.schema import TimeoutsTable
from fullnat.core.addr import TCP, UDP, PortRange, parse_endpoint
from fullnat.core.sched.base import Scheduler
from fullnat.core.sched.mh import MaglevHashing
from fullnat.core.sched.wlc import WeightedLeastConnection
from fullnat.core.service import Persistence
from fullnat.core.timeouts import PROFILES, SECOND, Timeouts
from fullnat.kernel.service import Forward, Fwmark

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Load a text as the file c.toml; problems then start with c.toml, without a directory."""
    monkeypatch.chdir(tmp_path)

    def load_text(text: str | bytes) -> Config:
        Path("c.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_config(Path("c.toml"))

    return load_text


def problems(load: Any, text: str | bytes) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        load(text)
    return caught.value.problems


def lines(load: Any, text: str | bytes) -> list[str]:
    return [str(problem) for problem in problems(load, text)]


def errors(load: Any, text: str | bytes) -> list[str]:
    return [str(problem) for problem in problems(load, text) if not problem.is_warning]


# Three lines, and four for a service: what a row adds begins on line 4 or line 8.
HEAD = 'version = 1\n[snat]\naddresses = ["198.19.0.1"]\n'
DUAL = 'version = 1\n[snat]\naddresses = ["198.19.0.1", "2001:db8:1::1"]\n'
WEB = '[[service]]\nlisten = "tcp://203.0.113.10:80"\n[[service.server]]\naddress = "198.19.0.11"\n'
WEB6 = WEB.replace("203.0.113.10", "[2001:db8::10]").replace("198.19.0.11", "[2001:db8:1::11]")


def service(*lines: str) -> str:
    """HEAD and a service with a server; *lines* begin on line 6, in the service's own table."""
    first, second, *server = WEB.splitlines(keepends=True)
    return HEAD + first + second + "".join(line + "\n" for line in lines) + "".join(server)


MARKED = (HEAD + WEB).replace("tcp://203.0.113.10:80", "fwmark://7")
MARKED6 = (DUAL + WEB6).replace("tcp://[2001:db8::10]:80", "fwmark6://7")


def server(*lines: str) -> str:
    """HEAD and a service with a server; *lines* begin on line 8, in the server's table."""
    return HEAD + WEB + "".join(line + "\n" for line in lines)


LISTEN = (
    '"tcp://ADDRESS:PORT", "udp://ADDRESS:PORT", "fwmark://N" or "fwmark6://N", an IPv6 address in brackets'
)
BY_IPVS = "for a service that IPVS serves"
SERVER = '"ADDRESS:PORT" or "ADDRESS", an IPv6 address in brackets'
DURATION = '1ms to 8760h, as seconds or as in "500ms", "2s", "5m", "1h"'
LIP = 'an address "a" or a range "a-b"'

MISTAKES = {
    # the file
    "empty value": ("version =\n", "1: not valid TOML: invalid value (column 10)"),
    "syntax in the middle": (HEAD + "[engine\n" + WEB, "4: not valid TOML: expected ']' at the end of a table declaration (column 8)"),
    "syntax at the end": ('version = 1\nx = "', "2: not valid TOML: unterminated string"),
    "table twice": (HEAD + "[a.b]\n[a.b]\n", "5: not valid TOML: cannot declare a.b twice (column 5)"),
    "key twice": ("version = 1\nversion = 1\n", "2: not valid TOML: cannot overwrite a value (column 12)"),
    "not UTF-8": (HEAD.encode() + b"# \xff\n", "4: not a text in UTF-8"),
    "a control character": ("version = 1\nx = '\x07'\n", "2: not valid TOML: found invalid character '\\x07' (column 6)"),
    # the top level
    "no version": (HEAD.replace("version = 1", ""), "1: version: missing, accepted: 1"),
    "version of the future": (HEAD.replace("1", "2", 1), "1: version: found 2, accepted: 1"),
    "version as text": (HEAD.replace("1", '"1"', 1), '1: version: found "1", accepted: 1'),
    "version true": (HEAD.replace("1", "true", 1), "1: version: found true, accepted: 1"),
    "unknown key, close": ("instanse = 'a'\n" + HEAD, '1: instanse: unknown key; did you mean "instance"?'),
    "unknown table": (HEAD + "[zzz]\na = 1\n", "4: zzz: unknown key, accepted: api, engine, instance, limits, maintenance, metrics, service, snat, timeouts, version, web"),
    "unknown key in quotes": ('"a.b\\n" = 1\n' + HEAD, '1: "a.b\\n": unknown key, accepted: api, engine, instance, limits, maintenance, metrics, service, snat, timeouts, version, web'),
    "instance too long": ("instance = 'abcdefghijklm'\n" + HEAD, '1: instance: found "abcdefghijklm", accepted: 1-12 letters, digits and -'),
    "instance with a slash": ("instance = '../x'\n" + HEAD, '1: instance: found "../x", accepted: 1-12 letters, digits and -'),
    "value for a table": ("engine = 3\n" + HEAD, "1: engine: found 3, accepted: a table"),
    "one bracket for a service": (HEAD + "[service]\nlisten = 'tcp://203.0.113.10:80'\n", "4: service: found a table, accepted: [[service]] tables"),
    "number for a service": ("service = [3]\n" + HEAD, "1: service[1]: found 3, accepted: [[service]] tables"),
    # [engine]
    "datapath misspelt": (HEAD + '[engine]\ndatapath = "ebfp"\n', '5: engine.datapath: found "ebfp", accepted: "auto", "ebpf", "native" or "python"'),
    "tune as number": (HEAD + "[engine]\ntune = 0\n", "5: engine.tune: found 0, accepted: true or false"),
    "no workers": (HEAD + "[engine]\nworkers = 0\n", "5: engine.workers: found 0, accepted: 1-64"),
    "workers of engine python": (HEAD + '[engine]\nworkers = 2\ndatapath = "python"\n', '5: engine.workers: found 2, accepted: 1 with datapath "python"'),
    "workers beyond the last queue": (HEAD + "[engine]\nqueue = 65530\nworkers = 6\n", "5: engine.queue: found 65530, accepted: 0-65529, for 7 queues are needed from it on"),
    "fallback misspelt": (HEAD + '[engine]\nfallback = "lvs"\n', '5: engine.fallback: found "lvs", accepted: "auto", "ipvs", "iptables" or "none"'),
    "queue too large": (HEAD + "[engine]\nqueue = 65536\n", "5: engine.queue: found 65536, accepted: 0-65535"),
    "queue enormous": (HEAD + "[engine]\nqueue = 0x" + "f" * 5000 + "\n", "5: engine.queue: found a huge number, accepted: 0-65535"),
    "queue as float": (HEAD + "[engine]\nqueue = 1.0\n", "5: engine.queue: found 1.0, accepted: 0-65535"),
    "queue as date": (HEAD + "[engine]\nqueue = 1979-05-27\n", "5: engine.queue: found 1979-05-27, accepted: 0-65535"),
    "flag as text": (HEAD + '[engine]\nadd_addresses = "yes"\n', '5: engine.add_addresses: found "yes", accepted: true or false'),
    # [snat]
    "no snat": ("version = 1\n", '1: snat.addresses: missing, accepted: a list of addresses "a" or ranges "a-b"'),
    "no LIP": (HEAD.replace('"198.19.0.1"', ""), "3: snat.addresses: found [], accepted: at least one address"),
    "LIPs as text": (HEAD.replace("[198", "198").replace('["198.19.0.1"]', '"198.19.0.1"'), '3: snat.addresses: found "198.19.0.1", accepted: a list of addresses "a" or ranges "a-b"'),
    "LIP as prefix": (HEAD.replace("0.1", "0.0/24"), f'3: snat.addresses[1]: found "198.19.0.0/24", accepted: {LIP}'),
    "LIP as name": (HEAD.replace("198.19.0.1", "lip"), f'3: snat.addresses[1]: found "lip", accepted: {LIP}'),
    "LIP as number": (HEAD.replace('"198.19.0.1"', "3"), f"3: snat.addresses[1]: found 3, accepted: {LIP}"),
    "second LIP, on its own line": (HEAD.replace('.1"]', '.1",\n  "::1"]'), '4: snat.addresses[2]: found "::1", accepted: a unicast address; ::1 is loopback'),
    "LIP multicast": (HEAD.replace("198.19.0.1", "224.0.0.1"), '3: snat.addresses[1]: found "224.0.0.1", accepted: a unicast address; 224.0.0.1 is multicast'),
    "LIP unspecified": (HEAD.replace("198.19.0.1", "0.0.0.0"), '3: snat.addresses[1]: found "0.0.0.0", accepted: a unicast address; 0.0.0.0 is unspecified'),
    "LIP broadcast at the end of a range": (HEAD.replace("198.19.0.1", "255.255.255.250-255.255.255.255"), '3: snat.addresses[1]: found "255.255.255.250-255.255.255.255", accepted: a unicast address; 255.255.255.255 is broadcast'),
    "LIP inside a range": (HEAD.replace("198.19.0.1", "223.255.255.250-224.0.0.5"), '3: snat.addresses[1]: found "223.255.255.250-224.0.0.5", accepted: a unicast address; 224.0.0.5 is multicast'),
    "LIP with a zone": (HEAD.replace("198.19.0.1", "fe80::1%eth0"), '3: snat.addresses[1]: found "fe80::1%eth0", accepted: an address without %interface'),
    "LIP IPv4-mapped": (HEAD.replace("198.19.0.1", "::ffff:198.19.0.1"), '3: snat.addresses[1]: found "::ffff:198.19.0.1", accepted: 198.19.0.1, as IPv4 writes it'),
    "range backwards": (HEAD.replace("0.1", "0.9-198.19.0.1"), f'3: snat.addresses[1]: found "198.19.0.9-198.19.0.1", accepted: {LIP}'),
    "range of two families": (HEAD.replace("0.1", "0.1-2001:db8::1"), f'3: snat.addresses[1]: found "198.19.0.1-2001:db8::1", accepted: {LIP}'),
    "range of 257": (HEAD.replace("0.1", "0.0-198.19.1.0"), '3: snat.addresses[1]: found "198.19.0.0-198.19.1.0", accepted: at most 256 addresses'),
    "range of most of IPv6": (DUAL.replace("2001:db8:1::1", "2001::-2002::"), '3: snat.addresses[2]: found "2001::-2002::", accepted: at most 256 addresses'),
    "ranges of 257 together": (DUAL.replace("0.1", "0.0-198.19.0.255"), "3: snat.addresses: found 257 addresses, accepted: at most 256"),
    "ports below 1024": (HEAD + 'ports = "1023-2000"\n', '4: snat.ports: found "1023-2000", accepted: "low-high" within 1024-65535'),
    "ports above 65535": (HEAD + 'ports = "1024-65536"\n', '4: snat.ports: found "1024-65536", accepted: "low-high" within 1024-65535'),
    "ports backwards": (HEAD + 'ports = "3000-2000"\n', '4: snat.ports: found "3000-2000", accepted: "low-high" within 1024-65535'),
    "ports as number": (HEAD + "ports = 2000\n", '4: snat.ports: found 2000, accepted: "low-high" within 1024-65535'),
    "rest of nothing": (HEAD + "rest = 0\n", f"4: snat.rest: found 0, accepted: {DURATION}"),
    "rest without unit": (HEAD + 'rest = "60"\n', f'4: snat.rest: found "60", accepted: {DURATION}'),
    "rest in days": (HEAD + 'rest = "1d"\n', f'4: snat.rest: found "1d", accepted: {DURATION}'),
    "rest negative": (HEAD + "rest = -1.5\n", f"4: snat.rest: found -1.5, accepted: {DURATION}"),
    "rest infinite": (HEAD + "rest = inf\n", f"4: snat.rest: found inf, accepted: {DURATION}"),
    "rest not a number": (HEAD + "rest = nan\n", f"4: snat.rest: found nan, accepted: {DURATION}"),
    "rest past a year": (HEAD + 'rest = "8761h"\n', f'4: snat.rest: found "8761h", accepted: {DURATION}'),
    "rest under a millisecond": (HEAD + "rest = 0.0001\n", f"4: snat.rest: found 0.0001, accepted: {DURATION}"),
    "rest true": (HEAD + "rest = true\n", f"4: snat.rest: found true, accepted: {DURATION}"),
    # [timeouts], [limits]
    "profile unknown": (HEAD + '[timeouts]\nprofile = "ipvs"\n', '5: timeouts.profile: found "ipvs", accepted: "lvs", "rfc" or "edge"'),
    "timeout unknown": (HEAD + "[timeouts]\ntcp_establish = 3\n", '5: timeouts.tcp_establish: unknown key; did you mean "tcp_established"?'),
    "timeout bad": (HEAD + "[timeouts]\nicmp = []\n", f"5: timeouts.icmp: found [], accepted: {DURATION}"),
    "no flow allowed": (HEAD + "[limits]\nflows = 0\n", "5: limits.flows: found 0, accepted: 1-100000000"),
    # [[service]]
    "no listen": (HEAD + '[[service]]\nname = "a"\n[[service.server]]\naddress = "198.19.0.11:80"\n', f"4: service[1].listen: missing, accepted: {LISTEN}"),
    "listen without scheme": (service().replace("tcp://", ""), f'5: service[1].listen: found "203.0.113.10:80", accepted: {LISTEN}'),
    "listen on sctp": (service().replace("tcp", "sctp"), f'5: service[1].listen: found "sctp://203.0.113.10:80", accepted: {LISTEN}'),
    "listen without port": (service().replace("10:80", "10"), f'5: service[1].listen: found "tcp://203.0.113.10", accepted: {LISTEN}'),
    "listen on port 0": (service().replace(":80", ":0"), f'5: service[1].listen: found "tcp://203.0.113.10:0", accepted: {LISTEN}'),
    "listen on port 65536": (service().replace(":80", ":65536"), f'5: service[1].listen: found "tcp://203.0.113.10:65536", accepted: {LISTEN}'),
    "listen without brackets": (DUAL + WEB6.replace("[2001:db8::10]", "2001:db8::10"), f'5: service[1].listen: found "tcp://2001:db8::10:80", accepted: {LISTEN}'),
    "listen on a name": (service().replace("203.0.113.10", "web"), f'5: service[1].listen: found "tcp://web:80", accepted: {LISTEN}'),
    "listen on multicast": (service().replace("203.0.113.10", "239.0.0.1"), '5: service[1].listen: found "tcp://239.0.0.1:80", accepted: a unicast address; 239.0.0.1 is multicast'),
    "listen on loopback": (service().replace("203.0.113.10", "127.0.0.1"), '5: service[1].listen: found "tcp://127.0.0.1:80", accepted: a unicast address; 127.0.0.1 is loopback'),
    "listen on all": (DUAL + WEB6.replace("2001:db8::10", "::"), '5: service[1].listen: found "tcp://[::]:80", accepted: a unicast address; :: is unspecified'),
    "listen on broadcast": (service().replace("203.0.113.10", "255.255.255.255"), '5: service[1].listen: found "tcp://255.255.255.255:80", accepted: a unicast address; 255.255.255.255 is broadcast'),
    "a mark of 0": (MARKED.replace("//7", "//0"), '5: service[1].listen: found "fwmark://0", accepted: "fwmark://N" with a mark of 1-4294967295'),
    "a mark beyond the last": (MARKED6.replace("//7", "//4294967296"), '5: service[1].listen: found "fwmark6://4294967296", accepted: "fwmark6://N" with a mark of 1-4294967295'),
    "a mark in hexadecimal": (MARKED.replace("//7", "//0x7"), '5: service[1].listen: found "fwmark://0x7", accepted: "fwmark://N" with a mark of 1-4294967295'),
    "a mark twice": (MARKED + MARKED.removeprefix(HEAD), '9: service[2].listen: found "fwmark://7", accepted: a listen no other service has; service[1].listen on line 5 has it'),
    "a mark without LIPs of its family": (MARKED6.replace(DUAL, HEAD), '5: service[1].listen: found "fwmark6://7", accepted: an IPv4 mark, or this with an IPv6 one in snat.addresses'),
    "a server of another family than the mark": (MARKED6.replace("[2001:db8:1::11]", "198.19.0.11"), '7: service[1].server[1].address: found "198.19.0.11", accepted: an IPv6 address, as the service\'s listen is'),
    "forward misspelt": (service('forward = "masq"'), '6: service[1].forward: found "masq", accepted: "fullnat", "nat", "dr" or "tun"'),
    "a scheduler that IPVS has not": (service('forward = "dr"', 'scheduler = "random"'), f'7: service[1].scheduler: found "random", accepted: dh, fo, lblc, lblcr, lc, mh, nq, ovf, rr, sed, sh, twos, wlc, wrr {BY_IPVS}'),
    "a scheduler of one's own by mark": (MARKED.replace("[[service.server", 'scheduler = "own.py:Own"\n[[service.server'), f'6: service[1].scheduler: found "own.py:Own", accepted: dh, fo, lblc, lblcr, lc, mh, nq, ovf, rr, sed, sh, twos, wlc, wrr {BY_IPVS}'),
    "a flag that IPVS has not": (service('forward = "nat"', 'scheduler = "sh"', 'scheduler_flags = ["mh-port"]'), '8: service[1].scheduler_flags[1]: found "mh-port", accepted: sh-fallback, sh-port with scheduler "sh"'),
    "timeouts of IPVS": (service('forward = "tun"', "timeouts = { udp = 200 }"), f"7: service[1].timeouts: found a table, accepted: none {BY_IPVS}: it has its own, which ipvsadm --set changes"),
    "dr to another port": (service('forward = "dr"').replace('9.0.11"', '9.0.11:8080"'), '8: service[1].server[1].address: found "198.19.0.11:8080", accepted: an address without a port: forward = "dr" keeps port 80'),
    "tun by mark to a port": (MARKED.replace("[[service.server", 'forward = "tun"\n[[service.server').replace('9.0.11"', '9.0.11:80"'), '8: service[1].server[1].address: found "198.19.0.11:80", accepted: an address without a port: forward = "tun" keeps the port the client asked for'),
    "one packet of TCP by nat": (service('forward = "nat"', "one_packet = true"), "7: service[1].one_packet: found true, accepted: false for a tcp:// service"),
    "listen twice": (HEAD + WEB + WEB, '9: service[2].listen: found "tcp://203.0.113.10:80", accepted: a listen no other service has; service[1].listen on line 5 has it'),
    "no LIP of the family, IPv6": (HEAD + WEB6, '5: service[1].listen: found "tcp://[2001:db8::10]:80", accepted: an IPv4 address, or this with an IPv6 one in snat.addresses'),
    "no LIP of the family, IPv4": (HEAD.replace("198.19.0.1", "2001:db8:1::1") + WEB, '5: service[1].listen: found "tcp://203.0.113.10:80", accepted: an IPv6 address, or this with an IPv4 one in snat.addresses'),
    "name twice": (service('name = "a"') + WEB.replace(":80", ':81"\nname = "a'), '11: service[2].name: found "a", accepted: a name no other service has; service[1].name on line 6 has it'),
    "name that another gets by default": (HEAD + WEB + WEB.replace(":80", ':81"\nname = "tcp-203.0.113.10-80'), '10: service[2].name: found "tcp-203.0.113.10-80", accepted: a name no other service has; service[1].name on line 4 has it'),
    "name with a blank": (service('name = "a b"'), '6: service[1].name: found "a b", accepted: 1-64 letters, digits and . _ : -'),
    "scheduler as number": (service("scheduler = 3", 'scheduler_flags = ["mh-port"]'), "6: service[1].scheduler: found 3, accepted: a string"),
    "scheduler empty": (service('scheduler = ""'), '6: service[1].scheduler: found "", accepted: a string'),
    "flag of another scheduler": (service('scheduler = "mh"', 'scheduler_flags = ["mh-port",', '"sh-port"]'), '8: service[1].scheduler_flags[2]: found "sh-port", accepted: mh-fallback, mh-port with scheduler "mh"'),
    "flag without flags": (service('scheduler_flags = ["mh-port"]'), '6: service[1].scheduler_flags[1]: found "mh-port", accepted: none with scheduler "wlc"'),
    "flags as text": (service('scheduler_flags = "mh-port"'), '6: service[1].scheduler_flags: found "mh-port", accepted: a list of strings'),
    "flag as number": (service("scheduler_flags = [3]"), "6: service[1].scheduler_flags[1]: found 3, accepted: a string"),
    "persistence as number": (service("persistence = 300"), "6: service[1].persistence: found 300, accepted: a table like { timeout = 300, mask = 32 }"),
    "persistence timeout": (service("persistence = { timeout = -1 }"), f"6: service[1].persistence.timeout: found -1, accepted: {DURATION}"),
    "persistence key": (service("persistence = { netmask = 24 }"), '6: service[1].persistence.netmask: unknown key; did you mean "mask"?'),
    "mask of 33": (service("persistence = { mask = 33 }"), "6: service[1].persistence.mask: found 33, accepted: 1-32 for an IPv4 service"),
    "mask of 0": (service("persistence = { mask = 0 }"), '6: service[1].persistence.mask: found 0, accepted: 1-32 for IPv4, 1-128 for IPv6, or a netmask like "255.255.255.0"'),
    "mask of 129": (DUAL + WEB6.replace("[[service.", "persistence.mask = 129\n[[service."), '6: service[1].persistence.mask: found 129, accepted: 1-32 for IPv4, 1-128 for IPv6, or a netmask like "255.255.255.0"'),
    "netmask for IPv6": (DUAL + WEB6.replace("[[service.", "persistence.mask = '255.255.0.0'\n[[service."), '6: service[1].persistence.mask: found "255.255.0.0", accepted: 1-128 for an IPv6 service'),
    "netmask with a hole": (service('persistence.mask = "255.0.255.0"'), '6: service[1].persistence.mask: found "255.0.255.0", accepted: 1-32 for IPv4, 1-128 for IPv6, or a netmask like "255.255.255.0"'),
    "netmask inverted": (service('persistence.mask = "0.0.0.255"'), '6: service[1].persistence.mask: found "0.0.0.255", accepted: 1-32 for IPv4, 1-128 for IPv6, or a netmask like "255.255.255.0"'),
    "netmask of nothing": (service('persistence.mask = "0.0.0.0"'), '6: service[1].persistence.mask: found "0.0.0.0", accepted: 1-32 for IPv4, 1-128 for IPv6, or a netmask like "255.255.255.0"'),
    "one_packet with TCP": (service("one_packet = true"), "6: service[1].one_packet: found true, accepted: false for a tcp:// service"),
    "one_packet with persistence": (service("one_packet = true", "persistence = {}").replace("tcp", "udp"), "6: service[1].one_packet: found true, accepted: false for a service with persistence"),
    # pools
    "quorum of none": (service("quorum = 0"), "6: service[1].quorum: found 0, accepted: 1-4294967295"),
    "hysteresis as wide as the quorum": (service("quorum = 3", "hysteresis = 3"), "7: service[1].hysteresis: found 3, accepted: less than quorum, which is 3"),
    "pool named like another": (server("[[service.backup]]", 'name = "b"', "[[service.backup]]", 'name = "b"'), '11: service[1].backup[2].name: found "b", accepted: a name no other pool of the service has; service[1].backup[1].name on line 9 has it'),
    "pool named main": (server("[[service.backup]]", 'name = "main"'), '9: service[1].backup[1].name: found "main", accepted: a name other than main and sorry'),
    "server of two pools": (server("[[service.backup]]", "[[service.backup.server]]", 'address = "198.19.0.11"'), '10: service[1].backup[1].server[1].address: found "198.19.0.11", accepted: an address no other server of the service has; service[1].server[1].address on line 7 has it'),
    "sorry server of a pool": (service('sorry = "198.19.0.11"'), '6: service[1].sorry: found "198.19.0.11", accepted: an address no other server of the service has; service[1].server[1].address on line 8 has it'),
    "sorry server of the other family": (service('sorry = "[2001:db8:1::11]"'), "6: service[1].sorry: found \"[2001:db8:1::11]\", accepted: an IPv4 address, as the service's listen is"),
    "on_down misspelt": (service('on_down = "kill"'), '6: service[1].on_down: found "kill", accepted: "keep" or "reset"'),
    "slow start of no time": (service("slow_start = 0"), '6: service[1].slow_start: found 0, accepted: 1ms to 8760h, as seconds or as in "500ms", "2s", "5m", "1h"'),
    "a check of no kind": (server("[service.health]", 'type = "ping"'), '9: service[1].health.type: found "ping", accepted: "tcp", "http", "https", "dns", "udp", "icmp", "smtp", "script", "file" or "off"'),
    # [api], [web], maintenance
    "a user for users": (HEAD + '[api]\nviewers = "ann"\n', '5: api.viewers: found "ann", accepted: a list of users, and of groups as in "@ops"'),
    "a user of no name": (HEAD + '[api]\nadmins = ["ann", ""]\n', '5: api.admins[2]: found "", accepted: a user, or a group as in "@ops"'),
    "a group of no name": (HEAD + '[api]\noperators = ["@"]\n', '5: api.operators[1]: found "@", accepted: a user, or a group as in "@ops"'),
    "a page on a name": (HEAD + '[web]\nlisten = "localhost:8404"\n', '5: web.listen: found "localhost:8404", accepted: "ADDRESS:PORT", an IPv6 address in brackets'),
    "a page without a port": (HEAD + '[web]\nlisten = "127.0.0.1"\n', '5: web.listen: found "127.0.0.1", accepted: "ADDRESS:PORT", an IPv6 address in brackets'),
    "maintenance beside the file": ('maintenance = "drained"\n' + HEAD, '1: maintenance: found "drained", accepted: an absolute path'),
    "service timeout": (server("[service.timeouts]", "udp = 0"), f"9: service[1].timeouts.udp: found 0, accepted: {DURATION}"),
    # [[service.server]]
    "no address": (HEAD + WEB.replace("address", "# address"), f"6: service[1].server[1].address: missing, accepted: {SERVER}"),
    "address as name": (service().replace("198.19.0.11", "web1:80"), f'7: service[1].server[1].address: found "web1:80", accepted: {SERVER}'),
    "address with port 0": (service().replace("198.19.0.11", "198.19.0.11:0"), f'7: service[1].server[1].address: found "198.19.0.11:0", accepted: {SERVER}'),
    "address without brackets": (DUAL + WEB6.replace("[2001:db8:1::11]", "2001:db8:1::11"), f'7: service[1].server[1].address: found "2001:db8:1::11", accepted: {SERVER}'),
    "IPv4 address in brackets": (service().replace("198.19.0.11", "[198.19.0.11]"), f'7: service[1].server[1].address: found "[198.19.0.11]", accepted: {SERVER}'),
    "address loopback": (service().replace("198.19.0.11", "127.0.0.1:80"), '7: service[1].server[1].address: found "127.0.0.1:80", accepted: a unicast address; 127.0.0.1 is loopback'),
    "address of the other family": (HEAD + WEB.replace("198.19.0.11", "[2001:db8:1::11]:80"), '7: service[1].server[1].address: found "[2001:db8:1::11]:80", accepted: an IPv4 address, as the service\'s listen is'),
    "server twice": (server("[[service.server]]", 'address = "198.19.0.11:80"'), '9: service[1].server[2].address: found "198.19.0.11:80", accepted: an address no other server of the service has; service[1].server[1].address on line 7 has it'),
    "server that is its own service": (service().replace("198.19.0.11", "203.0.113.10"), '7: service[1].server[1].address: found "203.0.113.10", accepted: an address that is no service\'s listen; service[1].listen on line 5 has it'),
    "server that is another service": (server() + WEB.replace("10:80", "11:81").replace("198.19.0.11", "203.0.113.10:80"), '11: service[2].server[1].address: found "203.0.113.10:80", accepted: an address that is no service\'s listen; service[1].listen on line 5 has it'),
    "server of one bracket": (HEAD + WEB.replace("[[service.server]]", "[service.server]"), "6: service[1].server: found a table, accepted: [[service.server]] tables"),
    "weight negative": (server("weight = -3"), "8: service[1].server[1].weight: found -3, accepted: 0-65535"),
    "weight as text": (server('weight = "-3"'), '8: service[1].server[1].weight: found "-3", accepted: 0-65535'),
    "weight as flag": (server("weight = true"), "8: service[1].server[1].weight: found true, accepted: 0-65535"),
    "weight misspelt": (server("wieght = 3"), '8: service[1].server[1].wieght: unknown key; did you mean "weight"?'),
    "upper negative": (server("upper = -1", "lower = 3"), "8: service[1].server[1].upper: found -1, accepted: 0-4294967295"),
    "lower above upper": (server("upper = 3", "lower = 4"), "9: service[1].server[1].lower: found 4, accepted: at most upper, which is 3"),
    "a long text with a line break": (server('weight = """x\n' + "y" * 100 + '"""'), f'8: service[1].server[1].weight: found "x\\n{"y" * 57}…", accepted: 0-65535'),
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line(load: Any, text: str | bytes, expected: str) -> None:
    assert errors(load, text) == [f"c.toml:{expected}"]


# Each has one mistake, and something that would be one if the refused value were not there at all.
REFUSED_ONCE = {
    "the LIP of the only IPv6 service": DUAL.replace("2001:db8:1::1", "2001:db8:1:1") + WEB6,
    "all LIPs": HEAD.replace('["198.19.0.1"]', "3") + WEB,
    "no LIPs": HEAD.replace('addresses = ["198.19.0.1"]', "") + WEB,
    "the only server": HEAD + WEB.replace("198.19.0.11", "web1"),
    "all servers": HEAD + WEB.replace("[[service.server]]", "[service.server]"),
    "the only weight above 0": server(
        "weight = -3", "[[service.server]]", 'address = "198.19.0.12"', "weight = 0"
    ),
    "all services": "service = 3\n" + HEAD,
    "the upper of a lower": server("upper = -1", "lower = 3"),
    "the scheduler of a flag": service("scheduler = 3", 'scheduler_flags = ["mh-port"]'),
    "the listen of a name": HEAD + WEB + WEB,
    "the forward of a port": service('forward = "direct"').replace('9.0.11"', '9.0.11:8080"'),
    "the forward of a service without LIPs": HEAD + WEB6.replace("[[service.", 'forward = "x"\n[[service.'),
    "the scheduler of a mark": MARKED.replace("[[service.server", "scheduler = 3\n[[service.server"),
}


@pytest.mark.parametrize("text", REFUSED_ONCE.values(), ids=REFUSED_ONCE)
def test_a_refused_value_is_not_complained_of_a_second_time(load: Any, text: str) -> None:
    assert len(lines(load, text)) == 1


ALL_AT_ONCE = """\
instence = "x"
[engine]
fallback = "lvs"
[snat]
addresses = ["198.19.0.1", "nonsense"]
[timeouts]
udp = 60
[[service]]
name = "a"
listen = "tcp://203.0.113.10:80"
scheduler = "broken.py:Class"
persistence = 300
  [[service.server]]
  address = "198.19.0.11"
  weight = -3
  upper = 3
  lower = 9
  [[service.server]]
  address = "198.19.0.11:80"
[[service]]
name = "a"
listen = "tcp://203.0.113.10:80"
one_packet = true
"""


def test_all_mistakes_of_a_file_are_told_at_once_in_its_order(load: Any) -> None:
    assert lines(load, ALL_AT_ONCE) == [
        "c.toml:1: version: missing, accepted: 1",
        'c.toml:1: instence: unknown key; did you mean "instance"?',
        'c.toml:3: engine.fallback: found "lvs", accepted: "auto", "ipvs", "iptables" or "none"',
        f'c.toml:5: snat.addresses[2]: found "nonsense", accepted: {LIP}',
        "c.toml:7: warning: timeouts.udp: found 60, RFC 4787 REQ-5 demands at least 120 s",
        'c.toml:11: service[1].scheduler: found "broken.py:Class", cannot read broken.py: No such file or directory',
        "c.toml:12: service[1].persistence: found 300, accepted: a table like { timeout = 300, mask = 32 }",
        "c.toml:15: service[1].server[1].weight: found -3, accepted: 0-65535",
        "c.toml:17: service[1].server[1].lower: found 9, accepted: at most upper, which is 3",
        'c.toml:19: service[1].server[2].address: found "198.19.0.11:80", accepted: an address no other server '
        "of the service has; service[1].server[1].address on line 14 has it",
        "c.toml:20: warning: service[2]: no [[service.server]]: every new connection is dropped",
        'c.toml:21: service[2].name: found "a", accepted: a name no other service has; '
        "service[1].name on line 9 has it",
        'c.toml:22: service[2].listen: found "tcp://203.0.113.10:80", accepted: a listen no other service has; '
        "service[1].listen on line 10 has it",
        "c.toml:23: service[2].one_packet: found true, accepted: false for a tcp:// service",
    ]


SHOWN_WITH_OTHERS = {
    name: row
    for name, row in MISTAKES.items()
    if isinstance(row[0], str) and "not valid TOML" not in row[1] and "engine" not in row[0]
}


@pytest.mark.parametrize(("text", "expected"), SHOWN_WITH_OTHERS.values(), ids=SHOWN_WITH_OTHERS)
def test_a_mistake_hides_none_elsewhere(load: Any, text: str, expected: str) -> None:
    assert errors(load, text + "[engine]\nqueue = -1\n") == [
        f"c.toml:{expected}",
        f"c.toml:{text.count(chr(10)) + 2}: engine.queue: found -1, accepted: 0-65535",
    ]


def test_the_text_of_an_error_is_its_problems_a_line_each(load: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        load(ALL_AT_ONCE)
    assert str(caught.value).split("\n") == [str(problem) for problem in caught.value.problems]


WARNINGS = {
    "LIP twice": (HEAD.replace('.1"]', '.1", "198.19.0.0-198.19.0.2"]') + WEB, "3: warning: snat.addresses[2]: 198.19.0.1 is in snat.addresses[1] already"),
    "udp under the floor": (HEAD + '[timeouts]\nudp = "119s"\n' + WEB, '5: warning: timeouts.udp: found "119s", RFC 4787 REQ-5 demands at least 120 s'),
    "established under the floor of rfc": (HEAD + '[timeouts]\nprofile = "rfc"\ntcp_established = 7439\n' + WEB, "6: warning: timeouts.tcp_established: found 7439, RFC 5382 REQ-5 demands at least 7440 s"),
    "unreplied under the floor of rfc": (HEAD + '[timeouts]\nprofile = "rfc"\nudp_unreplied = "1m"\n' + WEB, '6: warning: timeouts.udp_unreplied: found "1m", RFC 4787 REQ-5 demands at least 120 s'),
    "udp of a service": (server("[service.timeouts]", "udp = 30").replace("tcp://203.0.113.10:80", "udp://203.0.113.10:8080"), "9: warning: service[1].timeouts.udp: found 30, RFC 4787 REQ-5 demands at least 120 s"),
    "no service": (HEAD, "1: warning: no [[service]]: nothing is balanced"),
    "no server": (HEAD + WEB[: WEB.index("[[service.server")], "4: warning: service[1]: no [[service.server]]: every new connection is dropped"),
    "no weight": (server("weight = 0"), "4: warning: service[1]: no server of weight above 0: every new connection is dropped"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), WARNINGS.values(), ids=WARNINGS)
def test_a_warning_is_one_line_and_the_file_is_usable(load: Any, text: str, expected: str) -> None:
    assert [str(warning) for warning in load(text).warnings] == [f"c.toml:{expected}"]


@pytest.mark.parametrize(
    "text",
    [
        HEAD + WEB,
        HEAD + '[timeouts]\nprofile = "edge"\n' + WEB,
        HEAD + '[timeouts]\nprofile = "rfc"\ntcp_established = "7440s"\n' + WEB,
        HEAD + "[timeouts]\ntcp_established = 90\nudp = 120\nudp_unreplied = 10\n" + WEB,
        # RFC 4787 REQ-5a: well-known ports may have shorter timeouts
        server("[service.timeouts]", "udp = 15").replace("tcp://203.0.113.10:80", "udp://203.0.113.10:53"),
        # one address and port for both protocols, and a server on the port of the other protocol's listen
        HEAD + WEB + WEB.replace("tcp", "udp"),
        # a VIP that is a LIP, on a port of the pool's range: the pool leaves it out
        HEAD + 'ports = "2000-3000"\n' + WEB.replace("203.0.113.10:80", "198.19.0.1:2500"),
        # the same server in two services, and on two ports of one
        HEAD + WEB + WEB.replace(":80", ":81").replace("198.19.0.11", "198.19.0.11:80"),
        server("[[service.server]]", 'address = "198.19.0.11:81"'),
        server("weight = 0", "[[service.server]]", 'address = "198.19.0.12"'),
        "\ufeff" + HEAD + WEB,
        (HEAD + WEB).replace("\n", "\r\n"),
    ],
)
def test_a_sound_file_has_no_warnings(load: Any, text: str) -> None:
    assert load(text).warnings == ()


def test_defaults_are_those_of_the_reference(load: Any) -> None:
    config = load(HEAD + WEB)
    assert config.instance == "main"
    assert (config.engine.datapath, config.engine.tune, config.engine.fallback) == ("auto", False, "auto")
    assert (config.engine.queue, config.engine.workers, config.engine.add_addresses) == (1080, 1, True)
    assert config.snat.addresses == (ip_address("198.19.0.1"),)
    assert (config.snat.ports, config.snat.rest) == (None, 60 * SECOND)
    assert config.timeouts == PROFILES["lvs"]
    assert (config.limits.flows, config.limits.persistence, config.limits.fragments) == (
        1_000_000,
        100_000,
        4096,
    )
    (web,) = config.services
    assert (web.name, web.protocol, web.listen) == (
        "tcp-203.0.113.10-80",
        TCP,
        parse_endpoint("203.0.113.10:80"),
    )
    assert (web.scheduler, web.scheduler_name, web.scheduler_flags) == (
        WeightedLeastConnection,
        "wlc",
        frozenset(),
    )
    assert (web.persistence, web.one_packet, web.timeouts) == (None, False, PROFILES["lvs"])
    (real,) = web.servers
    assert (real.endpoint, real.weight) == (parse_endpoint("198.19.0.11:80"), 1)
    assert (real.upper, real.lower) == (0, None)


def test_every_value_of_a_file_reaches_the_config(load: Any) -> None:
    config = load(
        """
version = 1
instance = "edge-2"
engine = { datapath = "native", workers = 64, tune = true, fallback = "none", queue = 65471, add_addresses = false }
snat = { addresses = ["198.19.0.9", "198.19.0.1-198.19.0.2", "2001:db8::ff-2001:db8::100"], ports = "2000-2999", rest = 1.5 }
limits = { flows = 1, persistence = 2, fragments = 3 }
[timeouts]
profile = "edge"
icmp = "500ms"
[[service]]
name = "dns"
listen = "udp://[2001:db8::10]:53"
scheduler = "mh"
scheduler_flags = ["mh-port", "mh-fallback"]
persistence = { timeout = "2m", mask = 64 }
timeouts = { udp_unreplied = "1h" }
server = [{ address = "[2001:db8::11]:5353", weight = 65535, upper = 8, lower = 8 }, { address = "[2001:db8::12]", upper = 4 }]
"""
    )
    assert config.instance == "edge-2"
    assert (config.engine.datapath, config.engine.tune, config.engine.fallback) == ("native", True, "none")
    assert (config.engine.queue, config.engine.workers, config.engine.add_addresses) == (65471, 64, False)
    texts = ("198.19.0.9", "198.19.0.1", "198.19.0.2", "2001:db8::ff", "2001:db8::100")
    assert config.snat.addresses == tuple(map(ip_address, texts))
    assert (config.snat.ports, config.snat.rest) == (PortRange(2000, 2999), 1_500_000_000)
    assert (config.limits.flows, config.limits.persistence, config.limits.fragments) == (1, 2, 3)
    assert (config.timeouts.icmp, config.timeouts.udp) == (500_000_000, 120 * SECOND)
    (dns,) = config.services
    assert (dns.name, dns.protocol, str(dns.listen)) == ("dns", UDP, "[2001:db8::10]:53")
    assert (dns.scheduler, dns.scheduler_name) == (MaglevHashing, "mh")
    assert dns.scheduler_flags == {"mh-port", "mh-fallback"}
    assert dns.persistence == Persistence(120 * SECOND, 64)
    assert (dns.timeouts.udp_unreplied, dns.timeouts.icmp) == (3600 * SECOND, 500_000_000)
    first, second = dns.servers
    assert (str(first.endpoint), first.weight, first.upper, first.lower) == (
        "[2001:db8::11]:5353",
        65535,
        8,
        8,
    )
    assert (str(second.endpoint), second.weight, second.upper, second.lower) == (
        "[2001:db8::12]:53",
        1,
        4,
        None,
    )


@pytest.mark.parametrize(
    ("written", "nanoseconds"),
    [
        ("1", 10**9),
        ("0.25", 250_000_000),
        ('"1ms"', 10**6),
        ('"0.5s"', 500_000_000),
        ('"5m"', 300 * 10**9),
        ('"1h"', 3600 * 10**9),
        ('"8760h"', 8760 * 3600 * 10**9),
        ("31536000", 8760 * 3600 * 10**9),
    ],
)
def test_a_duration_is_read_in_nanoseconds(load: Any, written: str, nanoseconds: int) -> None:
    assert load(HEAD + f"rest = {written}\n" + WEB).snat.rest == nanoseconds


@pytest.mark.parametrize(
    ("written", "prefix"), [("1", 1), ("32", 32), ('"255.255.255.0"', 24), ('"128.0.0.0"', 1)]
)
def test_a_mask_is_a_prefix_length_or_a_netmask(load: Any, written: str, prefix: int) -> None:
    (web,) = load(service(f"persistence = {{ mask = {written} }}")).services
    assert web.persistence == Persistence(300 * SECOND, prefix)


@pytest.mark.parametrize(("head", "web", "full"), [(HEAD, WEB, 32), (DUAL, WEB6, 128)])
def test_persistence_without_mask_takes_the_whole_address(load: Any, head: str, web: str, full: int) -> None:
    (built,) = load(head + web.replace("[[service.", "persistence = {}\n[[service.")).services
    assert built.persistence == Persistence(300 * SECOND, full)


def test_a_service_profile_replaces_the_global_timeouts_and_its_keys_override(load: Any) -> None:
    config = load(
        HEAD + '[timeouts]\nprofile = "edge"\nicmp = 7\n' + WEB
        + '[service.timeouts]\nprofile = "rfc"\ntcp_reset = 5\n' + WEB.replace(":80", ":81")
        + "[service.timeouts]\ntcp_reset = 6\n"
    )  # fmt: skip
    first, second = (service.timeouts for service in config.services)
    assert (first.tcp_established, first.icmp, first.tcp_reset) == (7440 * SECOND, 60 * SECOND, 5 * SECOND)
    assert (second.tcp_established, second.icmp, second.tcp_reset) == (350 * SECOND, 7 * SECOND, 6 * SECOND)


def test_a_lip_listed_twice_is_kept_once(load: Any) -> None:
    config = load(HEAD.replace('1"]', '1", "198.19.0.1", "198.19.0.0-198.19.0.1"]') + WEB)
    assert config.snat.addresses == (ip_address("198.19.0.1"), ip_address("198.19.0.0"))
    assert len(config.warnings) == 2


OWN_SCHEDULER = """
from fullnat.core.sched.base import Scheduler

class Own(Scheduler):
    accepted_flags = frozenset({"own-flag"})

    def schedule(self, request):
        return None
"""


def test_what_is_not_full_nat_to_an_address_is_the_kernels(load: Any) -> None:
    """Each needs of the rest what its mode needs: no LIP of its family where there is no full NAT."""
    config = load(
        HEAD
        + WEB
        + """
[[service]]
listen = "tcp://[2001:db8::10]:443"
forward = "dr"
scheduler = "sh"
scheduler_flags = ["sh-port"]
persistence = { timeout = "1m", mask = 64 }
server = [{ address = "[2001:db8::11]", weight = 3, upper = 4, lower = 2 }, { address = "[2001:db8::12]:443" }]
[[service]]
listen = "udp://203.0.113.10:53"
forward = "nat"
one_packet = true
server = [{ address = "198.19.0.11:5353" }]
[[service]]
name = "any"
listen = "fwmark://4294967295"
server = [{ address = "198.19.0.11" }, { address = "198.19.0.11:8080" }]
[[service]]
listen = "fwmark6://7"
forward = "tun"
server = [{ address = "[2001:db8::11]" }]
"""
    )
    assert [one.name for one in config.services] == ["tcp-203.0.113.10-80"]
    web, dns, marked, marked6 = config.kernel_services
    assert (web.name, web.protocol, str(web.listen)) == ("tcp-2001:db8::10-443", TCP, "[2001:db8::10]:443")
    assert (web.forward, web.scheduler_name, web.scheduler_flags) == (Forward.DR, "sh", {"sh-port"})
    assert (web.persistence, web.one_packet) == (Persistence(60 * SECOND, 64), False)
    assert [str(one.endpoint) for one in web.servers] == ["[2001:db8::11]:443", "[2001:db8::12]:443"]
    assert (web.servers[0].weight, web.servers[0].upper, web.servers[0].lower) == (3, 4, 2)
    assert (dns.forward, dns.scheduler_name, dns.one_packet) == (Forward.NAT, "wlc", True)
    assert str(dns.servers[0].endpoint) == "198.19.0.11:5353"
    assert (marked.name, marked.protocol, marked.listen) == ("any", 0, Fwmark(4294967295))
    assert marked.forward is Forward.FULLNAT
    assert [str(one.endpoint) for one in marked.servers] == ["198.19.0.11:0", "198.19.0.11:8080"]
    assert (marked6.name, marked6.listen, marked6.forward) == ("fwmark6-7", Fwmark(7, 6), Forward.TUN)


def test_a_scheduler_of_ones_own_is_looked_for_beside_the_config(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN_SCHEDULER)
    (tmp_path / "c.toml").write_text(service('scheduler = "own.py:Own"', 'scheduler_flags = ["own-flag"]'))
    (built,) = load_config(tmp_path / "c.toml").services
    assert (built.scheduler.__name__, built.scheduler_name) == ("Own", "own.py:Own")
    assert built.scheduler_flags == {"own-flag"}


def test_what_is_wrong_with_a_scheduler_is_told_in_one_line(
    load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load_scheduler(spec: str, base_dir: Path) -> type[Scheduler]:
        raise ValueError(f"{spec} is\nno good")

    monkeypatch.setattr(services, "load_scheduler", load_scheduler)
    text = service('scheduler = "x"', 'scheduler_flags = ["y"]')
    assert lines(load, text) == ['c.toml:6: service[1].scheduler: found "x", x is\\nno good']
    assert errors(load, HEAD + WEB) == ['c.toml:4: service[1].scheduler: found "wlc", wlc is\\nno good']


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda path: None, "c.toml: cannot be read: No such file or directory"),
        (lambda path: path.mkdir(), "c.toml: cannot be read: Is a directory"),
        (lambda path: path.write_text("a = " + "[" * 10**5), "c.toml: not valid TOML: a number too long, or nested too deeply"),
        (lambda path: path.write_text("a = " + "1" * 5000), "c.toml: not valid TOML: a number too long, or nested too deeply"),
    ],
    ids=["missing", "directory", "deep", "long"],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Any, expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    make(Path("c.toml"))
    with pytest.raises(ConfigError) as caught:
        load_config(Path("c.toml"))
    assert str(caught.value) == expected


def test_a_problem_of_a_strange_path_is_still_one_line() -> None:
    assert str(Problem(Path("a\nb"), 3, "k", "m")) == "a\\nb:3: k: m"


def test_the_timeout_keys_are_those_of_the_core() -> None:
    assert list(TimeoutsTable.model_fields) == ["profile", *(field.name for field in fields(Timeouts))]


# ---- documentation and schema ----


def test_the_example_has_no_problem() -> None:
    config = load_config(DOCS / "example.toml")
    assert config.warnings == ()
    assert [service.name for service in config.services] == ["web", "web6", "dns", "cache"]


def test_the_reference_holds_the_example() -> None:
    assert (DOCS / "example.toml").read_text() in (DOCS / "config.md").read_text()


def test_the_services_by_ipvs_of_the_documentation_have_no_problem(load: Any) -> None:
    text = (DOCS / "ipvs.md").read_text().partition("```toml\n")[2].partition("```")[0]
    config = load(HEAD + text)
    assert [one.name for one in config.kernel_services] == ["tcp-203.0.113.10-80", "site"]
    assert config.warnings == ()


DOCUMENTED_MISTAKES = """\
version = 1
instence = "x"

[engine]
fallback = "lvs"

[snat]
addresses = ["198.19.0.1"]

[timeouts]
udp = 60

[[service]]
listen = "tcp://203.0.113.10:80"
persistence = 300

  [[service.server]]
  address = "198.19.0.11"
  weight = -3

[[service]]
listen = "tcp://203.0.113.10:80"

  [[service.server]]
  address = "[2001:db8::11]:80"
"""


def test_the_messages_of_the_reference_are_those_one_gets(load: Any) -> None:
    told = "\n".join(lines(load, DOCUMENTED_MISTAKES)).replace("c.toml:", "lb.toml:")
    assert f"```\n{told}\n```\n" in (DOCS / "config.md").read_text()


@pytest.mark.parametrize("key", [field.name for field in fields(Timeouts)])
def test_the_reference_has_the_values_of_the_profiles(key: str) -> None:
    values = " | ".join(str(getattr(profile, key) // SECOND) for profile in PROFILES.values())
    assert f"| `{key}` | duration | {values} | " in (DOCS / "config.md").read_text()


def documented_keys() -> set[str]:
    """Return every `key` that begins a row of a table in docs/config.md, under its section's [table]."""
    found = set()
    table = ""
    for line in (DOCS / "config.md").read_text().splitlines():
        if heading := re.match(r"##+ (?:Top level|`\[+([a-z.]+)\]+`)", line):
            table = f"{heading[1]}." if heading[1] else ""
        elif row := re.match(r"\| `([a-z_]+)` \|", line):
            found.add(table + row[1])
    return found


def schema_keys(schema: dict[str, Any], node: dict[str, Any], prefix: str = "") -> set[str]:
    """Return the dotted path of every value in a JSON Schema."""
    found = set()
    for key, value in node["properties"].items():
        reference = value.get("items", value).get("$ref", "")
        if not reference:
            found.add(prefix + key)
            continue
        found |= schema_keys(schema, schema["$defs"][reference.rsplit("/", 1)[1]], f"{prefix}{key}.")
    return found


def test_the_reference_describes_exactly_the_keys_of_the_schema() -> None:
    schema = json_schema()
    told_elsewhere = (
        "service.timeouts.",
        "service.server.health.",
        "service.backup.server.",
    )  # the same keys
    keys = {key for key in schema_keys(schema, schema) if not key.startswith(told_elsewhere)}
    assert documented_keys() == keys


def test_the_schema_is_plain_json_schema_without_null() -> None:
    text = repr(json_schema())
    assert "null" not in text
    assert "None" not in text
    assert json_schema()["required"] == ["version", "snat"]
    assert json_schema()["$defs"]["SnatTable"]["properties"]["rest"]["default"] == "60s"


# ---- whatever the bytes ----

KEYS = [
    "version",
    "instance",
    "engine",
    "datapath",
    "workers",
    "tune",
    "snat",
    "addresses",
    "ports",
    "rest",
    "timeouts",
]
KEYS += ["profile", "udp", "limits", "flows", "service", "name", "listen", "scheduler", "scheduler_flags"]
KEYS += [
    "persistence",
    "timeout",
    "mask",
    "one_packet",
    "server",
    "address",
    "weight",
    "upper",
    "lower",
    "health",
    "x",
]
VALUES = [
    "1",
    "-1",
    "0.5",
    "inf",
    "true",
    "[]",
    "{}",
    '""',
    '"wlc"',
    '"mh"',
    '["mh-port"]',
    '"198.19.0.1"',
    "1979-05-27",
]
VALUES += [
    '"tcp://203.0.113.10:80"',
    '"udp://[2001:db8::1]:53"',
    '["198.19.0.1"]',
    '["::1", 3]',
    '"1s"',
    '"2000-3000"',
]
VALUES += [
    "[[]]",
    "[{}]",
    "{ timeout = 3 }",
    "{ mask = 200 }",
    '[{ address = "198.19.0.11" }, {}, 3]',
    '"198.19.0.1-224.0.0.1"',
]
TABLES = [
    "[engine]",
    "[snat]",
    "[timeouts]",
    "[limits]",
    "[[service]]",
    "[[service.server]]",
    "[service.timeouts]",
]
TABLES += [
    "[service.persistence]",
    "[service.health]",
    "[service.server.x]",
    "[service]",
    "[[snat]]",
    "[[snat.addresses]]",
]

pairs = st.builds("{} = {}".format, st.sampled_from(KEYS), st.sampled_from(VALUES))
documents = st.lists(st.one_of(pairs, st.sampled_from(TABLES))).map("\n".join).map(str.encode)
nearly_good = st.lists(st.one_of(pairs, st.sampled_from(TABLES))).map(
    lambda more: (HEAD + WEB + "\n".join(more)).encode()
)
# Trees of the right shape with leaves of any kind: these get past the parser every time.
tables = st.deferred(lambda: st.dictionaries(st.sampled_from(KEYS), inline, max_size=5).map(
    lambda table: "{ " + ", ".join(f"{key} = {value}" for key, value in table.items()) + " }"
))  # fmt: skip
inline = st.one_of(
    st.sampled_from(VALUES), tables, st.lists(tables, max_size=2).map(lambda rows: f"[{', '.join(rows)}]")
)
trees = st.dictionaries(st.sampled_from(KEYS), inline).map(
    lambda document: "".join(f"{key} = {value}\n" for key, value in document.items()).encode()
)


@given(
    st.one_of(
        st.binary(),
        st.text().map(lambda text: text.encode("utf-8", "surrogatepass")),
        documents,
        nearly_good,
        trees,
    )
)
@example(b"service = 3\nsnat = 3\n")
@example(b"snat.addresses = { a = 1 }\nservice = [3, { server = [3] }]\n")
@example(
    b'service = [{ listen = "tcp://203.0.113.10:80", scheduler_flags = [3, "x"], timeouts = 3, persistence = [] }]'
)
@example(b".".join([b"a"] * 500) + b" = 1")
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_no_bytes_raise_anything_but_a_config_error(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(data)
    try:
        config = load_config(path)
    except ConfigError as error:
        told = error.problems
        assert any(not problem.is_warning for problem in told)
    else:
        told = list(config.warnings)
        assert all(problem.is_warning for problem in told)
    for problem in told:
        assert str(problem).isprintable()
        assert 0 <= problem.line <= data.count(b"\n") + 1
        assert not re.search(
            r"\b(None|dict|str|tuple|pydantic|[Ii]nput should|Extra inputs)\b", problem.message
        )


@pytest.mark.parametrize("datapath", supported.DATAPATHS)
def test_every_engine_can_be_chosen(load: Any, datapath: str) -> None:
    config = load(HEAD + f'[engine]\ndatapath = "{datapath}"\n' + WEB)
    assert config.engine.datapath == datapath


def test_what_a_later_version_brings_is_in_one_place() -> None:
    """supported.py names all of DESIGN's engines and fallbacks, each once."""
    assert set(supported.DATAPATHS) == {
        "auto",
        "ebpf",
        "native",
        "python",
    }
    assert set(supported.FALLBACKS) == {
        "auto",
        "ipvs",
        "iptables",
        "none",
    }
