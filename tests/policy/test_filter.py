"""The filter file, row by row of the specification."""

from __future__ import annotations

import pytest

from athens_tx.errors import ConfigError
from athens_tx.policy.filter import Filter, Rule

WORKED = """
-
+ github.com/acme v0.9
D github.com/acme/lib/sub
+ github.com/acme/lib ~v1.0.0,v0.9.*,<v0.5.1
- github.com/acme/bad
"""


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        Filter.parse(text)
    return caught.value.problems


def included(items: str, version: str, *, exact: bool = False) -> bool:
    return Filter.parse(f"-\n+ a.b/c {items}", exact=exact).rule("a.b/c", version) is Rule.INCLUDE


@pytest.mark.parametrize(
    ("module", "version", "rule"),
    [
        ("github.com/acme/lib", "v1.0.9", Rule.INCLUDE),
        ("github.com/acme/lib", "v0.9.3", Rule.INCLUDE),
        ("github.com/acme/lib", "v0.5.1", Rule.INCLUDE),
        ("github.com/acme/lib", "v0.4.9", Rule.INCLUDE),
        ("github.com/acme/lib", "v1.1.0", Rule.EXCLUDE),
        ("github.com/acme/lib", None, Rule.INCLUDE),
        ("github.com/acme/other", "v0.9.1", Rule.INCLUDE),
        ("github.com/acme/other", "v0.8.1", Rule.EXCLUDE),
        ("github.com/acme/bad/x", "v0.9.1", Rule.EXCLUDE),
        ("github.com/acme/lib/sub", "v1.0.0", Rule.DIRECT),
        ("bitbucket.org/a/b", "v1.0.0", Rule.EXCLUDE),
        ("github.com", None, Rule.EXCLUDE),
    ],
)
def test_the_worked_file(module: str, version: str | None, rule: Rule) -> None:
    assert Filter.parse(WORKED).rule(module, version) is rule


@pytest.mark.parametrize(
    ("items", "yes", "no"),
    [
        ("v1", ["v1.0.0", "v1.9.9-pre"], ["v10.0.0", "v2.0.0"]),
        ("v1.*", ["v1.0.0"], ["v10.0.0"]),
        ("v1*", ["v1.0.0"], ["v10.0.0"]),
        ("v0.9", ["v0.9.0", "v0.9.7-rc.1"], ["v0.90.0"]),
        ("v0.9.*", ["v0.9.0"], ["v0.90.0"]),
        ("v1.2.3", ["v1.2.3", "v1.2.30", "v1.2.3-rc.1"], ["v1.2.4"]),
        ("~v1.2.3", ["v1.2.3", "v1.2.30"], ["v1.3.0", "v1.2.2", "v1.2.4-pre", "v1.2.4+incompatible", "v2.2.3"]),
        ("~v1.2.3", [], ["v1.2.4-0.20200101000000-abcdefabcdef"]),
        ("^v1.2.3", ["v1.2.3", "v1.3.0"], ["v1.2.2", "v2.0.0", "v1.3.0-pre"]),
        ("<v2.3.4", ["v0.1.0", "v2.3.3", "v2.3.4"], ["v2.3.5", "v2.3.4-pre"]),
        ("~1.2.3", [], ["v1.2.3", "1.2.3"]),
        ("~v1.2", [], ["v1.2.0", "v1.2.3"]),
        ("v1,v2.3.4,^v3.1.0", ["v1.7.0", "v2.3.4", "v3.2.0"], ["v2.3.5", "v3.0.9"]),
        ("~v1.2.3", [], ["v1.2." + "9" * 5000]),
    ],
)
def test_version_items(items: str, yes: list[str], no: list[str]) -> None:
    assert [version for version in yes + no if included(items, version)] == yes


