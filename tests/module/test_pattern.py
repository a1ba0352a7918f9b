"""Patterns match as C{GOPRIVATE} does: by leading path elements."""

from __future__ import annotations

import fnmatch
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from athens_tx.module.pattern import matches, matches_any, split_patterns


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("github.com/acme/*", "github.com/acme/lib", True),
        ("github.com/acme/*", "github.com/acme/lib/v2/x", True),
        ("github.com/acme/*", "github.com/acme", False),
        ("github.com/*", "github.com/acme", True),
        ("github.com/acme/*", "github.com/Acme/lib", False),
        ("github.com/*", "bitbucket.org/a/b", False),
        ("golang.org/x/", "golang.org/x/text", False),
        ("golang.org/x/", "golang.org/x", False),
        ("example.org", "example.org/z/y", True),
        ("example.org", "example.organic/z", False),
        ("*.corp/lib", "a.b.corp/lib/sub", True),
        ("*.corp/lib", "a.b.corp/libs", False),
        ("*", "anything.com/at/all", True),
        ("", "example.com", False),
        ("", "", True),
        ("a*b*c", "aXbYc/z", True),
        ("a*b*c", "abbc", True),
        ("a*b*c", "acb", False),
        ("a*bc*d", "abbcXd", True),
        ("a**b", "a/b", False),
        ("a/*/c", "a/b/c/d", True),
        ("a/*/c", "a/b/d/c", False),
        ("*b/c*d", "ab/cXd", True),
        ("*b/c*d", "a/b/cd", False),
        ("a?c", "abc", True),
        ("a?c", "a/c", False),
        ("a?c", "ac", False),
        ("[a-c]x", "bx", True),
        ("[a-c]x", "dx", False),
        ("[^a-c]x", "dx", True),
        ("[^a-c]x", "bx", False),
        ("[abc]", "b", True),
        ("[a-cx-z]", "y", True),
        ("[^^]", "^", False),
        ("[a^]", "^", True),
        ("[*]", "*", True),
        ("[*]", "a", False),
        (r"[\]]", "]", True),
        (r"[\-]", "-", True),
        (r"[a\]b]*c", "]xc", True),
        ("[c-a]", "b", False),
        ("[^c-a]", "b", True),
        ("[!a]", "!", True),
        ("[!a]", "b", False),
        ("[[]", "[", True),
        ("a]", "a]", True),
        (r"a\*", "a*", True),
        (r"a\*", "ab", False),
        (r"\a", "a", True),
        ("a.c", "abc", False),
        ("a+", "aa", False),
        ("(a)", "(a)", True),
        ("a$", "a", False),
        ("é", "é", True),
        ("?", "é", True),
        # a slash within a class counts as one, and a class that is not told otherwise takes it
        ("a[/b]", "ab", False),
        ("a[/b]", "ab/c", False),
        ("a[/b]c", "a/c", True),
        ("a[^x]b[/q]", "a/bq", True),
        ("a?[^x/]", "a/b", False),
        ("a*[^x/]", "a/b", False),
        # malformed ones match nothing
        ("[", "[", False),
        ("[a", "a", False),
        ("[]", "]", False),
        ("[]a]", "]", False),
        ("[^]", "^", False),
        ("[^]a]", "b", False),
        ("[-]", "-", False),
        ("[-a]", "-", False),
        ("[a-]", "a", False),
        ("[a-b-c]", "a", False),
        ("a\\", "a", False),
        ("a\\", "a\\", False),
        (r"[a\]", "a", False),
        ("a[", "a", False),
        ("*[", "a", False),
    ],
)
def test_a_pattern_matches_leading_elements(pattern: str, path: str, expected: bool) -> None:
    assert matches(pattern, path) is expected


def test_one_of_several_is_enough() -> None:
    assert matches_any(["b.com", "a.com/*"], "a.com/x/y")
    assert not matches_any(["b.com", "[", "a.com/y"], "a.com/x/y")
    assert not matches_any([], "a.com")


@pytest.mark.parametrize(
    ("text", "patterns"),
    [("a,b , c", ["a", "b", "c"]), ("", []), (" , ,", []), ("a b", ["a b"]), ("*.corp,", ["*.corp"])],
)
def test_a_list_is_split(text: str, patterns: list[str]) -> None:
    assert split_patterns(text) == patterns


@given(st.text(st.sampled_from("ab*?x"), max_size=12), st.text(st.sampled_from("abx"), max_size=12))
def test_within_one_element_it_is_a_shell_pattern(pattern: str, element: str) -> None:
    assert matches(pattern, element) == fnmatch.fnmatchcase(element, pattern)


@given(st.text(st.sampled_from("ab*?[]^-\\/"), max_size=12), st.text(st.sampled_from("ab]-^/"), max_size=12))
def test_what_follows_the_elements_of_the_pattern_does_not_matter(pattern: str, path: str) -> None:
    if path.count("/") >= pattern.count("/"):
        assert matches(pattern, path) == matches(pattern, path + "/more")


def test_a_hostile_pattern_costs_no_time() -> None:
    began = time.process_time()
    assert not matches("*a" * 200 + "b", "a" * 1000)
    assert not matches("*?" * 200 + "*b", "a" * 1000)
    assert time.process_time() - began < 1
