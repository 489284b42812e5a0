# SPDX-License-Identifier: Apache-2.0
"""Load a file: the four stages in their order, and the first two of them, read and parse."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

from fullnat.control.config.build import build_config
from fullnat.control.config.model import Config
from fullnat.control.config.problems import ConfigError, Problem, Report
from fullnat.control.config.toml_lines import TomlLines
from fullnat.control.config.validate import validate
from fullnat.control.config.wording import printable


def load_config(path: Path) -> Config:
    """Return the configuration in the file *path*; ConfigError lists everything wrong with it.

    A scheduler named FILE.py:CLASS is loaded, and so the code of that file runs.
    """
    text = _read(path)
    document = _parse(path, text)
    report = Report(path, TomlLines(text), document)
    config = build_config(validate(document, report), report)
    if report.has_errors:
        raise ConfigError(report.sorted_problems())
    return replace(config, warnings=tuple(report.sorted_problems()))


def _read(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError([Problem(path, 0, "", f"cannot be read: {error.strerror}")]) from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError([Problem(path, line, "", "not a text in UTF-8")]) from None


def _parse(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        problem = _syntax_problem(path, text, str(error))
    except (ValueError, RecursionError):  # what tomllib lets through: int() of 5000 digits, [[[[[...
        problem = Problem(path, 0, "", "not valid TOML: a number too long, or nested too deeply")
    raise ConfigError([problem])


def _syntax_problem(path: Path, text: str, message: str) -> Problem:
    """Turn "Expected '=' after a key (at line 3, column 4)" into a problem on line 3."""
    # tomllib prints the key a.b as ('a', 'b')
    message = re.sub(r"\('([^()]*)',?\)", lambda key: key[1].replace("', '", "."), message)
    position = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", message)
    line, column = text.rstrip("\n").count("\n") + 1, ""
    if position:
        message = message[: position.start()]
        if position[1]:
            line, column = int(position[1]), f" (column {position[2]})"
    return Problem(path, line, "", printable(f"not valid TOML: {message[:1].lower()}{message[1:]}{column}"))
