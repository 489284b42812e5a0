# SPDX-License-Identifier: Apache-2.0
"""What each scheduler picks, in cases small enough to work out by hand."""

from __future__ import annotations

from collections import Counter
from ipaddress import ip_address

import pytest

from fullnat.core.addr import Endpoint
from fullnat.core.sched import BUILTIN, Scheduler, find_scheduler
from fullnat.core.sched.dh import BUCKETS as DH_BUCKETS
from fullnat.core.sched.hashing import hash_endpoint, rehash
from fullnat.core.sched.locality import EXPIRATION, MAX_ENTRIES, AddressTable
from fullnat.core.sched.mh import PRIMES, table_size, turns
from fullnat.core.sched.sh import BUCKETS as SH_BUCKETS
from fullnat.core.sched.table import TableScheduler
from fullnat.core.service import Admin, Health, RealServer, VirtualService
from tests.services import letters, make_request, make_servers, make_service, pick

ALL = sorted(BUILTIN)
# All but those that give a hash no other server when its own is out.
FINDS_ANY = sorted({*BUILTIN} - {"dh", "sh", "mh"})


def load(service: VirtualService, position: int, active: int = 0, inactive: int = 0) -> None:
    """Put so many more flows on a server."""
    server = service.servers[position]
    for _ in range(active):
        service.flow_opened(server)
        service.flow_activated(server)
    for _ in range(inactive):
        service.flow_opened(server)


def sources_of(service: VirtualService, count: int = 2000) -> list[int | None]:
    """Return the picks for *count* clients."""
    return [pick(service, make_request(client)) for client in range(count)]


class TestAll:
    def test_the_schedulers_of_ipvsadm_are_there(self) -> None:
        names = "rr wrr lc wlc lblc lblcr dh sh mh sed nq fo ovf twos"
        assert set(BUILTIN) == {*names.split(), "random"}
        assert all(cls.name == name for name, cls in BUILTIN.items())

    def test_an_unknown_name_is_a_value_error_that_lists_the_names(self) -> None:
        assert find_scheduler("wlc") is BUILTIN["wlc"]
        with pytest.raises(ValueError, match="'wcl'; there are rr, wrr, "):
            find_scheduler("wcl")

    @pytest.mark.parametrize("name", ALL)
    def test_no_servers_no_pick(self, name: str) -> None:
        assert pick(make_service(name, [])) is None

    @pytest.mark.parametrize("name", ALL)
    def test_weight_0_everywhere_no_pick(self, name: str) -> None:
        flags = BUILTIN[name].accepted_flags
        service = make_service(name, [0, 0, 0], flags=flags)
        assert pick(service) is None

    @pytest.mark.parametrize("name", ALL)
    def test_all_overloaded_no_pick(self, name: str) -> None:
        service = make_service(name, [1, 1], flags=BUILTIN[name].accepted_flags)
        for server in service.servers:
            server.upper = 1
            service.flow_opened(server)
        assert all(server.overloaded for server in service.servers)
        assert pick(service) is None

    @pytest.mark.parametrize("name", FINDS_ANY)
    def test_a_quiesced_a_down_and_an_overloaded_server_are_passed_over(self, name: str) -> None:
        service = make_service(name, [9, 9, 9, 1])
        quiesced, down, overloaded, _ = service.servers
        overloaded.upper = 1
        service.set_admin(quiesced, Admin.QUIESCED)
        service.set_health(down, Health.DOWN)
        service.flow_opened(overloaded)
        assert letters(service, 20) == "D" * 20

    @pytest.mark.parametrize("name", ALL)
    def test_a_server_that_returns_is_picked_again(self, name: str) -> None:
        service = make_service(name, [1])
        (server,) = service.servers
        server.upper, server.lower = 2, 2
        service.flow_opened(server)
        service.flow_opened(server)
        assert pick(service) is None
        service.flow_ended(server, was_active=False)
        assert pick(service) == 0
        service.set_weight(server, 0)
        assert pick(service) is None
        service.set_weight(server, 2)
        assert pick(service) == 0

    @pytest.mark.parametrize("name", ALL)
    def test_flows_of_a_removed_server_do_not_disturb_the_one_in_its_place(self, name: str) -> None:
        service = make_service(name, [5, 5])
        removed, kept = service.servers
        load(service, 0, active=3)
        load(service, 1, active=1)
        service.set_servers([kept])
        assert removed.position == kept.position == 0
        removed.upper = 1
        for _ in range(3):
            service.flow_opened(removed)  # overloaded now
            service.flow_ended(removed, was_active=True)
        service.set_weight(removed, 0)
        assert [service.scheduler.schedule(make_request(client)) for client in range(10)] == [kept] * 10

    @pytest.mark.parametrize("name", ALL)
    def test_it_has_no_state_outside_the_object(self, name: str) -> None:
        def run(seed: int) -> str:
            return letters(make_service(name, [3, 1, 2], seed=seed), 50)

        assert run(7) == run(7)
        assert (run(7) != run(8)) == (name in {"random", "twos"})

    def test_the_base_schedules_nothing(self) -> None:
        with pytest.raises(NotImplementedError):
            Scheduler().schedule(make_request())


