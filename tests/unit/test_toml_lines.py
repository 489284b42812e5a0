# SPDX-License-Identifier: Apache-2.0
"""Lines of TOML keys: a text where every key's value is its own line number, read by tomllib."""

from __future__ import annotations

import tomllib
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fullnat.control.config.toml_lines import KeyPath, TomlLines

# Every integer in here is the number of the line it must be found on.
AWKWARD = '''\
plain = 1
dotted.key.deep = 2
"quoted.with.dots" = 3
'literal key' = 4
"escaped \\u0041 \\"quote\\" = # [x]" = 5
"" = 6
dotted . spaced . "odd one" = 7
1.5 = 8   # the keys "1" and "5"
# [commented] = 0
text = """
[not_a_table]
key = 0 \\""" still inside
""\\"""" # five quotes end it with two of its own
after_text = 14
literal = \'\'\'
a = 0 ' '' "
\'\'\'
after_literal = 18
empty = """"""
after_empty = 20
array = [ 21, 21,
  22,  # comment with ] and "
  [ 23, [
    24 ] ],
  "]", ']', """
  ]""",
  { in = 27, list = [ 27, {}, [
    28 ] ] }, 28,
] # end
after_array = 30
inline = { a = 31, b.c = 31, "d.e" = [31, { f = 31 }], g = {} }
quotes = ["""q"""", "]",
  33, -3.5e+10, 1979-05-27 07:32:00]
[table]
key = 35
  [ table . "sub.table" ]  # indented, spaced, quoted
  key = 37
[[list]]
key = 39
  [list.child]
  key = 41
  [[list.nested]]
  key = 43
  [[list.nested]]
  key = 45
    [list.nested.leaf]
    key = 47
[[list]]
key = 49
  [[list.nested]]
  key = 51
[table.late]
crlf = 53\r
last = 54'''


def leaves(value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, int]]:
    """Yield path and value of every integer in a document."""
    if isinstance(value, dict):
        for key, below in value.items():
            yield from leaves(below, (*path, key))
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from leaves(below, (*path, index))
    elif isinstance(value, int):
        yield path, value


@pytest.mark.parametrize(("path", "line"), list(leaves(tomllib.loads(AWKWARD))))
def test_a_key_is_found_on_the_line_that_is_its_value(path: KeyPath, line: int) -> None:
    assert TomlLines(AWKWARD).find(path) == line


def test_the_awkward_text_holds_what_it_is_meant_to_hold() -> None:
    assert len(list(leaves(tomllib.loads(AWKWARD)))) == 37


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ((), 1),
        (("text",), 10),
        (("array",), 21),
        (("array", 3), 23),
        (("array", 6), 25),  # a string of two lines stands where it begins
        (("array", 7), 27),
        (("table",), 34),
        (("table", "sub.table"), 36),
        (("list",), 38),
        (("list", 0), 38),
        (("list", 0, "nested", 1), 44),
        (("list", 1), 48),
        (("list", 1, "nested"), 50),
        (("list", 1, "nested", 0), 50),
    ],
)
def test_a_table_is_found_at_its_header_and_an_element_where_it_begins(path: KeyPath, line: int) -> None:
    assert TomlLines(AWKWARD).find(path) == line


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("missing",), 1),
        (("table", "missing"), 34),
        (("list", 1, "missing"), 48),
        (("list", 1, "nested", 0, "missing", "deeper"), 50),
        (("list", 7, "missing"), 38),
        (("inline", "g", "missing"), 31),
        (("dotted", "key", "missing"), 2),
    ],
)
def test_what_is_missing_has_the_line_of_the_nearest_table_around_it(path: KeyPath, line: int) -> None:
    assert TomlLines(AWKWARD).find(path) == line


def test_a_table_written_after_its_subtable_is_found_at_its_own_header() -> None:
    assert TomlLines("[a.b]\nx = 1\n[a]\ny = 1\n").find(("a", "missing")) == 3


def test_a_key_of_thousands_of_parts_costs_no_more_than_its_text() -> None:
    text = "\n" + ".".join(["a"] * 3000) + " = 1\nb = 2\n"
    tracemalloc.start()
    try:
        lines = TomlLines(text)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000  # its prefixes would take 36 MB
    assert lines.find(("a", "a", "a")) == 2
    assert lines.find(("b",)) == 3


def test_nesting_of_any_depth_is_read_without_recursion() -> None:
    assert TomlLines("a = " + "[{x=" * 20_000 + "\n").find(("a",)) == 1


toml_like = st.lists(
    st.sampled_from(
        [
            *"[]{}=.,#\"'\\\n ab1\x00é\u2028",
            "[[",
            "]]",
            '"""',
            "'''",
            '"q"',
            "\r\n",
            "k = 1\n",
            "[a.b]\n",
            "[[a]]\n",
        ]
    )
).map("".join)


@given(st.one_of(st.text(), toml_like))
def test_no_text_makes_it_raise(text: str) -> None:
    assert 1 <= TomlLines(text).find(("a", 0, "b")) <= text.count("\n") + 1


values = st.recursive(
    st.sampled_from(["1", '"s"', "'#'", '"""\n]"""', "[]", "{}", "1.5"]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: "[\n" + ",\n".join(items) + "\n]"),
        st.lists(inner, max_size=3).map(
            lambda items: "{ " + ", ".join(f"k{number} = {item}" for number, item in enumerate(items)) + " }"
        ),
    ),
    max_leaves=8,
)


@given(st.lists(values, min_size=1, max_size=6), st.sampled_from(["", "[table]\n", "[[list]]\n[[list]]\n"]))
def test_a_key_behind_any_values_is_found_on_its_line(items: list[str], header: str) -> None:
    text = header + "".join(f"key{number} = {item}\n" for number, item in enumerate(items)) + "last = 1\n"
    document: Any = tomllib.loads(text)
    table: KeyPath = {"": (), "[t": ("table",), "[[": ("list", 1)}[header[:2]]
    for part in table:
        document = document[part]
    assert "last" in document
    assert TomlLines(text).find((*table, "last")) == text.count("\n")
