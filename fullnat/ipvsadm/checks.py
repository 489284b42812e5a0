# SPDX-License-Identifier: Apache-2.0
"""What options must be together, once all have been read."""

from __future__ import annotations

from collections.abc import Collection

from fullnat.ipvsadm.draft import Illegal
from fullnat.ipvsadm.options import ALONE, KINDS, NEEDS

# IPVS gives each scheduler three flags, of which sh and mh have names for two.
FLAGS = ("flag-1", "flag-2", "flag-3")
FLAGS_OF = {
    "sh": ("sh-fallback", "sh-port", "flag-3"),
    "mh": ("mh-fallback", "mh-port", "flag-3"),
}

_TUNNEL_KINDS = ("tun-port", "tun-nocsum", "tun-csum", "tun-remcsum")
# Kind of tunnel, what it needs, and of which it takes one.
_TUNNEL_NEEDS: dict[str, tuple[Collection[str], Collection[str]]] = {
    "ipip": ((), ()),
    "gue": (("tun-port",), ("tun-nocsum", "tun-csum", "tun-remcsum")),
    "gre": ((), ("tun-nocsum", "tun-csum")),
}


def check_kinds(command: str, given: Collection[str]) -> None:
    """Refuse, by Illegal, the first kind of option that *command* lacks or does not take."""
    needs = NEEDS[command]
    alone = ""
    for kind in KINDS:
        if kind not in given:
            if kind in needs.needed:
                raise Illegal(f"You need to supply the '{kind}' option for the '{needs.name}' command")
        elif kind not in needs.needed and kind not in needs.taken:
            raise Illegal(f"Illegal '{kind}' option with the '{needs.name}' command")
        elif command == "list" and kind in ALONE:
            if alone:
                raise Illegal(
                    f"The option '{kind}' conflicts with the '{alone}' option in the '{needs.name}' command"
                )
            alone = kind


def check_tunnel(tunnel: str, given: Collection[str]) -> None:
    """Refuse, by Illegal, the first kind of option that *tunnel* lacks or does not take."""
    needed, alone = _TUNNEL_NEEDS[tunnel]
    chosen = ""
    for kind in _TUNNEL_KINDS:
        if kind not in given:
            if kind in needed:
                raise Illegal(f"You need to supply the '{kind}' option for the '{tunnel}' tunnel type")
        elif kind not in needed and kind not in alone:
            raise Illegal(f"Illegal '{kind}' option with the '{tunnel}' tunnel type")
        elif kind in alone:
            if chosen:
                raise Illegal(
                    f"The option '{kind}' conflicts with the '{chosen}' option in the '{tunnel}' tunnel type"
                )
            chosen = kind


def check_flags(scheduler: str, text: str) -> frozenset[str]:
    """Return the flags in *text*, by the names that *scheduler* has for them."""
    names = FLAGS_OF.get(scheduler, FLAGS)
    found = set()
    for flag in filter(None, text.split(",")):
        if flag in FLAGS:
            found.add(names[FLAGS.index(flag)])
        elif flag in names:
            found.add(flag)
        elif any(flag in others for others in FLAGS_OF.values()):
            raise Illegal(f"incompatible scheduler flag `{flag}'")
        else:
            raise Illegal(f"invalid scheduler flag `{flag}'")
    return frozenset(found)
