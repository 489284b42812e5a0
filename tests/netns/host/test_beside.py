# SPDX-License-Identifier: Apache-2.0
"""What IPVS serves beside the engine, as a host is set up for it, changed and put back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from fullnat.core.addr import TCP, parse_endpoint
from fullnat.host.errors import HostError
from fullnat.host.host import Host
from fullnat.kernel.service import Forward, Fwmark, KernelServer, KernelService
from tests.netns.host.tools import PLAN, run_line

pytestmark = pytest.mark.requires("ipvs", "ipset", "nat", "conntrack")

DIRECT = KernelService(
    parse_endpoint("198.18.0.30:80"),  # on eth0's network
    TCP,
    "rr",
    (KernelServer(parse_endpoint("198.19.0.11:80")), KernelServer(parse_endpoint("198.19.0.12:80"))),
    forward=Forward.DR,
)
MARKED = KernelService(
    Fwmark(7, 6), 0, "wlc", (KernelServer(parse_endpoint("[2001:db8:2::11]:1")._replace(port=0)),)
)


def virtual_services(director: str) -> list[str]:
    """What IPVS of *director* has."""
    return run_line(director, "ipvsadm -Sn").splitlines()


def tracks(director: str) -> bool:
    """Whether IPVS of *director* has its connections known to conntrack."""
    return run_line(director, "sysctl -n net.ipv4.vs.conntrack") == "1\n"


def addresses(director: str) -> str:
    """Those of eth0."""
    return run_line(director, "ip -o addr show dev eth0")


def test_services_come_and_go_with_their_addresses(director: str, start: Callable[..., Host]) -> None:
    run_line(director, "ipvsadm -Ln")  # has the module loaded, and its parameters there
    before = addresses(director)
    host = start(replace(PLAN, kernel_services=(DIRECT,)))
    assert virtual_services(director) == [
        "-A -t 198.18.0.30:80 -s rr",
        "-a -t 198.18.0.30:80 -r 198.19.0.11:80 -g -w 1",
        "-a -t 198.18.0.30:80 -r 198.19.0.12:80 -g -w 1",
    ]
    assert "198.18.0.30/32" in addresses(director)
    assert not tracks(director)  # nothing of it comes back here
    host.update(replace(PLAN, kernel_services=(MARKED,)))
    assert virtual_services(director) == ["-A -f 7 -6 -s wlc", "-a -f 7 -6 -r [2001:db8:2::11]:0 -m -w 1"]
    assert "198.18.0.30" not in addresses(director)
    assert tracks(director)
    assert host.verify() == []
    host.update(replace(PLAN, kernel_services=()))
    assert virtual_services(director) == []
    host.restore()
    assert addresses(director) == before
    assert not tracks(director)


def test_an_update_that_cannot_be_leaves_what_was(director: str, start: Callable[..., Host]) -> None:
    host = start(replace(PLAN, kernel_services=(DIRECT,)))
    served = virtual_services(director)
    nowhere = replace(DIRECT, listen=parse_endpoint("203.0.113.77:80"))
    with pytest.raises(HostError, match=r"203\.0\.113\.77, and IPVS serves only .*: ip addr add"):
        host.update(replace(PLAN, kernel_services=(DIRECT, nowhere)))
    assert virtual_services(director) == served
    run_line(director, "ipvsadm -A -f 7 -6 -s rr")
    with pytest.raises(HostError, match=r"-f 7 -6 that is not fullnat's: ipvsadm -D -f 7 -6"):
        host.update(replace(PLAN, kernel_services=(MARKED,)))
    assert sorted(virtual_services(director)) == sorted([*served, "-A -f 7 -6 -s rr"])


def test_a_successor_takes_services_over_without_a_gap(director: str, start: Callable[..., Host]) -> None:
    """What is not as it should be is changed, what is not wanted any more goes, the rest is not touched."""
    start(replace(PLAN, kernel_services=(DIRECT, MARKED))).leave()
    run_line(director, "ipvsadm -e -t 198.18.0.30:80 -r 198.19.0.12:80 -g -w 9")
    run_line(director, "ipvsadm -a -t 198.18.0.30:80 -r 198.19.0.13:80 -g")
    start(replace(PLAN, kernel_services=(DIRECT,)))
    assert virtual_services(director)[0] == "-A -t 198.18.0.30:80 -s rr"
    assert sorted(virtual_services(director)[1:]) == [
        "-a -t 198.18.0.30:80 -r 198.19.0.11:80 -g -w 1",
        "-a -t 198.18.0.30:80 -r 198.19.0.12:80 -g -w 1",
    ]


def test_a_dry_run_tells_what_ipvs_would_be_told(director: str, start: Callable[..., Host]) -> None:
    start()
    text = Host(replace(PLAN, instance="dry", kernel_services=(DIRECT,))).render_text()
    assert text.endswith(
        "# ipvsadm --restore\n-A -t 198.18.0.30:80 -s rr\n"
        "-a -t 198.18.0.30:80 -r 198.19.0.11:80 -g -w 1 -x 0 -y 0\n"
        "-a -t 198.18.0.30:80 -r 198.19.0.12:80 -g -w 1 -x 0 -y 0\n"
    )
