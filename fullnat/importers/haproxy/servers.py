# SPDX-License-Identifier: Apache-2.0
"""The server lines of haproxy.cfg, and the options they and default-server have."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from fullnat.importers.notes import ImporterError, Notes, Place, quoted
from fullnat.importers.settings import Setting
from fullnat.importers.values import Address, read_host, read_integer

_WITH_VALUE_TEXT = """
    addr agent-addr agent-inter agent-port agent-send alpn ca-file check-alpn check-proto check-sni
    ciphers ciphersuites cookie crl-file crt downinter error-limit fall fastinter id init-addr inter
    interface log-proto maxconn maxqueue max-reuse minconn namespace npn observe on-error
    on-marked-down on-marked-up pool-low-conn pool-max-conn pool-purge-delay port proto
    proxy-v2-options redir resolve-net resolve-opts resolve-prefer resolvers rise slowstart sni
    socks4 source ssl-max-ver ssl-min-ver tcp-ut track usesrc verify verifyhost weight ws guid
    hash-key init-state log-bufsize
"""
_WITH_VALUE = frozenset(_WITH_VALUE_TEXT.split())
_TAKEN_TEXT = """
    addr backup check check-sni check-ssl disabled enabled fall inter maxconn on-marked-down port
    rise source sni verify weight ssl usesrc
"""
TAKEN = frozenset(_TAKEN_TEXT.split())
_OPPOSITES = {"no-check": "check", "no-backup": "backup", "no-ssl": "ssl", "no-check-ssl": "check-ssl"}
_OPPOSITES["enabled"] = "disabled"
_HARMLESS = frozenset(["id", "tfo", "tcp-ut", "no-agent-check", "no-send-proxy", "no-send-proxy-v2", "guid"])

_NAMES = "write addresses; names are not looked up while fullnat runs"
_POOL = "connections are not kept for reuse"
_PROXY = "fullnat sends no PROXY header in this version, so the servers must not expect one"
REASONS = {
    **dict.fromkeys(["resolvers", "init-addr", "resolve-prefer", "resolve-opts", "resolve-net"], _NAMES),
    **dict.fromkeys(["max-reuse", "pool-max-conn", "pool-low-conn", "pool-purge-delay"], _POOL),
    **dict.fromkeys(["send-proxy", "send-proxy-v2", "check-send-proxy", "proxy-v2-options"], _PROXY),
    **dict.fromkeys(["fastinter", "downinter"], "a server is asked at the same interval in every state"),
    **dict.fromkeys(["minconn", "maxqueue"], "nothing is queued: a server has an upper limit"),
    **dict.fromkeys(["observe", "error-limit", "on-error"], "fullnat does not look into connections"),
    **dict.fromkeys(["agent-check", "agent-port", "agent-inter", "agent-addr"], "a script can ask an agent"),
    "cookie": "fullnat does not look into connections; persistence goes by the client's address",
    "interface": "the interface follows from the route",
    "slowstart": "a server has its whole weight at once",
    "track": "give the server a check of its own",
}


@dataclass(slots=True)
class ServerLine:
    """One server line, its options on top of those of default-server."""

    place: Place
    name: str
    address: str
    options: dict[str, str] = field(default_factory=dict)  # "" for those without a value

    def port(self, served: int | None) -> int | None:
        """Return the port it is reached at when clients come to *served*; None: the same."""
        text = self.address.rpartition(":")[2] if ":" in self.address else ""
        if not text or text.endswith("]"):
            return None
        number = read_integer(text, -65535, 65535, f"server {self.name}", self.place)
        if text[0] in "+-":
            number += served or 0
        if not 0 <= number <= 65535:
            raise ImporterError(self.place, f"server {self.name}: port {number} is none")
        return None if number in {0, served} else number

    def reached(self, served: int | None) -> Address:
        """Return where it is reached when clients come to *served*."""
        text = re.sub(r"^ipv[46]@", "", self.address)
        host = text if text.endswith("]") or ":" not in text else text.rpartition(":")[0]
        return Address(read_host(host), self.port(served))

    def integer(self, option: str, low: int, high: int) -> int | None:
        """Return the number an option has, None where it is not given."""
        if option not in self.options:
            return None
        return read_integer(self.options[option], low, high, option, self.place)


def read_servers(settings: list[Setting], defaults: list[Setting], notes: Notes) -> list[ServerLine]:
    """Return the server lines; options fullnat has nothing for are told."""
    common: dict[str, str] = {}
    for setting in defaults:
        common |= _options(setting.arguments, setting.place)
        _tell(common, setting.place, notes)
    servers = []
    for setting in settings:
        if len(setting.arguments) < 2:
            raise ImporterError(setting.place, "server: accepted: server NAME ADDRESS:PORT")
        name, address, *words = setting.arguments
        options = _options(words, setting.place)
        _tell(options, setting.place, notes)
        merged = common | options
        for word, opposite in _OPPOSITES.items():
            if word in options:
                merged.pop(opposite, None)
        servers.append(ServerLine(setting.place, name, address, merged))
    return servers


def _options(words: list[str], place: Place) -> dict[str, str]:
    found = {}
    rest = list(reversed(words))
    while rest:
        word = rest.pop()
        if word in _WITH_VALUE and not rest:
            raise ImporterError(place, f"{quoted(word)}: a value is missing")
        found[word] = rest.pop() if word in _WITH_VALUE else ""
    return found


def _tell(options: dict[str, str], place: Place, notes: Notes) -> None:
    for name in options:
        if name not in TAKEN | _HARMLESS | _OPPOSITES.keys():
            notes.left(place, f"server {name}", REASONS.get(name, "a server here has nothing like it"))
