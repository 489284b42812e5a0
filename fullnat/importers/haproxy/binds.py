# SPDX-License-Identifier: Apache-2.0
"""The bind lines of haproxy.cfg: the addresses and ports a listen or a frontend takes connections on."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fullnat.importers.assemble import MOST_EXPANDED
from fullnat.importers.document import Listen
from fullnat.importers.notes import ImporterError, Notes, Place, quoted
from fullnat.importers.settings import Setting
from fullnat.importers.values import ANY, Address, read_host, read_integer

_WITH_VALUE_TEXT = """
    alpn backlog ca-file ciphers ciphersuites crt crt-list curves defer-accept gid group id
    interface level maxconn mode mss name namespace nice npn process proto severity-output
    ssl-max-ver ssl-min-ver tcp-ut thread uid user verify shards cc
"""
_WITH_VALUE = frozenset(_WITH_VALUE_TEXT.split())
_HARMLESS_TEXT = """
    backlog defer-accept id level mss name nice process shards thread tfo transparent v4v6 v6only
    tcp-ut expose-fd
"""
_HARMLESS = frozenset(_HARMLESS_TEXT.split())
_ENDS_TLS = "TLS ends at HAProxy here, and fullnat passes bytes on as they are; let the servers speak TLS"
_NOT_IP = "fullnat takes connections of IP alone"


def read_binds(section: Setting, notes: Notes) -> Iterator[tuple[Place, Listen]]:
    """Yield what a listen or a frontend listens to; what cannot be had is told in *notes*."""
    binds = [setting for setting in section.block if setting.keyword == "bind"]
    if len(section.words) > 2 and ":" in section.words[2]:  # listen NAME ADDRESS:PORT, the old way
        binds.insert(0, Setting(section.place, ["bind", section.words[2]]))
    for setting in binds:
        if _has_tls(setting):
            notes.left(setting.place, f"bind {setting.value}", _ENDS_TLS)
            continue
        _tell_options(setting, notes)
        for text in setting.value.split(","):
            for listen in _listens(text, setting.place, notes):
                yield setting.place, listen


def _has_tls(setting: Setting) -> bool:
    return any(name in {"ssl", "crt"} for name in _options(setting))


def _options(setting: Setting) -> Iterator[str]:
    words = iter(setting.arguments[1:])
    for word in words:
        yield word
        if word in _WITH_VALUE:
            next(words, None)


def _tell_options(setting: Setting, notes: Notes) -> None:
    for name in _options(setting):
        if name in {"accept-proxy", "accept-netscaler-cip"}:
            why = "the header before the connection goes on to the servers, which must read it"
            notes.changed(setting.place, f"bind {name}", why)
        elif name not in _HARMLESS:
            notes.left(setting.place, f"bind {name}", "a service here has nothing like it")


def _listens(text: str, place: Place, notes: Notes) -> Iterator[Listen]:
    text = re.sub(r"^(?:tcp[46]?|ipv[46])@", "", text)
    if text.startswith(("/", "unix@", "abns@", "fd@", "sockpair@", "quic", "udp", "rhttp@")):
        notes.left(place, f"bind {text}", _NOT_IP)
        return
    host_text, colon, ports = text.rpartition(":")
    match = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", ports)
    if not colon or not match:
        raise ImporterError(place, f"bind: found {quoted(text)}, accepted: ADDRESS:PORT or ADDRESS:PORT-PORT")
    low = read_integer(match[1], 1, 65535, "bind", place)
    high = read_integer(match[2], low, 65535, "bind", place) if match[2] else low
    if high - low >= MOST_EXPANDED:
        notes.left(place, f"bind {text}", "that many ports are one service with a mark: fwmark://N")
        return
    host = ANY if host_text in {"", "*", "0.0.0.0", "::", "[::]"} else read_host(host_text)
    yield from (Listen("tcp", Address(host, port)) for port in range(low, high + 1))
