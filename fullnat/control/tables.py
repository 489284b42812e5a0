# SPDX-License-Identifier: Apache-2.0
"""Tables for people, of the rows that snapshot.py makes."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

Row = dict[str, Any]

_UNITS = ("", "k", "M", "G", "T", "P")

# What each table shows: heading and how its cell is made of a row.
_COLUMNS: dict[str, tuple[tuple[str, str], ...]] = {
    "services": (
        ("Service", "{name}"),
        ("Listen", "{protocol}://{listen}"),
        ("Scheduler", "{scheduler}"),
        ("Servers", "{available}/{servers}"),
        ("Active", "{active}"),
        ("InAct", "{inactive}"),
        ("Conns", "{connections}"),
        ("InPkts", "{packets_in}"),
        ("OutPkts", "{packets_out}"),
        ("InBytes", "{bytes_in}"),
        ("OutBytes", "{bytes_out}"),
    ),
    "servers": (
        ("Service", "{service}"),
        ("Server", "{address}"),
        ("Weight", "{weight}"),
        ("Active", "{active}"),
        ("InAct", "{inactive}"),
        ("Conns", "{connections}"),
        ("InPkts", "{packets_in}"),
        ("OutPkts", "{packets_out}"),
        ("InBytes", "{bytes_in}"),
        ("OutBytes", "{bytes_out}"),
    ),
    "flows": (
        ("Prot", "{protocol}"),
        ("Client", "{client}"),
        ("Virtual", "{virtual}"),
        ("Local", "{local}"),
        ("Server", "{server}"),
        ("State", "{state}"),
        ("Expires", "{expires}"),
        ("InPkts", "{packets_in}"),
        ("OutPkts", "{packets_out}"),
    ),
    "ports": (
        ("Prot", "{protocol}"),
        ("Local", "{local}"),
        ("Server", "{server}"),
        ("InUse", "{in_use}"),
        ("Resting", "{resting}"),
        ("Capacity", "{capacity}"),
    ),
    "persistence": (
        ("Service", "{service}"),
        ("Clients", "{clients}"),
        ("Server", "{server}"),
        ("Flows", "{flows}"),
        ("Expires", "{expires}"),
    ),
}
_LEFT = frozenset(
    {
        "Service",
        "Listen",
        "Scheduler",
        "Server",
        "Prot",
        "Client",
        "Clients",
        "Virtual",
        "Local",
        "State",
        "Reason",
        "Meaning",
    }
)

VIEWS = (*_COLUMNS, "stats")


def show(console: Console, what: str, answer: Any) -> None:
    """Print the answer to `show *what*`."""
    if what == "stats":
        _show_stats(console, answer)
        return
    columns = _COLUMNS[what]
    table = _table([heading for heading, _ in columns])
    for row in answer:
        cells = {key: _cell(key, value) for key, value in row.items()}
        table.add_row(*(form.format(**cells) for _, form in columns))
    console.print(table)


def _show_stats(console: Console, answer: Row) -> None:
    table = _table(["Reason", "Verdict", "Packets", "Meaning"])
    for name, reason in answer["reasons"].items():
        if reason["count"]:
            table.add_row(name, reason["verdict"], str(reason["count"]), reason["meaning"])
    if table.row_count:
        console.print(table)
    for name, value in answer.items():
        if name != "reasons" and value not in (0, ""):
            console.print(f"{name.replace('_', ' ')}: {value}", highlight=False)


def _table(headings: list[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in headings:
        table.add_column(
            heading, justify="left" if heading in _LEFT else "right", no_wrap=heading != "Meaning"
        )
    return table


def _cell(key: str, value: Any) -> str:
    if key.startswith(("bytes_", "packets_")):
        return scaled(value)
    return f"{value:.0f}s" if key == "expires" else str(value)


def scaled(number: int) -> str:
    """Return *number* with at most four digits and a decimal unit: 18234567 is 18.2M."""
    value, unit = float(number), 0
    while value >= 9999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.0f}{_UNITS[unit]}" if unit == 0 or value >= 100 else f"{value:.1f}{_UNITS[unit]}"
