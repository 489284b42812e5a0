# SPDX-License-Identifier: Apache-2.0
"""Every scheduler against a model that looks at all servers each time, over random histories.

The models are written from what ipvsadm(8) and the kernel do, server by server and with fractions, and
share with the schedulers only the hash, the generator and the prime of the Maglev table.
"""

from __future__ import annotations

import random
from fractions import Fraction
from ipaddress import ip_address
from math import gcd

import pytest

from fullnat.core.addr import Endpoint
from fullnat.core.prng import SplitMix64
from fullnat.core.sched import BUILTIN, Request
from fullnat.core.sched.hashing import hash_endpoint, rehash
from fullnat.core.sched.mh import table_size
from fullnat.core.service import Admin, Health, RealServer, VirtualService
from fullnat.core.timeouts import SECOND
from tests.services import make_request, make_servers, make_service

Servers = list[RealServer]
DAY = 24 * 3600 * SECOND
SEED = 42


def overhead(server: RealServer) -> int:
    return 256 * server.active + server.inactive


def load(server: RealServer) -> Fraction:
    return Fraction(overhead(server), server.weight)


def delay(server: RealServer) -> Fraction:
    return Fraction(server.active + 1, server.weight)


def available(servers: Servers) -> Servers:
    return [server for server in servers if server.weight > 0 and not server.overloaded]


class Model:
    """What a scheduler does, the plain way."""

    def __init__(self, flags: frozenset[str]) -> None:
        self.flags = flags

    def list_changed(self, old: Servers, new: Servers) -> None:
        pass

    def weight_changed(self, servers: Servers) -> None:
        pass

    def schedule(self, servers: Servers, request: Request) -> RealServer | None:
        raise NotImplementedError


class Least(Model):
    """The first of the least by a key."""

    def key(self, server: RealServer) -> object:
        raise NotImplementedError

    def schedule(self, servers: Servers, request: Request) -> RealServer | None:
        return min(available(servers), key=self.key, default=None)  # type: ignore[arg-type]


class Lc(Least):
    def key(self, server: RealServer) -> int:
        return overhead(server)


class Wlc(Least):
    def key(self, server: RealServer) -> Fraction:
        return load(server)


class Sed(Least):
    def key(self, server: RealServer) -> Fraction:
        return delay(server)


class Nq(Least):
    def key(self, server: RealServer) -> tuple[bool, Fraction | int]:
        return server.active > 0, delay(server) if server.active else 0


class Fo(Least):
    def key(self, server: RealServer) -> int:
        return -server.weight


class Ovf(Fo):
    def schedule(self, servers: Servers, request: Request) -> RealServer | None:
        return super().schedule([server for server in servers if server.active <= server.weight], request)


class Rr(Model):
    last: RealServer | None = None

    def list_changed(self, old: Servers, new: Servers) -> None:
        while self.last is not None and self.last not in new:
            place = old.index(self.last)
            self.last = old[place - 1] if place else None

    def schedule(self, servers: Servers, request: Request) -> RealServer | None:
        start = 0 if self.last is None else servers.index(self.last) + 1
        chosen = next(iter(available(servers[start:] + servers[:start])), None)
        self.last = chosen or self.last
        return chosen


class Wrr(Model):
    """Walks as the kernel does: server by server, level by level, with its two ways to give up."""

    last = -1
    level = top = 0
    step = 1

    def list_changed(self, old: Servers, new: Servers) -> None:
        self.weight_changed(new)

    def weight_changed(self, servers: Servers) -> None:
        self.last = -1
        self.step = gcd(*(server.weight for server in servers)) or 1
        self.top = max((server.weight for server in servers), default=0) - (self.step - 1)
        if self.level > self.top or self.level == 0:
            self.level = self.top
        elif self.step > 1:
            self.level = self.level // self.step * self.step + 1

    def schedule(self, servers: Servers, request: Request) -> RealServer | None:
        if self.top == 0:
            return None
        start, position = self.last, self.last
        stop: int | None = None
        is_last_pass = has_wrapped = False
        while True:
            while position + 1 < len(servers):
                position += 1
                if not servers[position].overloaded and servers[position].weight >= self.level:
                    self.last = position
                    return servers[position]
                if position == stop:
                    self.last = position
                    return None
            position = -1
            self.level -= self.step
            if self.level <= 0:
                self.level = self.top
                if is_last_pass or start == -1:
                    self.last = -1
                    return None
                has_wrapped = True
            is_last_pass = self.level <= self.step
            if is_last_pass and has_wrapped and start != -1:
                stop = start


class Random(Model):
    def __init__(self, flags: frozenset[str]) -> None:
        super().__init__(flags)
        self.random = SplitMix64(SEED)

    def draw(self, servers: Servers) -> RealServer | None:
        tickets = [server for server in available(servers) for _ in range(server.weight)]
        return tickets[self.random.below(len(tickets))] if tickets else None

    def schedule(self, servers: Servers, request: Request) -> RealServer | None:
        return self.draw(servers)


