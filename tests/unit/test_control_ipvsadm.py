# SPDX-License-Identifier: Apache-2.0
"""ipvsadm spoken to an instance: what each command changes, how it is refused, and what is listed."""

# ruff: noqa: E501 (a row is a line, and reads like one)

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from fullnat.control.ipvsadm import views
from fullnat.control.ipvsadm.shim import Done, Shim, is_change
from fullnat.core.service import Admin, Health
from fullnat.core.tcp import TcpState, UdpState
from fullnat.core.timeouts import SECOND
from tests.instances import CONFIG, ONE, SPARE, TWO, Run
from tests.packets import tcp
from tests.vectors.case import V4

WEB, OTHER, ABSENT = "-t 203.0.113.10:80", "-t 203.0.113.11:80", "-t 203.0.113.99:80"
MARKED = """
[[service]]
listen = "fwmark://7"
forward = "nat"
  [[service.server]]
  address = "198.19.0.31"
"""
INVALID = "Invalid operation.  Possibly wrong module version, address not unicast, ...\n"
FULL_NAT = """fullnat: servers are reached by full NAT: say -m or -b; forward = "dr" and "tun" are the configuration's\n"""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


@pytest.fixture(params=["python", pytest.param("native", marks=pytest.mark.requires("native"))])
def busy(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """An instance with one established connection to server one."""
    text = CONFIG.replace('"rr"', '"rr"\npersistence = { timeout = "60s", mask = 24 }')
    made = Run(tmp_path, text, request.param)
    made.send(tcp(V4.to_vip(), "S"))
    made.send(tcp(V4.from_server(), "SA"))
    made.send(tcp(V4.to_vip(), "A"))
    made.now = 2 * SECOND
    return made


def do(run: Run, words: str, text: str = "") -> Done:
    """Carry out a command line."""

    async def main() -> Done:
        done = await Shim(run.instance).run(words.split(), text)
        await run.instance.farewells.close()
        return done

    return asyncio.run(main())


def listed(run: Run, words: str) -> list[str]:
    """Return the lines of a listing, without those above the first service."""
    done = do(run, words)
    assert (done.errors, done.status) == ("", 0)
    return [
        line.rstrip() for line in done.output.splitlines() if line.startswith(("TCP", "UDP", "FWM", "  -> 1"))
    ]


def changes(run: Run) -> list[str]:
    """Return what was changed so far, by its events."""
    said = (line.partition("kind=config-changed change=")[2] for line in run.lines)
    return [line.strip('"') for line in said if line]


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (f"-A {OTHER}", ["+ service tcp-203.0.113.11:80 tcp://203.0.113.11:80: wlc, 0 servers"]),
        ("-A -t 203.0.113.11:http", ["+ service tcp-203.0.113.11:80 tcp://203.0.113.11:80: wlc, 0 servers"]),
        ("-A -u 203.0.113.10:53 -o -s sh -b sh-port", ["+ service udp-203.0.113.10:53 udp://203.0.113.10:53: sh, 0 servers"]),
        ("-A -f 9 -s rr", ["+ service fwmark-9 fwmark://9: rr, 0 servers"]),
        (f"-E {WEB} -s sh -b sh-port", ["~ service web: scheduler rr -> sh", "~ service web: scheduler_flags none -> sh-port"]),
        (f"-E {WEB} -s rr -p", ["~ service web: persistence.timeout none -> 6m", "~ service web: persistence.mask none -> 32"]),
        (f"-E {WEB} -s rr -p 60 -M 255.255.255.0",
         ["~ service web: persistence.timeout none -> 1m", "~ service web: persistence.mask none -> 24"]),
        (f"-E {WEB} -s rr", []),
        ("-E -f 7 -s rr", ["~ service fwmark-7: scheduler wlc -> rr"]),
        (f"-D {WEB}", ["- service web tcp://203.0.113.10:80"]),
        ("-D -f 7", ["- service fwmark-7 fwmark://7"]),
        ("-C", ["- service web tcp://203.0.113.10:80", "- service fwmark-7 fwmark://7"]),
        (f"-a {WEB} -r 198.19.0.21 -m", ["+ service web, server 198.19.0.21:80: weight 1"]),
        (f"-a {WEB} -r 198.19.0.21:8080 -b -w 0", ["+ service web, server 198.19.0.21:8080: weight 0"]),
        ("-a -f 7 -r 198.19.0.32 -m -w 4", ["+ service fwmark-7, server 198.19.0.32:0: weight 4"]),
        (f"-e {WEB} -r {ONE} -m -w 0", [f"~ service web, server {ONE}: weight 3 -> 0"]),
        (f"-e {WEB} -r {ONE} -m -w 3 -x 10 -y 4",
         [f"~ service web, server {ONE}: upper 0 -> 10", f"~ service web, server {ONE}: lower none -> 4"]),
        (f"-e {WEB} -r {ONE} -m -w 3", []),
        (f"-d {WEB} -r {TWO}", [f"- service web, server {TWO}"]),
        ("--set 10 20 0",
         ["~ service web: timeouts.tcp_established 15m -> 10s", "~ service web: timeouts.tcp_closing 2m -> 20s"]),
        ("--set 0 0 7", ["~ service web: timeouts.udp 5m -> 7s"]),
        ("--set 0 0 0", []),
        (f"-P {WEB} -z 198.19.0.1", []),
        ("-R", []),
    ],
)  # fmt: skip
def test_a_command_makes_its_change_and_no_other(tmp_path: Path, words: str, lines: list[str]) -> None:
    run = Run(tmp_path, CONFIG + MARKED)
    assert do(run, words) == Done()
    assert changes(run) == lines