class TestRoundRobin:
    def test_in_list_order_whatever_the_weights(self) -> None:
        assert letters(make_service("rr", [5, 1, 2]), 7) == "ABCABCA"

    def test_goes_on_behind_a_server_that_was_quiesced(self) -> None:
        service = make_service("rr", [1, 1, 1])
        assert letters(service, 1) == "A"
        service.set_weight(service.servers[1], 0)
        assert letters(service, 4) == "CACA"
        service.set_weight(service.servers[1], 1)
        assert letters(service, 3) == "BCA"

    def test_goes_on_where_it_was_when_servers_come_and_go(self) -> None:
        service = make_service("rr", [1, 1, 1, 1])
        first, second, third, fourth = service.servers
        assert letters(service, 2) == "AB"
        service.set_servers([*make_servers([1]), first, second, third, fourth])
        assert service.scheduler.schedule(make_request()) is third
        service.set_servers([first, second, fourth])  # the last pick is gone: behind its predecessor
        assert service.scheduler.schedule(make_request()) is fourth
        service.set_servers([third, first, second])
        assert service.scheduler.schedule(make_request()) is third
        service.set_servers(make_servers([1, 1]))
        assert letters(service, 2) == "AB"


class TestWeightedRoundRobin:
    @pytest.mark.parametrize(
        ("weights", "order"),
        [
            ([4, 3, 2], "AABABCABC"),
            ([40, 30, 20], "AABABCABC"),
            ([1, 1, 1], "ABC"),
            ([1, 2], "BAB"),
            ([6, 3, 0, 3], "AABD"),
        ],
    )
    def test_the_order_of_the_kernel(self, weights: list[int], order: str) -> None:
        assert letters(make_service("wrr", weights), 3 * len(order)) == order * 3

    def test_a_walk_starts_again_when_a_weight_changes(self) -> None:
        service = make_service("wrr", [4, 3, 2])
        assert letters(service, 2) == "AA"
        service.set_weight(service.servers[2], 4)
        # At the head of the list again, but at the level it had come to, 3, which now all reach.
        assert letters(service, 9) == "ABCABCABC"

    def test_overload_does_not_restart_it(self) -> None:
        service = make_service("wrr", [2, 2, 1])
        service.servers[0].upper = 1
        assert letters(service, 1) == "A"
        service.flow_opened(service.servers[0])
        assert letters(service, 3) == "BBC"
        service.flow_ended(service.servers[0], was_active=False)
        assert letters(service, 5) == "ABABC"

    def test_a_heavy_overloaded_server_costs_no_turns(self) -> None:
        service = make_service("wrr", [65535, 1, 1])
        service.servers[0].upper = 1
        service.flow_opened(service.servers[0])
        assert letters(service, 4) == "BCBC"


