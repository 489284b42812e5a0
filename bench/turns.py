# SPDX-License-Identifier: Apache-2.0
"""Who is measured at what, and when: rounds, figures, peers, each peer first in turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.figures import FIGURES, Figure
from bench.peers import PEERS
from bench.peers.base import Peer
from bench.stats import rotated


@dataclass(frozen=True, slots=True)
class Turn:
    """One peer's turn at one figure."""

    round: int
    figure: str
    peer: type[Peer]


@dataclass(frozen=True, slots=True)
class Selection:
    """What the command line asks for; None where it leaves the choice to us."""

    figures: Sequence[str] | None = None
    peers: Sequence[str] | None = None
    quick: bool = False  # fewer peers, where that is left to us

    def named_figures(self) -> dict[str, Figure]:
        """Return the figures to take."""
        return {name: FIGURES[name] for name in (self.figures or FIGURES)}

    def wanted(self, figure: Figure) -> list[type[Peer]]:
        """Return the peers to take *figure* of; where both are named that is all of them."""
        if self.peers is None:
            among = figure.quick_peers if self.quick else figure.peers
            return [peer for name, peer in PEERS.items() if name in among]
        return [PEERS[name] for name in self.peers if self.figures is not None or name in figure.peers]

    def involved(self) -> list[type[Peer]]:
        """Return the peers of any figure, in the order of the list of peers."""
        wanted = {peer for figure in self.named_figures().values() for peer in self.wanted(figure)}
        return [peer for peer in PEERS.values() if peer in wanted]


def plan_turns(selection: Selection, rounds: int, not_run: Mapping[str, str]) -> list[Turn]:
    """Return every turn in order, without the peers that cannot run here and those a figure does not fit."""
    turns = []
    for number in range(rounds):
        for name, figure in selection.named_figures().items():
            fit = [
                peer
                for peer in selection.wanted(figure)
                if peer.name not in not_run and figure.obstacle(peer) is None
            ]
            turns += [Turn(number, name, peer) for peer in (rotated(fit, number) if fit else [])]
    return turns


def find_obstacles(selection: Selection, not_run: Mapping[str, str]) -> dict[tuple[str, str], str]:
    """Return by metric and peer why the peer has no such value."""
    return {
        (metric, peer.name): reason
        for figure in selection.named_figures().values()
        for peer in selection.wanted(figure)
        if peer.name not in not_run and (reason := figure.obstacle(peer)) is not None
        for metric in figure.metrics
    }
