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
        ("Serving", "{serving}"),
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
        ("Pool", "{pool}"),
        ("Server", "{address}"),
        ("State", "{state}"),
        ("Weight", "{weight}"),
        ("Active", "{active}"),
        ("InAct", "{inactive}"),
        ("Conns", "{connections}"),
        ("InPkts", "{packets_in}"),
        ("OutPkts", "{packets_out}"),
        ("InBytes", "{bytes_in}"),
        ("OutBytes", "{bytes_out}"),
    ),
    "checks": (
        ("Service", "{service}"),
        ("Server", "{address}"),
        ("Health", "{health}"),
        ("For", "{since}"),
        ("Check", "{type}"),
        ("Code", "{code}"),
        ("Took", "{duration}"),
        ("Checks", "{checks}"),
        ("Failed", "{failures}"),
        ("Changes", "{transitions}"),
        ("Detail", "{detail}"),
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
        "Serving",
        "Pool",
        "Server",
        "Health",
        "Check",
        "Code",
        "Detail",
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
        cells = {key: _cell(key, value) for key, value in _with_words(row).items()}
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


def _with_words(row: Row) -> Row:
    """Return *row* with what its check says, and one word for the state of a server."""
    if "in_rotation" not in row:
        return row
    return {**(row["check"] or {}), **row, "state": _state(row)}


def _state(row: Row) -> str:
    if row["drain"]:
        return f"{row['admin']}, {row['drain']['left']} left" if row["drain"]["left"] else row["admin"]
    if row["health"] == "down":
        return "down"
    if not row["in_rotation"]:
        return "standby"
    return "full" if row["overloaded"] else "up"


def _cell(key: str, value: Any) -> str:
    if key.startswith(("bytes_", "packets_")):
        return scaled(value)
    if key == "duration":
        return f"{value * 1000:.1f}ms"
    return f"{value:.0f}s" if key in ("expires", "since") else str(value)


def scaled(number: int) -> str:
    """Return *number* with at most four digits and a decimal unit: 18234567 is 18.2M."""
    value, unit = float(number), 0
    while value >= 9999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.0f}{_UNITS[unit]}" if unit == 0 or value >= 100 else f"{value:.1f}{_UNITS[unit]}"
