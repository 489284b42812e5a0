# SPDX-License-Identifier: Apache-2.0
"""What `fullnat run` says of its work: a line that follows it, and tables when it ends."""

from __future__ import annotations

from fullnat.control import snapshot
from fullnat.control.instance import Instance
from fullnat.control.printer import Printer
from fullnat.core.reason import Verdict

_LINE_EVERY = 60  # updates between two lines where the line cannot be overwritten


class Progress:
    """Flows and rates, once a second: one line overwritten on a terminal, a line a minute elsewhere."""

    def __init__(self, instance: Instance, printer: Printer) -> None:
        """Begin now."""
        self._instance = instance
        self._printer = printer
        self._is_terminal = printer.is_terminal
        self._updates = 0
        self._packets = self._connections = 0

    def update(self) -> None:
        """Say how things stand, a second after the last time."""
        self._updates += 1
        if not self._is_terminal and self._updates % _LINE_EVERY:
            return
        statistics = self._instance.engine.statistics()
        packets, connections = self._totals()
        seconds = 1 if self._is_terminal else _LINE_EVERY
        line = (
            f"{statistics.flows} flows, {(connections - self._connections) / seconds:.0f} new/s, "
            f"{(packets - self._packets) / seconds:.0f} packets/s, "
            f"{snapshot.count_verdict(statistics, Verdict.DROP)} dropped"
        )
        changed = (packets, connections) != (self._packets, self._connections)
        self._packets, self._connections = packets, connections
        if self._is_terminal:
            self._printer.write(f"\r\x1b[2K{line}")
        elif changed:
            self._printer.line(line)

    def _totals(self) -> tuple[int, int]:
        self._instance.engine.refresh()
        servers = [server for served in self._instance.roster.services for server in served.servers]
        packets = sum(server.packets_in + server.packets_out for server in servers)
        return packets, sum(server.connections for server in servers)

    def close(self) -> None:
        """Leave the line."""
        if self._is_terminal:
            self._printer.write("\r\x1b[2K")


def show(instance: Instance, uptime: float, printer: Printer) -> None:
    """Print what was served in *uptime* seconds."""
    # Imported here: a start need not wait 50 ms for what is only used at the end.
    from rich.console import Console

    from fullnat.control import tables

    console = Console()
    if not console.is_terminal:
        console.width = 160
    instance.engine.refresh()
    with console.capture() as text:
        console.print(f"stopped after {uptime:.1f} s; the host is as it was found", highlight=False)
        tables.show(console, "servers", instance.server_rows())
        tables.show(console, "stats", snapshot.stats(instance.engine.statistics()))
    printer.write(text.get())
