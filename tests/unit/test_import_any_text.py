# SPDX-License-Identifier: Apache-2.0
"""Whatever the text: an importer returns a file, or raises ImporterError with one line and a place."""

from __future__ import annotations

import re
import tomllib
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fullnat.control.config import ConfigError, load_config
from fullnat.importers import FORMATS, Imported, ImporterError, convert

GOLDEN = Path(__file__).parent / "golden" / "import"
SOURCES = {
    "keepalived": "keepalived.conf",
    "ldirectord": "ldirectord.cf",
    "ipvsadm": "ipvsadm.save",
    "haproxy": "haproxy.cfg",
}
LINES = {source: (GOLDEN / name).read_text(encoding="utf-8").splitlines() for source, name in SOURCES.items()}
WORDS = {
    source: sorted({word for line in lines for word in line.replace("=", " = ").split()})
    for source, lines in LINES.items()
}
ODD = [
    *("{", "}", '"', "'", "\\", "#", "!", "$A=$A", "$A", "${A}", "~SEQ(A,1,9)", "~LST({A,B},{1,2})", "@x"),
    *("-1", "0", "65536", "9" * 30, "1e9", "::", "[::1]:80", "10.0.0.0/8", "10.0.0.1-9", "->", "*", ":0"),
    *("\0", "\x0b", "\u2028", "\u00e9", "\ufeff", "\U0001f300", "fe80::1%eth0", "224.0.0.1", "", " "),
]


def mutated(source: str) -> st.SearchStrategy[str]:
    """The golden file after a few slips of the hand: words replaced, lines lost, doubled or moved."""
    words = st.sampled_from(WORDS[source] + ODD)

    @st.composite
    def build(draw: st.DrawFn) -> str:
        lines = list(LINES[source])
        for _ in range(draw(st.integers(1, 5))):
            at, to = draw(st.integers(0, len(lines) - 1)), draw(st.integers(0, len(lines) - 1))
            match draw(st.sampled_from(["word", "word", "word", "lose", "double"])):
                case "word":
                    parts = lines[at].split(" ")
                    parts[draw(st.integers(0, len(parts) - 1))] = draw(words)
                    lines[at] = " ".join(parts)
                case "lose":
                    del lines[at]
                case _:
                    lines.insert(to, lines[at])
        return "\n".join(lines)

    return build()


def lines_of(source: str) -> st.SearchStrategy[str]:
    """Lines of the golden file, with words taken out, swapped and put in."""
    word = st.sampled_from(WORDS[source] + ODD)
    mixed = st.lists(word, max_size=6).map(" ".join)
    indented = st.builds(lambda indent, text: indent + text, st.sampled_from(["", "\t", "    "]), mixed)
    line = st.one_of(st.sampled_from(LINES[source]), indented, st.text(max_size=20))
    return st.lists(line, max_size=30).map("\n".join)


def attempt(source: str, text: str) -> Imported | str:
    """Return what becomes of the text, or how it is refused."""
    try:
        return convert(source, text, "f", include=lambda _name, _path: [("f", text[:40])])
    except ImporterError as error:
        return str(error)


def check(source: str, text: str) -> None:
    got = attempt(source, text)
    if isinstance(got, str):
        assert re.fullmatch("f(:[0-9]+)?: .{1,500}", got)
        return
    document = tomllib.loads(got.text)
    assert document["version"] == 1
    assert got.services == len(document.get("service", []))
    assert all("\n" not in str(note) for note in got.notes)


RANDOM = settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("source", FORMATS)
@RANDOM
@given(data=st.data())
def test_lines_of_any_kind_are_read_or_refused(source: str, data: st.DataObject) -> None:
    check(source, data.draw(st.one_of(lines_of(source), mutated(source))))


@pytest.mark.parametrize("source", FORMATS)
@settings(RANDOM, max_examples=40)
@given(text=st.text(max_size=200))
@example("")
@example("\ud800")
@example("a" * 100_000)
@example("{" * 10_000)
@example("$A=$B$B\n$B=$A$A\n$A")
@example("\n".join(f"$A{number}=$A{number + 1} $A{number + 1}" for number in range(20)) + "\n$A20=x\n$A0")
@example("~SEQ(A,1,999999999) ~SEQ(B,1,999999999) x")
@example("include f")
def test_no_text_at_all_makes_an_importer_fail(source: str, text: str) -> None:
    check(source, text)


# Keys the schema does not have yet are told as unknown, and only they.
@pytest.mark.parametrize("source", FORMATS)
@RANDOM
@given(data=st.data())
def test_what_is_complete_passes_the_check(source: str, data: st.DataObject, tmp_path: Path) -> None:
    text = data.draw(mutated(source))
    lips = ["198.51.100.1", "2001:db8:9::1"]
    try:
        got = convert(source, text, "f", local_addresses=lips, keep_forwarding=data.draw(st.booleans()))
    except ImporterError:
        return
    assert mistakes(complete(got.text), tmp_path) == []


@pytest.mark.parametrize("source", FORMATS)
@pytest.mark.parametrize("keep_forwarding", [False, True])
def test_a_golden_file_passes_the_check_once_it_is_complete(
    source: str, keep_forwarding: bool, tmp_path: Path
) -> None:
    text = "\n".join(LINES[source])
    lips = ["198.51.100.1", "2001:db8:9::1"]
    got = convert(source, text, "f", local_addresses=lips, keep_forwarding=keep_forwarding)
    assert mistakes(complete(got.text), tmp_path) == []


def complete(text: str) -> str:
    """Write an address, each a new one, in place of every name, and paths as absolute ones."""
    numbers = count(1)

    def address(match: re.Match[str]) -> str:
        number = next(numbers)
        return f"{match[1]}192.0.{number // 250}.{number % 250}{match[2]}"

    name = r"(?:\*|[A-Za-z0-9_.-]*[A-Za-z_.-][A-Za-z0-9_.-]*)"
    listens = rf'^(listen += "(?:tcp|udp)://)(?![0-9.]+[:"]){name}([:"])'
    servers = rf'^((?:  )*(?:address|sorry) += ")(?![0-9.]+[:"]){name}([:"])'
    text = re.sub(listens, address, text, flags=re.MULTILINE)
    text = re.sub(servers, address, text, flags=re.MULTILINE)
    return re.sub(r'^( +(?:path|command) += \[?")(?!/)', r"\1/", text, flags=re.MULTILINE)


def mistakes(text: str, tmp_path: Path) -> list[str]:
    path = tmp_path / "c.toml"
    path.write_text(text, encoding="utf-8")
    try:
        load_config(path)
    except ConfigError as error:
        told = [str(problem) for problem in error.problems if not problem.is_warning]
        return [line for line in told if "unknown key" not in line and "not part of this version" not in line]
    return []
