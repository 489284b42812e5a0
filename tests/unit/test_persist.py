# SPDX-License-Identifier: Apache-2.0
"""Persistence templates: who stays where, for how long, and what happens to servers meanwhile."""

from __future__ import annotations

import random
from dataclasses import dataclass
from ipaddress import ip_network

import pytest

from fullnat.core.addr import UDP, Endpoint
from fullnat.core.persist import REARM, PersistenceTable
from fullnat.core.service import Admin, Health, Persistence, RealServer, VirtualService
from tests.services import VIP, VIP6, client_address, make_service, seconds

TIMEOUT = seconds(300)
CLIENT = client_address("198.19.1.1")


def persistent_service(
    mask: int = 32, listen: Endpoint = VIP, timeout: int = TIMEOUT, servers: int = 3
) -> VirtualService:
    return make_service("rr", [1] * servers, listen=listen, persistence=Persistence(timeout, mask))


class TestLifetime:
    def test_a_client_stays_until_the_timeout_after_its_last_new_flow(self) -> None:
        table, service = PersistenceTable(), persistent_service()
        server = service.servers[1]
        assert table.find(service, CLIENT, now=0) is None
        table.remember(service, CLIENT, server, now=0)
        assert table.find(service, CLIENT, now=TIMEOUT - 1) is server
        assert table.find(service, CLIENT, now=TIMEOUT) is None

    def test_a_new_flow_starts_the_timeout_again_a_look_does_not(self) -> None:
        table, service = PersistenceTable(), persistent_service()
        server = service.servers[0]
        table.remember(service, CLIENT, server, now=0)
        table.remember(service, CLIENT, server, now=TIMEOUT // 2)
        assert table.find(service, CLIENT, now=TIMEOUT) is server
        assert table.find(service, CLIENT, now=TIMEOUT // 2 + TIMEOUT) is None

    def test_the_last_server_remembered_counts(self) -> None:
        table, service = PersistenceTable(), persistent_service()
        first, second, _ = service.servers
        table.remember(service, CLIENT, first, now=0)
        table.remember(service, CLIENT, second, now=1)
        assert table.find(service, CLIENT, now=2) is second
        assert len(table) == 1

    def test_expire_drops_what_is_due_and_says_how_many(self) -> None:
        table, service = PersistenceTable(), persistent_service()
        for number in range(5):
            table.remember(service, client_address(number), service.servers[0], now=number)
        assert table.expire(now=TIMEOUT + 2) == 3
        assert len(table) == 2
        assert table.expire(now=TIMEOUT + 2) == 0

    def test_services_have_timeouts_of_their_own(self) -> None:
        table = PersistenceTable()
        short = persistent_service(timeout=seconds(10))
        long = persistent_service(listen=VIP._replace(port=443))
        table.remember(long, CLIENT, long.servers[0], now=0)
        table.remember(short, CLIENT, short.servers[1], now=0)
        assert table.find(long, CLIENT, now=seconds(11)) is long.servers[0]
        assert table.find(short, CLIENT, now=seconds(11)) is None

    def test_a_service_without_persistence_has_no_templates(self) -> None:
        table, service = PersistenceTable(), make_service("rr", [1])
        table.remember(service, CLIENT, service.servers[0], now=0)
        table.hold(service, CLIENT, service.servers[0], now=0)
        table.release(service, CLIENT, service.servers[0], now=0)
        assert table.find(service, CLIENT, now=0) is None
        assert len(table) == 0


class TestKeys:
    @pytest.mark.parametrize(
        ("listen", "mask", "client", "same", "other"),
        [
            (VIP, 32, "198.19.1.1", "198.19.1.1", "198.19.1.2"),
            (VIP, 24, "198.19.1.1", "198.19.1.255", "198.19.2.1"),
            (VIP, 9, "198.19.1.1", "198.127.0.1", "198.128.0.1"),
            (VIP6, 128, "2001:db8::1", "2001:db8::1", "2001:db8::2"),
            (VIP6, 64, "2001:db8::1", "2001:db8::ffff:0:0:1", "2001:db8:0:1::1"),
            (VIP6, 3, "2001:db8::1", "3fff::", "4000::"),
        ],
    )
    def test_clients_of_one_prefix_share_a_template(
        self, listen: Endpoint, mask: int, client: str, same: str, other: str
    ) -> None:
        table, service = PersistenceTable(), persistent_service(mask, listen)
        table.remember(service, client_address(client), service.servers[2], now=0)
        assert table.find(service, client_address(same), now=1) is service.servers[2]
        assert table.find(service, client_address(other), now=1) is None

    @pytest.mark.parametrize("listen", [VIP, VIP6])
    def test_prefix_0_is_everybody(self, listen: Endpoint) -> None:
        table, service = PersistenceTable(), persistent_service(0, listen)
        table.remember(service, service.listen.address, service.servers[2], now=0)
        assert table.find(service, service.listen.address + 10**6, now=1) is service.servers[2]
        (template,) = table
        assert template.client == ip_network("0.0.0.0/0" if listen is VIP else "::/0")

    def test_a_service_is_its_protocol_address_and_port(self) -> None:
        table, tcp = PersistenceTable(), persistent_service()
        udp, other_port = persistent_service(), persistent_service(listen=VIP._replace(port=443))
        udp.protocol = UDP
        table.remember(tcp, CLIENT, tcp.servers[0], now=0)
        assert table.find(udp, CLIENT, now=1) is None
        assert table.find(other_port, CLIENT, now=1) is None

    def test_templates_outlive_the_object_of_the_service(self) -> None:
        table, service = PersistenceTable(), persistent_service()
        table.remember(service, CLIENT, service.servers[1], now=0)
        reloaded = make_service("wlc", service.servers, persistence=service.persistence)
        assert table.find(reloaded, CLIENT, now=1) is service.servers[1]

    def test_a_changed_prefix_length_begins_anew(self) -> None:
        table, service = PersistenceTable(), persistent_service(mask=24)
        table.remember(service, client_address("198.19.1.1"), service.servers[1], now=0)
        service.persistence = Persistence(TIMEOUT, 32)
        assert table.find(service, client_address("0.198.19.1"), now=1) is None  # the same number
        assert table.find(service, client_address("198.19.1.1"), now=1) is None


class TestServers:
    def remembered(self) -> tuple[PersistenceTable, VirtualService, RealServer]:
        table, service = PersistenceTable(), persistent_service()
        server = service.servers[1]
        table.remember(service, CLIENT, server, now=0)
        return table, service, server

    def test_a_quiesced_server_keeps_its_clients(self) -> None:
        table, service, server = self.remembered()
        service.set_admin(server, Admin.QUIESCED)
        assert table.find(service, CLIENT, now=1) is server
        service.set_admin(server, Admin.ENABLED)
        service.set_weight(server, 0)
        assert table.find(service, CLIENT, now=1) is server

    def test_an_overloaded_server_keeps_its_clients(self) -> None:
        table, service, server = self.remembered()
        server.upper = 1
        service.flow_opened(server)
        assert server.overloaded
        assert table.find(service, CLIENT, now=1) is server

    def test_a_disabled_server_and_one_that_is_down_lose_them_for_as_long(self) -> None:
        table, service, server = self.remembered()
        service.set_admin(server, Admin.DISABLED)
        assert table.find(service, CLIENT, now=1) is None
        service.set_admin(server, Admin.ENABLED)
        service.set_health(server, Health.DOWN)
        assert table.find(service, CLIENT, now=1) is None
        service.set_health(server, Health.UP)
        assert table.find(service, CLIENT, now=1) is server

    def test_a_removed_server_is_not_used(self) -> None:
        table, service, server = self.remembered()
        first, _, third = service.servers
        service.set_servers([first, third])  # another one has its position now
        assert table.find(service, CLIENT, now=1) is None
        service.set_servers([first])  # nobody has
        assert table.find(service, CLIENT, now=1) is None
        service.set_servers([server])
        assert table.find(service, CLIENT, now=1) is server

    def test_a_forgotten_server_leaves_no_template_of_that_service(self) -> None:
        table, service, server = self.remembered()
        table.remember(service, client_address(7), service.servers[0], now=0)
        table.remember(service, client_address(8), server, now=0)
        table.forget_server(service, server)
        assert [template.server for template in table] == [service.servers[0]]
        assert table.find(service, CLIENT, now=1) is None


class TestBounds:
    def test_the_least_recently_used_goes_first(self) -> None:
        table, service = PersistenceTable(capacity=3), persistent_service()
        one, two, three, four = map(client_address, range(1, 5))
        for client in (one, two, three):
            table.remember(service, client, service.servers[0], now=0)
        assert table.find(service, one, now=1)  # used: two is the oldest
        table.remember(service, four, service.servers[0], now=1)
        assert len(table) == 3
        assert table.find(service, two, now=1) is None
        assert all(table.find(service, client, now=1) for client in (one, three, four))

    def test_expired_templates_make_room_before_live_ones(self) -> None:
        table = PersistenceTable(capacity=2)
        short = persistent_service(timeout=seconds(1))
        long = persistent_service(listen=VIP._replace(port=443))
        table.remember(long, CLIENT, long.servers[0], now=0)
        table.remember(short, CLIENT, short.servers[0], now=0)
        table.remember(long, client_address(9), long.servers[0], now=seconds(2))
        assert table.find(long, CLIENT, now=seconds(2)) is long.servers[0]

    def test_looking_at_all_of_them_is_no_use(self) -> None:
        table, service = PersistenceTable(capacity=2), persistent_service()
        one, two, three = map(client_address, range(1, 4))
        table.remember(service, one, service.servers[0], now=0)
        table.remember(service, two, service.servers[0], now=0)
        assert table.find(service, one, now=0)
        assert len(list(table)) == 2
        table.remember(service, three, service.servers[0], now=0)
        assert table.find(service, two, now=0) is None


class TestDisplay:
    @pytest.mark.parametrize(
        ("listen", "mask", "client", "network"),
        [(VIP, 24, "198.19.1.77", "198.19.1.0/24"), (VIP6, 56, "2001:db8:1:2ff::9", "2001:db8:1:200::/56")],
    )
    def test_a_template_tells_service_clients_server_and_deadline(
        self, listen: Endpoint, mask: int, client: str, network: str
    ) -> None:
        table, service = PersistenceTable(), persistent_service(mask, listen)
        table.remember(service, client_address(client), service.servers[1], now=5)
        (template,) = table
        assert template.service is service
        assert template.client == ip_network(network)
        assert template.server is service.servers[1]
        assert template.deadline == 5 + TIMEOUT


class TestHeldByFlows:
    """hold() and release(): a template outlives its flows."""

    def test_a_held_template_does_not_expire(self) -> None:
        table, service = PersistenceTable(), persistent_service()
        server = service.servers[0]
        table.hold(service, CLIENT, server, now=0)
        assert table.find(service, CLIENT, now=100 * TIMEOUT) is server
        assert table.expire(now=100 * TIMEOUT) == 0
        (template,) = table
        assert (template.flows, template.deadline) == (1, TIMEOUT)

    def test_a_minute_is_left_when_the_last_flow_ends_late(self) -> None:
        table, service = PersistenceTable(), persistent_service()
        server = service.servers[0]
        table.hold(service, CLIENT, server, now=0)
        table.hold(service, CLIENT, server, now=1)
        end = 10 * TIMEOUT
        table.release(service, CLIENT, server, now=end // 2)
        assert table.find(service, CLIENT, now=end) is server  # one flow lives
        table.release(service, CLIENT, server, now=end)
        assert table.find(service, CLIENT, now=end + REARM - 1) is server
        assert table.find(service, CLIENT, now=end + REARM) is None

    def test_the_timeout_still_counts_when_the_last_flow_ends_early(self) -> None:
        table, service = PersistenceTable(), persistent_service()
        server = service.servers[0]
        table.hold(service, CLIENT, server, now=0)
        table.release(service, CLIENT, server, now=1)
        assert table.find(service, CLIENT, now=TIMEOUT - 1) is server
        assert table.find(service, CLIENT, now=TIMEOUT) is None

    def test_remembering_does_not_let_go(self) -> None:
        table, service = PersistenceTable(), persistent_service()
        server = service.servers[0]
        table.hold(service, CLIENT, server, now=0)
        table.remember(service, CLIENT, server, now=1)
        assert table.find(service, CLIENT, now=100 * TIMEOUT) is server

    def test_a_release_meant_for_another_template_is_without_effect(self) -> None:
        table, service = PersistenceTable(), persistent_service()
        first, second, _ = service.servers
        table.release(service, CLIENT, first, now=0)  # there is none
        table.hold(service, CLIENT, first, now=0)
        table.forget_server(service, first)
        table.hold(service, CLIENT, second, now=1)
        table.release(service, CLIENT, first, now=2)  # of the flow to the first
        assert table.find(service, CLIENT, now=100 * TIMEOUT) is second
        table.release(service, CLIENT, second, now=100 * TIMEOUT)
        table.release(service, CLIENT, second, now=100 * TIMEOUT)  # once too often
        (template,) = table
        assert template.flows == 0
        assert template.deadline == 100 * TIMEOUT + REARM

    def test_a_full_table_gives_up_held_templates_too(self) -> None:
        table, service = PersistenceTable(capacity=1), persistent_service()
        table.hold(service, CLIENT, service.servers[0], now=0)
        table.hold(service, client_address(5), service.servers[0], now=1)
        assert table.find(service, CLIENT, now=2) is None
        table.release(service, CLIENT, service.servers[0], now=3)
        assert len(table) == 1


@dataclass
class Entry:
    """A template in the plain model."""

    server: RealServer
    due: int = 0
    flows: int = 0
    kept_until: int = 0

    def is_alive(self, now: int) -> bool:
        return self.flows > 0 or now < self.kept_until


def test_agrees_with_a_plain_dictionary() -> None:
    """Random histories, below capacity, against entries that are looked at one by one."""
    chance = random.Random(3)
    table, service = PersistenceTable(), persistent_service(mask=30)
    plain: dict[int, Entry] = {}  # by prefix
    held: list[tuple[int, RealServer]] = []
    now = 0
    for _ in range(5000):
        now += chance.choice([0, 1, TIMEOUT // 7, TIMEOUT // 2])
        plain = {prefix: entry for prefix, entry in plain.items() if entry.is_alive(now)}
        number, server = chance.randrange(40), chance.choice(service.servers)
        entry = plain.get(number // 4)
        action = chance.choice(["find", "find", "remember", "hold", "release", "release"])
        if action == "find":
            assert table.find(service, client_address(number), now) is (entry and entry.server)
        elif action == "release" and held:
            number, server = held.pop(chance.randrange(len(held)))
            entry = plain.get(number // 4)
            if entry is not None and entry.server is server and entry.flows:
                entry.flows -= 1
                entry.kept_until = now + REARM if now > entry.due else entry.due
            table.release(service, client_address(number), server, now)
        elif action in ("remember", "hold"):
            if entry is None or entry.server is not server:
                entry = plain[number // 4] = Entry(server)
            entry.due = entry.kept_until = now + TIMEOUT
            if action == "hold":
                entry.flows += 1
                held.append((number, server))
                table.hold(service, client_address(number), server, now)
            else:
                table.remember(service, client_address(number), server, now)
        table.expire(now)
        assert len(table) == sum(entry.is_alive(now) for entry in plain.values())
