"""Module paths and version queries are those that the go command takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from athens_tx.errors import InvalidModule
from athens_tx.module.path import MAX_ELEMENT, MAX_PATH, check_path, check_version_query, split_path_version

GOOD_PATHS = [
    "github.com/acme/lib",
    "github.com/Acme/Lib",
    "rsc.io/quote",
    "example.com",
    "a.b",
    "1.2/x",
    "x-y.com/a",
    "example.com/-x",
    "example.com/a..b",
    "example.com/a_b~c",
    "example.com/x~",
    "example.com/x~1a",
    "example.com/x.y~1",
    "example.com/console",
    "example.com/com",
    "example.com/com10",
    "example.com/v",
    "example.com/v2",
    "example.com/m/v10",
    "example.com/v2/sub",
    "example.com/v1/sub",
    "example.com/mv1",
    "example.com/1",
    "gopkg.in/yaml.v3",
    "gopkg.in/yaml.v0",
    "gopkg.in/user/pkg.v1",
    "gopkg.in/pkg.v2-unstable",
    "golang.org/toolchain",
]

BAD_PATHS = [
    "",
    "/",
    "foo",
    "foo/bar.com",
    "-x.com/a",
    "/example.com",
    "example.com/",
    "example.com//a",
    "example.com/../a",
    "example.com/..",
    "../example.com",
    "..",
    ".",
    ".com/a",
    "example./a",
    "example.com/.",
    "example.com/./a",
    "example.com/.hidden",
    "example.com/a.",
    "example.com/a./b",
    "Example.com/a",
    "ex_ample.com/a",
    "ex~ample.com/a",
    "exa+mple.com/a",
    "example.com/a b",
    "example.com/a+b",
    "example.com/a@b",
    "example.com/a!b",
    "example.com/a:b",
    "example.com/a%2fb",
    "example.com/a?b",
    "example.com/a\\b",
    "example.com/a\x00b",
    "example.com/a\n",
    "example.com/a\x7f",
    "example.com/é",
    "exämple.com/a",
    "example.com/\udcff",
    "example.com/con",
    "example.com/CON",
    "example.com/Aux.go/x",
    "example.com/nul.txt",
    "example.com/com1",
    "example.com/lpt9/x",
    "con.com/x",
    "example.com/x~1",
    "example.com/PROGRA~1/x",
    "example.com/x~12.y",
    "example.com/m/v0",
    "example.com/m/v1",
    "example.com/m/v01",
    "example.com/m/v02",
    "example.com/m/v1.2",
    "example.com/m/v2.0",
    "gopkg.in/yaml",
    "gopkg.in/yaml/v3",
    "gopkg.in/yaml.v",
    "gopkg.in/yaml.v03",
    "gopkg.in/yaml.v0-unstable",
    "gopkg.in/yaml.v2/sub",
]


@pytest.mark.parametrize("path", GOOD_PATHS)
def test_a_good_path_passes(path: str) -> None:
    check_path(path)


@pytest.mark.parametrize("path", BAD_PATHS)
def test_a_bad_path_is_refused_in_one_printable_line(path: str) -> None:
    with pytest.raises(InvalidModule) as caught:
        check_path(path)
    message = str(caught.value)
    assert message.isprintable()
    assert ascii(path)[1:-1] in message


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("foo", "its first element has no dot"),
        ("example.com/x~1", "an element of it ends in ~ and digits"),
        ("example.com/aux", "an element of it is a reserved name on Windows"),
        ("example.com/v1", "its major version suffix can't be"),
        ("Example.com", "its first element is not a domain name in small letters"),
        ("example.com//x", "an element of it is empty"),
        ("example.com/..", "an element of it begins or ends with a dot"),
        ("example.com/\x00", "it holds a space, a control character or a character beyond ASCII"),
        ("example.com/@", "it holds a character that is not allowed"),
        ("-example.com", "it begins with a dash"),
        ("", "it is empty"),
    ],
)
def test_the_fault_is_named(path: str, fault: str) -> None:
    with pytest.raises(InvalidModule) as caught:
        check_path(path)
    assert str(caught.value) == f"malformed module path {path!a}: {fault}"


def test_a_path_has_a_longest() -> None:
    head = "example.com/" + "/".join(["x" * 200] * 5)
    longest = head + "/" + "y" * (MAX_PATH - len(head) - 1)
    check_path(longest)
    for path in (
        longest + "y",
        head + "/" + "Y" * ((MAX_PATH - len(head) - 1) // 2 + 1),
        "example.com/" + "a/" * 10**6,
    ):
        with pytest.raises(InvalidModule, match="too long"):
            check_path(path)


def test_an_element_has_a_longest() -> None:
    check_path("example.com/" + "x" * MAX_ELEMENT)
    check_path("example.com/" + "X" * (MAX_ELEMENT // 2))
    for element in ("x" * (MAX_ELEMENT + 1), "X" * (MAX_ELEMENT // 2 + 1)):
        with pytest.raises(InvalidModule, match="too long"):
            check_path(f"example.com/{element}/y")


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("example.com/m", ("example.com/m", "")),
        ("example.com/m/v2", ("example.com/m", "/v2")),
        ("example.com/v20", ("example.com", "/v20")),
        ("example.com/mv2", ("example.com/mv2", "")),
        ("example.com/m/v", ("example.com/m/v", "")),
        ("example.com/m/2", ("example.com/m/2", "")),
        ("example.com/m/v1", None),
        ("example.com/m/v0", None),
        ("example.com/m/v02", None),
        ("example.com/m/v2.1", None),
        ("gopkg.in/yaml.v3", ("gopkg.in/yaml", ".v3")),
        ("gopkg.in/yaml.v0", ("gopkg.in/yaml", ".v0")),
        ("gopkg.in/u/p.v1-unstable", ("gopkg.in/u/p", ".v1-unstable")),
        ("gopkg.in/yaml", None),
        ("gopkg.in/yaml.v02", None),
    ],
)
def test_the_major_version_suffix_is_cut_off(path: str, split: tuple[str, str] | None) -> None:
    assert split_path_version(path) == split


GOOD_QUERIES = [
    "v1.0.0",
    "v1.0.0-rc.1",
    "v2.0.0+incompatible",
    "v0.0.0-20240102030405-0123456789ab",
    "v1",
    "v1.2",
    "latest",
    "main",
    "HEAD",
    "feature-x",
    "release_1.0",
    "0123456789ab",
    "Fix#12",
    "a,b=c",
    "1.2",
    "console",
    ".x",
]

BAD_QUERIES = [
    "",
    "upgrade",
    "patch",
    "none",
    "-x",
    "--help",
    "<v1.0.0",
    "<=v1.0.0",
    ">v1.0.0",
    ">=v1.0.0",
    "a b",
    " ",
    "a\tb",
    "v1.0.0\n",
    "a\x00b",
    "a\x7f",
    "a/b",
    "a\\b",
    "..",
    "a..b",
    ".",
    "a.",
    "a!b",
    "a@b",
    "a:b",
    "a*",
    "a?",
    "a|b",
    "'a'",
    '"a"',
    "`a`",
    "$(a)",
    "HEAD^",
    "HEAD~1",
    "{a}",
    "[a]",
    "a&b",
    "a;b",
    "%00",
    "é",
    "\udcff",
    "con",
    "NUL.x",
    "lpt1",
]


@pytest.mark.parametrize("version", GOOD_QUERIES)
def test_a_good_query_passes(version: str) -> None:
    check_version_query(version)


@pytest.mark.parametrize("version", BAD_QUERIES)
def test_a_bad_query_is_refused_in_one_printable_line(version: str) -> None:
    with pytest.raises(InvalidModule) as caught:
        check_version_query(version)
    assert str(caught.value) == f"version {version!a} can't be asked for"


def test_a_query_has_a_longest() -> None:
    check_version_query("v" * MAX_ELEMENT)
    check_version_query("V" * (MAX_ELEMENT // 2))
    for version in ("v" * (MAX_ELEMENT + 1), "V" * (MAX_ELEMENT // 2 + 1), "v" * 10**6):
        with pytest.raises(InvalidModule, match="too long") as caught:
            check_version_query(version)
        assert len(str(caught.value)) < 200


@given(st.text(st.sampled_from("aA1./~-_v\x00@!é ")) | st.text())
def test_nothing_that_passes_can_leave_its_folder_or_be_an_option(text: str) -> None:
    for check in (check_path, check_version_query):
        try:
            check(text)
        except InvalidModule:
            continue
        assert not text.startswith(("-", "/"))
        assert ".." not in text.split("/")
        assert text.isascii()
        assert text.isprintable()
        assert not set(text) & set("@!\\ ")


def test_hostile_paths_cost_no_time() -> None:
    for path in ("a" * 1000, "a." * 500 + "!", "a.b/" + "~1" * 500, "a.b/" + "v2." * 300):
        with pytest.raises(InvalidModule):
            check_path(path)
