"""Versions are read and ordered as the go command does it."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from athens_tx.errors import InvalidModule
from athens_tx.module.version import (
    ModuleVersion,
    canonical,
    check_path_major,
    compare,
    is_canonical,
    is_incompatible,
    is_prerelease,
    is_pseudo,
    is_semver,
    major,
    sort_key,
)

#: What a text is in full; empty for what is no version.
CANONICAL = [
    ("v1.2.3", "v1.2.3"),
    ("v1", "v1.0.0"),
    ("v1.2", "v1.2.0"),
    ("v0", "v0.0.0"),
    ("v10.20.30", "v10.20.30"),
    ("v1.2.3-pre", "v1.2.3-pre"),
    ("v1.2.3-pre+meta", "v1.2.3-pre"),
    ("v1.2.3+meta", "v1.2.3"),
    ("v1.2.3+meta-pre.sha.256a", "v1.2.3"),
    ("v1.2.3+001", "v1.2.3"),
    ("v2.0.0+incompatible", "v2.0.0+incompatible"),
    ("v2.0.0-rc.1+incompatible", "v2.0.0-rc.1+incompatible"),
    ("v2.0.0+incompatible.1", "v2.0.0"),
    ("v1.2.3-0", "v1.2.3-0"),
    ("v1.2.3-0a", "v1.2.3-0a"),
    ("v1.2.3-01a", "v1.2.3-01a"),
    ("v1.2.3--", "v1.2.3--"),
    ("v1.2.3-0-0.x", "v1.2.3-0-0.x"),
    ("v1.2.3-4-5", "v1.2.3-4-5"),
    ("v0.0.0-20240102030405-0123456789ab", "v0.0.0-20240102030405-0123456789ab"),
    ("", ""),
    ("v", ""),
    ("1.2.3", ""),
    ("V1.2.3", ""),
    ("v1.", ""),
    ("v1.2.", ""),
    ("v1.2.3.4", ""),
    ("v01.2.3", ""),
    ("v1.02.3", ""),
    ("v1.2.03", ""),
    ("v1.2.3-01", ""),
    ("v1.2.3-a.01", ""),
    ("v1.2.3-", ""),
    ("v1.2.3-a..b", ""),
    ("v1.2.3-a.", ""),
    ("v1.2.3+", ""),
    ("v1.2.3+a..b", ""),
    ("v1.2.3+a+b", ""),
    ("v1.2.3-a_b", ""),
    ("v1-pre", ""),
    ("v1.2-pre", ""),
    ("v1.2+meta", ""),
    ("v1.2.3\n", ""),
    ("v1.2.x", ""),
    ("v1.2.٣", ""),
    ("main", ""),
    ("latest", ""),
]


@pytest.mark.parametrize(("version", "full"), CANONICAL)
def test_a_version_has_one_full_form(version: str, full: str) -> None:
    assert canonical(version) == full
    assert is_semver(version) == (full != "")
    assert is_canonical(version) == (full != "" and full == version)


@pytest.mark.parametrize(
    ("version", "expected"),
    [("v1.2.3", "v1"), ("v12", "v12"), ("v0.0.0-a", "v0"), ("v2.0.0+incompatible", "v2"), ("main", ""), ("", "")],
)
def test_the_major_version(version: str, expected: str) -> None:
    assert major(version) == expected


@pytest.mark.parametrize(
    ("version", "pseudo"),
    [
        ("v0.0.0-20240102030405-0123456789ab", True),
        ("v2.0.0-20240102030405-0123456789ab", True),
        ("v1.2.4-0.20240102030405-0123456789ab", True),
        ("v1.2.3-pre.0.20240102030405-0123456789ab", True),
        ("v2.3.4-0.20240102030405-0123456789ab+incompatible", True),
        ("v1.2.3-pre.1.0.20240102030405-abc+incompatible", True),
        ("v0.0.0-20240102030405-ABC", True),
        ("v1.0.0-rc-1", False),
        ("v1.2.3", False),
        ("v1.2.4-20240102030405-0123456789ab", False),
        ("v0.0.0-2024010203040-0123456789ab", False),
        ("v0.0.0-20240102030405-", False),
        ("v0.0.0-20240102030405-01_3", False),
        ("v01.0.0-20240102030405-0123456789ab", False),
        ("v1.2.4-0.20240102030405", False),
        ("v1.2.4-0.20240102030405-a\n", False),
    ],
)
def test_a_pseudo_version_is_known(version: str, pseudo: bool) -> None:
    assert is_pseudo(version) == pseudo


def test_prereleases_and_incompatible_versions_are_known() -> None:
    versions = ["v1.0.0", "v1.0.0-rc.1", "v2.0.0+incompatible", "v2.0.0-a+incompatible", "v1.0.0+x", "v1", "main-1"]
    assert [v for v in versions if is_prerelease(v)] == ["v1.0.0-rc.1", "v2.0.0-a+incompatible"]
    assert [v for v in versions if is_incompatible(v)] == ["v2.0.0+incompatible", "v2.0.0-a+incompatible"]


#: In ascending order, none equal to another.
ASCENDING = [
    "v0.0.0-20200101000000-abcdefabcdef",
    "v0.0.0-20240102030405-0123456789ab",
    "v0.0.0",
    "v0.0.1",
    "v0.9.0",
    "v0.10.0",
    "v1.0.0-0",
    "v1.0.0-1",
    "v1.0.0-2",
    "v1.0.0-10",
    "v1.0.0-99999999999999999999999",
    "v1.0.0--",
    "v1.0.0-1a",
    "v1.0.0-A",
    "v1.0.0-Z",
    "v1.0.0-alpha",
    "v1.0.0-alpha.1",
    "v1.0.0-alpha.1.0",
    "v1.0.0-alpha.beta",
    "v1.0.0-beta",
    "v1.0.0-beta.2",
    "v1.0.0-beta.11",
    "v1.0.0-rc.1",
    "v1.0.0",
    "v1.0.1-0.20240102030405-0123456789ab",
    "v1.0.1",
    "v1.2.0",
    "v1.10.0",
    "v2.0.0-a+incompatible",
    "v2.0.0+incompatible",
    "v10.0.0",
    "v18446744073709551616.0.0",
    "v" + "9" * 5000 + ".0.0",
]


def test_versions_are_ordered_by_precedence() -> None:
    shuffled = list(ASCENDING)
    random.Random(1).shuffle(shuffled)
    assert sorted(shuffled, key=sort_key) == ASCENDING
    for i, low in enumerate(ASCENDING):
        assert compare(low, low) == 0
        for high in ASCENDING[i + 1 :]:
            assert (compare(low, high), compare(high, low)) == (-1, 1)


def test_what_has_the_same_precedence_is_ordered_by_its_text() -> None:
    assert sorted(["v1.0.0+b", "v1.0.0", "v1", "v1.0.0+a", "v1.0"], key=sort_key) == [
        "v1",
        "v1.0",
        "v1.0.0",
        "v1.0.0+a",
        "v1.0.0+b",
    ]
    assert compare("v1", "v1.0.0+a") == compare("v1.0.0+a", "v1") == 0


def test_what_is_no_version_comes_first() -> None:
    assert sorted(["v0.0.0-0", "main", "", "v1.x"], key=sort_key) == ["", "main", "v1.x", "v0.0.0-0"]
    assert compare("main", "latest") == 0
    assert compare("main", "v0.0.0-0") == -1
    assert compare("v0.0.0-0", "main") == 1


IDENTIFIERS = st.from_regex(r"\A(?:0|[1-9][0-9]{0,3}|[0-9]{0,2}[a-zA-Z-][0-9a-zA-Z-]{0,3})\Z")
VERSIONS = st.builds(
    lambda numbers, pre, build: f"v{'.'.join(map(str, numbers))}{'-' + '.'.join(pre) if pre else ''}{build}",
    st.tuples(*[st.integers(0, 12)] * 3),
    st.lists(IDENTIFIERS, max_size=3),
    st.sampled_from(["", "+incompatible", "+x"]),
)


def precedence(a: str, b: str) -> int:
    """The rule of semver.org, written down another way: one step after the other."""
    pairs = []
    for v in (a, b):
        core, _, pre = v.partition("+")[0][1:].partition("-")
        pairs.append(([int(n) for n in core.split(".")], pre.split(".") if pre else []))
    (core_a, pre_a), (core_b, pre_b) = pairs
    if core_a != core_b:
        return -1 if core_a < core_b else 1
    if not pre_a or not pre_b:
        return bool(pre_b) - bool(pre_a)
    for x, y in zip(pre_a, pre_b, strict=False):
        if x == y:
            continue
        if x.isdigit() and y.isdigit():
            return -1 if int(x) < int(y) else 1
        if x.isdigit() or y.isdigit():
            return -1 if x.isdigit() else 1
        return -1 if x < y else 1
    return (len(pre_a) > len(pre_b)) - (len(pre_a) < len(pre_b))


@given(VERSIONS, VERSIONS)
def test_the_order_is_that_of_semver(a: str, b: str) -> None:
    assert compare(a, b) == precedence(a, b)
    assert (sort_key(a) == sort_key(b)) == (a == b)
    assert compare(a, b) in (0, -1 if sort_key(a) < sort_key(b) else 1)


@given(VERSIONS)
def test_a_generated_version_is_valid(version: str) -> None:
    assert is_semver(version)
    assert is_canonical(canonical(version))
    assert canonical(canonical(version)) == canonical(version)


@given(st.text())
def test_any_text_can_be_asked_about(text: str) -> None:
    assert is_canonical(text) <= is_semver(text)
    assert is_pseudo(text) <= is_prerelease(text) <= is_semver(text)
    sort_key(text)


@pytest.mark.parametrize(
    ("path", "version", "goes"),
    [
        ("example.com/m", "v0.1.0", True),
        ("example.com/m", "v1.0.0", True),
        ("example.com/m", "v2.0.0", False),
        ("example.com/m", "v2.0.0+incompatible", True),
        ("example.com/m", "v0.0.0-20240102030405-0123456789ab", True),
        ("example.com/m/v2", "v2.1.0", True),
        ("example.com/m/v2", "v1.0.0", False),
        ("example.com/m/v2", "v2.0.0-20240102030405-0123456789ab", True),
        ("example.com/m/v2", "v0.0.0-20240102030405-0123456789ab", False),
        ("example.com/m/v20", "v2.0.0", False),
        ("gopkg.in/yaml.v3", "v3.0.1", True),
        ("gopkg.in/yaml.v3", "v2.0.0", False),
        ("gopkg.in/yaml.v3", "v0.0.0-20240102030405-0123456789ab", False),
        ("gopkg.in/check.v1", "v0.0.0-20161208181325-20d25e280405", True),
        ("gopkg.in/check.v1", "v1.0.0", True),
        ("gopkg.in/check.v1", "v0.1.0", False),
        ("gopkg.in/pkg.v2-unstable", "v2.0.0", True),
        ("example.com/m", "main", False),
    ],
)
def test_a_version_goes_with_the_suffix_of_its_path(path: str, version: str, goes: bool) -> None:
    if goes:
        check_path_major(path, version)
        return
    with pytest.raises(InvalidModule, match="does not go with"):
        check_path_major(path, version)


def test_a_module_version_comes_out_of_a_url() -> None:
    mv = ModuleVersion.from_url("github.com/!burnt!sushi/toml", "v1.4.0-!r!c1")
    assert mv == ModuleVersion("github.com/BurntSushi/toml", "v1.4.0-RC1")
    assert str(mv) == "github.com/BurntSushi/toml@v1.4.0-RC1"


@pytest.mark.parametrize(
    ("path", "version", "named"),
    [
        ("github.com/Burnt/toml", "v1.0.0", "github.com/Burnt/toml"),
        ("github.com/../x", "v1.0.0", "github.com/../x"),
        ("a/../b", "v1.0.0", "a/../b"),
        ("github.com/a", "V1", "V1"),
        ("github.com/a", "-x", "-x"),
        ("github.com/a", "a/b", "a/b"),
        ("github.com/a", "v1\x00", r"v1\x00"),
        ("github.com/a\r\nX: y", "v1", r"github.com/a\r\nX: y"),
    ],
)
def test_a_bad_url_is_refused_with_its_text(path: str, version: str, named: str) -> None:
    with pytest.raises(InvalidModule) as caught:
        ModuleVersion.from_url(path, version)
    assert named in str(caught.value)
    assert str(caught.value).isprintable()
