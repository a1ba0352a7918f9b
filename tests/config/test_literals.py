"""Values as TOML text."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from athens_tx.config.literals import LONGEST, key, literal, shown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("", '""'),
        ('a "b"\\', '"a \\"b\\"\\\\"'),
        ("a\nb\x7f\x1b", '"a\\nb\\u007f\\u001b"'),
        ("grün 🐿", '"grün 🐿"'),
        ("\u202egpj.exe", '"\\u202egpj.exe"'),
        ("b\udcfcse", '"b\ufffdse"'),
        (True, "true"),
        (False, "false"),
        (7, "7"),
        (0.5, "0.5"),
        (float("inf"), "inf"),
        ([], "[]"),
        (["a", "b"], '["a", "b"]'),
        ({}, "{}"),
        ({"a": "b", "c d": ["e"]}, '{ a = "b", "c d" = ["e"] }'),
    ],
)
def test_literals(value, text):
    assert literal(value) == text


@given(st.text(st.characters(blacklist_categories=["Cs"])))
def test_every_string_comes_back_and_stays_on_its_line(text):
    written = literal(text)
    assert len(written.splitlines()) == 1
    assert tomllib.loads(f"{key(text)} = {written}") == {text: text}


def test_a_long_value_is_cut_in_a_message():
    assert shown("x" * (LONGEST - 2)) == '"' + "x" * (LONGEST - 2) + '"'
    cut = shown("x" * LONGEST)
    assert len(cut) == LONGEST
    assert cut.endswith("x ...")
