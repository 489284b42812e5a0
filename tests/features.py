# SPDX-License-Identifier: Apache-2.0
"""What a test may need of the host, each found out by trying it.

`@pytest.mark.requires("nfqueue", "ipv6")` skips a test where one is missing and says which.
FULLNAT_REQUIRE=nfqueue,ipv6 turns such a skip into a failure: for hosts that ought to have them.
`pytest --requiring ipvs` runs only the tests that need it.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable

import pytest

from fullnat.datapath.base import Unsupported
from fullnat.datapath.native import require_extension
from fullnat.host.fastpath import find_refusal

_NFQUEUE = """
from netfilterqueue import NetfilterQueue
queue = NetfilterQueue()
queue.bind(0, print)
queue.unbind()
"""


def _try(*argv: str) -> str:
    """Empty if *argv* succeeds in a network namespace of its own, else its last words."""
    try:
        done = subprocess.run(["unshare", "--net", "--", *argv], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        return str(error)
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["failed"])[-1]


def _root() -> str:
    return "" if os.geteuid() == 0 else "not root"


def _nfqueue() -> str:
    rule = ("-t", "raw", "-A", "PREROUTING", "-j", "NFQUEUE", "--queue-num", "0", "--queue-bypass")
    return _try("iptables", *rule) or _try(sys.executable, "-c", _NFQUEUE)


def _nat() -> str:
    rules = ("-m statistic --mode nth --every 2 --packet 0", "-m recent --set", "-j CONNMARK --set-xmark 1/1")
    lines = [f"iptables -t nat -A PREROUTING {rule}" for rule in rules]
    return _try("sh", "-c", " && ".join([*lines, "ipset create probe hash:ip,port,ip timeout 9"]))


def _ipvs() -> str:
    return _try("ipvsadm", "-Ln")


def _ipv6() -> str:
    return _try("sh", "-c", "ip link set lo up && ip -6 address add 2001:db8::1/128 dev lo nodad")


def _vlan() -> str:
    devices = "ip link add one type veth peer name two && ip link add link one name three type vlan id 5"
    return _try("sh", "-c", devices)


def _ebpf() -> str:
    return find_refusal() or _native()


def _native() -> str:
    try:
        require_extension()
    except Unsupported as error:
        return str(error)
    return ""


def _guest() -> str:
    import guest  # of the lab, which is on the path only later

    return guest.find_refusal()


def _compiler(*options: str) -> str:
    """Empty if gcc builds a program with *options* that runs, else its last words."""
    with tempfile.TemporaryDirectory() as folder:
        program = f"{folder}/probe"
        for argv in (["gcc", *options, "-x", "c", "-", "-o", program], [program]):
            try:
                done = subprocess.run(
                    argv, input="int main(void) { return 0; }", capture_output=True, text=True, check=False
                )
            except FileNotFoundError as error:
                return str(error)
            if done.returncode:
                return (done.stderr.strip().splitlines() or ["failed"])[-1]
    return ""


def _program(name: str) -> Callable[[], str]:
    return lambda: "" if shutil.which(name) else f"{name} is not installed"


_PROGRAMS = (
    *("chromium", "conntrack", "curl", "ethtool", "iperf3", "ipset", "iptables", "ldirectord", "nginx"),
    *("ping", "promtool", "traceroute"),
)

PROBES: dict[str, Callable[[], str]] = {
    "root": _root,
    "netns": lambda: _try("ip", "link", "add", "type", "veth"),
    "nfqueue": _nfqueue,
    "nat": _nat,
    "ipvs": _ipvs,
    "ipv6": _ipv6,
    "vlan": _vlan,
    "native": _native,
    "ebpf": _ebpf,
    "guest": _guest,
    "gcc": _compiler,
    "asan": lambda: _compiler("-fsanitize=address,undefined"),
    **{name: _program(name) for name in _PROGRAMS},
    "node_exporter": _program("prometheus-node-exporter"),  # as Debian calls it
}


@functools.cache
def missing(feature: str) -> str:
    """Why *feature* is not to be had here; empty when it is."""
    return PROBES[feature]()


def required() -> frozenset[str]:
    """The features that FULLNAT_REQUIRE lists."""
    wanted = frozenset(os.environ.get("FULLNAT_REQUIRE", "").replace(",", " ").split())
    refuse_unknown(wanted, "FULLNAT_REQUIRE")
    return wanted


def refuse_unknown(names: Iterable[str], where: str) -> None:
    """Say that *where* names a feature that there is not."""
    if unknown := set(names) - PROBES.keys():
        raise pytest.UsageError(f"{where}: no feature {sorted(unknown)}; there are {sorted(PROBES)}")


def demand(feature: str) -> None:
    """Go on if *feature* is there; else skip, or fail where it is required."""
    if reason := missing(feature):
        end = pytest.fail if feature in required() else pytest.skip
        end(f"needs {feature}: {reason}")