@pytest.mark.parametrize(
    ("words", "errors", "status"),
    [
        # as IPVS refuses it
        (f"-A {WEB}", "Service already exists\n", 255),
        (f"-A {OTHER} -s nope", "Scheduler or persistence engine not found\n", 255),
        ("-A -f 9 -s random", "Scheduler or persistence engine not found\n", 255),
        (f"-E {ABSENT} -s rr", "No such service\n", 255),
        (f"-E {WEB} -s nope", "Scheduler or persistence engine not found\n", 255),
        (f"-D {ABSENT}", "No such service\n", 255),
        ("-D -f 8", "No such service\n", 255),
        ("-D -u 203.0.113.10:80", "No such service\n", 255),
        (f"-a {ABSENT} -r 198.19.0.21 -m", "Service not defined\n", 255),
        (f"-a {WEB} -r {ONE} -m", "Destination already exists\n", 255),
        (f"-a {WEB} -r {SPARE} -m", "Destination already exists\n", 255),
        (f"-e {ABSENT} -r 198.19.0.77:80 -m", "Service not defined\n", 255),
        (f"-e {WEB} -r 198.19.0.77:80 -m", "No such destination\n", 255),
        (f"-e {WEB} -r {SPARE} -m", "No such destination\n", 255),
        (f"-d {ABSENT} -r 198.19.0.77:80", "Service not defined\n", 255),
        (f"-d {WEB} -r 198.19.0.77:80", "No such destination\n", 255),
        (f"-Z {ABSENT}", "No such service\n", 255),
        (f"-L {ABSENT}", "No such service\n", 1),
        ("-A -t 224.0.0.1:80", INVALID, 255),
        (f"-a {WEB} -r 224.0.0.1:80 -m", INVALID, 255),
        (f"-a {WEB} -r 127.0.0.1:80 -m", INVALID, 255),
        # as ipvsadm does
        ("-A", "You need to supply the 'service-address' option for the 'add-service' command\n", 2),
        (f"-A {OTHER} -o", "One-Packet Scheduling is only for UDP virtual services\n", 2),
        (f"-a {WEB} -r [2001:db8::1]:80 -m", "Different address family is allowed only for tunneling servers\n", 2),
        ("-A -t www.example:80", "illegal virtual server address[:port] specified\n", 2),
        ("-A -t 203.0.113.11:no-such", "illegal virtual server address[:port] specified\n", 2),
        # what is not to be had here
        (f"-a {WEB} -r 198.19.0.21", FULL_NAT, 2),
        (f"-a {WEB} -r 198.19.0.21 -g", FULL_NAT, 2),
        (f"-a {WEB} -r 198.19.0.21 -i", FULL_NAT, 2),
        (f"-e {WEB} -r {ONE} -g", FULL_NAT, 2),
        (f"-a {WEB} -r 203.0.113.10:80 -m", "fullnat: 203.0.113.10:80 is a service, and cannot be a server as well\n", 2),
        (f"-A -t {ONE}", f"fullnat: {ONE} is a server of another service\n", 2),
        ("-A -t [2001:db8::10]:80", "fullnat: there is no IPv6 address in [snat] for connections to come from\n", 2),
        ("-A -f 7 -6", "fullnat: there is no IPv6 address in [snat] for connections to come from\n", 2),
        ("-A --sctp-service 203.0.113.11:80", "fullnat: SCTP is not balanced: TCP and UDP are\n", 2),
        ("-A -t 203.0.113.11:0 -p", "fullnat: a service has one port: 0, for all ports, is not to be had\n", 2),
        ("-A -u 203.0.113.11:53 -o -p", "fullnat: one-packet scheduling is for UDP, and without persistence\n", 2),
        (f"-A {OTHER} --pe sip", "fullnat: persistence is by client address: there are no persistence engines\n", 2),
        ("--start-daemon master", "fullnat: connections are not synchronized: there is no such daemon\n", 2),
        ("--stop-daemon backup", "fullnat: connections are not synchronized: there is no such daemon\n", 2),
        (f"-P {WEB} -z 198.19.0.9",
         "fullnat: all services share the local addresses of [snat]; change them there, and restart\n", 2),
        (f"-Q {WEB} -z 198.19.0.1",
         "fullnat: all services share the local addresses of [snat]; change them there, and restart\n", 2),
    ],
)  # fmt: skip
def test_a_refusal_has_the_words_and_the_status_and_changes_nothing(
    run: Run, words: str, errors: str, status: int
) -> None:
    before = run.instance.reloader.config
    assert do(run, words) == Done("", errors, status)
    assert run.instance.reloader.config is before
    assert run.lines == []


