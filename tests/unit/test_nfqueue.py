# SPDX-License-Identifier: Apache-2.0
"""What engine `python` does with packets: verdicts, marks, answers of its own, packets it keeps."""

from __future__ import annotations

import asyncio

import pytest

from fullnat.core.fragment import LIFETIME
from fullnat.core.pressure import TRICKLE, UNLIMITED
from fullnat.core.timeouts import SECOND
from fullnat.datapath import nfqueue
from fullnat.datapath.nfqueue import BATCH, LOOK_EVERY, QUEUE_LENGTH, NfqueueDatapath
from fullnat.datapath.queue_table import Drops, QueueRow
from tests.feeds import MARK, HandmadePacket, Outbox
from tests.packets import fragments, identification, tcp, udp, unreachable, with_identification
from tests.vectors.case import NETS, Given, Net
from tests.vectors.directors import build_director


class Bench:
    """An engine, the hand that feeds it, and its clock."""

    def __init__(self, given: Given) -> None:
        self.now = 0
        self.outbox = Outbox()
        self.director = build_director(given)
        self.engine = NfqueueDatapath(self.director, self.outbox, queue=1, mark=MARK, clock=lambda: self.now)

    def feed(self, payload: bytes, mark: int = 0, hook: int = 0) -> HandmadePacket:
        packet = HandmadePacket(payload, mark, hook)
        self.engine._on_packet(packet)  # type: ignore[arg-type]
        return packet


@pytest.fixture(params=NETS, ids=lambda net: f"v{net.family}")
def net(request: pytest.FixtureRequest) -> Net:
    return request.param  # type: ignore[no-any-return]


def test_forwarded_packets_leave_rewritten_and_marked_beside_the_marks_they_had(net: Net) -> None:
    packet = Bench(Given(net)).feed(tcp(net.to_vip(), "S"), mark=0x5)
    assert (packet.verdict, packet.payload) == ("accept", tcp(net.to_server(), "S"))
    assert packet.mark == MARK | 0x5


@pytest.mark.parametrize(("hook", "verdict"), [(0, "repeat"), (3, "accept")], ids=["PREROUTING", "OUTPUT"])
def test_a_relayed_error_is_untracked_or_routed_again(net: Net, hook: int, verdict: str) -> None:
    bench = Bench(Given(net))
    bench.feed(udp(net.to_vip(vport=53)))
    error = unreachable(net.servers[0], net.lip, udp(net.to_server(5353)))
    packet = bench.feed(error, hook=hook)
    assert (packet.verdict, packet.mark) == (verdict, MARK)
    assert packet.payload == unreachable(net.vip, net.client, udp(net.to_vip(vport=53)))


def test_what_is_not_ours_passes_untouched(net: Net) -> None:
    sent = udp(net.to_vip(vport=999))
    packet = Bench(Given(net)).feed(sent)
    assert (packet.verdict, packet.payload, packet.mark) == ("accept", sent, 0)


def test_an_answer_of_ours_leaves_through_the_sender_and_the_packet_ends(net: Net) -> None:
    bench = Bench(Given(net, weight=0))
    packet = bench.feed(tcp(net.to_vip(), "S"))
    assert packet.verdict == "drop"
    assert len(bench.outbox.sent) == 1


def test_answers_are_limited_and_the_packet_ends_all_the_same(net: Net) -> None:
    bench = Bench(Given(net, weight=0))
    verdicts = {bench.feed(tcp(net.to_vip(), "S")).verdict for _ in range(500)}
    assert verdicts == {"drop"}
    assert len(bench.outbox.sent) + bench.director.answers.suppressed == 500
    assert bench.director.answers.suppressed > 0
    bench.now += SECOND
    bench.feed(tcp(net.to_vip(), "S"))
    assert len(bench.outbox.sent) + bench.director.answers.suppressed == 501


def test_a_held_packet_is_settled_when_its_first_comes(net: Net) -> None:
    bench = Bench(Given(net))
    question, wanted = udp(net.to_vip(vport=53), b"x" * 1500), udp(net.to_server(5353), b"x" * 1500)
    sent, expected = fragments(question, 1000, 9), fragments(wanted, 1000, 9)
    late = bench.feed(sent[1])
    assert late.verdict == ""
    first = bench.feed(sent[0])
    assert (first.verdict, late.verdict) == ("accept", "accept")
    ident = identification(first.payload)
    assert [first.payload, late.payload] == [with_identification(piece, ident) for piece in expected]
    assert late.mark == MARK


def test_a_held_packet_is_dropped_when_its_first_never_comes(net: Net) -> None:
    bench = Bench(Given(net))
    held = bench.feed(fragments(udp(net.to_vip(vport=53), b"x" * 1500), 1000, 9)[1])
    asyncio.run(bench.engine.expire(LIFETIME))
    assert held.verdict == "drop"


def test_packets_never_make_it_raise(net: Net) -> None:
    bench = Bench(Given(net))
    syn = tcp(net.to_vip(), "S")
    for length in range(len(syn)):
        assert bench.feed(syn[:length]).verdict == "drop"
    assert bench.engine.statistics().received == len(syn)


class Idle:
    """Stands for NetfilterQueue, its socket and the loop: does nothing, whatever is asked."""

    left = 0

    def __getattr__(self, name: str) -> object:
        return lambda *_: 0


def idle_engine() -> NfqueueDatapath:
    engine = Bench(Given(NETS[0])).engine
    engine._netfilter = engine._reader = engine._loop = Idle()  # type: ignore[assignment]
    return engine


def test_what_the_kernel_dropped_is_still_known_after_the_queue_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = idle_engine()
    monkeypatch.setattr(nfqueue, "read_drops", lambda queues: Drops(237, 5))
    assert engine.statistics().queue_dropped == 237
    engine.stop()
    monkeypatch.setattr(nfqueue, "read_drops", lambda queues: Drops())
    assert (engine.statistics().queue_dropped, engine.statistics().user_dropped) == (237, 5)


def test_new_flows_are_shed_while_the_queue_fills(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = idle_engine()
    director = engine._director
    assert engine._reader is not None
    waiting = QUEUE_LENGTH
    monkeypatch.setattr(nfqueue, "read_rows", lambda queues: [QueueRow(1, 1, waiting, 0, 0)])

    def wake_up(packets: int) -> int:
        """A batch of so many; return how many flows it may open."""
        engine._netfilter.run_socket = lambda reader: setattr(reader, "left", BATCH - packets)  # type: ignore[union-attr,method-assign,assignment]
        engine._on_readable()
        return director.openings

    for _ in range(LOOK_EVERY):
        assert wake_up(BATCH) == UNLIMITED
    assert wake_up(BATCH) == TRICKLE
    waiting = 0
    assert [wake_up(BATCH) for _ in range(LOOK_EVERY)] == [TRICKLE] * (LOOK_EVERY - 1) + [UNLIMITED]
    waiting = QUEUE_LENGTH
    assert [wake_up(1), wake_up(1)] == [UNLIMITED] * 2  # what is not full is not looked behind
