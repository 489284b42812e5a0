# SPDX-License-Identifier: Apache-2.0
"""Lines of ipvsadm-save(8): -A adds a virtual service, -a a real server to it; with DPVS's words.

Rules.
  1. Only commands that add are taken, as ipvsadm-save writes no others.
  2. A flag means by its command what it means to ipvsadm: -b is --sched-flags with -A, and DPVS's
     --fullnat with -a.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from fullnat.importers.assemble import flags, forward, scheduler, server_port
from fullnat.importers.document import Document, Listen, Persistence, Server, Service, Timeouts
from fullnat.importers.notes import ImporterError, Notes, Place, quoted
from fullnat.importers.settings import numbered
from fullnat.importers.values import Address, Duration, read_address, read_integer, read_prefix, read_seconds

_COMMANDS = {
    **{"-A": "add-service", "-a": "add-server", "-E": "edit-service", "-e": "edit-server"},
    **{"-D": "delete-service", "-d": "delete-server", "-C": "clear", "-P": "add-laddr"},
    **{"-L": "list", "-l": "list", "-Z": "zero", "-S": "save", "-R": "restore"},
}
_LONG_COMMANDS = frozenset([*_COMMANDS.values(), "set", "start-daemon", "stop-daemon"])
_WITH_VALUE = {
    **{"-t": "tcp-service", "-u": "udp-service", "-f": "fwmark-service", "-s": "scheduler"},
    **{"-M": "netmask", "-r": "real-server", "-w": "weight", "-x": "u-threshold", "-y": "l-threshold"},
    **{"-z": "laddr", "-F": "ifname", "-j": "synproxy", "-q": "icmp-service", "-H": "match"},
}
_ONLY_LONG = """
    sched-flags sctp-service pe tun-type tun-port
    conn-timeout proxy-protocol dest-check hash-target cpu sockpair
