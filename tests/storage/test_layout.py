"""Names, sizes and tokens that every storage goes by."""

from __future__ import annotations

import pytest

from athens_tx.errors import InvalidModule, InvalidRequest
from athens_tx.module.version import ModuleVersion
from athens_tx.storage.layout import check_names, is_listed, order, parse_token, token_of


@pytest.mark.parametrize(
    ("version", "listed"),
    [
        ("v1.0.0", True),
        ("v1.0.0-pre", True),
        ("v1.0.0-0.a-b.1", True),
        ("v1.0.0+meta", True),
        ("v3.0.0+incompatible", True),
        ("v0.0.0-20240102030405-0123456789ab", True),
        ("v10.20.30", True),
        ("1.0.0", False),
        ("v1", False),
        ("v1.2", False),
        ("v01.0.0", False),
        ("v1.0.0-01", False),
        ("v1.0.0-", False),
        ("v1.0.0+", False),
        ("v1.0.0-a..b", False),
        ("v1.0.0 ", False),
        ("v1.0.0\n", False),
        ("v1.0.٣", False),
        ("master", False),
        ("", False),
    ],
)
def test_a_list_shows_full_versions_as_athens_does(version: str, listed: bool) -> None:
    assert is_listed(version) is listed


def test_a_token_names_the_last_version_as_that_of_athens() -> None:
    mv = ModuleVersion("github.com/Azure/x", "v1.0.0+incompatible")
    assert token_of(mv) == "github.com/Azure/x|v1.0.0+incompatible"
    assert parse_token(token_of(mv)) == order(mv) == ("github.com", "Azure", "x", "v1.0.0+incompatible")
    assert parse_token("") == ()


def test_the_order_is_that_of_a_walk_through_the_tree() -> None:
    walked = ["a/b/c@v1", "a/b@v1.0.0", "a/b-c@v1.0.0", "a@v1.0.0", "a-b@v1.0.0"]
    mvs = [ModuleVersion(*text.split("@")) for text in sorted(walked)]
    assert [str(mv) for mv in sorted(mvs, key=order)] == walked


@pytest.mark.parametrize("token", ["x", "|", "a|b|", "a/../b|v1.0.0"])
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_token(token)


def test_capitals_and_foreign_letters_are_names() -> None:
    check_names(ModuleVersion("example.com/Ünïcode/A~b", "v1.0.0-RC1"))
    with pytest.raises(InvalidModule):
        check_names(ModuleVersion("example.com/x", "a/b"))
