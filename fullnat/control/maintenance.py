# SPDX-License-Identifier: Apache-2.0
"""Maintenance files: each file in a directory is named after a server, which drains while it is there.

    touch "/etc/fullnat/maintenance.d/198.19.0.11:8080"      this server
    touch "/etc/fullnat/maintenance.d/198.19.0.11"           every server at this address

What a file holds does not matter.  IPv6 addresses stand as they are, in brackets where a port follows.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path

from fullnat.core.addr import Endpoint, IPAddress, parse_endpoint


class Maintenance:
    """The servers that are named by files."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        """Take the *names* that are addresses; any other file is none of ours."""
        self._addresses: set[IPAddress] = set()
        self._endpoints: set[Endpoint] = set()
        for name in names:
            self._take(name)

    def _take(self, name: str) -> None:
        try:
            self._addresses.add(ip_address(name.removeprefix("[").removesuffix("]")))
        except ValueError:
            try:
                self._endpoints.add(parse_endpoint(name))
            except ValueError:
                return

    def __contains__(self, server: Endpoint) -> bool:
        return server in self._endpoints or server.address in self._addresses


def read_maintenance(directory: Path | None) -> Maintenance:
    """Return what the files in *directory* say; without it, or where it is not there, nothing."""
    if directory is None:
        return Maintenance()
    try:
        return Maintenance(os.listdir(directory))
    except OSError:
        return Maintenance()
