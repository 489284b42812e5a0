# SPDX-License-Identifier: Apache-2.0
"""Tables that iptables made for our rules go with them, unless somebody else uses them by then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from fullnat.host.host import Host, clean_up
from tests.netns.host.tools import OTHER, PLAN, in_child, kill_myself, own_rules, run, run_line

pytestmark = [pytest.mark.usefixtures("flavour"), pytest.mark.parametrize("flavour", ["nft"], indirect=True)]

OURS = {
    "ip raw": {"PREROUTING", "OUTPUT"},
    "ip filter": {"INPUT", "FORWARD", "OUTPUT"},
    "ip6 raw": {"PREROUTING", "OUTPUT"},
    "ip6 filter": {"INPUT", "FORWARD", "OUTPUT"},
}


def tables(director: str) -> dict[str, set[str]]:
    """Those of iptables that there are, each with the chains that packets go through."""
    found: dict[str, set[str]] = {}
    for family, program in (("ip", "iptables-save"), ("ip6", "ip6tables-save")):
        table = ""
        for line in run(director, program).splitlines():
            if line.startswith("*"):
                table = f"{family} {line[1:]}"
                found[table] = set()
            elif line.startswith(":") and not line.endswith("- [0:0]"):
                found[table].add(line[1:].split()[0])
    return found


def test_tables_that_were_not_there_are_gone_again(director: str, start: Callable[..., Host]) -> None:
    assert tables(director) == {}
    host = start()
    assert tables(director) == OURS
    host.restore()
    assert tables(director) == {}


def test_an_empty_table_that_was_there_stays(director: str, start: Callable[..., Host]) -> None:
    run_line(director, "iptables -t raw -A OUTPUT -j ACCEPT")
    run_line(director, "iptables -t raw -F")
    before = tables(director)
    assert "ip raw" in before
    start().restore()
    assert tables(director) == before


@pytest.mark.parametrize(
    "theirs",
    ["iptables -t raw -N THEIRS", "iptables -t raw -A OUTPUT -j ACCEPT", "iptables -t raw -P OUTPUT DROP"],
)
def test_a_table_that_others_use_by_then_stays(
    director: str, start: Callable[..., Host], theirs: str
) -> None:
    host = start()
    run_line(director, theirs)
    host.restore()
    assert tables(director) == {"ip raw": OURS["ip raw"]}
    assert own_rules(director) == []


def test_with_two_instances_the_last_takes_them_out(director: str, start: Callable[..., Host]) -> None:
    first = start()
    second = start(OTHER)
    first.restore()
    assert tables(director) == OURS  # a hook that goes would cost the other what is in its queue
    second.restore()
    assert tables(director) == {}


def test_those_of_a_killed_process_are_gone_after_its_successor(
    director: str, start: Callable[..., Host]
) -> None:
    def set_up_and_die() -> None:
        start()
        kill_myself()

    in_child(set_up_and_die)
    assert tables(director) == OURS
    start().restore()
    assert tables(director) == {}


def test_those_that_are_not_needed_any_more_stay_until_the_end(
    director: str, start: Callable[..., Host]
) -> None:
    """A hook that goes would cost the clients what is in the queue."""
    four = replace(OTHER, instance="main", queue=PLAN.queue)  # IPv4 alone
    host = start()
    host.update(four)
    assert tables(director) == OURS
    host.leave()
    successor = start(four)
    assert tables(director) == OURS
    successor.restore()
    assert tables(director) == {}


def test_those_of_a_killed_process_go_with_what_it_left(director: str, start: Callable[..., Host]) -> None:
    host = start()
    state = host._state.path
    host.leave()
    assert clean_up(PLAN.instance, state)
    assert tables(director) == {}
