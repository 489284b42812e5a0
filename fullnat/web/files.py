# SPDX-License-Identifier: Apache-2.0
"""The files of the status page, read once: a request names a file, never a path."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources

_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class PageFile:
    """One file as it is sent."""

    name: str
    content_type: str
    body: bytes
    etag: str  # changes with the content, so that a browser asks but seldom fetches


def load_files() -> list[PageFile]:
    """Return every file of the page."""
    folder = resources.files("fullnat.web").joinpath("page")
    return [
        _load(entry.name, entry.read_bytes())
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if _suffix(entry.name) in _TYPES
    ]


def _load(name: str, body: bytes) -> PageFile:
    return PageFile(name, _TYPES[_suffix(name)], body, hashlib.sha256(body).hexdigest()[:16])


def _suffix(name: str) -> str:
    return name[name.rfind(".") :]
