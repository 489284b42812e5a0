# SPDX-License-Identifier: Apache-2.0
"""The table that the recordings of ipvsadm are of: rules.txt, and what the traffic did to it.

tools/record_ipvsadm.py makes the recordings; a new one has counters of its own, to be written here.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

from fullnat.core.addr import TCP, UDP, Endpoint, IPAddress
from fullnat.ipvsadm.commands import SCTP, AddServer, AddService, ServiceAddress
from fullnat.ipvsadm.language import parse
from fullnat.ipvsadm.restore import split_lines
from fullnat.ipvsadm.views import ConnectionView, ServerView, ServiceView, Traffic

GOLDEN = Path(__file__).parent / "unit" / "golden" / "ipvsadm"

WEB = "-t 203.0.113.10:80"
WEB6 = "-t [2001:db8:1::10]:80"
DNS = "-u 203.0.113.10:53"
SIP = "-u 203.0.113.10:5060"

# By service, and by server where one has had traffic: active and inactive connections, templates.
COUNTS = {
    (WEB, "198.19.0.11:8080"): (3, 1, 0),
    (WEB, "198.19.0.13:80"): (1, 1, 0),
    (WEB6, "[2001:db8:2::11]:8080"): (2, 0, 1),
    (SIP, "198.19.0.11:5060"): (0, 1, 1),
}
TOTALS = {
    (WEB, ""): Traffic(6, 34, 28, 7816, 61504),
    (WEB, "198.19.0.11:8080"): Traffic(4, 23, 19, 5228, 41020),
    (WEB, "198.19.0.13:80"): Traffic(2, 11, 9, 2588, 20484),
    (DNS, ""): Traffic(4, 4, 0, 132, 0),
    (DNS, "198.19.0.11:53"): Traffic(4, 4, 0, 132, 0),
    (SIP, ""): Traffic(1, 1, 1, 178, 206),
    (SIP, "198.19.0.11:5060"): Traffic(1, 1, 1, 178, 206),
    (WEB6, ""): Traffic(2, 10, 8, 2736, 20592),
    (WEB6, "[2001:db8:2::11]:8080"): Traffic(2, 10, 8, 2736, 20592),
}
RATES = {
    (DNS, ""): Traffic(in_bytes=12),
    (DNS, "198.19.0.11:53"): Traffic(in_bytes=12),
    (WEB, ""): Traffic(1, 3, 3, 733, 5766),
    (WEB, "198.19.0.11:8080"): Traffic(0, 2, 2, 490, 3846),
    (WEB, "198.19.0.13:80"): Traffic(0, 1, 1, 243, 1920),
    (SIP, ""): Traffic(0, 0, 0, 17, 19),
    (SIP, "198.19.0.11:5060"): Traffic(0, 0, 0, 17, 19),
    (WEB6, ""): Traffic(0, 1, 1, 256, 1930),
    (WEB6, "[2001:db8:2::11]:8080"): Traffic(0, 1, 1, 256, 1930),
}
ALL_TOTALS = Traffic(13, 49, 37, 10862, 82302)
ALL_RATES = Traffic(1, 3, 3, 764, 5787)

# The order that the kernel has services in.
KERNELS_ORDER = (
    "-u 203.0.113.10:53",
    "--sctp-service 203.0.113.10:5000",
    "-t 203.0.113.9:25",
    "-t 203.0.113.9:0",
    "-t 203.0.113.10:80",
    "-t 203.0.113.20:80",
    "-t 203.0.113.10:443",
    "-t 203.0.113.11:443",
    "-t [2001:db8:1:2:3:4:5:6]:65535",
    "-u [2001:db8:1::10]:53",
    "-t [2001:db8:1::10]:80",
    "-u 203.0.113.10:5060",
    "-f 7 -6",
    "-f 7",
    "-f 70000",
)


def recorded(name: str) -> str:
    """What ipvsadm printed, or the kernel."""
    return (GOLDEN / f"{name}.txt").read_text()


def table() -> list[ServiceView]:
    """The services of rules.txt, as the kernel has them: of each, the server that came last is first."""
    views: dict[ServiceAddress, ServiceView] = {}
    for words in split_lines(recorded("rules").splitlines()):
        command = parse(words)
        if isinstance(command, AddService):
            views[command.service] = _service(command)
        elif isinstance(command, AddServer):
            view = views[command.service]
            views[command.service] = replace(view, servers=(_server(command), *view.servers))
    by_name = {str(address): view for address, view in views.items()}
    return [by_name[name] for name in KERNELS_ORDER]


def _service(command: AddService) -> ServiceView:
    key = (str(command.service), "")
    return ServiceView(
        command.service,
        command.settings,
        total=TOTALS.get(key, Traffic()),
        rate=RATES.get(key, Traffic()),
    )


def _server(command: AddServer) -> ServerView:
    key = (str(command.service), str(command.settings.server.endpoint))
    active, inactive, persistent = COUNTS.get(key, (0, 0, 0))
    return ServerView(
        command.settings,
        active,
        inactive,
        persistent,
        TOTALS.get(key, Traffic()),
        RATES.get(key, Traffic()),
    )


# The names of the recording, from its /etc/hosts and /etc/services.
_HOSTS = {
    ip_address("203.0.113.10"): "www.example.com",
    ip_address("203.0.113.20"): "a-name-of-more-than-33-characters.example.net",
    ip_address("198.19.0.11"): "server1.example.com",
    ip_address("198.19.0.12"): "a-server-with-a-very-long-name.example.net",
    ip_address("2001:db8:1::10"): "www6.example.com",
    ip_address("2001:db8:2::11"): "a-server-whose-name-fills-the-sixty-bytes-that-there-are.example.net",
}
_SERVICES = {
    (25, TCP): "smtp",
    (53, UDP): "domain",
    (80, TCP): "http",
    (443, TCP): "https",
    (5060, UDP): "sip",
    (8080, TCP): "http-alt",
}


class Hosts:
    """What looks them up."""

    def host(self, address: IPAddress) -> str | None:
        return _HOSTS.get(address)

    def port(self, port: int, protocol: int) -> str | None:
        assert protocol in (TCP, UDP, SCTP), "a service of no protocol has no name"
        return _SERVICES.get((port, protocol))


# Connections in the order that the kernel has them: protocol, client, virtual, server, state, engine.
_CONNECTIONS = """
TCP 203.0.113.1:40004 203.0.113.10:80 198.19.0.11:8080 ESTABLISHED
TCP 203.0.113.1:40005 203.0.113.10:80 198.19.0.11:8080 CLOSE_WAIT
TCP [2001:db8:1::1]:40001 [2001:db8:1::10]:80 [2001:db8:2::11]:8080 ESTABLISHED
TCP 203.0.113.1:40002 203.0.113.10:80 198.19.0.13:80 ESTABLISHED
UDP 203.0.113.1:0 203.0.113.10:5060 198.19.0.11:5060 NONE sip 3405803786@example.com
TCP [2001:db8:1::1]:40002 [2001:db8:1::10]:80 [2001:db8:2::11]:8080 ESTABLISHED
TCP 203.0.113.1:40001 203.0.113.10:80 198.19.0.11:8080 ESTABLISHED
TCP 203.0.113.1:40003 203.0.113.10:80 198.19.0.11:8080 ESTABLISHED
UDP 203.0.113.1:40001 203.0.113.10:5060 198.19.0.11:5060 UDP
TCP [2001:db8:1::]:0 [2001:db8:1::10]:80 [2001:db8:2::11]:8080 ASSURED
TCP 203.0.113.1:40006 203.0.113.10:80 198.19.0.13:80 CLOSE_WAIT
"""
# The seconds each has left in a recording.
EXPIRES = {
    "connections": "894 54 894 894 54 894 894 894 294 594 54",
    "connections-names": "894 54 894 894 54 894 894 894 294 594 53",
    "connections-persistent": "893 53 893 893 53 893 893 893 293 593 53",
    "proc-ip_vs_conn": "892 52 892 892 52 892 892 892 292 592 52",
}


def connections(expires: str) -> list[ConnectionView]:
    """The connections, with the seconds each has left."""
    rows = [line.split() for line in _CONNECTIONS.strip().splitlines()]
    return [
        ConnectionView(
            {"TCP": TCP, "UDP": UDP}[protocol],
            _endpoint(client),
            _endpoint(virtual),
            _endpoint(server),
            state,
            int(seconds),
            *engine,
        )
        for (protocol, client, virtual, server, state, *engine), seconds in zip(
            rows, expires.split(), strict=True
        )
    ]


def _endpoint(text: str) -> Endpoint:
    """An endpoint, of a template too, which has port 0."""
    host, _, port = text.rpartition(":")
    return Endpoint(ip_address(host.strip("[]")), int(port))
