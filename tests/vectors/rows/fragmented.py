# SPDX-License-Identifier: Apache-2.0
"""Fragments, in order and not."""

from __future__ import annotations

from dataclasses import replace

from fullnat.core.reason import Reason
from tests.packets import fragments, tcp, udp
from tests.vectors.case import Case, Given, Net, Step
from tests.vectors.rows.steps import answer_about, established


def rows(net: Net) -> list[Case]:
    """The rows of one family."""
    question = udp(net.to_vip(vport=53), bytes(range(256)) * 8)
    wanted = udp(net.to_server(5353), bytes(range(256)) * 8)
    sent, expected = fragments(question, 1000, 99), fragments(wanted, 1000, 99)
    answer = udp(net.from_server(5353), b"z" * 3000)
    to_client = udp(net.to_client(vport=53), b"z" * 3000)
    answers, at_client = fragments(answer, 1440, 41), fragments(to_client, 1440, 41)
    first = Step(sent[0], Reason.FLOW_OPENED, out=expected[0], any_ident=True)
    return [
        Case(
            "fragments in order",
            Given(net),
            [
                first,
                *(
                    Step(piece, Reason.FRAGMENT_FORWARDED, out=out, any_ident=True)
                    for piece, out in zip(sent[1:], expected[1:], strict=True)
                ),
                *(
                    Step(
                        piece,
                        Reason.FRAGMENT_FORWARDED if n else Reason.FLOW_OUTBOUND,
                        out=out,
                        any_ident=True,
                    )
                    for n, (piece, out) in enumerate(zip(answers, at_client, strict=True))
                ),
            ],
        ),
        Case(
            "fragments that overtake the first wait for it",
            Given(net),
            [
                Step(sent[2], Reason.FRAGMENT_HELD),
                Step(sent[1], Reason.FRAGMENT_HELD),
                replace(
                    first,
                    released=(
                        (Reason.FRAGMENT_FORWARDED, expected[2]),
                        (Reason.FRAGMENT_FORWARDED, expected[1]),
                    ),
                ),
            ],
        ),
        Case(
            "fragments of what is not ours pass, early ones too",
            Given(net),
            [
                Step(piece, Reason.FRAGMENT_HELD)
                if n == 0
                else Step(piece, Reason.NOT_SERVICE, released=((Reason.NOT_SERVICE, None),))
                for n, piece in enumerate(
                    reversed(fragments(udp(net.to_vip(vport=999), b"q" * 1500), 1000, 5))
                )
            ],
        ),
        Case(
            "the rest of a refused datagram is dropped",
            Given(net, weight=0),
            [
                Step(sent[0], Reason.NO_SERVER, reply=answer_about(net, sent[0], "port")),
                Step(sent[1], Reason.FRAGMENT_DROPPED),
            ],
        ),
        Case(
            "a first fragment without its whole transport header is dropped",
            Given(net),
            [Step(fragments(tcp(net.to_vip(), "S"), 8, 3)[0], Reason.FRAGMENT_TINY)],
        ),
        Case(
            "a fragment that would overwrite the TCP header is dropped",
            Given(net),
            [Step(fragments(tcp(net.to_vip(), "S"), 8, 3)[1], Reason.FRAGMENT_TINY)],
        ),
        Case(
            "TCP may come in fragments",
            Given(net),
            [
                *established(net),
                *(
                    Step(
                        piece,
                        Reason.FRAGMENT_FORWARDED if n else Reason.FLOW_INBOUND,
                        out=out,
                        any_ident=True,
                    )
                    for n, (piece, out) in enumerate(
                        zip(
                            fragments(tcp(net.to_vip(), "A", payload=b"t" * 900), 400, 3),
                            fragments(tcp(net.to_server(), "A", payload=b"t" * 900), 400, 3),
                            strict=True,
                        )
                    )
                ),
            ],
        ),
    ]