def test_flags_that_a_scheduler_does_not_have_are_refused_where_the_program_knows_them_not(run: Run) -> None:
    assert do(run, f"-A {OTHER} -s rr -b flag-1") == Done("", INVALID, 255)


def test_a_program_is_not_run_by_a_command_unless_the_file_has_it_run(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    source = (
        f"from pathlib import Path\nPath({str(ran)!r}).touch()\n"
        "from fullnat.core.sched import Scheduler\n"
        "class Mine(Scheduler):\n    def schedule(self, request):\n        return None\n"
    )
    (tmp_path / "mine.py").write_text(source)
    words = f"-A {OTHER} -s mine.py:Mine"
    assert do(Run(tmp_path), words) == Done("", "Scheduler or persistence engine not found\n", 255)
    assert not ran.exists()
    allowed = Run(tmp_path, CONFIG.replace('"rr"', '"mine.py:Mine"'))
    assert do(allowed, words) == Done()
    assert allowed.served("tcp://203.0.113.11:80").config.scheduler_name == "mine.py:Mine"


def test_an_edit_keeps_what_the_program_has_no_words_for(tmp_path: Path) -> None:
    text = CONFIG.replace(
        '"rr"', '"rr"\ninhibit = true\nslow_start = "9s"\non_down = "reset"\ntimeouts = { udp = 9 }'
    )
    run = Run(tmp_path, text + MARKED.replace('"nat"', '"dr"'))
    before = run.served().config
    assert do(run, f"-E {WEB} -s wlc") == do(run, "-E -f 7 -s rr") == Done()
    after = run.served().config
    for key in ("name", "pools", "sorry", "inhibit", "slow_start", "on_down", "timeouts"):
        assert getattr(after, key) == getattr(before, key), key
    assert after.scheduler_name == "wlc"
    assert run.served("fwmark://7").config.forward.value == "dr"  # type: ignore[union-attr]


def test_a_server_keeps_its_check_and_its_connections_when_it_is_edited(busy: Run) -> None:
    one = busy.server(ONE)
    assert do(busy, f"-e {WEB} -r {ONE} -m -w 9") == Done()
    assert busy.server(ONE) is one
    assert (one.configured_weight, len(list(busy.engine.flows()))) == (9, 1)


RESTORE = f"""
# what follows is one change
-A {OTHER} -s rr
-a {OTHER} -r 198.19.0.41:80 -m -w 2
ipvsadm -E {WEB} -s wrr
"""


def test_a_restore_is_one_change(run: Run) -> None:
    assert do(run, "-R", RESTORE) == Done()
    assert changes(run) == [
        "+ service tcp-203.0.113.11:80 tcp://203.0.113.11:80: rr, 1 server",
        "~ service web: scheduler rr -> wrr",
    ]


@pytest.mark.parametrize(
    ("line", "errors", "status"),
    [
        (f"-d {WEB} -r 198.19.0.77:80", "No such destination\n", 255),
        (f"-a {WEB} -r 198.19.0.77:80 -g", FULL_NAT, 2),
        ("-A -t nowhere:80", "illegal virtual server address[:port] specified\n", 2),
        ("-Ln", "fullnat: this command changes nothing\n", 2),
    ],
)
@pytest.mark.parametrize("place", [0, 1])
def test_a_restore_with_a_mistake_anywhere_changes_nothing(
    run: Run, line: str, errors: str, status: int, place: int
) -> None:
    text = "\n".join([RESTORE, line] if place else [line, RESTORE])
    assert do(run, "-R", text) == Done("", errors, status)
    assert (changes(run), len(run.roster.services)) == ([], 1)


def test_what_was_saved_is_restored(tmp_path: Path) -> None:
    run = Run(tmp_path)
    do(
        run,
        "-R",
        f"{RESTORE}\n-A -u 203.0.113.11:53 -s sh -b sh-port\n-a -u 203.0.113.11:53 -r 198.19.0.9 -m -x 9 -y 4",
    )
    saved = do(run, "-Sn").output
    assert do(run, "-C") == Done()
    assert do(run, "-Sn").output == ""
    assert do(run, "-R", saved) == Done()
    assert do(run, "-Sn").output == saved
    assert saved.splitlines()[:2] == [
        "-A -t 203.0.113.10:80 -s wrr",
        f"-a -t 203.0.113.10:80 -r {ONE} -m -w 3",
    ]


def test_what_takes_no_part_is_listed_with_weight_0_and_pools_that_wait_are_not(run: Run) -> None:
    served = run.served()
    assert listed(run, "-Ln") == [
        "TCP  203.0.113.10:80 rr",
        f"  -> {ONE}             Masq    3      0          0",
        f"  -> {TWO}             Masq    1      0          0",
    ]
    run.roster.set_admin(served, run.server(ONE), Admin.QUIESCED, 0)
    run.roster.set_health(served, run.server(TWO), Health.DOWN, 0)
    assert listed(run, "-Ln") == [
        "TCP  203.0.113.10:80 rr",
        f"  -> {ONE}             Masq    0      0          0",
        f"  -> {TWO}             Masq    0      0          0",
        f"  -> {SPARE}             Masq    1      0          0",
    ]


def test_a_listing_without_n_has_names_of_ports(run: Run) -> None:
    assert listed(run, "-L")[0] == "TCP  203.0.113.10:http rr"
    assert do(run, "").output == do(run, "-L").output


def test_connections_and_counts_are_listed(busy: Run) -> None:
    assert listed(busy, "-Ln") == [
        "TCP  203.0.113.10:80 rr persistent 60 mask 255.255.255.0",
        f"  -> {ONE}             Masq    3      1          0",
        f"  -> {TWO}             Masq    1      0          0",
    ]
    assert listed(busy, "-Ln --stats")[1].split() == ["->", ONE, "1", "2", "1", "80", "40"]
    assert listed(busy, "-Ln --persistent-conn")[1].split() == ["->", ONE, "3", "1", "1", "0"]
    lines = do(busy, "-Lcn").output.splitlines()[2:]
    assert [line.split() for line in lines] == [
        ["TCP", "14:58", "ESTABLISHED", "203.0.113.100:4000", "203.0.113.10:80", ONE],
        ["TCP", "00:58", "NONE", "203.0.113.0:0", "203.0.113.10:80", ONE],
    ]


def test_every_state_of_a_connection_has_a_word(busy: Run) -> None:
    seen = set()
    for packet in (
        tcp(V4.to_vip(4000, client="198.18.0.5"), "S"),
        tcp(V4.to_vip(), "FA"),
        tcp(V4.from_server(), "FA"),
        tcp(V4.to_vip(), "RA"),
    ):
        busy.send(packet)
        output = do(busy, "-Lcn").output
        assert output, packet
        seen |= {line.split()[2] for line in output.splitlines()[2:]}
    assert {"SYN_RECV", "FIN_WAIT", "TIME_WAIT"} <= seen
    assert views._STATES.keys() == {state.name for states in (TcpState, UdpState) for state in states}


def test_zero_sets_what_is_listed_and_not_what_is_counted(busy: Run) -> None:
    assert do(busy, f"-Z {WEB}") == Done()
    assert listed(busy, "-Ln --stats")[0].split() == ["TCP", "203.0.113.10:80", "0", "0", "0", "0", "0"]
    busy.send(tcp(V4.to_vip(), "A"))
    assert listed(busy, "-Ln --stats")[1].split() == ["->", ONE, "0", "1", "0", "40", "0"]
    assert busy.server(ONE).packets_in == 3
    assert do(busy, "-Z") == Done()
    assert listed(busy, "-Ln --stats")[1].split() == ["->", ONE, "0", "0", "0", "0", "0"]


def test_rates_are_those_of_the_estimator(busy: Run) -> None:
    busy.engine.refresh()
    servers = busy.served().servers
    busy.instance.rates.look(servers, 0)
    for _ in range(80):
        busy.send(tcp(V4.to_vip(), "A"))
    busy.engine.refresh()
    busy.instance.rates.look(servers, 2 * SECOND)
    assert listed(busy, "-Ln --rate")[1].split() == ["->", ONE, "0", "10", "0", "400", "0"]


def test_timeouts_are_listed_as_they_are_set(run: Run) -> None:
    assert do(run, "-L --timeout").output == "Timeout (tcp tcpfin udp): 900 120 300\n"
    do(run, "--set 10 0 30")
    assert do(run, "-L --timeout").output == "Timeout (tcp tcpfin udp): 10 120 30\n"
    timeouts = run.served().virtual.timeouts
    assert (timeouts.tcp_established, timeouts.tcp_closing, timeouts.udp) == (
        10 * SECOND,
        120 * SECOND,
        30 * SECOND,
    )


def test_local_addresses_are_those_of_the_family(run: Run) -> None:
    lines = do(run, f"-G {WEB}").output.splitlines()
    assert lines[1].split() == ["203.0.113.10:80", "1"]
    assert lines[2].split() == ["198.19.0.1", "0", "0"]


def test_help_version_and_no_daemons(run: Run) -> None:
    assert do(run, "-v").output == "ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v1.2.1)\n"
    assert do(run, "-h").output.startswith("ipvsadm v1.31")
    assert do(run, "-L --daemon") == Done()


@pytest.mark.parametrize(
    ("words", "is_one"),
    [
        *((words, False) for words in ("", "-L", "-Ln", "-Lcn", "-S", "-h", "-v", "-G", "-L --timeout", "-L --daemon", "--no")),
        *((words, True) for words in ("-C", "-R", "-Z", "--set 1 2 3", f"-A {OTHER}", f"-D {WEB}", f"-E {WEB} -s rr")),
        *((words, True) for words in (f"-a {WEB} -r {ONE} -m", f"-e {WEB} -r {ONE} -m", f"-d {WEB} -r {ONE}")),
        *((words, True) for words in ("--start-daemon master", "--stop-daemon master", f"-P {WEB} -z 198.19.0.1")),
    ],
)  # fmt: skip
def test_it_is_known_what_changes_something(words: str, is_one: bool) -> None:
    assert is_change(words.split()) == is_one


@pytest.mark.parametrize("word", ["\udcff", "a\0b", "x" * 100_000, "-" * 5000, "%s%n", "\n"])
def test_no_word_does_harm(run: Run, word: str) -> None:
    for arguments in (
        [word],
        ["-A", "-t", word],
        ["-A", "-t", f"203.0.113.11:{word}"],
        ["-A", "-t", "203.0.113.11:80", "-s", word],
    ):
        done = asyncio.run(Shim(run.instance).run(arguments, word))
        assert done.status != 0, arguments
        assert done.errors
    assert do(run, "-R", word).output == ""
    assert changes(run) == []
