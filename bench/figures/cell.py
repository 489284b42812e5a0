# SPDX-License-Identifier: Apache-2.0
"""One peer's turn at one figure: a fresh lab, a started peer, and where results go."""

from __future__ import annotations

from dataclasses import dataclass

from bench.effort import Effort
from bench.ns import Lab
from bench.peers.base import Peer
from bench.results import Results, Row


@dataclass(frozen=True, slots=True)
class Cell:
    """What a figure needs to measure a peer once."""

    lab: Lab
    peer: Peer
    effort: Effort
    results: Results  # rows are added here; the outcome is returned
    round: int
    busy_before: float

    def last_found(self, metric: str) -> float | None:
        """Return what this peer reached in the last round that had it."""
        earlier = self.results.of(metric, self.peer.name)
        return earlier[max(earlier)] if earlier else None

    def add_row(
        self,
        metric: str,
        step: str,
        *,
        asked_pps: float | None = None,
        sent: int | None = None,
        prompt: int | None = None,
        received: int | None = None,
        refused: int | None = None,
        stalls: int | None = None,
        seconds: float | None = None,
        value: float | None = None,
        errors: int | None = None,
        steal: float | None = None,
    ) -> None:
        """Keep one trial."""
        self.results.rows.append(
            Row(
                round=self.round,
                metric=metric,
                peer=self.peer.name,
                step=step,
                asked_pps=asked_pps,
                sent=sent,
                prompt=prompt,
                received=received,
                refused=refused,
                stalls=stalls,
                seconds=seconds,
                value=value,
                errors=errors,
                steal=steal,
                busy_before=self.busy_before,
            )
        )