class TestLeastConnection:
    def test_lc_takes_the_first_of_those_with_fewest(self) -> None:
        service = make_service("lc", [1, 9, 1])
        assert letters(service, 2) == "AA"  # picking does not count flows; the service does
        load(service, 0, inactive=1)
        assert letters(service, 1) == "B"
        load(service, 1, inactive=1)
        load(service, 2, inactive=1)
        assert letters(service, 1) == "A"

    def test_an_active_flow_weighs_256_inactive_ones(self) -> None:
        service = make_service("lc", [1, 1])
        load(service, 0, active=1)
        load(service, 1, inactive=255)
        assert letters(service, 1) == "B"
        load(service, 1, inactive=1)
        assert letters(service, 1) == "A"
        load(service, 0, inactive=1)
        assert letters(service, 1) == "B"

    def test_wlc_divides_by_the_weight(self) -> None:
        service = make_service("wlc", [1, 3])
        picked = []
        for _ in range(8):
            picked.append(pick(service))
            load(service, picked[-1] or 0, active=1)
        # A on a tie at 0/1 = 0/3, then B until 3/3, a tie with 1/1, and so on.
        assert picked == [0, 1, 1, 1, 0, 1, 1, 1]

    def test_wlc_hears_of_a_new_weight(self) -> None:
        service = make_service("wlc", [1, 1])
        load(service, 0, active=4)
        load(service, 1, active=2)
        assert letters(service, 1) == "B"
        service.set_weight(service.servers[0], 3)
        assert letters(service, 1) == "A"


class TestDelay:
    def test_sed_counts_the_flow_to_come(self) -> None:
        service = make_service("sed", [1, 2, 3])
        picked = []
        for _ in range(6):
            picked.append(pick(service))
            load(service, picked[-1] or 0, active=1)
        # (active + 1) / weight is 1 1/2 1/3, 1 1/2 2/3, 1 1 2/3, 1 1 1, 2 1 1, 2 3/2 1.
        assert picked == [2, 1, 2, 0, 1, 2]

    def test_sed_does_not_see_inactive_flows(self) -> None:
        service = make_service("sed", [1, 2])
        load(service, 1, inactive=1000)
        assert letters(service, 1) == "B"

    def test_nq_takes_the_first_idle_server_then_goes_as_sed(self) -> None:
        service = make_service("nq", [1, 2, 3])
        picked = []
        for _ in range(6):
            picked.append(pick(service))
            load(service, picked[-1] or 0, active=1)
        # While there are idle ones, in list order; then 2 1 2/3, 2 1 1, 2 3/2 1.
        assert picked == [0, 1, 2, 2, 1, 2]

    def test_a_server_with_inactive_flows_only_is_idle_to_nq(self) -> None:
        service = make_service("nq", [1, 1])
        load(service, 0, inactive=5)
        load(service, 1, active=1)
        assert letters(service, 1) == "A"


class TestFailover:
    def test_fo_takes_the_first_of_the_heaviest(self) -> None:
        service = make_service("fo", [1, 3, 3, 2])
        load(service, 1, active=50)
        assert letters(service, 3) == "BBB"
        service.set_health(service.servers[1], Health.DOWN)
        assert letters(service, 2) == "CC"
        service.set_health(service.servers[2], Health.DOWN)
        assert letters(service, 2) == "DD"
        service.set_health(service.servers[1], Health.UP)
        assert letters(service, 1) == "B"

    def test_ovf_takes_one_more_than_weight_then_the_next(self) -> None:
        service = make_service("ovf", [1, 2])
        picked = []
        for _ in range(6):
            position = pick(service)
            picked.append(position)
            if position is not None:
                load(service, position, active=1)
        assert picked == [1, 1, 1, 0, 0, None]
        service.flow_ended(service.servers[1], was_active=True)
        assert pick(service) == 1

    def test_ovf_does_not_count_inactive_flows(self) -> None:
        service = make_service("ovf", [1, 2])
        load(service, 1, inactive=10)
        assert letters(service, 1) == "B"


class TestRandom:
    def test_random_draws_in_proportion_to_weight(self) -> None:
        service = make_service("random", [1, 0, 3, 6], seed=2)
        counts = Counter(letters(service, 10_000))
        assert counts["B"] == 0
        assert 900 < counts["A"] < 1100
        assert 2850 < counts["C"] < 3150
        assert 5850 < counts["D"] < 6150

    def test_twos_takes_the_lighter_of_two(self) -> None:
        service = make_service("twos", [1, 1, 1, 1])
        load(service, 0, active=10)
        counts = Counter(letters(service, 8000))
        # A only when drawn twice: 1 in 16.
        assert 400 < counts["A"] < 600
        assert min(counts[server] for server in "BCD") > 2300

    def test_twos_compares_loads_for_their_weight(self) -> None:
        service = make_service("twos", [1, 9])
        load(service, 0, active=1)
        load(service, 1, active=8)
        counts = Counter(letters(service, 4000))
        assert 10 < counts["A"] < 80  # drawn twice: 1 in 100

    def test_twos_gives_the_first_server_no_more_than_its_share(self) -> None:
        counts = Counter(letters(make_service("twos", [1, 1]), 20_000))
        assert 9700 < counts["A"] < 10_300


