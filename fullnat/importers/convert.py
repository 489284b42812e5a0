# SPDX-License-Identifier: Apache-2.0
"""convert(): a foreign text in, the text of a config file and the notes on it out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fullnat.importers import haproxy, ipvsadm, keepalived, ldirectord
from fullnat.importers.assemble import assemble
from fullnat.importers.document import Document, Service
from fullnat.importers.keepalived import Include
from fullnat.importers.notes import ImporterError, Kind, Note, Notes, Place
from fullnat.importers.settings import numbered
from fullnat.importers.writer import write

FORMATS = ("keepalived", "ldirectord", "ipvsadm", "haproxy")


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of a foreign configuration."""

    text: str  # the config file
    notes: tuple[Note, ...]  # in the order of the source
    services: int

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to be written by hand."""
        return all(note.kind is not Kind.MISSING for note in self.notes)


def _no_files(pattern: str, path: str) -> Sequence[tuple[str, str]]:
    return ()


def convert(
    source: str,
    text: str,
    path: str,
    *,
    local_addresses: Sequence[str] = (),
    keep_forwarding: bool = False,
    include: Include = _no_files,
    config_id: str = "",
) -> Imported:
    """Return what *text* becomes, or raise ImporterError.

    *source* is one of FORMATS, *path* what messages call the text.  *local_addresses* are LIPs and
    ranges of them, in place of those the text has.  With *keep_forwarding* NAT, DR and tunnels stay
    what they are; without, all of it is full NAT.  keepalived alone: *include* returns path and text
    of the files that match a pattern, and *config_id* picks the lines behind @.
    """
    _refuse_surrogates(text, path)
    document = Document(path)
    services = _read(source, text, document, keep_forwarding, include, config_id)
    if local_addresses:
        for address in document.local_addresses:
            why = "the import was asked for other ones"
            document.notes.left(Place(path, 0), f"local address {address}", why)
        document.local_addresses = list(local_addresses)
    assemble(document, services)
    title = f"Made of {path} by `fullnat import {source}`; `fullnat check` tells what is still amiss."
    return Imported(write(document, title), _sorted_notes(document), len(document.services))


def _read(
    source: str, text: str, document: Document, keep_forwarding: bool, include: Include, config_id: str
) -> list[Service]:
    if source == "keepalived":
        return keepalived.read(document, text, include, config_id, keep_forwarding)
    if source == "ldirectord":
        return ldirectord.read(document, text, keep_forwarding)
    if source == "ipvsadm":
        return ipvsadm.read(document, text, keep_forwarding)
    if source == "haproxy":
        return haproxy.read(document, text)
    raise ValueError(f"no format is named {source!r}; there are {', '.join(FORMATS)}")


def _refuse_surrogates(text: str, path: str) -> None:
    for place, line in numbered(path, text):
        if any("\ud800" <= char <= "\udfff" for char in line):
            raise ImporterError(place, "the text is not UTF-8")


def _sorted_notes(document: Document) -> tuple[Note, ...]:
    """Return all notes by place; what is the same for several services is one note."""
    everything = Notes()
    for notes in (document.notes, document.snat_notes, *(service.notes for service in document.services)):
        for note in notes:
            for place in note.places:
                everything.add(note.kind, place, note.what, note.why)
    return tuple(everything.sorted(document.path))
