# SPDX-License-Identifier: Apache-2.0
"""Checks against real servers over a real network: stopped, frozen, slow, refused, black-holed, back.

director                     real server
LIP:port  ---  check  --->  RIP:rport        the monitor runs in the director's namespace
          <---        ----
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import uvloop

from fullnat.core.service import Health
from fullnat.core.timeouts import SECOND
from fullnat.health.check import (
    Code,
    DnsOptions,
    HealthCheck,
    HttpOptions,
    Options,
    Result,
    SmtpOptions,
    Target,
    TlsOptions,
    UdpOptions,
)
from fullnat.health.monitor import HealthMonitor
from fullnat.health.run import run_check
from lab import Lab
from namespace import Process, inside, processes_in
from tests.netns.traffic import PROGRAMS
from wait import wait_until

PATIENCE = float(os.environ.get("FULLNAT_PATIENCE", "1"))
MS = SECOND // 1000
LIPS = {4: "198.19.0.2", 6: "2001:db8:2::2"}  # the second: the kernel would choose the first
UP, DOWN = Health.UP, Health.DOWN

FAMILIES = pytest.mark.parametrize("family", [4, 6])
ONE_SERVER = pytest.mark.parametrize("lab", [{"topology": "two-arm", "servers": 1}], indirect=True)


@pytest.fixture(autouse=True)
def _lips(lab: Lab) -> None:
    """The director has the LIPs that checks are to come from, as when fullnat runs."""
    for family, prefix in ((4, 24), (6, 64)):
        address = f"{LIPS[family]}/{prefix}"
        lab.run("director", ["ip", "address", "add", address, "dev", "eth1", *(["nodad"] * (family == 6))])


@pytest.fixture
def others(lab: Lab) -> Path:
    """SMTP, DNS and UDP echo on server1; the log says whom they saw."""
    log = lab.directory / "health-servers"
    delay = lab.directory / "delay"
    delay.write_text("0")
    with log.open("w") as output:
        argv = [sys.executable, str(PROGRAMS / "health_servers.py"), str(delay)]
        lab.popen("server1", argv, stdout=output)
    wait_until(lambda: log.read_text().startswith("up\n"), 10, "the servers to be up")
    return log


@pytest.fixture
def slow(lab: Lab, others: Path) -> Path:
    """A file that says how many seconds the web server on port 8080 of server1 takes."""
    return lab.directory / "delay"


def target(lab: Lab, family: int, port: int) -> Target:
    address = (lab.servers4 if family == 4 else lab.servers6)[0]
    return Target(ip_address(address), port, ip_address(LIPS[family]))


def on_director(lab: Lab, act: Coroutine[Any, Any, Any]) -> Any:
    with inside(lab.namespace("director")):
        return uvloop.run(act)


def check(lab: Lab, kind: str, options: Options | None, where: Target, timeout: int = 2 * SECOND) -> Result:
    made = HealthCheck(kind, options, timeout=int(timeout * PATIENCE))
    result = on_director(lab, run_check(made, where))
    assert isinstance(result, Result)
    return result


@ONE_SERVER
@FAMILIES
def test_every_type_finds_a_server_that_works_and_comes_from_the_lip(
    lab: Lab, others: Path, family: int
) -> None:
    at = partial(target, lab, family)
    seen = re.compile(b"^client: " + re.escape(LIPS[family].encode()) + b" port", re.MULTILINE)
    assert check(lab, "http", HttpOptions(body=seen), at(80)).code is Code.L7OK
    assert check(lab, "tcp", None, at(80)).code is Code.L4OK
    assert check(lab, "icmp", None, at(80)).code is Code.L4OK
    assert check(lab, "smtp", SmtpOptions("lb1.example"), at(25)).code is Code.L7OK
    assert check(lab, "dns", DnsOptions("www.example", "A"), at(53)).code is Code.L7OK
    assert check(lab, "udp", UdpOptions(b"ping", re.compile(b"^ping$")), at(7)).code is Code.L7OK
    told = [line.split() for line in others.read_text().splitlines()[1:]]
    assert told == [["smtp", LIPS[family]], ["dns", LIPS[family]], ["udp", LIPS[family]]]


@ONE_SERVER
@FAMILIES
def test_what_nobody_serves_is_refused(lab: Lab, family: int) -> None:
    at = partial(target, lab, family)
    for kind, options in (("tcp", None), ("udp", UdpOptions()), ("dns", DnsOptions())):
        assert check(lab, kind, options, at(4711)).code is Code.L4CON


@ONE_SERVER
@FAMILIES
def test_what_is_dropped_on_the_way_times_out(lab: Lab, others: Path, family: int) -> None:
    at = partial(target, lab, family)
    with black_hole(lab, family):
        for kind, options, port, code in (
            ("tcp", None, 80, Code.L4TOUT),
            ("http", HttpOptions(), 80, Code.L4TOUT),
            ("smtp", SmtpOptions(), 25, Code.L4TOUT),
            ("icmp", None, 80, Code.L4TOUT),
            ("dns", DnsOptions(), 53, Code.L7TOUT),
            ("udp", UdpOptions(b"x", re.compile(b"")), 7, Code.L7TOUT),
            ("udp", UdpOptions(b"x"), 7, Code.L4OK),  # silence is all it may expect
        ):
            result = check(lab, kind, options, at(port), timeout=200 * MS)
            assert result.code is code, kind
            assert result.duration_ns < 2 * SECOND * PATIENCE


@ONE_SERVER
@FAMILIES
def test_a_router_that_says_unreachable_is_believed(lab: Lab, others: Path, family: int) -> None:
    icmp = "icmp-host-unreachable" if family == 4 else "addr-unreach"
    at = partial(target, lab, family)
    with black_hole(lab, family, "-j", "REJECT", "--reject-with", icmp):
        for kind, options in (("udp", UdpOptions()), ("dns", DnsOptions()), ("icmp", None), ("tcp", None)):
            assert check(lab, kind, options, at(53), timeout=2 * SECOND).code is Code.L4CON, kind


@ONE_SERVER
@FAMILIES
def test_https_of_nginx(lab: Lab, family: int) -> None:
    ca = start_https(lab)
    at = target(lab, family, 443)
    good = HttpOptions(tls=TlsOptions("www.example", ca=ca), body=re.compile(b"^secret$"))
    assert check(lab, "https", good, at).code is Code.L7OK
    assert check(lab, "https", HttpOptions(tls=TlsOptions("x.example", ca=ca)), at).code is Code.L6RSP
    assert check(lab, "https", HttpOptions(tls=TlsOptions("www.example")), at).code is Code.L6RSP
    assert check(lab, "https", HttpOptions(tls=TlsOptions(verify=False)), at).code is Code.L7OK
    assert check(lab, "https", good, at._replace(port=80)).code is Code.L6RSP  # plain HTTP there


def start_https(lab: Lab) -> Path:
    """Start nginx with TLS on server1, and return its certificate."""
    folder = lab.directory / "https"
    folder.mkdir()
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    argv += ["-subj", "/CN=www.example", "-addext", "subjectAltName=DNS:www.example", "-days", "9"]
    subprocess.run(
        [*argv, "-keyout", folder / "key", "-out", folder / "cert"], check=True, capture_output=True
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; user root; pid {folder}/pid; error_log {folder}/error.log; events {{}}\n"
        f"http {{ access_log off; server {{ listen 0.0.0.0:443 ssl; listen [::]:443 ssl ipv6only=on;\n"
        f"ssl_certificate {folder}/cert; ssl_certificate_key {folder}/key; return 200 secret; }} }}\n"
    )
    lab.popen(
        "server1",
        ["nginx", "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")],
    )
    wait_until((folder / "pid").exists, 10, "nginx with TLS")  # written when it listens
    return folder / "cert"


# One server's life.


class Observer:
    """A monitor on the director, and a way to wait for what it finds."""

    def __init__(self) -> None:
        self.last: dict[str, Result] = {}
        self.counts: dict[str, int] = {}
        self._told = asyncio.Event()
        self.monitor: HealthMonitor[str] = HealthMonitor(self._result, lambda *_: None, seed=1)

    def _result(self, key: str, result: Result) -> None:
        self.last[key] = result
        self.counts[key] = self.counts.get(key, 0) + 1
        self._told.set()

    async def until(self, **wanted: tuple[Health, Code]) -> None:
        """Wait until each of the keys has this health and this result."""
        found: dict[str, tuple[Health, Code]] = {}
        try:
            async with asyncio.timeout(20 * PATIENCE):
                while found != wanted:
                    self._told.clear()
                    await self._told.wait()
                    found = {
                        key: (self.monitor.health(key), self.last[key].code)
                        for key in wanted
                        if key in self.last
                    }
        except TimeoutError:
            raise AssertionError(f"{found} instead of {wanted}") from None


@ONE_SERVER
@FAMILIES
def test_a_server_is_followed_through_its_life(lab: Lab, family: int) -> None:
    async def act() -> None:
        observer = Observer()
        common = {
            "interval": int(200 * MS * PATIENCE),
            "timeout": int(150 * MS * PATIENCE),
            "rise": 2,
            "fall": 2,
        }
        web = target(lab, family, 80)
        observer.monitor.add("tcp", HealthCheck("tcp", None, **common), web)
        observer.monitor.add("http", HealthCheck("http", HttpOptions(), **common), web)
        observer.monitor.add("icmp", HealthCheck("icmp", None, **common), web)
        well = {"tcp": (UP, Code.L4OK), "http": (UP, Code.L7OK), "icmp": (UP, Code.L4OK)}
        try:
            await observer.until(**well)
            processes = await away(nginx, lab)
            signal_all(processes, signal.SIGSTOP)  # its kernel still accepts connections
            await observer.until(tcp=(UP, Code.L4OK), http=(DOWN, Code.L7TOUT), icmp=(UP, Code.L4OK))
            signal_all(processes, signal.SIGCONT)
            await observer.until(**well)
            with await away(black_hole, lab, family):
                await observer.until(
                    tcp=(DOWN, Code.L4TOUT), http=(DOWN, Code.L4TOUT), icmp=(DOWN, Code.L4TOUT)
                )
            await observer.until(**well)
            arguments = nginx_command(processes)
            signal_all(processes, signal.SIGKILL)
            await observer.until(tcp=(DOWN, Code.L4CON), http=(DOWN, Code.L4CON), icmp=(UP, Code.L4OK))
            await away(lab.popen, "server1", arguments)
            await observer.until(**well)
        finally:
            await observer.monitor.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    on_director(lab, act())


@ONE_SERVER
@FAMILIES
def test_a_server_too_slow_for_the_timeout_is_down(lab: Lab, slow: Path, family: int) -> None:
    async def act() -> None:
        observer = Observer()
        timeout = 200 * MS * PATIENCE
        made = HealthCheck("http", HttpOptions(), interval=int(timeout), timeout=int(timeout), fall=2)
        observer.monitor.add("http", made, target(lab, family, 8080))
        try:
            await observer.until(http=(UP, Code.L7OK))
            slow.write_text(str(2 * timeout / SECOND))
            await observer.until(http=(DOWN, Code.L7TOUT))
            slow.write_text("0")
            await observer.until(http=(UP, Code.L7OK))
        finally:
            await observer.monitor.close()

    on_director(lab, act())


async def away(function: Callable[..., Any], *arguments: Any) -> Any:
    """Run *function* in a thread: the checks go on meanwhile."""
    return await asyncio.get_running_loop().run_in_executor(None, partial(function, *arguments))


def nginx(lab: Lab) -> list[Process]:
    """Master and worker on server1."""
    found = processes_in([lab.namespace("server1")])
    return [process for process in found if "nginx" in process.command]


def nginx_command(processes: list[Process]) -> list[str]:
    """The command line that its master was started with."""
    master = next(process for process in processes if "-c" in process.command)
    return master.command.removeprefix("nginx: master process ").split()


def signal_all(processes: list[Process], number: signal.Signals) -> None:
    assert processes
    for process in processes:
        os.kill(process.pid, number)


class black_hole:  # noqa: N801 (a context manager, entered as soon as it is made)
    """The server drops, or does with what comes to it what *verdict* says."""

    def __init__(self, lab: Lab, family: int, *verdict: str) -> None:
        self._lab = lab
        self._program = "iptables" if family == 4 else "ip6tables"
        wanted = ["-p", "icmp"] if family == 4 else ["-p", "icmpv6", "--icmpv6-type", "echo-request"]
        self._rules = [
            ["INPUT", *match, *(verdict or ("-j", "DROP"))]
            for match in (["-p", "tcp"], ["-p", "udp"], wanted)
        ]
        for rule in self._rules:
            lab.run("server1", [self._program, "-A", *rule])

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        for rule in self._rules:
            self._lab.run("server1", [self._program, "-D", *rule])


# Many of them.


def test_three_hundred_servers_a_second_keep_their_schedule(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    rounds = 6
    made = HealthCheck("http", HttpOptions(), interval=SECOND, timeout=SECOND, jitter=0)
    addresses = [ip_address(text) for text in (*lab.servers4, *lab.servers6)]
    changes: list[Health] = []

    async def act() -> tuple[dict[int, list[int]], float]:
        starts: dict[int, list[int]] = {number: [] for number in range(300)}
        done = asyncio.Event()

        def on_result(number: int, result: Result) -> None:
            starts[number].append(time.monotonic_ns() - result.duration_ns)
            if min(map(len, starts.values())) > rounds:
                done.set()

        def on_change(_number: int, health: Health, _result: Result) -> None:
            changes.append(health)

        monitor: HealthMonitor[int] = HealthMonitor(on_result, on_change, seed=1)
        begun, spent = time.monotonic(), time.process_time()
        for number in starts:
            address = addresses[number % len(addresses)]
            source = ip_address(LIPS[address.version])
            monitor.add(number, made, Target(address, 80, source))
        try:
            async with asyncio.timeout(60 * PATIENCE):
                await done.wait()
        finally:
            await monitor.close()
        return starts, (time.process_time() - spent) / (time.monotonic() - begun)

    starts, load = on_director(lab, act())
    off = [abs(times[n] - times[0] - n * SECOND) for times in starts.values() for n in range(1, rounds + 1)]
    with capsys.disabled():
        print(
            f"\n300 http checks a second: {load:.1%} of a core; off schedule"
            f" median {statistics.median(off) / MS:.1f} ms, most {max(off) / MS:.1f} ms"
        )
    assert changes == [UP] * 300
    # A host with other work to do is late now and then; drifting, or a check left out, is a second and more.
    assert statistics.median(off) < 200 * MS * PATIENCE
    assert max(off) < 900 * MS * PATIENCE
    assert load < 0.5 * PATIENCE