class TestSourceHashing:
    def test_a_client_stays_and_its_port_does_not_matter(self) -> None:
        service = make_service("sh", [1, 1, 1])
        first = pick(service, make_request(5, port=1000))
        assert {pick(service, make_request(5, port=port)) for port in range(1000, 1100)} == {first}

    def test_buckets_are_dealt_by_weight_in_runs(self) -> None:
        service = make_service("sh", [2, 0, 1])
        scheduler = service.scheduler
        for client in range(300):
            request = make_request(client)
            bucket = hash_endpoint(request.client.address, 0) % SH_BUCKETS
            expected = [0, 0, None, 2][bucket % 4]  # weight 0 from the start has one bucket, unused
            picked = scheduler.schedule(request)
            assert (None if picked is None else picked.position) == expected

    def test_sh_port_spreads_one_client(self) -> None:
        service = make_service("sh", [1, 1, 1], flags=["sh-port"])
        assert {pick(service, make_request(5, port=port)) for port in range(1000, 1100)} == {0, 1, 2}

    def test_both_families_are_spread(self) -> None:
        service = make_service("sh", [1, 1])
        picks = Counter(pick(service, make_request(f"2001:db8::{host:x}")) for host in range(1000))
        assert min(picks.values()) > 400
        low_bits_alone = Counter(pick(service, make_request(f"2001:db8:0:{net:x}::1")) for net in range(1000))
        assert min(low_bits_alone.values()) > 400


class TestMaglevHashing:
    def test_sizes_are_the_largest_primes_below_powers_of_two(self) -> None:
        def is_prime(number: int) -> bool:
            return all(number % factor for factor in range(2, int(number**0.5) + 1))

        for bits, size in enumerate(PRIMES, start=12):
            assert size == next(number for number in range(1 << bits, 0, -1) if is_prime(number))

    @pytest.mark.parametrize(
        ("servers", "size"), [(0, 4093), (1, 4093), (40, 4093), (41, 8191), (1000, 131071), (10**6, 1048573)]
    )
    def test_the_table_has_100_places_a_server(self, servers: int, size: int) -> None:
        assert table_size(servers) == size

    @pytest.mark.parametrize(
        ("weights", "places"),
        [
            ([], []),
            ([0, 0], [0, 0]),
            ([1, 1], [1, 1]),
            ([100, 300, 0], [1, 3, 0]),
            ([63, 1], [63, 1]),
            ([64, 1], [32, 1]),  # 64 has seven bits: halved; 1 would be 0 but stays
            ([65535, 3000, 1], [63, 2, 1]),
        ],
    )
    def test_turns_are_weights_scaled_down(self, weights: list[int], places: list[int]) -> None:
        assert turns(weights) == places

    def test_clients_are_spread_by_weight(self) -> None:
        picks = Counter(sources_of(make_service("mh", [1, 2, 1]), 8000))
        assert 1800 < picks[0] < 2200
        assert 3750 < picks[1] < 4250
        assert 1800 < picks[2] < 2200

    def test_the_table_does_not_depend_on_much_but_endpoints(self) -> None:
        one = sources_of(make_service("mh", [1, 1, 1]))
        assert one == sources_of(make_service("mh", [7, 7, 7]))

    def test_few_clients_move_when_a_server_is_removed(self) -> None:
        service = make_service("mh", [1] * 10)
        servers = list(service.servers)
        before = [service.scheduler.schedule(make_request(client)) for client in range(5000)]
        service.set_servers(servers[:4] + servers[5:])
        after = [service.scheduler.schedule(make_request(client)) for client in range(5000)]
        kept = [(old, new) for old, new in zip(before, after, strict=True) if old is not servers[4]]
        moved = sum(old is not new for old, new in kept)
        assert servers[4] not in after
        assert moved < 0.05 * len(kept)  # a plain modulo would move nine in ten

    def test_mh_port_spreads_one_client(self) -> None:
        service = make_service("mh", [1, 1, 1], flags=["mh-port"])
        assert {pick(service, make_request(5, port=port)) for port in range(1000, 1100)} == {0, 1, 2}


