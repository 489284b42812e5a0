# SPDX-License-Identifier: Apache-2.0
"""What is generated from schema and commands is current, and what is written by hand leaves nothing out."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fullnat.cli import commands
from fullnat.control.config import load_config
from fullnat.control.config.health import KEYS, TYPES
from fullnat.control.events import Kind
from tools import gen_reference
from tools.roff import Page
from tools.schema_tables import Key, TableOfKeys, read_tables

DOCS = gen_reference.ROOT / "docs"
TABLES = read_tables()
PAGES = ["packaging/man/fullnat.8", "packaging/man/fullnat.toml.5"]


def test_committed_files_match() -> None:
    assert gen_reference.differing(gen_reference.ROOT) == []


def test_a_missing_file_differs(tmp_path: Path) -> None:
    assert gen_reference.differing(tmp_path) == list(gen_reference.build())


def test_the_tables_are_those_of_the_file() -> None:
    headers = [header for table in TABLES for header in table.headers]
    assert len(headers) == len(set(headers))
    assert {"[snat]", "[[service]]", "[service.health]", "[[service.backup.server]]", "[web]"} <= set(headers)


@pytest.mark.parametrize("page", PAGES)
def test_a_manual_page_has_nothing_groff_warns_of(page: str) -> None:
    if not shutil.which("groff"):
        pytest.skip("no groff here")
    argv = ["groff", "-ww", "-z", "-man", "-Tutf8", gen_reference.ROOT / page]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.stderr, done.returncode) == ("", 0)


def test_every_command_has_its_place_in_the_manual() -> None:
    page = gen_reference.build_commands_page()
    assert [name for name in commands.commands if f'.SS "fullnat {name}' not in page] == []


def test_text_in_a_page_is_never_a_request() -> None:
    page = Page("x", 1, "x", "")
    page.text(".so /etc/passwd")
    page.verbatim(".sy true\n'br\na \\n(yr b")
    last = str(page).splitlines()
    assert "\\&.so /etc/passwd" in last
    assert "\\&.sy true" in last
    assert "\\&\\(aqbr" in last
    assert "a \\en(yr b" in last


# What is written by hand.


def section_of(text: str, header: str) -> str:
    """Return the part of *text* under the title that names *header*, up to the next title."""
    parts = re.split(r"^(#{2,3} .*)$", text, flags=re.MULTILINE)
    found = [body for title, body in zip(parts[1::2], parts[2::2], strict=True) if f"`{header}`" in title]
    return found[0] if found else ""


def hand_written_rows() -> list[tuple[str, Key]]:
    return [(_main_header(table), key) for table in TABLES for key in table.keys if not _is_table(key)]


def _main_header(table: TableOfKeys) -> str:
    return table.headers[0] if table.headers else ""


def _is_table(key: Key) -> bool:
    return key.accepted == "a table" or "]] tables" in key.accepted or "a table like" in key.accepted


@pytest.mark.parametrize(("header", "key"), hand_written_rows(), ids=lambda part: getattr(part, "name", part))
def test_every_key_is_in_the_documentation(header: str, key: Key) -> None:
    text = (DOCS / "config.md").read_text(encoding="utf-8")
    text = section_of(text, header) if header else text.partition("## Top level")[2].partition("\n## ")[0]
    row = next((line for line in text.splitlines() if line.startswith(f"| `{key.name}`")), None)
    assert row is not None, f"docs/config.md: {header} has no row for {key.name}"
    default = row.split("|")[3]
    if key.default not in ("", "[]") and not header.startswith("[timeouts"):
        assert f"`{key.default}`" in default, row


def test_every_table_is_in_the_documentation() -> None:
    text = (DOCS / "config.md").read_text(encoding="utf-8")
    assert [
        table.headers for table in TABLES if table.headers and not section_of(text, table.headers[0])
    ] == []


@pytest.mark.parametrize("kind", TYPES)
def test_every_type_of_check_has_an_example(kind: str) -> None:
    examples = re.findall(r"```toml\n(.*?)```", (DOCS / "config.md").read_text(encoding="utf-8"), re.DOTALL)
    assert any(re.search(rf'\btype\s*= "{kind}"', example) for example in examples)


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_of_event_is_told(kind: Kind) -> None:
    rows = (DOCS / "operate.md").read_text(encoding="utf-8").splitlines()
    assert any(row.startswith(f"| `{kind.number}` | `{kind.slug}` |") for row in rows)


def test_the_example_is_usable_and_stands_in_the_documentation_too() -> None:
    example = DOCS / "example.toml"
    assert load_config(example).warnings == ()
    assert example.read_text(encoding="utf-8") in (DOCS / "config.md").read_text(encoding="utf-8")


FRAGMENTS = [
    pytest.param(fragment, id=f"{name}-{number}")
    for name in ("config.md", "operate.md")
    for number, fragment in enumerate(
        re.findall(r"```toml\n(.*?)```", (DOCS / name).read_text(encoding="utf-8"), re.DOTALL), start=1
    )
]


@pytest.mark.parametrize("fragment", FRAGMENTS)
def test_every_example_is_usable(fragment: str, tmp_path: Path) -> None:
    """A fragment is put where it belongs, and the whole has to pass."""
    (tmp_path / "ca.pem").touch()
    above = ""
    if "version" not in fragment:
        above = 'version = 1\nsnat.addresses = ["198.19.0.1"]\n'
    if fragment.startswith("[service."):
        above += '[[service]]\nlisten = "tcp://203.0.113.10:80"\n'
    path = tmp_path / "lb.toml"
    path.write_text(above + fragment, encoding="utf-8")
    load_config(path)


def test_only_what_every_type_has_is_left_out_of_the_rows_of_types() -> None:
    (table,) = [table for table in TABLES if table.extra]
    assert {name for name, _ in table.extra} == set(KEYS)
    assert all("interval" not in keys for _, keys in table.extra)
