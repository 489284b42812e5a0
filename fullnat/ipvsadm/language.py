# SPDX-License-Identifier: Apache-2.0
"""ipvsadm's words to a command, and its errors where they are none.

Rules.
  1. The command comes first.  A second one is an invalid option.
  2. Options are understood one by one; the first that is wrong is reported.  What they must be together
     is looked at when all have been.
  3. -b behind -a and -e is DPVS's --fullnat; behind -A and -E it is --sched-flags.
  4. Without words, everything is listed.

Differences from ipvsadm.  A netmask that is no prefix is refused.  Names are looked up by the hook, and
only IPv4 addresses have them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import IPv4Address

from fullnat.core.addr import UDP, Endpoint
from fullnat.ipvsadm import commands as told
from fullnat.ipvsadm.checks import check_flags, check_kinds, check_tunnel
from fullnat.ipvsadm.commands import Command, Layout, ServerSettings, ServiceAddress, ServiceSettings
from fullnat.ipvsadm.draft import Draft, Illegal, parse_timeout
from fullnat.ipvsadm.names import NoNames, Resolver
from fullnat.ipvsadm.options import SHORT, SHORT_OF_SERVERS, Option
from fullnat.ipvsadm.values import prefix_length
from fullnat.ipvsadm.words import BadWord, Words
from fullnat.kernel.service import Forward, Fwmark, KernelPersistence, KernelServer

_USAGE = 255  # exit status: -1
_ILLEGAL = 2

_LAYOUTS = ("stats", "rate", "thresholds", "persistent-conn", "tun-info")  # the first that was given counts
_WHOLE = {4: 32, 6: 128}


class Refused(Exception):
    """What ipvsadm says on standard error, to the last line feed, and the status it exits with."""

    def __init__(self, text: str, status: int, *, is_final: bool = True) -> None:
        super().__init__(text.rstrip("\n"))
        self.text = text
        self.status = status
        self.is_final = is_final  # a restore ends here; else it goes on with the next line


def parse(
    argv: Sequence[str], resolver: Resolver | None = None, *, program: str = "ipvsadm", is_line: bool = False
) -> Command:
    """Return the command that *argv*, without the program's name, stands for; Refused says why there is none.

    *is_line*: it is one of a restore, in which no other may start.
    """
    if not argv:
        return told.ListServices()
    words = Words(argv)
    draft = Draft(resolver or NoNames())
    command = _take_command(words, draft, program)
    if command == "help":
        return told.Help()
    if command == "version":
        return told.Version()
    try:
        _take_options(words, draft, command)
        timeouts = _take_timeouts(words) if command == "set" else None
        if words.rest:
            raise Illegal(f"unexpected argument {words.rest[0]}")
        flags = check_flags(draft.scheduler, draft.flags)
        check_kinds(command, draft.given)
        if command == "restore" and is_line:
            raise _usage(program)
        return timeouts or _MAKERS[command](draft, flags)
    except Illegal as error:
        raise Refused(f"{error}\n", _ILLEGAL) from None


def _usage(program: str) -> Refused:
    return Refused(f"Try `{program} -h' or '{program} --help' for more information.\n", _USAGE)


def _take_command(words: Words, draft: Draft, program: str) -> str:
    try:
        first = words.take(SHORT)
    except BadWord:
        raise _usage(program) from None
    if first is None or not first[0].is_command:
        raise _usage(program)
    option, value = first
    if value is not None:
        try:
            draft.read_role(option.name, value)
        except Illegal as error:
            raise Refused(f"{error}\n", _ILLEGAL) from None
    return option.name


def _take_options(words: Words, draft: Draft, command: str) -> None:
    short = SHORT_OF_SERVERS if command in ("add-server", "edit-server") else SHORT
    try:
        while taken := words.take(short):
            _take_option(draft, *taken, words.last)
    except BadWord as error:
        raise Refused(f"{error}\n", _USAGE, is_final=False) from None


def _take_option(draft: Draft, option: Option, value: str | None, word: str) -> None:
    if option.is_command:
        raise Illegal(f"invalid option `{word}'")
    if option.kind in draft.given:
        raise Illegal(f"multiple '{option.kind}' options specified")
    if option.kind:
        draft.given.add(option.kind)
    if option.name == "persistent":
        draft.read_persistence(value)
    else:
        draft.read(option.name, value or "")


def _take_timeouts(words: Words) -> told.SetTimeouts:
    if len(words.rest) < 3:
        raise Illegal("--set option requires 3 timeout values")
    seconds = [parse_timeout(word, 0) for word in words.rest[:3]]
    del words.rest[:3]
    return told.SetTimeouts(*seconds)


def _service(draft: Draft) -> ServiceAddress:
    if draft.mark:
        return ServiceAddress(0, Fwmark(draft.mark, draft.family))
    assert draft.address is not None
    return ServiceAddress(draft.protocol, Endpoint(draft.address, draft.port))


def _service_if_given(draft: Draft) -> ServiceAddress | None:
    return _service(draft) if "service-address" in draft.given else None


def _settings(draft: Draft, flags: frozenset[str]) -> ServiceSettings:
    if not draft.mark and not draft.port and "persistent" not in draft.given:
        raise Illegal("Zero port specified for non-persistent service")
    one_packet = "ops" in draft.given
    if one_packet and not draft.mark and draft.protocol != UDP:
        raise Illegal("One-Packet Scheduling is only for UDP virtual services")
    persistence = None
    if "persistent" in draft.given:
        persistence = KernelPersistence(draft.timeout, _mask(draft))
    return ServiceSettings(draft.scheduler or "wlc", flags, persistence, draft.engine, one_packet)


def _mask(draft: Draft) -> int:
    if draft.mask is None:
        return _WHOLE[draft.family]
    if isinstance(draft.mask, IPv4Address):
        length = prefix_length(draft.mask)
        if length is None:
            raise Illegal("illegal virtual server persistent mask specified")
        return length
    return draft.mask


def _server_settings(draft: Draft) -> ServerSettings:
    assert draft.server is not None
    is_wrapped = draft.forward is Forward.TUN
    # What does not change the port has that of the service.
    keeps_port = draft.forward in (Forward.DR, Forward.TUN) and not draft.mark
    port = draft.port if keeps_port else draft.server_port
    if draft.server.version != draft.family and not is_wrapped:
        raise Illegal("Different address family is allowed only for tunneling servers")
    if any(kind.startswith("tun-") for kind in draft.given) and not is_wrapped:
        raise Illegal("Tunnel options conflict with forward method")
    check_tunnel(draft.tunnel, draft.given)
    numbers = draft.numbers
    server = KernelServer(
        Endpoint(draft.server, port),
        numbers.get("weight", 1),
        numbers.get("u-threshold", 0),
        numbers.get("l-threshold", 0),
    )
    return ServerSettings(server, draft.forward, draft.made_tunnel() if is_wrapped else None)


def _make_list(draft: Draft, _: frozenset[str]) -> Command:
    given = draft.given
    special = given & {"connection", "timeout", "daemon"}
    if (special and given & {"stats", "rate", "thresholds"}) or (
        special - {"connection"} and "persistent-conn" in given
    ):
        raise Illegal("options conflicts in the list command")
    numeric = "numeric" in given
    if "connection" in given:
        return told.ListConnections(numeric, "persistent-conn" in given)
    if "timeout" in given:
        return told.ListTimeouts()
    if "daemon" in given:
        return told.ListDaemons()
    layout = Layout(next((name for name in _LAYOUTS if name in given), ""))
    return told.ListServices(
        _service_if_given(draft), layout, numeric, "exact" in given, sort="nosort" not in given
    )


def _make_start(draft: Draft, _: frozenset[str]) -> Command:
    numbers = draft.numbers
    return told.StartDaemon(
        draft.role,
        draft.sync_interface or "eth0",
        numbers.get("syncid", 0),
        numbers.get("sync-maxlen", 0),
        draft.group,
        numbers.get("mcast-port", 0),
        numbers.get("mcast-ttl", 0),
    )


def _make_delete_server(draft: Draft, _: frozenset[str]) -> Command:
    assert draft.server is not None
    return told.DeleteServer(_service(draft), Endpoint(draft.server, draft.server_port))


def _make_add_local(draft: Draft, _: frozenset[str]) -> Command:
    assert draft.local is not None
    return told.AddLocal(_service(draft), draft.local, draft.interface)


def _make_delete_local(draft: Draft, _: frozenset[str]) -> Command:
    assert draft.local is not None
    return told.DeleteLocal(_service(draft), draft.local, draft.interface)


_MAKERS: dict[str, Callable[[Draft, frozenset[str]], Command]] = {
    "add-service": lambda draft, flags: told.AddService(_service(draft), _settings(draft, flags)),
    "edit-service": lambda draft, flags: told.EditService(_service(draft), _settings(draft, flags)),
    "delete-service": lambda draft, _: told.DeleteService(_service(draft)),
    "clear": lambda *_: told.Clear(),
    "restore": lambda *_: told.Restore(),
    "save": lambda draft, _: told.Save("numeric" in draft.given),
    "add-server": lambda draft, _: told.AddServer(_service(draft), _server_settings(draft)),
    "edit-server": lambda draft, _: told.EditServer(_service(draft), _server_settings(draft)),
    "delete-server": _make_delete_server,
    "list": _make_list,
    "zero": lambda draft, _: told.Zero(_service_if_given(draft)),
    "start-daemon": _make_start,
    "stop-daemon": lambda draft, _: told.StopDaemon(draft.role, draft.numbers.get("syncid", 0)),
    "add-laddr": _make_add_local,
    "del-laddr": _make_delete_local,
    "get-laddr": lambda draft, _: told.ListLocal(_service_if_given(draft)),
}