"""
_LONG_WITH_VALUE = frozenset([*_WITH_VALUE.values(), *_ONLY_LONG.split()])
_PLAIN = {
    **{"-m": "masquerading", "-g": "gatewaying", "-i": "ipip", "-o": "ops", "-6": "ipv6", "-n": "numeric"},
    **{"-b": "fullnat", "-p": "persistent", "-J": "snat"},
}
_LONG_PLAIN = frozenset([*_PLAIN.values(), "tun-nocsum", "tun-csum", "tun-remcsum", "exact"])
_ALIASES = {"nat": "masquerading"}
_MODES = {"masquerading": "nat", "gatewaying": "dr", "ipip": "tun", "fullnat": "fullnat"}
_SCHEMES = {"tcp-service": "tcp", "udp-service": "udp", "fwmark-service": "fwmark"}
_ADDRESSED = (*_SCHEMES, "sctp-service", "icmp-service", "match")
_DEFAULT_PERSISTENCE_S = 300

_TUNNEL = "a tunnel is IPIP as the kernel has it by default"
_REASONS = {
    "pe": "clients are told apart by address alone",
    **dict.fromkeys(["tun-type", "tun-port", "tun-nocsum", "tun-csum", "tun-remcsum"], _TUNNEL),
    "synproxy": "no engine does this in this version",
    "ifname": "the interface follows from the route",
}


def read(document: Document, text: str, keep_forwarding: bool) -> list[Service]:
    """Return the services of *text*; what is global goes to *document* at once."""
    reader = _Reader(document, keep_forwarding)
    for place, line in numbered(document.path, text):
        reader.read_line(place, line)
    return reader.finish()


class _Reader:
    """Reads the lines one after the other."""

    def __init__(self, document: Document, keep_forwarding: bool) -> None:
        self._document = document
        self._keep_forwarding = keep_forwarding
        self._services: dict[str, Service] = {}
        self._modes: dict[str, str] = {}  # of the first server of a service

    def read_line(self, place: Place, line: str) -> None:
        """Take one line."""
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            raise ImporterError(place, "a quote is not closed") from None
        if words and words[0].rpartition("/")[2] == "ipvsadm":
            words = words[1:]
        if not words:
            return
        command, values = _command(words, place)
        options = dict(_options(values, command, place))
        if command == "add-service":
            self._add_service(place, options)
        elif command == "add-server":
            self._add_server(place, options)
        elif command == "add-laddr":
            self._add_local_address(place, options)
        elif command == "set":
            self._set_timeouts(place, values)
        elif command != "clear":
            self._document.notes.left(place, f"--{command}", "only what is added is taken")

    def finish(self) -> list[Service]:
        """Return the services, each with the forwarding of its servers."""
        for key, service in self._services.items():
            forward(service, self._modes.get(key, "fullnat"), service.place, self._keep_forwarding)
        return list(self._services.values())

    def _add_service(self, place: Place, options: dict[str, str]) -> None:
        listen = _listen(options, place, self._document.notes)
        if listen is None:
            return
        if str(listen) in self._services:
            raise ImporterError(place, f"the virtual service {listen} is there already")
        service = self._services[str(listen)] = Service(place, listen)
        if "scheduler" in options:
            service.scheduler = scheduler(options.pop("scheduler"), place, service.notes)
        if "sched-flags" in options:
            service.scheduler_flags = flags(options.pop("sched-flags").split(","), service, place)
        service.persistence = _persistence(options, place)
        service.one_packet = options.pop("ops", None) is not None
        if "conn-timeout" in options:
            idle = read_seconds(options.pop("conn-timeout"), "--conn-timeout", place)
            service.timeouts = Timeouts(tcp_established=idle)
        _tell(options, place, service.notes)

    def _add_server(self, place: Place, options: dict[str, str]) -> None:
        listen = _listen(options, place, self._document.notes)
        if listen is None:
            return
        service = self._services.get(str(listen))
        if service is None:
            raise ImporterError(place, f"no -A before has the virtual service {listen}")
        if "real-server" not in options:
            raise ImporterError(place, "-a: -r ADDRESS:PORT is missing")
        mode = next((_MODES[word] for word in _MODES if options.pop(word, None) is not None), "dr")
        first = self._modes.setdefault(str(listen), mode)
        address = read_address(options.pop("real-server"), "-r", place)
        if mode != first:
            why = f"all servers of a service are reached alike, here as {first.upper()} was"
            service.notes.changed(place, f"server {address} was {mode.upper()}", why)
        server = Server(place, address._replace(port=server_port(address.port, first, listen)))
        for option, name, most in (
            ("weight", "weight", 65535),
            ("u-threshold", "upper", 2**32 - 1),
            ("l-threshold", "lower", 2**32 - 1),
        ):
            if option in options:
                setattr(server, name, read_integer(options.pop(option), 0, most, f"--{option}", place))
        service.servers.append(server)
        _tell(options, place, service.notes)

    def _add_local_address(self, place: Place, options: dict[str, str]) -> None:
        if "laddr" not in options:
            raise ImporterError(place, "--add-laddr: -z ADDRESS is missing")
        address = str(read_address(options["laddr"], "-z", place).host)
        if address not in self._document.local_addresses:
            self._document.local_addresses.append(address)

    def _set_timeouts(self, place: Place, words: list[str]) -> None:
        if len(words) != 3:
            raise ImporterError(place, "--set: accepted: --set TCP TCPFIN UDP, in seconds")
        tcp, tcpfin, udp = (read_integer(word, 0, 31_536_000, "--set", place) for word in words)
        self._document.timeouts = Timeouts(
            *(Duration(each * 1000) if each else None for each in (tcp, tcpfin, udp))
        )


def _command(words: list[str], place: Place) -> tuple[str, list[str]]:
    """Return the command of a line and the words behind it."""
    first = words[0]
    long = first.removeprefix("--")
    if first.startswith("--") and long in _LONG_COMMANDS:
        return long, words[1:]
    if first[:2] in _COMMANDS and not first.startswith("--"):
        glued = [f"-{first[2:]}"] if len(first) > 2 else []  # -At: two options in one word
        return _COMMANDS[first[:2]], glued + words[1:]
    raise ImporterError(
        place, f"found {quoted(first)}, accepted: a command as ipvsadm-save writes it, -A or -a"
    )


def _options(words: list[str], command: str, place: Place) -> Iterator[tuple[str, str]]:
    """Yield the options with their values, an empty one where there is none."""
    if command in {"set", "start-daemon", "stop-daemon"}:
        return
    rest = list(reversed(words))
    while rest:
        word = rest.pop()
        name, equals, value = word.partition("=") if word.startswith("--") else (word, "", "")
        name = _long_name(name, command, place)
        if equals:
            yield name, value
        elif name in _LONG_WITH_VALUE:
            if not rest:
                raise ImporterError(place, f"{word}: a value is missing")
            yield name, rest.pop()
        elif name == "persistent" and rest and not rest[-1].startswith("-"):
            yield name, rest.pop()
        else:
            yield name, ""


def _long_name(word: str, command: str, place: Place) -> str:
    if word == "-b" and command != "add-server":
        return "sched-flags"
    long = _WITH_VALUE.get(word) or _PLAIN.get(word) or word.removeprefix("--")
    long = _ALIASES.get(long, long)
    is_known = long in _LONG_WITH_VALUE or long in _LONG_PLAIN or (word.startswith("--") and len(word) > 2)
    if not is_known:
        raise ImporterError(place, f"found {quoted(word)}, accepted: an option of ipvsadm")
    return long


def _listen(options: dict[str, str], place: Place, notes: Notes) -> Listen | None:
    """Return which virtual service is meant, or None where fullnat has none of its kind."""
    kind = next((word for word in _ADDRESSED if word in options), None)
    if kind is None:
        raise ImporterError(place, "a virtual service is missing: -t, -u or -f")
    text = options.pop(kind)
    is_v6 = options.pop("ipv6", None) is not None
    options.pop("numeric", None)
    if kind not in _SCHEMES:
        notes.left(place, f"--{kind} {text}", "fullnat balances TCP and UDP")
        return None
    if kind == "fwmark-service":
        return Listen("fwmark6" if is_v6 else "fwmark", read_integer(text, 1, 2**32 - 1, "-f", place))
    address = read_address(text, "a virtual service", place)
    return Listen(_SCHEMES[kind], Address(address.host, address.port))


def _persistence(options: dict[str, str], place: Place) -> Persistence | None:
    mask = options.pop("netmask", None)
    if "persistent" not in options:
        return None
    text = options.pop("persistent") or str(_DEFAULT_PERSISTENCE_S)
    seconds = read_integer(text, 1, 31_536_000, "-p", place)
    return Persistence(Duration(seconds * 1000), read_prefix(mask, "-M", place) if mask else None)


def _tell(options: dict[str, str], place: Place, notes: Notes) -> None:
    for name, value in options.items():
        notes.left(place, f"--{name} {value}".strip(), _REASONS.get(name, "fullnat has nothing like it"))