class Twos(Random):
    def schedule(self, servers: Servers, request: Request) -> RealServer | None:
        first, second = self.draw(servers), self.draw(servers)
        if first is None or second is None:
            return None
        return second if load(second) < load(first) else first


class Dh(Model):
    def schedule(self, servers: Servers, request: Request) -> RealServer | None:
        if not servers:
            return None
        server = servers[hash_endpoint(request.virtual.address, 0) % 256 % len(servers)]
        return server if available([server]) else None


class Sh(Model):
    size = 256

    def __init__(self, flags: frozenset[str]) -> None:
        super().__init__(flags)
        self.latest: dict[RealServer, int] = {}

    def list_changed(self, old: Servers, new: Servers) -> None:
        self.latest = {server: server.configured_weight or self.latest.get(server, 0) for server in new}

    def weight_changed(self, servers: Servers) -> None:
        for server in servers:
            self.latest[server] = server.weight or self.latest[server]

    def table(self, servers: Servers) -> Servers:
        runs = [server for server in servers for _ in range(max(1, self.latest[server]))]
        return [runs[bucket % len(runs)] for bucket in range(self.size)] if runs else []

    def schedule(self, servers: Servers, request: Request) -> RealServer | None:
        table = self.table(servers)
        if not table:
            return None
        uses_port = any(flag.endswith("port") for flag in self.flags)
        value = hash_endpoint(request.client.address, request.client.port if uses_port else 0)
        first = table[value % len(table)]
        if available([first]):
            return first
        if not any(flag.endswith("fallback") for flag in self.flags):
            return None
        probes = [table[rehash(value, attempt) % len(table)] for attempt in range(1, 17)]
        tickets = [server for server in available(servers) for _ in range(server.weight)]
        drawn = [tickets[rehash(value, 0) % len(tickets)]] if tickets else []
        return next(iter(available(probes) + drawn), None)


