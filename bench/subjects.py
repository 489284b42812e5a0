# SPDX-License-Identifier: Apache-2.0
"""What report and plots say of a peer besides its figures: its title and its kin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from bench.errors import BenchError
from bench.peers import PEERS
from bench.peers.base import Peer
from bench.peers.fullnat import Fullnat
from bench.peers.proxy import Proxy
from bench.results import Results

BASELINE = "iptables"  # kernel full NAT, which any host has


class Family(Enum):
    """Who carries the packets."""

    KERNEL = "kernel"
    PROXY = "proxies"
    FULLNAT = "fullnat"


@dataclass(frozen=True, slots=True)
class Subject:
    """A peer as a reader meets it."""

    name: str
    title: str
    baseline: bool  # others are compared with it
    family: Family
    place: int  # in its family, of all peers there are


def find_subjects(names: Sequence[str]) -> list[Subject]:
    """Return the peers of these names; BenchError for one that there is none of any more."""
    if unknown := [name for name in names if name not in PEERS]:
        raise BenchError(f"no peer {', '.join(unknown)}; there are {', '.join(PEERS)}")
    return [_describe(PEERS[name]) for name in names]


def _describe(peer: type[Peer]) -> Subject:
    family = _family(peer)
    place = [other for other in PEERS.values() if _family(other) is family].index(peer)
    return Subject(peer.name, peer.title, peer.baseline, family, place)


def _family(peer: type[Peer]) -> Family:
    if issubclass(peer, Fullnat):
        return Family.FULLNAT
    return Family.PROXY if issubclass(peer, Proxy) else Family.KERNEL


def choose_baseline(results: Results, subjects: Sequence[Subject], wanted: str | None = None) -> str | None:
    """Return whom the summary compares with: *wanted*, else BASELINE, else the first that others are."""
    measured = {peer for by_peer in results.values.values() for peer in by_peer}
    if wanted is not None:
        if wanted not in measured:
            raise BenchError(f"--baseline {wanted}: not measured in this run")
        return wanted
    usual = [BASELINE, *(subject.name for subject in subjects if subject.baseline)]
    return next((name for name in usual if name in measured), None)
