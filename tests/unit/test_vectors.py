# SPDX-License-Identifier: Apache-2.0
"""The packet-in/packet-out rows, run through each director."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fullnat.core.addr import TCP, UDP
from fullnat.core.packet import parse
from fullnat.core.reason import Reason
from fullnat.core.timeouts import SECOND
from tests.packets import identification, with_identification
from tests.vectors.case import Case, Step
from tests.vectors.directors import (
    PacketDirector,
    Twin,
    build_native,
    build_python,
    end_all_flows,
    twin_of,
)
from tests.vectors.rows import all_cases


def _assert_output(out: bytes | None, expected: bytes | None, any_ident: bool) -> None:
    if out is None:
        assert expected is None
        return
    assert expected is not None, "the row must say what comes out"
    if any_ident:
        expected = with_identification(expected, identification(out))
    assert out.hex() == expected.hex()


def _run(director: PacketDirector, step: Step) -> None:
    now = int(step.at * SECOND)
    director.expire(now)
    if step.ends_flows:
        end_all_flows(director, now)
    expected = director.counters()
    outcome = director.decide(step.packet, now)
    assert outcome.reason.name == step.reason.name
    _assert_output(outcome.out, step.out, step.any_ident)
    assert outcome.reply == step.reply
    assert len(outcome.released) == len(step.released)
    for release, (reason, out) in zip(outcome.released, step.released, strict=True):
        assert release.reason.name == reason.name
        _assert_output(release.out, out, step.any_ident)
    for reason in (step.reason, *(reason for reason, _ in step.released)):
        expected[reason] += 1
    assert director.counters() == expected


@pytest.mark.parametrize("build", [build_python, build_native], ids=["python", "native"])
@pytest.mark.parametrize("case", all_cases(), ids=lambda case: f"v{case.given.net.family} {case.name}")
def test_row(case: Case, build: Callable[[Twin], PacketDirector]) -> None:
    director = build(twin_of(case.given))
    director.admit(case.given.openings)
    for step in case.steps:
        _run(director, step)


def test_every_reason_has_a_row() -> None:
    seen = {step.reason for case in all_cases() for step in case.steps}
    beyond_rows = {Reason.FRAGMENT_LIMIT, Reason.FRAGMENT_TIMEOUT}  # tests/unit/test_fragment.py
    assert set(Reason) - seen == beyond_rows


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(
    "reason", [Reason.FLOW_OPENED, Reason.FLOW_INBOUND, Reason.FLOW_OUTBOUND, Reason.ICMP_RELAYED]
)
def test_what_is_forwarded_has_a_row_for_both_protocols(family: int, reason: Reason) -> None:
    protocols = {
        parse(step.packet).protocol
        for case in all_cases()
        for step in case.steps
        if step.reason is reason and case.given.net.family == family
    }
    assert protocols >= ({TCP, UDP} if reason is not Reason.ICMP_RELAYED else {1 if family == 4 else 58})
