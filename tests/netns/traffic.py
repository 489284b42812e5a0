# SPDX-License-Identifier: Apache-2.0
"""What tests send through a lab, and what they ask its machines afterwards."""

from __future__ import annotations

import re
import sys
from collections import Counter
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from lab import Lab
from wait import wait_until

PROGRAMS = Path(__file__).parent / "programs"

_ANSWER = re.compile(r"server: (\S+)\nclient: (\S+) port (\d+)\n")


@dataclass
class Answers:
    """Who answered, and whom the servers saw."""

    servers: Counter[str] = field(default_factory=Counter)
    order: list[str] = field(default_factory=list)
    sources: set[str] = field(default_factory=set)

    @property
    def count(self) -> int:
        """How many answers came."""
        return len(self.order)


def url_host(address: str) -> str:
    """The address as it is written in a URL."""
    return f"[{address}]" if ":" in address else address


def get(
    lab: Lab, vip: str, requests: int, *, parallel: int = 1, role: str = "client", port: int = 80
) -> Answers:
    """Send HTTP requests to *vip*, each on a connection of its own, and return all answers."""
    # The brackets of an IPv6 address are doubled for curl's globbing, which repeats the request.
    host = vip if ":" not in vip else rf"\[{vip}\]"
    url = f"http://{host}:{port}/?[1-{requests}]"
    options = ["--parallel", "--parallel-immediate", "--parallel-max", str(parallel)] if parallel > 1 else []
    done = lab.run(
        role,
        [
            "curl",
            "--silent",
            "--show-error",
            "--max-time",
            "30",
            "--header",
            "Connection: close",
            *options,
            url,
        ],
        timeout=120,
    )
    answers = Answers()
    for server, source, _ in _ANSWER.findall(done.stdout):
        answers.servers[server] += 1
        answers.order.append(server)
        answers.sources.add(str(ip_address(source)))
    return answers


def vips(lab: Lab, family: int) -> tuple[str, ...]:
    """The virtual addresses of *family*."""
    return lab.vips4 if family == 4 else lab.vips6


def lips(lab: Lab, family: int) -> set[str]:
    """The local addresses of *family*."""
    return set(lab.lips4 if family == 4 else lab.lips6)


def servers(lab: Lab, family: int) -> tuple[str, ...]:
    """The real servers' addresses of *family*."""
    return lab.servers4 if family == 4 else lab.servers6


class Echo:
    """A UDP echo server on one of the lab's machines; it ends with the lab."""

    def __init__(self, lab: Lab, role: str, address: str, port: int = 7) -> None:
        """Start it and wait until it is up."""
        self._log = lab.directory / f"echo-{role}-{address.replace(':', '_')}-{port}"
        argv = [sys.executable, str(PROGRAMS / "udp_echo.py"), address, str(port)]
        with self._log.open("w") as log:
            lab.popen(role, argv, stdout=log)
        self.peers(0)

    def peers(self, count: int) -> list[tuple[str, int]]:
        """Wait until it has answered *count* datagrams; return the address and size of each."""
        lines = wait_until(lambda: self._lines(count + 1), 5, f"{count} datagrams at {self._log.name}")
        fields = (line.split() for line in lines[1:])
        return [(address, int(size)) for address, _, size in fields]

    def _lines(self, count: int) -> list[str] | None:
        lines = self._log.read_text().splitlines()
        return lines if len(lines) >= count else None


def ask(lab: Lab, vip: str, port: int, *sizes: int, role: str = "client") -> list[str]:
    """Send a datagram of each size through *vip*, one after the other; return what came of each."""
    argv = [sys.executable, str(PROGRAMS / "udp_ask.py"), vip, str(port), *map(str, sizes)]
    return lab.run(role, argv, timeout=60).stdout.split()


def send_raw(lab: Lab, role: str, destination: str, packets: list[bytes]) -> None:
    """Send whole packets from *role*."""
    argv = [sys.executable, str(PROGRAMS / "send_raw.py"), destination]
    lab.run(role, argv, input="".join(f"{packet.hex()}\n" for packet in packets))


_ERROR_COUNTERS = re.compile(r"Csum|InErrs|IpReasmFails|Ip6ReasmFails")


class Witness:
    """An end of the path as the judge: its own kernel must find nothing wrong with what it is sent."""

    def __init__(self, lab: Lab, role: str) -> None:
        """Begin to watch: conntrack is on from now, and counts what is invalid to it."""
        self._lab = lab
        self._role = role
        for family in lab.families:
            program = "iptables" if family == 4 else "ip6tables"
            lab.run(role, [program, "-A", "INPUT", "-m", "conntrack", "--ctstate", "INVALID"])
        self._before = self._counters()

    def complaints(self) -> dict[str, int]:
        """What it found wrong since, by counter."""
        now = self._counters()
        return {
            name: value - self._before.get(name, 0)
            for name, value in now.items()
            if value > self._before.get(name, 0)
        }

    def _counters(self) -> dict[str, int]:
        found = {}
        for line in self._lab.run(self._role, ["nstat", "-asz"]).stdout.splitlines():
            if _ERROR_COUNTERS.search(line):
                name, value, *_ = line.split()
                found[name] = int(value)
        for family in self._lab.families:
            program = "iptables" if family == 4 else "ip6tables"
            listing = self._lab.run(self._role, [program, "-nvxL", "INPUT"]).stdout
            invalid = next(line for line in listing.splitlines() if "INVALID" in line)
            found[f"conntrack invalid v{family}"] = int(invalid.split()[0])
        return found


def reasons(shown: dict[str, object]) -> dict[str, int]:
    """The reasons of `show stats` that were counted at all."""
    table = shown["reasons"]
    assert isinstance(table, dict)
    return {name: row["count"] for name, row in table.items() if row["count"]}


__all__ = [
    "PROGRAMS", "Answers", "Echo", "Witness", "ask", "get", "lips", "reasons", "send_raw", "servers",
    "url_host", "vips", "wait_until",
]  # fmt: skip
