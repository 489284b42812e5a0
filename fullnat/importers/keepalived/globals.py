# SPDX-License-Identifier: Apache-2.0
"""The blocks of keepalived.conf around the virtual servers: taken where LVS is concerned, else told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from fullnat.importers.document import Document, Timeouts
from fullnat.importers.keepalived.groups import read_local_addresses
from fullnat.importers.notes import ImporterError
from fullnat.importers.settings import Scope, Setting
from fullnat.importers.values import Duration, read_integer

_FAILOVER = "who has the VIPs is not fullnat's to decide; keepalived can go on doing this"
_ADDRESSES = "addresses, routes and rules of the host stay as they are; keepalived can go on doing this"
_ACCESS = "fullnat filters no clients; nft or iptables do"
_REASONS = {
    **dict.fromkeys(["vrrp_instance", "vrrp_sync_group", "vrrp_script", "vrrp_track_process"], _FAILOVER),
    **dict.fromkeys(["track_process", "track_group", "static_track_group", "bfd_instance"], _FAILOVER),
    **dict.fromkeys(["garp_group", "linkbeat_interfaces", "interface_up_down_delays"], _FAILOVER),
    **dict.fromkeys(["static_ipaddress", "static_routes", "static_rules"], _ADDRESSES),
    **dict.fromkeys(["deny_address_group", "allow_address_group"], _ACCESS),
    "SSL": "checks by https use the system's certificates",
    "virtual_server_match_group": "a service is an address and a port, or a firewall mark",
}
_SYNC = "connections are not synchronised in this version"
_FLUSH = "fullnat changes only what differs"
_GLOBAL_REASONS = {
    "lvs_sync_daemon": _SYNC,
    "lvs_flush": _FLUSH,
    "lvs_flush_on_stop": _FLUSH,
    "lvs_notify_fifo": "`fullnat events` tells of every change",
}
_TAKEN = frozenset(["virtual_server", "virtual_server_group", "local_address_group", "global_defs"])
_TRACK_FILES = frozenset(["track_file", "vrrp_track_file"])
_TIMEOUTS = {"tcp": "tcp_established", "tcpfin": "tcp_closing", "udp": "udp"}


@dataclass(slots=True)
class Known:
    """What virtual servers refer to, by name."""

    groups: dict[str, Setting] = field(default_factory=dict)  # virtual_server_group
    local_groups: dict[str, Setting] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)  # track_file -> path


def read_globals(top: Iterable[Setting], document: Document) -> Known:
    """Return what virtual servers refer to, and take or tell all other blocks."""
    known = Known()
    for setting in top:
        if setting.keyword == "virtual_server_group":
            known.groups[setting.value] = setting
        elif setting.keyword == "local_address_group":
            known.local_groups[setting.value] = setting
            document.local_addresses += read_local_addresses(setting)
        elif setting.keyword in _TRACK_FILES:
            path = Scope(setting.block).own("file")
            known.files[setting.value] = path.value if path else setting.value
        elif setting.keyword == "global_defs":
            _read_global_defs(setting, document)
        elif setting.keyword not in _TAKEN:
            why = _REASONS.get(setting.keyword, "fullnat has nothing like it")
            document.notes.left(setting.place, " ".join(setting.words[:2]), why)
    document.local_addresses = list(dict.fromkeys(document.local_addresses))
    return known


def _read_global_defs(setting: Setting, document: Document) -> None:
    scope = Scope(setting.block)
    if timeouts := scope.own("lvs_timeouts"):
        document.timeouts = _timeouts(timeouts)
    others = []
    for each in scope.unasked():
        if each.keyword in _GLOBAL_REASONS:
            document.notes.left(each.place, each.keyword, _GLOBAL_REASONS[each.keyword])
        else:
            others.append(each.keyword)
    if others:
        what = f"global_defs ({', '.join(dict.fromkeys(others))})"
        document.notes.left(setting.place, what, "it is about keepalived itself")


def _timeouts(setting: Setting) -> Timeouts:
    words = setting.arguments
    if not words or len(words) % 2 or not set(words[::2]) <= set(_TIMEOUTS):
        raise ImporterError(setting.place, "lvs_timeouts: accepted: tcp SECONDS tcpfin SECONDS udp SECONDS")
    given = {}
    for word, text in zip(words[::2], words[1::2], strict=True):
        seconds = read_integer(text, 0, 31_536_000, f"lvs_timeouts {word}", setting.place)
        if seconds:
            given[_TIMEOUTS[word]] = Duration(seconds * 1000)
    return Timeouts(**given)
