# SPDX-License-Identifier: Apache-2.0
"""A Document as the text of a config file: the keys in the order of docs/config.md, notes as comments.

The notes on the file as a whole stand at its top, those on a service above it.  Checks that all
servers of a service share are written once; what only one server's check has stands with the server.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from fullnat.importers.document import Document, Health, Pool, Server, Service, Value
from fullnat.importers.notes import Notes, printable
from fullnat.importers.values import Duration

_INDENT = "  "
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r", "\b": "\\b", "\f": "\\f"}

Keys = Mapping[str, Value]


def write(document: Document, title: str) -> str:
    """Return the file for *document*; *title* is its first line."""
    lines = [f"# {printable(title)}"]
    lines += _comments(document.notes, document.path)
    lines += ["version = 1", "", "[snat]", *_comments(document.snat_notes, document.path)]
    lines += [f"addresses = {text_of(tuple(document.local_addresses))}"]
    if document.timeouts.keys():
        lines += ["", "[timeouts]", *_assignments(document.timeouts.keys())]
    for service in document.services:
        lines += ["", *_service(service, document.path)]
    return "\n".join(lines) + "\n"


def _comments(notes: Notes, path: str) -> list[str]:
    return [f"# {note.comment(path)}" for note in notes.sorted(path)]


def _service(service: Service, path: str) -> Iterator[str]:
    yield from _comments(service.notes, path)
    yield "[[service]]"
    yield from _assignments(_service_keys(service), inline=_persistence(service))
    if service.timeouts.keys():
        yield from _table("[service.timeouts]", service.timeouts.keys())
    common, own = _split_health(service)
    if common:
        yield from _table("[service.health]", common)
    for server in service.servers:
        yield from _server(server, "service.server", own)
    for pool in service.pools:
        yield from _pool(pool, own)


def _service_keys(service: Service) -> dict[str, Value]:
    """Return the keys of [[service]], those that have their default left out."""
    keys: dict[str, tuple[Value, Value]] = {
        "name": (service.name, ""),
        "listen": (str(service.listen), ""),
        "forward": (service.forward, "fullnat"),
        "scheduler": (service.scheduler, ""),
        "scheduler_flags": (service.scheduler_flags, ()),
        "one_packet": (service.one_packet, False),
        "quorum": (service.quorum, 1),
        "hysteresis": (service.hysteresis, 0),
        "on_down": (service.on_down, "keep"),
        "inhibit": (service.inhibit, False),
        "sorry": (str(service.sorry.address) if service.sorry else "", ""),
    }
    return {key: value for key, (value, default) in keys.items() if value != default}


def _persistence(service: Service) -> dict[str, str]:
    """Return persistence as the inline table it is written as, behind scheduler_flags."""
    if service.persistence is None:
        return {}
    keys: dict[str, Value] = {"timeout": service.persistence.timeout}
    if service.persistence.mask is not None:
        keys["mask"] = service.persistence.mask
    inside = ", ".join(f"{key} = {text_of(value)}" for key, value in keys.items())
    return {"persistence": f"{{ {inside} }}"}


def _pool(pool: Pool, own: Mapping[int, Keys]) -> Iterator[str]:
    keys: dict[str, Value] = {"name": pool.name}
    if pool.quorum != 1:
        keys["quorum"] = pool.quorum
    yield from _table("[[service.backup]]", keys)
    for server in pool.servers:
        yield from (_INDENT + line if line else "" for line in _server(server, "service.backup.server", own))


def _server(server: Server, table: str, own: Mapping[int, Keys]) -> Iterator[str]:
    numbers = {"weight": (server.weight, 1), "upper": (server.upper, 0), "lower": (server.lower, 0)}
    keys: dict[str, Value] = {"address": str(server.address)}
    keys |= {key: value for key, (value, default) in numbers.items() if value != default}
    yield from _table(f"[[{table}]]", keys, comment=server.comment)
    if own[id(server)]:
        yield from (_INDENT + line if line else "" for line in _table(f"[{table}.health]", own[id(server)]))


def _table(header: str, keys: Keys, comment: str = "") -> Iterator[str]:
    yield ""
    yield f"{_INDENT}{header}{f'  # {printable(comment)}' if comment else ''}"
    yield from (_INDENT + line for line in _assignments(keys))


def _assignments(keys: Keys, inline: Mapping[str, str] | None = None) -> Iterator[str]:
    """Yield a line for each key, their equals signs one below the other."""
    texts = {key: text_of(value) for key, value in keys.items()}
    if inline:
        ahead = [key for key in ("name", "listen", "forward", "scheduler", "scheduler_flags") if key in texts]
        texts = {key: texts[key] for key in ahead} | dict(inline) | texts
    width = max(map(len, texts), default=0)
    yield from (f"{key:{width}} = {text}" for key, text in texts.items())


def _split_health(service: Service) -> tuple[Keys, dict[int, Keys]]:
    """Return what checks of *service* have in common, and by id() what each server has besides.

    A key that all checks have is common with the value most of them have.  Checks of different types
    have nothing in common: each is then written in full.
    """
    servers = list(service.all_servers())
    checks = [server.health.keys() if server.health else {} for server in servers]
    if not any(checks):
        return {}, {id(server): {} for server in servers}
    off = Health("off").keys()
    done = [check or off for check in checks]
    active = [check for check in done if check != off] or done
    if len({check["type"] for check in active}) > 1:
        return {}, {id(server): check for server, check in zip(servers, done, strict=True)}
    common = {
        key: Counter(check[key] for check in active).most_common(1)[0][0]
        for key in active[0]
        if all(key in check for check in active)
    }
    own = ({key: value for key, value in check.items() if common.get(key) != value} for check in done)
    return common, {id(server): keys for server, keys in zip(servers, own, strict=True)}


def text_of(value: Value) -> str:
    """Return *value* as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Duration | str):
        return _string(str(value))
    if isinstance(value, tuple):
        return _list(map(text_of, value))
    return str(value)


def _list(texts: Iterable[str]) -> str:
    return f"[{', '.join(texts)}]"


def _string(text: str) -> str:
    return '"' + "".join(_ESCAPES.get(char) or _character(char) for char in text) + '"'


def _character(char: str) -> str:
    if char.isprintable():
        return char
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"
