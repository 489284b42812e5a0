# SPDX-License-Identifier: Apache-2.0
"""IPVS's files for those who read them: DIR/net/ip_vs and DIR/net/ip_vs_stats, as below /proc.

A stock `node_exporter --path.procfs=DIR --collector.disable-defaults --collector.ipvs` fills the dashboards
people have for LVS from them.

Rules.
  1. A file is whole at any time: it is written beside its place and renamed.
  2. Totals never go back.  A server that has left leaves what it carried in them, as the kernel's do;
     `ipvsadm -Z` sets its own listings to zero and not these, so they equal /metrics.
  3. A service that the kernel's IPVS serves is not in them: the kernel's own files have it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from itertools import chain
from pathlib import Path
from types import TracebackType

from fullnat.control.instance import Instance
from fullnat.control.ipvsadm.views import Views
from fullnat.control.rates import COUNTED, Counts, counts_of
from fullnat.core.service import RealServer
from fullnat.core.timeouts import SECOND
from fullnat.host.errors import HostError
from fullnat.ipvsadm.procfs import format_ip_vs, format_ip_vs_stats
from fullnat.ipvsadm.views import Traffic

INTERVAL = 5 * SECOND  # nanoseconds
_NOTHING: Counts = (0,) * len(COUNTED)


class Total:
    """What all servers carried, those that have left included."""

    def __init__(self) -> None:
        self._last: dict[RealServer, Counts] = {}
        self._sum = _NOTHING

    def look(self, servers: Iterable[RealServer]) -> Counts:
        """Return the sum now, with these servers, which are all there are."""
        last, self._last = self._last, {server: counts_of(server) for server in servers}
        grown = (_less(counts, last.get(server, _NOTHING)) for server, counts in self._last.items())
        self._sum = tuple(map(sum, zip(self._sum, *grown, strict=True)))
        return self._sum


def _less(counts: Counts, before: Counts) -> Counts:
    return tuple(new - old for new, old in zip(counts, before, strict=True))


class ProcFiles:
    """The files, there while it is entered; without a folder it does nothing."""

    def __init__(self, folder: Path | None, instance: Instance) -> None:
        self._folder = folder
        self._instance = instance
        self._total = Total()
        self._due = 0
        self._made: list[Path] = []  # folders, outermost first
        self._has_failed = False

    def __enter__(self) -> ProcFiles:
        self.tick(self._instance.now())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._folder is None:
            return
        with suppress(OSError):
            for name in ("ip_vs", "ip_vs_stats"):
                (self._folder / "net" / name).unlink(missing_ok=True)
            for folder in reversed(self._made):
                folder.rmdir()

    def tick(self, now: int) -> None:
        """Write them anew if it is time to; HostError, once until they can be written again."""
        if self._folder is None or now < self._due:
            return
        self._due = now + INTERVAL
        try:
            self._write(self._folder / "net")
        except OSError as error:
            if not self._has_failed:
                self._has_failed = True
                raise HostError(f"[metrics] procfs {self._folder}: {error.strerror}") from None
        else:
            self._has_failed = False

    def _write(self, folder: Path) -> None:
        instance = self._instance
        instance.engine.refresh()
        ours = [served for served in instance.roster.services if served.is_engines]
        servers = list(chain.from_iterable(served.servers for served in ours))
        rates = instance.rates.rates()
        views = Views({}, {}, ())
        rate = tuple(map(sum, zip(_NOTHING, *(rates.get(one, _NOTHING) for one in servers), strict=True)))
        self._make(folder)
        _replace(folder / "ip_vs", format_ip_vs(map(views.service, ours)))
        _replace(
            folder / "ip_vs_stats", format_ip_vs_stats(Traffic(*self._total.look(servers)), Traffic(*rate))
        )

    def _make(self, folder: Path) -> None:
        """Make *folder* and those it is in, for everybody to read, whatever the umask says."""
        missing = [each for each in (folder, *folder.parents) if not each.exists()]
        for each in reversed(missing):
            each.mkdir()
            each.chmod(0o755)
            if each not in self._made:
                self._made.append(each)


def _replace(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text, encoding="ascii")
    fresh.chmod(0o644)
    os.replace(fresh, path)
