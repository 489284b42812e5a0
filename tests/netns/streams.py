# SPDX-License-Identifier: Apache-2.0
"""Load that judges what becomes of it: streams that go on for ever, and very many UDP flows."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from lab import Lab
from tests.netns.conversations import connect, tell
from tests.netns.traffic import PROGRAMS, wait_until

ECHO = 7  # the port of what answers, TCP and UDP
TRANSPORTS = (socket.SOCK_STREAM, socket.SOCK_DGRAM)


def echo_config(lab: Lab, families: Sequence[int] | None = None, **options: Any) -> str:
    """A configuration that serves ECHO, TCP and UDP; *options* are those of the lab's config()."""
    tcp = lab.config(port=ECHO, families=families, **options)
    udp = lab.config(port=ECHO, families=families, protocol="udp", **options)
    return f"{tcp}\n{udp[udp.index('[[service]]') :]}"


class Program:
    """One of the programs beside this, which prints `up` when it is, and a line for each it is sent."""

    def __init__(self, lab: Lab, role: str, name: str, *arguments: object) -> None:
        """Start it on *role* and wait until it is up."""
        argv = [sys.executable, str(PROGRAMS / name), *map(str, arguments)]
        self._child: subprocess.Popen[str] = lab.popen(
            role, argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=None, text=True
        )
        assert self._read() == "up"

    def tell(self, line: str) -> None:
        """Send *line*."""
        assert self._child.stdin
        self._child.stdin.write(f"{line}\n")
        self._child.stdin.flush()

    def answer(self) -> str:
        """Return the answer to what was told."""
        return self._read()

    def ask(self, line: str) -> str:
        """Send *line* and return the answer."""
        self.tell(line)
        return self._read()

    def _read(self) -> str:
        assert self._child.stdout
        return self._child.stdout.readline().strip()

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._child.stdin
        assert self._child.stdout
        self._child.stdin.close()
        self._child.terminate()
        self._child.wait(10)
        self._child.stdout.close()


def start_echo(lab: Lab) -> None:
    """Answer on ECHO of every server, until the lab goes."""
    for role in lab.servers:
        argv = [sys.executable, str(PROGRAMS / "stream_echo.py"), str(ECHO)]
        child: subprocess.Popen[str] = lab.popen(role, argv, stdout=subprocess.PIPE, stderr=None, text=True)
        assert child.stdout
        assert child.stdout.readline() == "up\n"
        child.stdout.close()


@dataclass(frozen=True)
class Report:
    """How streams fared until now."""

    rounds: list[int]  # of each, data that came back as it was
    resent: int  # datagrams that were not answered in time
    local_ports: list[int]  # their own
    troubles: list[str]  # a line for each stream that is lost, stalled or corrupted


class Streams(Program):
    """Streams of the client through virtual addresses, TCP and UDP, in equal shares."""

    def __init__(self, lab: Lab, vips: Sequence[str], *, tcp: int, udp: int = 0, rate: float = 1000) -> None:
        """Open them; *rate* is rounds per second, all together."""
        wanted = [
            f"{kind}:{count // len(vips)}:{ECHO}:{vip}"
            for vip in vips
            for kind, count in (("tcp", tcp), ("udp", udp))
        ]
        super().__init__(lab, "client", "stream_load.py", rate, *wanted)
        self._lab = lab

    def report(self) -> Report:
        """How they fare."""
        return Report(**json.loads(self.ask("")))

    def go_on(self, patience: float = 20) -> Report:
        """Wait until each has sent something after this call, and had it back; return how they fare then."""
        begun = self.report()

        def all_have() -> Report | None:
            now = self.report()
            assert not now.troubles, "\n".join([*now.troubles, *self._sockets()])
            # The round that was under way does not count.
            return now if all(n >= b + 2 for n, b in zip(now.rounds, begun.rounds, strict=True)) else None

        return wait_until(all_have, patience, "every stream going on")  # type: ignore[return-value]

    def _sockets(self) -> list[str]:
        """What the kernels of the ends say of the first connections that wait for an ACK."""
        shown = []
        for role in ("client", *self._lab.servers):
            lines = self._lab.run(role, ["ss", "-tinoOH", "state", "established"]).stdout.splitlines()
            shown += [f"{role}: {line}" for line in lines if line.split()[:2] != ["0", "0"]]
        return shown[:6]


class UdpFlows(Program):
    """UDP flows from one address, a socket each."""

    def __init__(self, lab: Lab, role: str, vip: str, first: int, count: int) -> None:
        """Make the sockets, of ports *first* and on."""
        self.count = count
        super().__init__(lab, role, "udp_flows.py", vip, ECHO, first, count)

    def send(self, begin: int = 0, end: int | None = None) -> None:
        """Send a datagram in each of the flows *begin* to *end*."""
        self.ask(f"send {begin} {self.count if end is None else end}")

    def answers(self, patience: float) -> int:
        """How many of those were answered, as soon as all were, and in *patience* seconds at most."""
        return int(self.ask(f"answers {patience}"))


def open_all(stack: ExitStack, lab: Lab, role: str = "client") -> list[socket.socket]:
    """A conversation of each protocol and family, under way."""
    talks = [
        stack.enter_context(connect(lab, role, vip, ECHO, kind=kind))
        for vip in (*lab.vips4[:1], *lab.vips6[:1])
        for kind in TRANSPORTS
    ]
    for talk in talks:
        tell(talk, "hello")
        tell(talk, "hello again")
    return talks
