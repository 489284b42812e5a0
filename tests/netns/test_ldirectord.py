# SPDX-License-Identifier: Apache-2.0
"""An unmodified ldirectord at work: it finds our ipvsadm where IPVS's would be, and drives an instance by it.

 client                    director                               real server
CIP:cport  ---------->  VIP:80 | LIP:lport   ------------------->  RIP:80
                        ldirectord -- ipvsadm -- fullnat              |
                            `------------ GET / every second ---------'
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from balancer import Balancer
from fullnat.control.client import tell
from fullnat.host.state import DEFAULT_DIRECTORY
from lab import Lab
from namespace import cookie
from tests.netns.traffic import get, url_host, wait_until

pytestmark = pytest.mark.requires("nfqueue", "ipset", "iptables", "curl", "ldirectord")

REJECT = ["INPUT", "-p", "tcp", "--dport", "80", "-j", "REJECT", "--reject-with", "tcp-reset"]
_SECONDS = 60.0  # ldirectord looks once a second, and starts three programs for each server it changes
_PROGRAM = f"""\
#!{sys.executable}
from fullnat.cli import main
main()
"""
# All else is as the package has it.  ipvsadm is replaced in the mount namespace of this one process.
_START = 'mount --bind "$1" /usr/sbin/ipvsadm && exec /usr/sbin/ldirectord "$2" "$3"'


_NEGOTIATE = 'checktype=negotiate\n\trequest="/"\n\treceive="^server: "'


class Ldirectord:
    """ldirectord with one configuration; services at VIP:80 with servers 1 and 2, and 3 as a fallback."""

    def __init__(self, lab: Lab, *, quiescent: bool) -> None:
        self._lab = lab
        self._quiescent = quiescent
        self._file = lab.directory / f"ldirectord-{lab.id}.cf"
        self._program = lab.directory / "ipvsadm"
        self._program.write_text(_PROGRAM)
        self._program.chmod(0o755)
        self.log = lab.directory / "ldirectord.log"
        self.configure(weight=2)

    def configure(self, weight: int) -> None:
        """Write the configuration, server 2 with this weight."""
        lab = self._lab
        blocks = [
            _block("", lab.vips4[0], lab.servers4, weight, _NEGOTIATE),
            # Its check_http asks for a Perl module that its package does not depend on, where there is IPv6.
            _block("6", lab.vips6[0], lab.servers6, weight, "checktype=connect"),
        ]
        settings = [
            "checktimeout=10",
            "negotiatetimeout=10",
            "checkinterval=1",
            "cleanstop=yes",
            f"quiescent={'yes' if self._quiescent else 'no'}",
            f'logfile="{self.log}"',
        ]
        self._file.write_text("\n".join([*settings, *blocks]))

    def order(self, what: str) -> None:
        """Run `ldirectord FILE start`, reload or stop."""
        argv = ["unshare", "--mount", "sh", "-c", _START, "sh", str(self._program), str(self._file), what]
        nowhere = {"capture_output": False, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._lab.run("director", argv, **nowhere)

    @property
    def pid_file(self) -> Path:
        """Where it keeps its process id while it runs."""
        return Path("/run") / f"ldirectord.{self._file.name}.pid"


def _block(family: str, vip: str, servers: list[str], weight: int, check: str) -> str:
    one, two, three = (f"{url_host(address)}:80" for address in servers)
    return f"""
virtual{family}={url_host(vip)}:80
\treal{family}={one} masq
\treal{family}={two} masq {weight}
\tfallback{family}={three} masq
\tservice=http
\tscheduler=wrr
\tprotocol=tcp
\t{check}
"""


@pytest.fixture
def datapath() -> str:
    """Whatever runs."""
    return "auto"


@pytest.fixture
def ldirectord(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Ldirectord]:
    one = Ldirectord(lab, quiescent=request.param)
    yield one
    one.pid_file.unlink(missing_ok=True)


def saved(lab: Lab) -> dict[str, dict[str, int]]:
    """What `ipvsadm -Sn` has: the weights of the servers of each service.

    Asked without a program: one after the other would leave ldirectord's no time.
    """
    socket = DEFAULT_DIRECTORY / f"main@{cookie(lab.namespace('director'))}.sock"
    found: dict[str, dict[str, int]] = {}
    for line in tell(socket, "ipvsadm", {"arguments": ["-Sn"]})["output"].splitlines():
        if match := re.fullmatch(r"-A -t (\S+) -s wrr", line):
            found[match[1]] = {}
        else:
            match = re.fullmatch(r"-a -t (\S+) -r (\S+) -m -w (\d+)", line)
            assert match, line
            found[match[1]][match[2]] = int(match[3])
    return found


def wanted(lab: Lab, *weights: int | None) -> dict[str, dict[str, int]]:
    """The same in both families: servers 1, 2 and 3 with these weights; None: it is not there."""
    return {
        f"{url_host(vip)}:80": {
            f"{url_host(server)}:80": weight
            for server, weight in zip(servers, weights, strict=True)
            if weight is not None
        }
        for vip, servers in ((lab.vips4[0], lab.servers4), (lab.vips6[0], lab.servers6))
    }


def reject(lab: Lab, role: str) -> None:
    """Have nobody reach the web server of *role*."""
    for program in ("iptables", "ip6tables"):
        lab.run(role, [program, "-I", *REJECT])


def accept(lab: Lab, role: str) -> None:
    """And reach it again."""
    for program in ("iptables", "ip6tables"):
        lab.run(role, [program, "-F", "INPUT"])


@pytest.mark.parametrize("ldirectord", [False, True], ids=["deletes", "quiesces"], indirect=True)
def test_it_drives_an_instance(
    lab: Lab, balancer: Callable[..., Balancer], ldirectord: Ldirectord, request: pytest.FixtureRequest
) -> None:
    out = 0 if "quiesces" in request.node.name else None
    balancer(lab.config().partition("[[service]]")[0])

    def await_weights(*weights: int | None) -> None:
        try:
            wait_until(lambda: saved(lab) == wanted(lab, *weights), _SECONDS, f"weights {weights}")
        except TimeoutError as error:
            error.add_note(f"{saved(lab)}\n{ldirectord.log.read_text()}")
            raise

    def served_by() -> dict[str, int]:
        both = [get(lab, vip, 6).servers for vip in (lab.vips4[0], lab.vips6[0])]
        assert both[0] == both[1]
        return dict(both[0])

    ldirectord.order("start")
    await_weights(1, 2, None)
    assert served_by() == {"server1": 2, "server2": 4}
    reject(lab, "server2")
    await_weights(1, out, None)
    assert served_by() == {"server1": 6}
    reject(lab, "server1")
    await_weights(out, out, 1)
    assert served_by() == {"server3": 6}
    accept(lab, "server2")
    await_weights(out, 2, None)
    assert served_by() == {"server2": 6}
    accept(lab, "server1")
    await_weights(1, 2, None)
    ldirectord.configure(weight=5)
    ldirectord.order("reload")
    await_weights(1, 5, None)
    assert served_by() == {"server1": 1, "server2": 5}
    ldirectord.order("stop")
    wait_until(lambda: not ldirectord.pid_file.exists(), _SECONDS, "the end of ldirectord")
    assert saved(lab) == {}
    assert "failed" not in ldirectord.log.read_text()