@pytest.mark.parametrize(
    ("items", "yes", "no"),
    [
        ("v1.2.3", ["v1.2.3"], ["v1.2.30", "v1.2.3-rc.1", "v1.2.3+incompatible"]),
        ("v1.2.3-rc.1", ["v1.2.3-rc.1"], ["v1.2.3-rc.10"]),
        ("v1.2.3*", ["v1.2.3", "v1.2.30"], ["v1.2.4"]),
        ("v1.2.", ["v1.2.3"], ["v1.3.0"]),
        ("v1.2", ["v1.2.3"], ["v1.20.0"]),
        ("~v1.2.3", ["v1.2.30"], ["v1.3.0"]),
    ],
)
def test_version_items_that_are_exact(items: str, yes: list[str], no: list[str]) -> None:
    assert [version for version in yes + no if included(items, version, exact=True)] == yes


def test_without_a_root_rule_all_is_included() -> None:
    assert Filter.parse("# nothing\n\n   \n").rule("a.b/c", "v1.0.0") is Rule.INCLUDE
    assert Filter.parse("- x.y").rule("a.b/c", None) is Rule.INCLUDE


def test_the_root_rule_may_stand_anywhere_and_the_last_one_wins() -> None:
    rules = Filter.parse("+\n+ a.b/c\n-\n")
    assert (rules.rule("a.b/c", None), rules.rule("d.e/f", None)) == (Rule.INCLUDE, Rule.EXCLUDE)
    assert rules.warnings == ["FilterFile line 3: replaces the rule of line 1 for all modules"]


def test_paths_match_by_whole_elements_literally_and_with_case() -> None:
    rules = Filter.parse("- a.b/c/\n- x.y/*\n")
    excluded = [
        path
        for path in ("a.b/c", "a.b/c/d", "a.b/cd", "a.b/C", "a.b", "x.y/z", "x.y/*")
        if rules.rule(path, "v1.0.0") is Rule.EXCLUDE
    ]
    assert excluded == ["a.b/c", "a.b/c/d", "x.y/*"]


def test_a_later_line_for_the_same_path_replaces_and_is_warned_about() -> None:
    rules = Filter.parse("-\n+ a.b/c v1\n# between\n+ a.b/c/ v2\n")
    assert rules.rule("a.b/c", "v1.0.0") is Rule.EXCLUDE
    assert rules.rule("a.b/c", "v2.0.0") is Rule.INCLUDE
    assert rules.warnings == ["FilterFile line 4: replaces the rule of line 2 for a.b/c/"]


def test_items_that_never_match_are_warned_about() -> None:
    rules = Filter.parse("+ a.b/c ~1.2.3,v1,1.2,~v1.2\n")
    assert [warning.split(" (")[0] for warning in rules.warnings] == [
        f"FilterFile line 1: {item} never matches a version" for item in ("~1.2.3", "1.2", "~v1.2")
    ]


def test_the_first_direct_line_is_known() -> None:
    assert Filter.parse("+ a.b\n\nD c.d\nD e.f\n").direct_line == 3
    assert Filter.parse("+ a.b\n").direct_line == 0


def test_a_version_list_on_the_root_rule_of_a_slash_means_nothing() -> None:
    assert Filter.parse("- / v1\n").rule("a.b/c", "v2.0.0") is Rule.EXCLUDE


def test_lines_may_end_as_on_windows() -> None:
    assert Filter.parse("-\r\n+ a.b/c\r\n").rule("a.b/c", None) is Rule.INCLUDE


def test_all_bad_lines_are_reported_with_their_numbers() -> None:
    assert problems("-  a.b\n+ ok\n* a.b\n\n+ a.b v1 v2\n-\ta.b\n+ a.b v1,,v2\n- a.b *\nD a.b v1, v2\n+ a.b\tv1\n") == [
        "FilterFile line 1: fields are separated by exactly one space",
        "FilterFile line 3: a line begins with +, - or D, not with '*'",
        "FilterFile line 5: more than three fields: sign, module path, version list",
        "FilterFile line 6: fields are separated by exactly one space",
        "FilterFile line 7: an empty item or a lone * is no version ('')",
        "FilterFile line 8: an empty item or a lone * is no version ('*')",
        "FilterFile line 9: more than three fields: sign, module path, version list",
        "FilterFile line 10: fields are separated by exactly one space",
    ]