class TestTables:
    """What sh and mh have in common, and dh in part."""

    @pytest.mark.parametrize("name", ["dh", "sh", "mh"])
    @pytest.mark.parametrize("change", ["quiesced", "weight", "down"])
    def test_a_server_that_is_out_moves_nobody_elses_clients(self, name: str, change: str) -> None:
        service = make_service(name, [3, 2, 1])
        server = service.servers[1]
        virtuals = [Endpoint(ip_address("203.0.113.0") + host, 80) for host in range(250)]
        requests = [make_request(client, virtual=virtual) for client, virtual in enumerate(virtuals)]
        before = [pick(service, request) for request in requests]
        assert 1 in before
        if change == "weight":
            service.set_weight(server, 0)
        elif change == "down":
            service.set_health(server, Health.DOWN)
        else:
            service.set_admin(server, Admin.QUIESCED)
        during = [pick(service, request) for request in requests]
        assert during == [None if position == 1 else position for position in before]
        service.set_weight(server, 2)
        service.set_health(server, Health.UP)
        service.set_admin(server, Admin.ENABLED)
        assert [pick(service, request) for request in requests] == before

    @pytest.mark.parametrize("name", ["sh", "mh"])
    def test_a_server_that_is_down_from_the_start_has_its_place(self, name: str) -> None:
        servers = make_servers([2, 3, 1])
        servers[1].weight, servers[1].health = 0, Health.DOWN
        up = sources_of(make_service(name, [2, 3, 1]))
        assert sources_of(make_service(name, servers)) == [None if p == 1 else p for p in up]

    @pytest.mark.parametrize("name", ["sh", "mh"])
    def test_fallback_moves_only_the_clients_of_the_server_that_is_out(self, name: str) -> None:
        service = make_service(name, [1] * 5, flags=[f"{name}-fallback"])
        before = sources_of(service)
        service.set_weight(service.servers[2], 0)
        after = sources_of(service)
        pairs = list(zip(before, after, strict=True))
        assert all(old == new for old, new in pairs if old != 2)
        substitutes = Counter(new for old, new in pairs if old == 2)
        assert set(substitutes) == {0, 1, 3, 4}
        assert min(substitutes.values()) > 0.15 * substitutes.total()

    @pytest.mark.parametrize("name", ["sh", "mh"])
    def test_a_client_keeps_its_substitute_when_a_third_server_goes(self, name: str) -> None:
        service = make_service(name, [1] * 5, flags=[f"{name}-fallback"])
        service.set_weight(service.servers[2], 0)
        before = sources_of(service)
        service.set_weight(service.servers[4], 0)
        after = sources_of(service)
        assert all(old == new for old, new in zip(before, after, strict=True) if old != 4)

    @pytest.mark.parametrize("name", ["sh", "mh"])
    def test_fallback_hashes_on_16_times_then_draws(self, name: str) -> None:
        """Fixed, because another engine has to find the same substitute."""
        weights = [1] * 31 + [3] + [1] * 8
        service = make_service(name, weights, flags=[f"{name}-fallback"])
        assert isinstance(service.scheduler, TableScheduler)
        table = service.scheduler.build(service.servers, weights)
        kept = [service.servers[17], service.servers[31]]
        for server in service.servers:
            if server not in kept:
                service.set_weight(server, 0)
        for client in range(300):
            request = make_request(client)
            value = hash_endpoint(request.client.address, 0)
            tried = [table[rehash(value, attempt) % len(table)] for attempt in range(1, 17)]
            first = table[value % len(table)]
            substitute = [server for server in [first, *tried] if server in kept]
            drawn = [kept[0], kept[1], kept[1], kept[1]][rehash(value, 0) % 4]
            assert service.scheduler.schedule(request) is [*substitute, drawn][0]

    @pytest.mark.parametrize("name", ["sh", "mh"])
    def test_fallback_finds_the_only_server_left(self, name: str) -> None:
        service = make_service(name, [1] * 300, flags=[f"{name}-fallback"])
        for server in service.servers[:-1]:
            service.set_weight(server, 0)
        assert set(sources_of(service, 50)) == {299}

    @pytest.mark.parametrize("name", ["sh", "mh"])
    def test_a_new_weight_takes_effect(self, name: str) -> None:
        service = make_service(name, [1, 1])
        assert 800 < Counter(sources_of(service))[0] < 1200
        service.set_weight(service.servers[0], 3)
        assert 1350 < Counter(sources_of(service))[0] < 1650

    def test_dh_goes_by_the_virtual_address_and_deals_in_turn(self) -> None:
        service = make_service("dh", [9, 1, 1])
        for host in range(200):
            virtual = Endpoint(ip_address("203.0.113.0") + host, 80)
            bucket = hash_endpoint(virtual.address, 0) % DH_BUCKETS
            picks = {pick(service, make_request(client, virtual=virtual)) for client in range(5)}
            assert picks == {bucket % 3}


