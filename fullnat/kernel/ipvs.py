# SPDX-License-Identifier: Apache-2.0
"""Virtual services of IPVS: as ipvsadm(8) is told of them, and as it prints them.

    desired(services) --.
                         >-- plan() --> lines for `ipvsadm --restore`
    parse_rules(...)  --'

Theory.  What is there is changed into what is wanted, one line for each virtual service or real
server that differs, and none for the rest: a service that stays keeps its connections, templates and
counters, and one changed weight among thousands is one line.  Services of others are none of ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network

from fullnat.core.addr import TCP, Endpoint
from fullnat.kernel.service import Forward, Fwmark, KernelServer, KernelService

SCHEDULERS = frozenset(
    ["rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "mh", "sed", "nq", "fo", "ovf", "twos"]
)
SUBSTITUTE = "wlc"  # for a scheduler that IPVS does not have

_METHODS = {Forward.FULLNAT: "-m", Forward.NAT: "-m", Forward.DR: "-g", Forward.TUN: "-i"}
_WHOLE = {4: 32, 6: 128}


@dataclass(frozen=True, slots=True)
class IpvsServer:
    """One real server of a virtual service."""

    method: str  # -m, -g or -i
    weight: int
    upper: int = 0
    lower: int = 0

    @property
    def options(self) -> str:
        """What is said behind its address."""
        return f"{self.method} -w {self.weight} -x {self.upper} -y {self.lower}"


@dataclass(frozen=True, slots=True)
class IpvsService:
    """One virtual service, and its servers by address as ipvsadm writes it."""

    scheduler: str
    flags: frozenset[str] = frozenset()
    timeout: int = 0  # seconds; 0: not persistent
    mask: str = ""  # as ipvsadm writes it: empty for whole addresses, a netmask, IPv6: a prefix length
    one_packet: bool = False
    servers: Mapping[str, IpvsServer] = field(default_factory=dict)

    @property
    def options(self) -> str:
        """What is said behind its address."""
        words = [f"-s {self.scheduler}"]
        if self.flags:
            words.append(f"-b {','.join(sorted(self.flags))}")
        if self.timeout:
            words.append(f"-p {self.timeout}")
        if self.mask:
            words.append(f"-M {self.mask}")
        if self.one_packet:
            words.append("-o")
        return " ".join(words)


Table = Mapping[str, IpvsService]  # by address: "-t 203.0.113.10:80", "-f 7 -6"
Limits = Mapping[tuple[str, str], tuple[int, int]]  # upper and lower, by virtual service and server


def desired(services: Iterable[KernelService]) -> dict[str, IpvsService]:
    """Return what IPVS should have for *services*."""
    return {address_of(service): _service(service) for service in services}


def address_of(service: KernelService) -> str:
    """Return how ipvsadm is told which virtual service is meant."""
    if isinstance(service.listen, Fwmark):
        return f"-f {service.listen.mark}" + (" -6" if service.family == 6 else "")
    return f"{'-t' if service.protocol == TCP else '-u'} {service.listen}"


def _service(service: KernelService) -> IpvsService:
    known = service.scheduler in SCHEDULERS
    persistence = service.persistence
    return IpvsService(
        scheduler=service.scheduler if known else SUBSTITUTE,
        flags=service.flags if known else frozenset(),
        timeout=persistence.timeout if persistence else 0,
        mask=_mask(service.family, persistence.mask) if persistence else "",
        one_packet=service.one_packet,
        servers={
            str(_reached(service, server)): _server(server, service.forward) for server in service.servers
        },
    )


def _reached(service: KernelService, server: KernelServer) -> Endpoint:
    """Return where *server* is reached: only NAT changes the port, and ipvsadm knows it."""
    if _METHODS[service.forward] == "-m" or isinstance(service.listen, Fwmark):
        return server.endpoint
    return Endpoint(server.endpoint.address, service.listen.port)


def _server(server: KernelServer, forward: Forward) -> IpvsServer:
    return IpvsServer(_METHODS[forward], server.weight, server.upper, server.lower)


def _mask(family: int, length: int) -> str:
    if length == _WHOLE[family]:
        return ""
    return str(ip_network(f"0.0.0.0/{length}").netmask) if family == 4 else str(length)


def deletion(address: str) -> str:
    """Return the line that takes the virtual service at *address* off."""
    return f"-D {address}"


def differences(service: KernelService) -> list[str]:
    """Return what IPVS does otherwise than the config says, a clause each."""
    found = []
    if service.scheduler not in SCHEDULERS:
        found.append(f"scheduler {service.scheduler} becomes {SUBSTITUTE}")
    for server in service.servers:
        reached = _reached(service, server)
        if reached != server.endpoint:
            mode = service.forward.value
            found.append(f"server {server.endpoint} is reached at port {reached.port}, which {mode} keeps")
    return found


def plan(wanted: Table, present: Table) -> list[str]:
    """Return the lines that lead from *present* to *wanted*: at most one for each that differs.

    Servers are added before others are taken away, so that no service is without one on the way.
    """
    lines = [deletion(address) for address in present if address not in wanted]
    for address, service in wanted.items():
        there = present.get(address)
        if there is None:
            lines.append(f"-A {address} {service.options}")
        elif there.options != service.options:
            lines.append(f"-E {address} {service.options}")
        lines += _plan_servers(address, service.servers, there.servers if there else {})
    return lines


def _plan_servers(
    address: str, wanted: Mapping[str, IpvsServer], present: Mapping[str, IpvsServer]
) -> Iterator[str]:
    for name, server in wanted.items():
        if name not in present:
            yield f"-a {address} -r {name} {server.options}"
        elif present[name] != server:
            yield f"-e {address} -r {name} {server.options}"
    yield from (f"-d {address} -r {name}" for name in present if name not in wanted)


def parse_rules(saved: str, thresholds: str) -> dict[str, IpvsService]:
    """Return the table in the output of `ipvsadm -Sn`, with the thresholds `ipvsadm -Ln --thresholds` prints.

    The former has everything else.
    """
    table: dict[str, IpvsService] = {}
    servers: dict[str, dict[str, IpvsServer]] = {}
    limits = parse_thresholds(thresholds)
    for line in saved.splitlines():
        words = line.split()
        if words[:1] == ["-A"]:
            address, options = _split(words[1:])
            servers[address] = {}  # filled by the lines that follow
            table[address] = _parse_service(options, servers[address])
        elif words[:1] == ["-a"]:
            address, options = _split(words[1:])
            name, server = _parse_server(_options(options), address, limits)
            servers[address][name] = server
    return table


def _split(words: list[str]) -> tuple[str, list[str]]:
    """Return the address of a virtual service at the start of *words*, and what is behind it."""
    size = 3 if words[0] == "-f" and words[2:3] == ["-6"] else 2
    return " ".join(words[:size]), words[size:]


def _parse_service(options: list[str], servers: Mapping[str, IpvsServer]) -> IpvsService:
    given = _options(options)
    return IpvsService(
        scheduler=given["-s"],
        flags=frozenset(given["-b"].split(",")) if "-b" in given else frozenset(),
        timeout=int(given.get("-p", 0)),
        mask=given.get("-M", ""),
        one_packet="-o" in given or "--ops" in given,
        servers=servers,
    )


def _parse_server(given: Mapping[str, str], address: str, limits: Limits) -> tuple[str, IpvsServer]:
    name = given["-r"]
    method = next(word for word in ("-m", "-g", "-i") if word in given)
    upper, lower = limits.get((address, name)) or (int(given.get("-x", 0)), int(given.get("-y", 0)))
    return name, IpvsServer(method, int(given["-w"]), upper, lower)


def _options(words: list[str]) -> dict[str, str]:
    """Return the options with their values, an empty one where there is none."""
    found: dict[str, str] = {}
    for at, word in enumerate(words):
        if word.startswith("-"):
            has_value = at + 1 < len(words) and not words[at + 1].startswith("-")
            found[word] = words[at + 1] if has_value else ""
    return found


_LISTED = {"TCP": "-t", "UDP": "-u"}


def parse_thresholds(listed: str) -> Limits:
    """Return upper and lower, by virtual service and server, from `ipvsadm -Ln --thresholds`."""
    found: dict[tuple[str, str], tuple[int, int]] = {}
    address = ""
    for line in listed.splitlines():
        words = line.split()
        if words[:1] == ["->"] and len(words) >= 4 and words[2].isdigit():
            found[address, words[1]] = (int(words[2]), int(words[3]))
        elif words and words[0] in _LISTED:
            address = f"{_LISTED[words[0]]} {words[1]}"
        elif words and words[0] == "FWM":
            address = f"-f {words[1]}" + (" -6" if "IPv6" in words else "")
    return found
