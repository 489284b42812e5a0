# SPDX-License-Identifier: Apache-2.0
"""The options by name, and which command takes which.

Theory.  ipvsadm has one command, which comes first, and options behind it.  An option has a *kind*, by
which errors call it: -t, -u and -f are all 'service-address', and only one of a kind may be given.
For each command the kinds fall into three: needed, taken, and all others, which are refused; of the
kinds in ALONE a listing takes one at most.  They are looked at in the order of KINDS, and the first that
is wrong is the one that is reported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Takes(Enum):
    """Whether an option has a value."""

    NOTHING = 0
    VALUE = 1
    MAYBE = 2  # the next word, unless that starts with a dash


@dataclass(frozen=True, slots=True)
class Option:
    """One option."""

    name: str  # without its two dashes
    takes: Takes = Takes.NOTHING
    kind: str = ""  # what errors call it; empty: it may be repeated
    is_command: bool = False


@dataclass(frozen=True, slots=True)
class Needs:
    """The kinds of option that one command needs, and those that it takes."""

    name: str  # what errors call the command
    needed: frozenset[str] = frozenset()
    taken: frozenset[str] = frozenset()


def _commands(text: str) -> dict[str, Option]:
    found = {}
    for word in text.split():
        name, _, value = word.partition("=")
        found[name] = Option(name, Takes.VALUE if value else Takes.NOTHING, is_command=True)
    return found


def _options(takes: Takes, text: str) -> dict[str, Option]:
    """Return options from words like `weight` or `ipip:forwarding-method`: name, and kind if it differs."""
    found = {}
    for word in text.split():
        name, colon, kind = word.partition(":")
        found[name] = Option(name, takes, kind if colon else name)
    return found


LONG: Mapping[str, Option] = {
    **_commands("add-service edit-service delete-service clear restore save zero list set help version"),
    **_commands("add-server edit-server delete-server start-daemon=ROLE stop-daemon=ROLE"),
    **_commands("add-laddr del-laddr get-laddr"),
    **_options(
        Takes.VALUE,
        """
        tcp-service:service-address udp-service:service-address sctp-service:service-address
        fwmark-service:service-address scheduler netmask pe sched-flags real-server weight u-threshold
        l-threshold tun-type tun-port mcast-interface syncid mcast-group mcast-port mcast-ttl sync-maxlen
        laddr:local-address ifname
        """,
    ),
    **_options(Takes.MAYBE, "persistent"),
    **_options(
        Takes.NOTHING,
        """
        gatewaying:forwarding-method ipip:forwarding-method masquerading:forwarding-method
        fullnat:forwarding-method ops numeric connection timeout daemon stats rate thresholds
        persistent-conn tun-info nosort exact tun-nocsum tun-csum tun-remcsum sort: ipv6:
        """,
    ),
}

_LETTERS = """
    A add-service E edit-service D delete-service C clear R restore S save Z zero L list l list h help
    v version a add-server e edit-server d delete-server P add-laddr Q del-laddr G get-laddr
    t tcp-service u udp-service f fwmark-service s scheduler p persistent M netmask b sched-flags o ops
    6 ipv6 r real-server g gatewaying i ipip m masquerading w weight x u-threshold y l-threshold
    n numeric c connection X exact z laddr F ifname
"""
_WORDS = _LETTERS.split()
SHORT: Mapping[str, Option] = {
    letter: LONG[name] for letter, name in zip(_WORDS[::2], _WORDS[1::2], strict=True)
}
# DPVS's -b, where servers are meant; elsewhere it is ipvsadm's, for the flags of a scheduler.
SHORT_OF_SERVERS: Mapping[str, Option] = {**SHORT, "b": LONG["fullnat"]}

_KINDS = """
    numeric connection service-address scheduler persistent netmask real-server forwarding-method weight
    u-threshold l-threshold mcast-interface timeout daemon stats rate thresholds persistent-conn nosort
    syncid exact ops pe sched-flags mcast-group mcast-port mcast-ttl sync-maxlen tun-info tun-type
    tun-port tun-nocsum tun-csum tun-remcsum local-address ifname
"""
KINDS = tuple(_KINDS.split())
ALONE = frozenset(["connection", "service-address", "timeout", "daemon"])


def _needs(name: str, needed: str = "", taken: str = "") -> Needs:
    return Needs(name, frozenset(needed.split()), frozenset(taken.split()))


_SETTINGS = "scheduler persistent netmask ops pe sched-flags"
_SERVER = """
    forwarding-method weight u-threshold l-threshold
    tun-type tun-port tun-nocsum tun-csum tun-remcsum
"""
_LISTING = """
    numeric connection service-address timeout daemon stats rate thresholds persistent-conn nosort
    exact tun-info
"""
_DAEMON = "mcast-interface syncid mcast-group mcast-port mcast-ttl sync-maxlen"

NEEDS: Mapping[str, Needs] = {
    "add-service": _needs("add-service", "service-address", _SETTINGS),
    "edit-service": _needs("edit-service", "service-address", _SETTINGS),
    "delete-service": _needs("delete-service", "service-address"),
    "clear": _needs("flush"),
    "list": _needs("list", "", _LISTING + " syncid"),
    "add-server": _needs("add-server", "service-address real-server", _SERVER),
    "delete-server": _needs("delete-server", "service-address real-server"),
    "edit-server": _needs("edit-server", "service-address real-server", _SERVER),
    "set": _needs("set"),
    "start-daemon": _needs("start-daemon", "", _DAEMON),
    "stop-daemon": _needs("stop-daemon", "", "syncid"),
    "restore": _needs("restore"),
    "save": _needs("save", "", "numeric"),
    "zero": _needs("zero", "", "service-address"),
    "add-laddr": _needs("add-laddr", "service-address local-address", "ifname"),
    "del-laddr": _needs("del-laddr", "service-address local-address", "ifname"),
    "get-laddr": _needs("get-laddr", "", "service-address"),
}
