# SPDX-License-Identifier: Apache-2.0
"""What differs between two configurations, as lines a person reads; pure.

    + service api tcp://203.0.113.11:80: rr, 2 servers
    ~ service web: scheduler wlc -> rr
    ~ service web, server 198.19.0.11:8080: weight 1 -> 3
    - service web, server 198.19.0.12:8080

Services are told apart by where they listen, servers by their address: a service with another name is
the same service.  What only a restart can change is named apart, and refused by a reload.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from fullnat.control.config.model import AnyServiceConfig, Config, PoolConfig, ServerConfig
from fullnat.core.timeouts import SECOND, Timeouts

# Fields that hold nanoseconds, beside those of Timeouts.
_DURATIONS = frozenset(
    ["rest", "slow_start", "reset_after", "interval", "timeout", *(one.name for one in fields(Timeouts))]
)
_UNITS = (("h", 3600 * SECOND), ("m", 60 * SECOND), ("s", SECOND), ("ms", SECOND // 1000))
_RESTART = ("instance", "engine", "snat", "limits", "api", "web", "metrics")
# What a line about a whole service or server does not repeat, or tells in its own way.
_OF_SERVICE = frozenset(["listen", "protocol", "scheduler", "pools"])
_OF_POOL = frozenset(["name", "servers"])
_OF_SERVER = frozenset(["endpoint"])

Settings = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Changes:
    """How one configuration leads to another."""

    lines: tuple[str, ...]
    restart: tuple[str, ...]  # keys that cannot change while the instance runs


def find_changes(old: Config, new: Config) -> Changes:
    """Return what is to be changed of *old* to make it *new*."""
    before, after = _by_listen(old), _by_listen(new)
    lines = [f"+ service {_titled(service)}" for key, service in after.items() if key not in before]
    for key, service in before.items():
        if key in after:
            lines += _service_lines(service, after[key])
        else:
            lines.append(f"- service {service.name} {key}")
    return Changes(tuple(lines), tuple(_restart_lines(old, new)))


def key_of(service: AnyServiceConfig) -> str:
    """Return what makes *service* the same in two configurations: tcp://203.0.113.10:80."""
    return service.address


def _by_listen(config: Config) -> dict[str, AnyServiceConfig]:
    return {key_of(service): service for service in config.all_services}


def _titled(service: AnyServiceConfig) -> str:
    count = sum(1 for _ in _servers(service))
    return f"{service.name} {key_of(service)}: {service.scheduler_name}, {count} server{'s' * (count != 1)}"


def _service_lines(old: AnyServiceConfig, new: AnyServiceConfig) -> Iterator[str]:
    title = f"service {new.name}"
    yield from _setting_lines(title, _settings(old, _OF_SERVICE), _settings(new, _OF_SERVICE))
    yield from _pool_lines(title, old, new)
    before, after = dict(_servers(old)), dict(_servers(new))
    for name, server in after.items():
        if name not in before:
            yield f"+ {title}, {name}: weight {server.weight}"
    for name, server in before.items():
        if name in after:
            one, other = _settings(server, _OF_SERVER), _settings(after[name], _OF_SERVER)
            yield from _setting_lines(f"{title}, {name}", one, other)
        else:
            yield f"- {title}, {name}"
    if list(before) != list(after) and sorted(before) == sorted(after):
        yield f"~ {title}: its servers in another order"


def _pool_lines(title: str, old: AnyServiceConfig, new: AnyServiceConfig) -> Iterator[str]:
    before, after = ({pool.name: pool for pool in service.pools} for service in (old, new))
    yield from (f"+ {title}, pool {name}" for name in after if name not in before)
    yield from (f"- {title}, pool {name}" for name in before if name not in after)
    for place, name in enumerate(after):
        if name in before:
            one, other = (_settings(pools[name], _OF_POOL) for pools in (before, after))
            yield from _setting_lines(f"{title}, pool {name}" if place else title, one, other)
    common = [name for name in before if name in after]
    if common != [name for name in after if name in before]:
        yield f"~ {title}: its pools in another order"


def _servers(service: AnyServiceConfig) -> Iterator[tuple[str, ServerConfig]]:
    """Yield the servers of all pools, each with what it is called."""
    for place, pool in enumerate(service.pools):
        title = f"pool {pool.name}, server" if place else "server"
        yield from ((f"{title} {server.endpoint}", server) for server in pool.servers)


def _setting_lines(title: str, old: Settings, new: Settings) -> Iterator[str]:
    for key in {**old, **new}:
        before, after = old.get(key, "none"), new.get(key, "none")
        if before != after:
            yield f"~ {title}: {key} {before} -> {after}"


def _restart_lines(old: Config, new: Config) -> Iterator[str]:
    for table in _RESTART:
        before = _flat(table, getattr(old, table))
        after = _flat(table, getattr(new, table))
        for key in {**before, **after}:
            if before.get(key) != after.get(key):
                yield f"{key} {before.get(key, 'none')} -> {after.get(key, 'none')}"


def _settings(thing: AnyServiceConfig | PoolConfig | ServerConfig, left_out: frozenset[str]) -> Settings:
    found: dict[str, str] = {}
    for field in fields(thing):
        if field.name not in left_out:
            found |= _flat(field.name.replace("scheduler_name", "scheduler"), getattr(thing, field.name))
    return found


def _flat(name: str, value: Any) -> dict[str, str]:
    """Return *value* by dotted names, as text; what is none or empty is left out."""
    if is_dataclass(value) and not isinstance(value, type):
        found: dict[str, str] = {}
        for field in fields(value):
            found |= _flat(f"{name}.{field.name}", getattr(value, field.name))
        return found
    if isinstance(value, (tuple, list, frozenset)) and not hasattr(value, "_fields"):
        texts = sorted(map(str, value)) if isinstance(value, frozenset) else map(str, value)
        return _given(name, " ".join(texts))
    if name.rpartition(".")[2] in _DURATIONS and isinstance(value, int):
        return {name: duration_text(value)}
    return _given(name, "" if value is None else str(getattr(value, "value", value)))


def _given(name: str, text: str) -> dict[str, str]:
    return {name: text} if text else {}


def duration_text(nanoseconds: int) -> str:
    """Return a duration as the configuration writes it: 90s, 5m, 500ms."""
    if nanoseconds == 0:
        return "0s"
    for unit, size in _UNITS:
        if nanoseconds % size == 0:
            return f"{nanoseconds // size}{unit}"
    return f"{nanoseconds / SECOND:g}s"