class TestLocality:
    A = Endpoint(ip_address("203.0.113.10"), 80)
    B = Endpoint(ip_address("203.0.113.11"), 80)

    def test_lblc_stays_with_the_address_not_the_load(self) -> None:
        service = make_service("lblc", [5, 5])
        assert pick(service, make_request(virtual=self.A)) == 0
        load(service, 0, active=5)
        assert pick(service, make_request(virtual=self.A)) == 0  # not above its weight
        assert pick(service, make_request(virtual=self.B)) == 1
        load(service, 0, active=1)
        assert pick(service, make_request(virtual=self.A)) == 1  # crowded, and the other has room
        assert pick(service, make_request(virtual=self.A)) == 1  # and that is remembered

    def test_lblc_stays_when_all_are_crowded(self) -> None:
        service = make_service("lblc", [2, 2])
        assert pick(service) == 0
        load(service, 0, active=9)
        load(service, 1, active=1)  # half its weight: no room
        assert pick(service) == 0

    def test_lblc_leaves_a_server_that_is_out(self) -> None:
        service = make_service("lblc", [1, 1])
        assert pick(service) == 0
        service.servers[0].upper = 1
        service.flow_opened(service.servers[0])
        assert pick(service) == 1
        service.flow_ended(service.servers[0], was_active=False)
        assert pick(service) == 1
        service.set_servers([service.servers[0]])
        assert pick(service) == 0

    def test_lblc_forgets_after_a_day_without_use(self) -> None:
        service = make_service("lblc", [5, 5])
        assert pick(service, make_request(now=0)) == 0
        load(service, 0, active=1)
        assert pick(service, make_request(now=EXPIRATION - 1)) == 0
        assert pick(service, make_request(now=2 * EXPIRATION - 2)) == 0
        assert pick(service, make_request(now=3 * EXPIRATION - 2)) == 1

    def test_lblcr_adds_a_server_when_the_set_is_crowded(self) -> None:
        service = make_service("lblcr", [2, 2, 2])
        assert pick(service) == 0
        load(service, 0, active=2)
        assert pick(service) == 0
        load(service, 0, active=1)
        assert pick(service) == 1  # joined
        load(service, 1, active=1)
        assert pick(service) == 1  # least of the set {0, 1}, though 2 is idle
        load(service, 1, active=2)
        assert pick(service) == 2  # joined

    def test_lblcr_breaks_ties_for_the_newest_of_the_set(self) -> None:
        service = make_service("lblcr", [2, 2, 2])
        assert pick(service) == 0
        load(service, 0, active=3)
        assert pick(service) == 1
        load(service, 1, active=3)
        assert pick(service) == 2
        load(service, 2, active=3)
        assert pick(service) == 2

    @pytest.mark.parametrize(("age", "members"), [(EXPIRATION, "ABC"), (EXPIRATION + 1, "AC")])
    def test_lblcr_sets_lose_their_most_loaded_server_after_a_day(self, age: int, members: str) -> None:
        service = self.replicated_service()
        load(service, 1, active=9)
        self.use_until(service, age)
        assert self.members(service, age) == members

    def test_lblcr_sets_lose_one_server_a_day(self) -> None:
        service = self.replicated_service()
        self.use_until(service, EXPIRATION + 1)
        self.use_until(service, 2 * EXPIRATION + 1, since=EXPIRATION + 1)
        assert len(self.members(service, 2 * EXPIRATION + 1)) == 2
        self.use_until(service, 2 * EXPIRATION + 2, since=2 * EXPIRATION + 1)
        assert len(self.members(service, 2 * EXPIRATION + 2)) == 1

    def test_lblcr_sets_lose_the_newest_of_the_most_loaded(self) -> None:
        service = self.replicated_service()
        self.use_until(service, EXPIRATION + 1)
        assert self.members(service, EXPIRATION + 1) == "AB"

    def test_lblcr_sets_do_not_lose_a_quiesced_server_but_the_next(self) -> None:
        service = self.replicated_service()
        service.set_weight(service.servers[2], 0)
        self.use_until(service, EXPIRATION + 1)
        service.set_weight(service.servers[2], 2)
        assert self.members(service, EXPIRATION + 1) == "AC"

    def test_lblcr_sets_lose_an_overloaded_server(self) -> None:
        service = self.replicated_service()
        newest = service.servers[2]
        newest.upper = newest.lower = newest.flows + 1
        load(service, 2, inactive=1)
        assert newest.overloaded
        self.use_until(service, EXPIRATION + 1)
        service.flow_ended(newest, was_active=False)
        assert not newest.overloaded
        assert self.members(service, EXPIRATION + 1) == "AB"

    def test_lblcr_sets_stay_as_old_as_they_are_when_a_member_is_picked_anew(self) -> None:
        service = self.replicated_service()
        last = service.servers[3]
        service.flow_ended(last, was_active=True)
        last.upper = 1
        load(service, 3, inactive=1)  # D has room, so all others are crowded, but cannot be picked
        self.use_until(service, EXPIRATION + 1)
        load(service, 3, active=1)
        assert self.members(service, EXPIRATION + 1) == "AB"

    def replicated_service(self) -> VirtualService:
        """Return a service whose set is A, B and C since 0, with three active flows on each."""
        service = make_service("lblcr", [2, 2, 2, 2])
        for position in range(3):
            assert pick(service, make_request(now=0)) == position
            load(service, position, active=3)
        load(service, 3, active=1)  # D has no room, so nobody joins any more
        return service

    def use_until(self, service: VirtualService, end: int, since: int = 0) -> None:
        """Pick at noon and at the end of each day, so that the entry stays."""
        for now in (*range(since, end, EXPIRATION // 2), end):
            pick(service, make_request(now=now))

    def members(self, service: VirtualService, now: int) -> str:
        """Return who is in the set: who gets flows while all others of the set hold more."""
        found = set()
        for _ in service.servers:
            position = pick(service, make_request(now=now))
            assert position is not None
            found.add("ABCD"[position])
            load(service, position, active=100)
        return "".join(sorted(found))

    def test_lblcr_does_not_shrink_to_nothing(self) -> None:
        service = make_service("lblcr", [2])
        for day in range(5):
            assert pick(service, make_request(now=day * (EXPIRATION - 1))) == 0

    def test_address_table_is_bounded_and_expires(self) -> None:
        table: AddressTable[int] = AddressTable()
        first = ip_address("10.0.0.0")
        for index in range(MAX_ENTRIES):
            table.put(first + index, index, now=0)
        assert table.use(first, now=1) == 0  # used: now 10.0.0.1 is the oldest
        table.put(first + MAX_ENTRIES, -1, now=2)
        assert len(table) == MAX_ENTRIES
        assert table.use(first + 1, now=2) is None
        assert table.use(first, now=2) == 0
        assert table.use(first, now=EXPIRATION + 1) == 0
        assert len(table) == 2  # all others were last used at 0
        assert list(table) == [-1, 0]


def test_is_attached_knows_a_stale_position() -> None:
    service = make_service("rr", [1, 1])
    first, second = service.servers
    service.set_servers([second])
    assert service.scheduler.is_attached(second)
    assert not service.scheduler.is_attached(first)
    service.set_servers([])
    assert not service.scheduler.is_attached(second)
    stranger: RealServer = make_servers([1])[0]
    assert not service.scheduler.is_attached(stranger)
