"""The C{!} escaping is go's, and can be undone."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from athens_tx.errors import InvalidModule
from athens_tx.module.escape import escape_path, escape_version, shown, unescape_path, unescape_version

ESCAPE = pytest.mark.parametrize("escape", [escape_path, escape_version])
UNESCAPE = pytest.mark.parametrize("unescape", [unescape_path, unescape_version])
Function = Callable[[str], str]

KNOWN = [
    ("github.com/BurntSushi/toml", "github.com/!burnt!sushi/toml"),
    ("github.com/GoogleCloudPlatform/omega", "github.com/!google!cloud!platform/omega"),
    ("rsc.io/quote", "rsc.io/quote"),
    ("v1.0.0-RC1", "v1.0.0-!r!c1"),
    ("v2.0.0+incompatible", "v2.0.0+incompatible"),
    ("HEAD", "!h!e!a!d"),
    ("", ""),
    ("1.2", "1.2"),
    ("A", "!a"),
]


@ESCAPE
@pytest.mark.parametrize(("plain", "escaped"), KNOWN)
def test_capitals_are_escaped(escape: Function, plain: str, escaped: str) -> None:
    assert escape(plain) == escaped


@UNESCAPE
@pytest.mark.parametrize(("plain", "escaped"), KNOWN)
def test_capitals_come_back(unescape: Function, plain: str, escaped: str) -> None:
    assert unescape(escaped) == plain


@UNESCAPE
@pytest.mark.parametrize(
    "bad",
    [
        "github.com/Azure/x",
        "A",
        "a!",
        "!",
        "!!a",
        "!A",
        "!1",
        "a!/b",
        "!é",
        "é",
        "github.com/ƒ",
        "\x80",
        "\udcff",
        "!\n",
    ],
)
def test_what_is_not_escaped_is_refused(unescape: Function, bad: str) -> None:
    with pytest.raises(InvalidModule):
        unescape(bad)


@ESCAPE
@pytest.mark.parametrize("bad", ["a!b", "!", "é", "Ünder", "\udcff"])
def test_what_cannot_be_escaped_is_refused(escape: Function, bad: str) -> None:
    with pytest.raises(InvalidModule):
        escape(bad)


@given(st.text(st.characters(max_codepoint=127, exclude_characters="!")))
@example("A" * 1000)
def test_escaping_is_undone(plain: str) -> None:
    escaped = escape_path(plain)
    assert not re.search("[A-Z]", escaped)
    assert unescape_path(escaped) == plain


@given(st.text(st.sampled_from("aAz!1/.-é")) | st.text())
def test_whatever_can_be_unescaped_has_one_escaped_form(text: str) -> None:
    try:
        plain = unescape_version(text)
    except InvalidModule:
        return
    assert escape_version(plain) == text


@given(st.text())
@example("\x00\n\x7f\udcff")
@example("x" * 10000)
def test_what_is_shown_is_short_and_printable(text: str) -> None:
    line = shown(text)
    assert line.isascii()
    assert line.isprintable()
    assert len(line) <= 80 * 10 + 5
