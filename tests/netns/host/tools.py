# SPDX-License-Identifier: Apache-2.0
"""Plans for tests of Host, and what they look at and break."""

from __future__ import annotations

import os
import signal
import subprocess
import traceback
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

from fullnat.core.addr import TCP, UDP, PortRange, parse_endpoint
from fullnat.host.plan import HostPlan
from namespace import command, read_sysctls

PLAN = HostPlan(
    instance="main",
    queue=1080,
    mark=0x4000000,
    services=(
        (TCP, parse_endpoint("198.18.0.10:80")),  # on eth0's network
        (UDP, parse_endpoint("203.0.113.10:53")),  # on no interface
        (TCP, parse_endpoint("[2001:db8:1::10]:80")),
    ),
    servers=(
        (TCP, parse_endpoint("198.19.0.11:8080")),
        (UDP, parse_endpoint("198.19.0.11:53")),
        (TCP, parse_endpoint("[2001:db8:2::11]:80")),
    ),
    lips=(ip_address("198.19.0.2"), ip_address("192.0.2.1"), ip_address("2001:db8:2::2")),
    port_range=PortRange(1024, 32767),
)
OTHER = replace(
    PLAN,
    instance="other",
    queue=1081,
    services=((TCP, parse_endpoint("198.18.0.10:443")),),
    servers=((TCP, parse_endpoint("198.19.0.11:443")),),
    lips=(ip_address("198.19.0.3"),),
)

FOREIGN_RULES = """\
*raw
:KEEP - [0:0]
-A PREROUTING -s 192.0.2.66 -j KEEP
-A OUTPUT -d 192.0.2.66 -j DROP
COMMIT
*filter
:FORWARD DROP [0:0]
-A INPUT -p tcp --dport 22 -j ACCEPT
COMMIT
"""


def add_foreign(director: str) -> None:
    for program in ("iptables-restore", "ip6tables-restore"):
        rules = FOREIGN_RULES.replace("192.0.2.66", "2001:db8::66") if "6" in program else FOREIGN_RULES
        run(director, program, stdin=rules)
    run(director, "ipset", "create", "foreign", "hash:ip")
    run(director, "ipset", "add", "foreign", "192.0.2.66")


def run(director: str, *argv: str, stdin: str = "") -> str:
    done = subprocess.run(command(director, argv), input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_line(director: str, line: str) -> str:
    return run(director, *line.split())


def state_of(director: str) -> dict[str, object]:
    """Everything a host may be changed in; rules without the date and the packet counters."""
    state: dict[str, object] = {"sysctl": read_sysctls(director, ["net/**/*"])}
    for program in ("iptables-save", "ip6tables-save"):
        lines = run(director, program).splitlines()
        state[program] = [line.partition(" [")[0] for line in lines if not line.startswith("#")]
    state["ipset"] = run(director, "ipset", "save")
    state["addr"] = run(director, "ip", "addr")
    state["route"] = run(director, "ip", "route", "show", "table", "all")
    state["route6"] = run(director, "ip", "-6", "route", "show", "table", "all")
    return state


def sysctl(name: str) -> str:
    return Path("/proc/sys/net", name).read_text().strip()


def own_rules(director: str, program: str = "iptables-save") -> list[str]:
    return [line for line in run(director, program).splitlines() if "FULLNAT" in line and line[0] == "-"]


def in_child(work: Callable[[], object]) -> int:
    """Run *work* in a forked process, in the namespace the caller is in; return its wait status."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1]


def kill_myself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def normal(state: dict[str, object]) -> dict[str, object]:
    """The same without the order in which addresses and elements of sets are listed."""
    return {
        part: sorted(value.splitlines()) if isinstance(value, str) else value for part, value in state.items()
    }
