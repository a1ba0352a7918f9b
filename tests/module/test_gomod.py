"""A go.mod is read as far as it matters here, and no file is too nasty for that."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from athens_tx.errors import BadUpstream
from athens_tx.module.gomod import (
    MAX_GO_MOD,
    check_mod,
    is_retracted,
    module_path,
    retractions,
    synthesize,
    unretracted,
)


@pytest.mark.parametrize(
    ("mod", "path"),
    [
        (b"module example.com/m\n", "example.com/m"),
        (b"module example.com/m", "example.com/m"),
        (b"module\texample.com/m // import it\r\n\r\ngo 1.21\r\n", "example.com/m"),
        (b"  module example.com/m//comment\n", "example.com/m"),
        (b'module "example.com/m"\n', "example.com/m"),
        (b"module `example.com/m` // x\n", "example.com/m"),
        (b'module"example.com/m"\n', "example.com/m"),
        (b'module "exam\\"ple\\\\x"\n', 'exam"ple\\x'),
        (b"module (\n\texample.com/m\n)\n", "example.com/m"),
        (b'module ( // x\n\n// y\n\t"example.com/m" // z\n)\n', "example.com/m"),
        (b"// Deprecated: use v2\nmodule example.com/m\n", "example.com/m"),
        (b"go 1.21\n\nrequire (\n\tmodule v1.0.0\n)\nmodule example.com/m\n", "example.com/m"),
        (b"require ( // c\n\tmodule v1.0.0\n)\nmodule example.com/m\n", "example.com/m"),
        (b"future (x) y\nmodule example.com/m\n", "example.com/m"),
        (b"future (\n\tmodule no.no/no\n", None),
        (b"modules example.com/n\nmodule/x y\nmodule example.com/m\n", "example.com/m"),
        (b"module example.com/m\nmodule example.com/n\n", "example.com/m"),
        (b"\xef\xbb\xbfmodule example.com/m\n", None),
        (b"", None),
        (b"// module example.com/m\n", None),
        (b"module\n", None),
        (b"module a b\n", None),
        (b'module "a\n', None),
        (b"module a'b\n", None),
        (b'module "a\\nb"\n', None),
        (b"module `a\n", None),
        (b'module "\n', None),
        (b"module (\n)\n", None),
        (b"module ()\nmodule x\n", None),
        (b"go 1.21\n", None),
        (b"\x00\xff", None),
        (b"module " + b"a" * 70000, None),
    ],
)
def test_the_module_is_named(mod: bytes, path: str | None) -> None:
    assert module_path(mod) == path


@pytest.mark.parametrize(
    ("mod", "ranges"),
    [
        (b"module m\nretract v1.0.0\n", [("v1.0.0", "v1.0.0")]),
        (b"retract v1.0.0 // published by mistake\n", [("v1.0.0", "v1.0.0")]),
        (b"retract [v1.0.0, v1.9.9]\n", [("v1.0.0", "v1.9.9")]),
        (b"retract [v1.0.0,v1.9.9] // why\n", [("v1.0.0", "v1.9.9")]),
        (
            b'retract (\n\t// all\n\tv1.0.0\n\n\t[v1.1.0, "v1.2.0"] // x\n\tv2.0.0+incompatible\n)\nretract v3.0.0\n',
            [("v1.0.0", "v1.0.0"), ("v1.1.0", "v1.2.0"), ("v2.0.0+incompatible",) * 2, ("v3.0.0", "v3.0.0")],
        ),
        (b"retract(\r\n v1\r\n)\r\n", [("v1.0.0", "v1.0.0")]),
        (b"retract main\nretract [v1.0.0]\nretract [v1.0.0 v2.0.0]\nretract [v1, x]\nretract\nretract [ , ]\n", []),
        (b'retract \'\nretract ""\nretract v1.2.0 v1.3.0\n', []),
        (b"require (\n\tretract v1.0.0\n)\n// retract v1.0.0\nretracted v1.0.0\n", []),
        (b"retract (\n\tv1.0.0\n", [("v1.0.0", "v1.0.0")]),
        (b"", []),
    ],
)
def test_retracted_ranges_are_read(mod: bytes, ranges: list[tuple[str, str]]) -> None:
    assert list(retractions(mod)) == ranges


@pytest.mark.parametrize(
    ("version", "retracted"),
    [
        ("v1.0.0", True),
        ("v1.5.0", True),
        ("v1.9.9", True),
        ("v1.9.9-rc.1", True),
        ("v1.0.0-rc.1", False),
        ("v2.0.0", False),
        ("v3.0.0", True),
        ("v3.0.0+incompatible", True),
    ],
)
def test_a_range_holds_both_of_its_ends(version: str, retracted: bool) -> None:
    assert is_retracted(version, [("v1.0.0", "v1.9.9"), ("v3.0.0", "v3.0.0")]) is retracted


def test_a_module_without_a_go_mod_gets_one() -> None:
    assert synthesize("github.com/Acme/lib") == b"module github.com/Acme/lib\n"
    assert module_path(synthesize("github.com/Acme/lib")) == "github.com/Acme/lib"


def test_a_go_mod_must_name_a_module() -> None:
    check_mod(b"module example.com/some/fork\n")
    for bad in (b"", b"go 1.21\n", b'module ""\n', b"<html>not found</html>"):
        with pytest.raises(BadUpstream, match="names no module"):
            check_mod(bad)


def test_a_go_mod_has_a_longest() -> None:
    head = b"module example.com/m\n"
    check_mod(head + b"\n" * (MAX_GO_MOD - len(head)))
    with pytest.raises(BadUpstream, match="more than"):
        check_mod(head + b"\n" * (MAX_GO_MOD - len(head) + 1))


HOSTILE = [
    "\n",
    " ",
    "(",
    "x (\n",
    "retract v1.0.0\n",
    "retract (\n",
    '"',
    '"\\',
    "retract [",
    "module (\n)\n",
    "a ",
    "//\n",
    "\n//",
]


@pytest.mark.parametrize("pattern", [*map(str.encode, HOSTILE), b"retract (\n)\n"])
def test_a_hostile_go_mod_costs_no_time(pattern: bytes) -> None:
    mod = b"retract (\n" + pattern * (MAX_GO_MOD // len(pattern))
    began = time.process_time()
    module_path(mod)
    assert len(retractions(mod)) <= 10_000
    assert time.process_time() - began < 4


WORDS = ["module", "retract", " ", "\n", "(", ")", "[", "]", ",", '"', "`", "//", "v1.0.0", "a", "\\"]


@given(st.lists(st.sampled_from(WORDS)).map("".join))
def test_whatever_comes_is_read(text: str) -> None:
    module_path(text.encode())
    for low, high in retractions(text.encode()):
        assert (low, high) == ("v1.0.0", "v1.0.0")


@given(st.binary())
def test_no_bytes_are_too_strange(mod: bytes) -> None:
    module_path(mod)
    retractions(mod)


def test_ranges_that_overlap_or_are_turned_round() -> None:
    ranges = [
        ("v1.2.0", "v1.4.0"),
        ("v1.3.0", "v1.6.0"),
        ("v1.1.0", "v1.1.0"),
        ("v1.9.0", "v1.8.0"),
        ("v1.2.5", "v1.2.6"),
    ]
    versions = [f"v1.{minor}.0" for minor in range(10)]
    assert unretracted(versions, ranges) == ["v1.0.0", "v1.7.0", "v1.8.0", "v1.9.0"]
    assert unretracted([], ranges) == []
    assert unretracted(versions, []) == versions


def test_as_many_retractions_as_versions_take_no_time() -> None:
    versions = [f"v1.{minor}.0" for minor in range(20_000)]
    ranges = [(version, version) for version in versions[::2]]
    assert unretracted(versions, ranges) == versions[1::2]  # by trying each with each this were an hour
