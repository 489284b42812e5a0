# SPDX-License-Identifier: Apache-2.0
"""A picture as lines of a screen: tables of fixed widths, so that nothing moves while numbers change."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fullnat.control.tables import scaled
from fullnat.control.top.controls import Controls, Mode, Order
from fullnat.control.top.layout import share_height, window
from fullnat.control.top.picture import Picture, ServerLine, ServiceLine

_KEYS = "j k select   d drain   e enable   + - weight   r reset   / filter   s sort   p pause   q quit"
_SHORT_KEYS = "d drain e enable +- weight r reset / filter s sort p pause q quit"
_GAP = 1  # columns between two cells
_NOT_SAID = ("sequence", "time", "event", "kind")


@dataclass(frozen=True, slots=True)
class _Column:
    heading: str
    width: int  # 0: shares what the others leave
    cell: Callable[[Any], str | Text]
    is_left: bool = False
    from_width: int = 0  # of the screen; below, it is left out
    shares: int = 1


def rate_text(rate: float) -> str:
    """Return a rate in at most five characters: 0, 0.4, 812, 18.2k."""
    return f"{rate:.1f}" if 0.05 <= rate < 9.95 else scaled(round(rate))


def _of_traffic(packets_from_width: int = 0) -> tuple[_Column, ...]:
    return (
        _Column("Conns/s", 7, lambda line: rate_text(line.rate.connections)),
        _Column("Pkts/s", 6, lambda line: rate_text(line.rate.packets), from_width=packets_from_width),
        _Column("In b/s", 6, lambda line: rate_text(line.rate.bits_in)),
        _Column("Out b/s", 7, lambda line: rate_text(line.rate.bits_out)),
    )


_SERVER_COLUMNS = (
    _Column("Server", 0, lambda line: line.place.address, is_left=True, shares=2),
    _Column("Service", 0, lambda line: line.place.service, is_left=True),
    _Column("Pool", 8, lambda line: line.place.pool, is_left=True, from_width=110),
    _Column("State", 8, lambda line: Text(line.state.word, style=line.state.style), is_left=True),
    _Column("Weight", 6, lambda line: _weight(line.row)),
    _Column("Active", 6, lambda line: scaled(line.row["active"])),
    _Column("InAct", 6, lambda line: scaled(line.row["inactive"]), from_width=100),
    *_of_traffic(),
    _Column("Check", 24, lambda line: _check(line.row), is_left=True, from_width=120),
)
_SERVICE_COLUMNS = (
    _Column("Service", 0, lambda line: line.row["name"], is_left=True),
    _Column(
        "Listen", 0, lambda line: f"{line.row['protocol']}://{line.row['listen']}", is_left=True, shares=2
    ),
    _Column("State", 8, lambda line: Text(line.state.word, style=line.state.style), is_left=True),
    _Column("Servers", 7, lambda line: f"{line.row['available']}/{line.row['servers']}"),
    _Column("Active", 6, lambda line: scaled(line.row["active"])),
    _Column("InAct", 6, lambda line: scaled(line.row["inactive"]), from_width=100),
    *_of_traffic(packets_from_width=100),
    _Column("Serving", 10, lambda line: line.row["serving"] or "nobody", is_left=True, from_width=120),
)
_PORT_COLUMNS = (
    _Column("Local ports", 0, lambda line: f"{line.row['protocol']} {line.row['local']}", is_left=True),
    _Column("Towards", 0, lambda line: line.row["server"], is_left=True),
    _Column("Taken", 6, lambda line: f"{line.share:.1%}"),
)
_LOSS_COLUMNS = (
    _Column("Dropped, refused", 0, lambda line: line.reason, is_left=True),
    _Column("Pkts/s", 6, lambda line: rate_text(line.rate)),
    _Column("Packets", 7, lambda line: scaled(line.count)),
    _Column("", 0, lambda line: Text(line.meaning, style="dim"), is_left=True, from_width=60),
)


def render(
    picture: Picture, controls: Controls, shown: Sequence[ServerLine], message: str, width: int, height: int
) -> RenderableType:
    """Return the whole screen; *shown* is what *controls* arranged, *message* what became of a command."""
    lower = max(len(picture.ports), len(picture.losses))
    heights = share_height(height, len(picture.services), len(shown), lower, len(picture.events))
    selected = next((index for index, line in enumerate(shown) if line.place == controls.selected), 0)
    parts: list[RenderableType] = [_head(picture), _summary(picture, controls, len(shown))]
    if heights.services:
        parts.append(_services(picture.services, controls, heights.services - 1, width))
    if heights.servers:
        rows = window(len(shown), heights.servers - 1, selected)
        parts.append(_table(_SERVER_COLUMNS, shown[rows], width, _is_selected(controls)))
    if heights.lower:
        parts.append(_lower(picture, heights.lower - 1, width))
    if heights.events:
        parts.append(_events(picture.events, heights.events - 1))
    used = 2 + sum(heights)
    parts.extend([Text("")] * max(0, height - used - 1))
    return Group(*parts, _foot(controls, message, width))


def render_plain(picture: Picture, width: int, when: float) -> RenderableType:
    """Return one table for where nobody can press a key: all servers, at *when* since the epoch."""
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when))
    title = Text(f"{moment}  {_title(picture)}")
    return Group(title, _table(_SERVER_COLUMNS, picture.servers, width, lambda line: False), Text(""))


# Parts.


def _title(picture: Picture) -> str:
    status = picture.status
    return (
        f"fullnat {status['instance']}  engine {status['engine']}  up {_duration(status['uptime'])}  "
        f"flows {status['flows']} of {picture.flows_limit}"
    )


def _head(picture: Picture) -> Text:
    return _line(_title(picture), "bold")


def _summary(picture: Picture, controls: Controls, shown: int) -> Text:
    total = picture.total
    text = _line(
        f"{rate_text(total.connections)} conns/s  {rate_text(total.packets)} packets/s  "
        f"in {rate_text(total.bits_in)}b/s  out {rate_text(total.bits_out)}b/s"
    )
    if controls.is_paused:
        text.append("  PAUSED", style="bold yellow")
    if controls.order is not Order.CONFIGURED:
        text.append(f"  by {controls.order.value}", style="cyan")
    if controls.words:
        text.append(f"  filter {controls.words}: {shown} of {len(picture.servers)}", style="cyan")
    return text


def _services(lines: Sequence[ServiceLine], controls: Controls, rows: int, width: int) -> Table:
    service = controls.selected.service if controls.selected else ""
    index = next((place for place, line in enumerate(lines) if line.row["name"] == service), 0)
    return _table(_SERVICE_COLUMNS, lines[window(len(lines), rows, index)], width, lambda line: False)


def _is_selected(controls: Controls) -> Callable[[ServerLine], bool]:
    return lambda line: line.place == controls.selected


def _lower(picture: Picture, rows: int, width: int) -> Table:
    left = (width - 2) // 2
    right = width - 2 - left
    table = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(width=left)
    table.add_column(width=right)
    table.add_row(
        _table(_PORT_COLUMNS, picture.ports[:rows], left, lambda line: False),
        _table(_LOSS_COLUMNS, picture.losses[:rows], right, lambda line: False),
    )
    return table


def _events(events: Sequence[Mapping[str, Any]], rows: int) -> Group:
    lines = [_line("Events", "bold underline")]
    for event in events[-rows:]:
        when = time.strftime("%H:%M:%S", time.localtime(event["time"]))
        words = (f"{key}={value}" for key, value in event.items() if key not in _NOT_SAID)
        lines.append(_line(" ".join([when, event["kind"], *words])))
    return Group(*lines)


def _foot(controls: Controls, message: str, width: int) -> Text:
    if controls.mode is Mode.CONFIRM and controls.selected:
        place = controls.selected
        return _line(f"end all flows of {place.service} {place.address}, both ends told? y/n", "bold red")
    if controls.mode is Mode.FILTER:
        return _line(f"/{controls.words}_   enter: keep, escape: all", "cyan")
    if message:
        return _line(message, "bold")
    return _line(_KEYS if width > len(_KEYS) else _SHORT_KEYS, "dim")


# Cells.


def _line(text: str, style: str = "") -> Text:
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def _table(
    columns: Iterable[_Column], lines: Iterable[Any], width: int, is_selected: Callable[[Any], bool]
) -> Table:
    """Return a table that is exactly *width* wide, whatever is in it."""
    chosen = [column for column in columns if width >= column.from_width]
    widths = _widths(chosen, width)
    table = Table(
        box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="bold underline", show_edge=False
    )
    for column, size in zip(chosen, widths, strict=True):
        justify: Any = "left" if column.is_left else "right"
        table.add_column(column.heading, width=size, justify=justify, no_wrap=True, overflow="ellipsis")
    for line in lines:
        cells = [column.cell(line) for column in chosen]
        table.add_row(*cells, style="reverse" if is_selected(line) else "")
    return table


def _widths(columns: Sequence[_Column], width: int) -> list[int]:
    shares = sum(column.shares for column in columns if not column.width)
    left = max(width - sum(column.width for column in columns) - _GAP * (len(columns) - 1), 4 * shares)
    widths = []
    for column in columns:
        size = column.width
        if not size:  # of what is left yet: the last one gets all of it
            size = left * column.shares // shares
            left, shares = left - size, shares - column.shares
        widths.append(size)
    return widths


def _weight(row: Mapping[str, Any]) -> str:
    """Return the weight; where the scheduler is told another, both."""
    weight, effective = row["weight"], row["effective_weight"]
    return str(weight) if weight == effective else f"{effective}/{weight}"


def _check(row: Mapping[str, Any]) -> str | Text:
    if row["drain"]:
        left, deadline = row["drain"]["left"], row["drain"]["deadline"]
        return f"{left} left" + ("" if deadline is None else f", {_duration(deadline)} to go")
    check = row["check"]
    if check is None:
        return Text("-", style="dim")
    return f"{check['code']} {check['detail']}".rstrip()


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{days}d {hours:02}:{minutes:02}:{seconds:02}" if days else f"{hours}:{minutes:02}:{seconds:02}"
