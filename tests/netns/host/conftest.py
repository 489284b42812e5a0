# SPDX-License-Identifier: Apache-2.0
"""A director to set up and put back: a namespace with two veth devices and odd sysctls of its own.

client side  198.18.0.0/24, 2001:db8:1::/64   eth0 | director | eth1   198.19.0.0/24, 2001:db8:2::/64
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from fullnat.host.host import Host
from fullnat.host.plan import HostPlan
from namespace import delete, inside, ip, ip_batch, write_sysctls
from tests.netns.host.tools import PLAN

FLAVOURS = ("nft", "legacy")

Broken = Callable[[str, str], AbstractContextManager[None]]


@pytest.fixture(params=FLAVOURS)
def flavour(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make `iptables` that flavour, as Debian's alternatives do."""
    if shutil.which(f"iptables-{request.param}-restore", path="/usr/sbin") is None:
        pytest.skip(f"needs iptables-{request.param}")
    programs = tmp_path / "bin"
    programs.mkdir()
    for family in ("iptables", "ip6tables"):
        for action in ("", "-save", "-restore"):
            (programs / f"{family}{action}").symlink_to(f"/usr/sbin/{family}-{request.param}{action}")
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return str(request.param)


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Broken:
    """Return what makes a program fail, as long as it is told to, when its input has a text in it."""

    @contextmanager
    def break_program(name: str, text: str) -> Iterator[None]:
        programs = tmp_path / "broken"
        programs.mkdir()
        script = programs / name
        script.write_text(
            "#!/bin/sh\nset -e\ninput=$(cat)\n"
            f'case "$input" in *"{text}"*) echo "no {text} here" >&2; exit 3;; esac\n'
            f'printf "%s\\n" "$input" | {shutil.which(name)} "$@"\n'
        )
        script.chmod(0o755)
        with monkeypatch.context() as patch:
            patch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
            yield

    return break_program


@pytest.fixture
def director() -> Iterator[str]:
    name = f"fh5-{os.getpid()}-director"
    ip("netns", "add", name)
    try:
        ip_batch(
            [
                "link set lo up",
                "link add eth0 type veth peer name client",
                "link add eth1 type veth peer name server",
                # No link-local addresses: duplicate address detection would change the state later.
                *(f"link set {name} addrgenmode none up" for name in ("eth0", "eth1", "client", "server")),
                "addr add 198.18.0.1/24 dev eth0",
                "addr add 2001:db8:1::1/64 dev eth0 nodad",
                "addr add 198.19.0.1/24 dev eth1",
                "addr add 2001:db8:2::1/64 dev eth1 nodad",
                "route add default via 198.18.0.254",
            ],
            name,
        )
        write_sysctls(
            name,
            [
                ("net/ipv4/conf/eth0/rp_filter", 1),
                ("net/ipv4/conf/eth1/forwarding", 1),
                ("net/ipv4/conf/all/accept_redirects", 0),
                ("net/ipv6/conf/eth0/accept_ra", 0),
            ],
        )
        yield name
    finally:
        delete(name)


@pytest.fixture
def start(director: str, tmp_path: Path) -> Iterator[Callable[..., Host]]:
    """Set a host up with a plan, inside the director; what is still up at the end is restored."""
    hosts = []
    with inside(director):

        def set_up(plan: HostPlan = PLAN) -> Host:
            host = Host(plan, tmp_path / "state")
            host.claim()
            hosts.append(host)
            host.set_up()
            return host

        yield set_up
        for host in hosts:
            host.restore()
