"""On which line a key stands, whatever is around it."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from athens_tx.config.lines import key_lines
from athens_tx.config.literals import key, literal

DOCUMENT = '''# a comment with a = "b"
A = "x # no comment" # = y
"quoted \\u0042" = 'lit # "'
'lit.eral' = 1

Long = """
B = 1
[C]
\\""" still in here """""
Raw = \'\'\'
D = 1 \'\'\'\'
When = 1979-05-27 07:32:00Z
Then = 07:32:00
List = [ # [[[
  "a]", 'b[', """
E = 1 ]""", [1, 2.5e1], { F = "g" }, 1979-05-27 07:32:00,
]
In = { x = 1, y.z = { w = [ "}" ] }, "q" = 'r' }
dotted . key = true
dotted.other = false
[ Storage . S3 ]
Region = "x"
  [Storage."Mi nio"]  # why
  Key=-inf
[[Array]]
n = 1
[[Array]]
n = 2
[Last]'''

LINES = {
    ("A",): 2,
    ("quoted B",): 3,
    ("lit.eral",): 4,
    ("Long",): 6,
    ("Raw",): 10,
    ("When",): 12,
    ("Then",): 13,
    ("List",): 14,
    ("In",): 18,
    ("In", "x"): 18,
    ("In", "y"): 18,
    ("In", "y", "z"): 18,
    ("In", "y", "z", "w"): 18,
    ("In", "q"): 18,
    ("dotted",): 19,
    ("dotted", "key"): 19,
    ("dotted", "other"): 20,
    ("Storage",): 21,
    ("Storage", "S3"): 21,
    ("Storage", "S3", "Region"): 22,
    ("Storage", "Mi nio"): 23,
    ("Storage", "Mi nio", "Key"): 24,
    ("Array",): 25,
    ("Array", "n"): 26,
    ("Last",): 29,
}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_every_key_has_its_line(end):
    tomllib.loads(DOCUMENT)
    assert key_lines(DOCUMENT.replace("\n", end)) == LINES


def test_an_empty_document_has_none():
    assert key_lines("") == {}
    assert key_lines("# only this") == {}


_NAMES = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\r"), max_size=5)
_SCALARS = st.one_of(
    _NAMES, st.integers(-9, 9), st.booleans(), st.floats(allow_nan=False), st.lists(_NAMES, max_size=3)
)
_TABLES = st.recursive(_SCALARS, lambda inner: st.dictionaries(_NAMES, inner, max_size=3), max_leaves=8)


def _paths(table: dict[str, Any]) -> set[tuple[str, ...]]:
    found = set()
    for name, value in table.items():
        found.add((name,))
        if isinstance(value, dict):
            found |= {(name, *path) for path in _paths(value)}
    return found


@given(st.dictionaries(_NAMES, _TABLES, max_size=5))
def test_it_sees_what_the_reader_sees(table):
    names = list(table)
    text = "\n".join(f"{key(name)} = {literal(table[name])} # x" for name in names)
    read = tomllib.loads(text)
    assert read == table
    lines = key_lines(text)
    assert set(lines) == _paths(table)
    assert [lines[name,] for name in names] == list(range(1, len(names) + 1))