class Mh(Sh):
    built_for: tuple[object, ...] = ()
    built: Servers = []  # noqa: RUF012 - replaced, not changed

    def table(self, servers: Servers) -> Servers:
        state = (*servers, *self.latest.values())
        if state != self.built_for:
            self.built_for, self.built = state, self.populate(servers)
        return self.built

    def populate(self, servers: Servers) -> Servers:
        size = table_size(len(servers))
        weights = [self.latest[server] for server in servers]
        divisor = gcd(*weights)
        if not divisor:
            return []
        shift = max(0, (max(weights) // divisor).bit_length() - 6)
        preferences, claims = {}, {}
        for server, weight in zip(servers, weights, strict=True):
            offset = hash_endpoint(*server.endpoint, 1) % size
            skip = hash_endpoint(*server.endpoint, 2) % (size - 1) + 1
            preferences[server] = iter([(offset + turn * skip) % size for turn in range(size)])
            claims[server] = max(weight // divisor >> shift, 1) if weight else 0
        table: dict[int, RealServer] = {}
        while True:
            for server in servers:
                for _ in range(claims[server]):
                    table[next(place for place in preferences[server] if place not in table)] = server
                    if len(table) == size:
                        return [table[place] for place in range(size)]


class Lblc(Wlc):
    def __init__(self, flags: frozenset[str]) -> None:
        super().__init__(flags)
        self.entries: dict[object, tuple[RealServer, int]] = {}

    def is_crowded(self, server: RealServer, servers: Servers) -> bool:
        has_room = any(2 * other.active < other.weight for other in servers)
        return server.active > server.weight and has_room

    def schedule(self, servers: Servers, request: Request) -> RealServer | None:
        server, last_use = self.entries.pop(request.virtual.address, (None, 0))
        if server is not None and request.now - last_use < DAY:
            self.entries[request.virtual.address] = server, request.now
            if server in available(servers) and not self.is_crowded(server, servers):
                return server
        chosen = super().schedule(servers, request)
        if chosen is not None:
            self.entries[request.virtual.address] = chosen, request.now
        return chosen


class Lblcr(Lblc):
    def __init__(self, flags: frozenset[str]) -> None:
        super().__init__(flags)
        self.sets: dict[object, Servers] = {}  # newest first
        self.changed: dict[object, int] = {}
        self.used: dict[object, int] = {}

    def list_changed(self, old: Servers, new: Servers) -> None:
        for key, members in self.sets.items():
            self.sets[key] = [server for server in members if server in new]

    def schedule(self, servers: Servers, request: Request) -> RealServer | None:
        key, now = request.virtual.address, request.now
        if key in self.sets and now - self.used[key] >= DAY:
            del self.sets[key]
        if key in self.sets:
            members = self.sets[key]
            chosen = min(available(members), key=load, default=None)
            if len(members) > 1 and now - self.changed[key] > DAY:
                weighted = [server for server in members if server.weight]
                if weighted:
                    members.remove(max(weighted, key=load))
                    self.changed[key] = now
            self.used[key] = now
            if chosen is not None and not self.is_crowded(chosen, servers):
                return chosen
        chosen = Wlc.schedule(self, servers, request)
        if chosen is not None and chosen not in self.sets.setdefault(key, []):
            self.sets[key].insert(0, chosen)
            self.changed[key] = now
        if chosen is not None:
            self.used[key] = now
        return chosen


MODELS: dict[str, type[Model]] = {
    "rr": Rr,
    "wrr": Wrr,
    "lc": Lc,
    "wlc": Wlc,
    "lblc": Lblc,
    "lblcr": Lblcr,
    "dh": Dh,
    "sh": Sh,
    "mh": Mh,
    "sed": Sed,
    "nq": Nq,
    "fo": Fo,
    "ovf": Ovf,
    "twos": Twos,
    "random": Random,
}

CASES = [
    (name, tuple(flag for flag in sorted(BUILTIN[name].accepted_flags) if flag.endswith(ending)))
    for name in sorted(BUILTIN)
    for ending in ("port", "fallback")
    if ending == "port" or BUILTIN[name].accepted_flags
]


class History:
    """A service whose fate is drawn, with a model that is told of it."""

    def __init__(self, name: str, flags: tuple[str, ...], seed: int) -> None:
        self.chance = random.Random(f"{name}{flags}{seed}")
        self.scale = self.chance.choice([1, 1, 5, 100])
        self.mortality = self.chance.choice([0.2, 0.5, 0.8])  # of flows; with few deaths, servers are crowded
        self.spare = make_servers([0] * 8)
        for server in self.spare:
            server.weight = server.configured_weight = self.weight()
        size = self.chance.choice([1, 2, 3, 5])
        self.service: VirtualService = make_service(name, self.spare[:size], flags=flags, seed=SEED)
        self.model = MODELS[name](frozenset(flags))
        self.model.list_changed([], self.service.servers)
        self.flows: list[tuple[RealServer, bool]] = []
        self.now = 0

    def weight(self) -> int:
        return self.chance.choice([0, 1, 1, 2, 3, 4, 6]) * self.scale

    def server(self) -> RealServer | None:
        return self.chance.choice(self.service.servers) if self.service.servers else None

    def change_weight(self) -> None:
        if server := self.server():
            before = server.weight
            kind = self.chance.choice(["weight", "admin", "health"])
            if kind == "weight":
                self.service.set_weight(server, self.weight())
            elif kind == "admin":
                self.service.set_admin(server, self.chance.choice(list(Admin)))
            else:
                self.service.set_health(server, self.chance.choice(list(Health)))
            if server.weight != before:
                self.model.weight_changed(self.service.servers)

    def change_list(self) -> None:
        before = self.service.servers
        self.service.set_servers(self.chance.sample(self.spare, self.chance.randrange(6)))
        self.model.list_changed(before, self.service.servers)

    def change_thresholds(self) -> None:
        if server := self.server():
            server.upper = self.chance.choice([0, 1, 3, 6])
            server.lower = server.upper * 3 // 4

    def change_flow(self) -> None:
        if not self.flows:
            return
        server, is_active = self.flows.pop(self.chance.randrange(len(self.flows)))
        if self.chance.random() < self.mortality:
            self.service.flow_ended(server, is_active)
            return
        (self.service.flow_deactivated if is_active else self.service.flow_activated)(server)
        self.flows.append((server, not is_active))

    def let_time_pass(self) -> None:
        """Mostly less than a day, so that what is in use stays in use, but also to a day's very ends."""
        self.now += self.chance.choice([0, SECOND, *[DAY // 2] * 6, DAY - 1, DAY, DAY + 1])

    def pick(self) -> None:
        virtual = Endpoint(ip_address("203.0.113.10") + self.chance.choice([0, 0, 0, 1, 2]), 80)
        request = make_request(self.chance.randrange(500), self.chance.randrange(9), virtual, self.now)
        expected = self.model.schedule(self.service.servers, request)
        assert self.service.scheduler.schedule(request) is expected
        if expected is not None:
            self.service.flow_opened(expected)
            self.flows.append((expected, False))

    def run(self, steps: int) -> None:
        for _ in range(steps):
            rare = [self.change_weight, self.change_list, self.change_thresholds, self.let_time_pass]
            usual = [self.pick, self.pick, self.pick, self.change_flow, self.change_flow]
            self.chance.choice(usual * 4 + rare)()


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(("name", "flags"), CASES)
def test_scheduler_agrees_with_its_model(name: str, flags: tuple[str, ...], seed: int) -> None:
    History(name, flags, seed).run(150 if name == "mh" else 800)
