# SPDX-License-Identifier: Apache-2.0
"""From a check as another load balancer makes it to one that fullnat can make."""

from __future__ import annotations

import re
import shlex
import warnings
from ipaddress import ip_address
from urllib.parse import quote

from fullnat.importers.document import Health
from fullnat.importers.notes import ImporterError, Notes, Place, quoted
from fullnat.importers.values import why_unusable

MOST_REPEATS = 1000  # what rise and fall can be

_ASCII = "".join(map(chr, range(33, 127)))
_HOST_NAME = r"[A-Za-z0-9._-]{1,253}"
_WEB_HOST = rf"{_HOST_NAME}(:[0-9]{{1,5}})?|\[[0-9A-Fa-f:.]+\](:[0-9]{{1,5}})?"
_NAMES = {
    "host": _WEB_HOST,
    "sni": _HOST_NAME,
    "helo": _HOST_NAME,
    "name": r"\.|([A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?",
}


def read_status(texts: list[str], what: str, place: Place) -> tuple[int | str, ...]:
    """Return codes and ranges of them as the file writes them."""
    found: list[int | str] = []
    for text in texts:
        match = re.fullmatch(r"([2-5][0-9]{2})(?:-([2-5][0-9]{2}))?", text)
        if not match or (match[2] and match[2] < match[1]):
            raise ImporterError(
                place, f"{what}: found {quoted(text)}, accepted: 200-599, or ranges like 200-299"
            )
        found.append(text if match[2] else int(text))
    return tuple(found)


def read_command(text: str, what: str, place: Place) -> tuple[str, ...]:
    """Return a command line as program and arguments."""
    try:
        words = shlex.split(text.replace("\0", ""))
    except ValueError:
        raise ImporterError(place, f"{what}: a quote is not closed") from None
    if not words:
        raise ImporterError(place, f"{what}: a program is missing")
    return tuple(words)


def settle(health: Health, place: Place, notes: Notes) -> None:
    """Make *health* one that fullnat takes; what that changes is told."""
    if health.timeout and health.interval and health.timeout.ms > health.interval.ms:
        why = f"is {health.interval} here, as the interval: a check ends before the next one begins"
        notes.changed(place, f"timeout {health.timeout}", why)
        health.timeout = health.interval
    _settle_names(health, place, notes)
    if health.type in {"http", "https"}:
        _settle_request(health, place, notes)
    if health.command and not health.command[0].startswith("/"):
        notes.missing(place, f"check {health.command[0]}", "write the absolute path of the program")
    if health.type == "file" and not (health.path or "").startswith("/"):
        notes.missing(place, f"check of file {health.path}", "write its absolute path")
    if health.address and (why := why_unusable(ip_address(health.address))):
        notes.left(place, f"check address {health.address}", why)
        health.address = None


def _settle_names(health: Health, place: Place, notes: Notes) -> None:
    for key, pattern in _NAMES.items():
        text = getattr(health, key)
        if text is not None and (not re.fullmatch(pattern, text) or len(text) > 260):
            notes.left(place, f"{key} {quoted(text)} of a check", "it is no name of a host")
            setattr(health, key, None)


def _settle_request(health: Health, place: Place, notes: Notes) -> None:
    path = quote(health.path or "/", safe=_ASCII)
    health.path = path if path.startswith("/") else f"/{path}"
    if len(health.path) > 2000:
        notes.left(place, "path of a check", "it is longer than 2000 characters")
        health.path = "/"
    if health.body is not None and (why := _why_no_pattern(health.body)):
        notes.left(place, f"regular expression {quoted(health.body)}", why)
        health.body = None
    accepted = {"GET"} if health.body else {"GET", "HEAD"}
    if health.method and health.method.upper() not in accepted:
        notes.changed(place, f"check by {quoted(health.method)}", "is by GET here")
        health.method = None
    health.method = None if health.method and health.method.upper() == "GET" else health.method


def _why_no_pattern(text: str) -> str:
    """Return why Python does not take a regular expression, empty where it does."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(text.encode())
    except re.error as error:
        return f"Python reads it otherwise: {error}"
    except (OverflowError, RecursionError):
        return "it is too large"
    return ""
